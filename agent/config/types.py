"""Texts of the config that become names, topics and prompts: what each may look like."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Field

from agent.base.text import visible, visible_as_given, visible_key

RESERVED_NAMES = frozenset({"availability", "info", "health", "stats", "cmd"})
"""Topics of the agent itself, beside which the stations' topics stand."""

_MOST_BYTES = 192
"""Of a name in UTF-8, 64 letters of three bytes: names become those of files, with endings, of which a file
system takes 255."""
_MOST_PREFIX_BYTES = 500

LOOPBACK = ("localhost", "127.0.0.1")
"""This machine, as nobody else can reach it."""

_NAME = re.compile(r"[^\W_][\w.-]{0,63}")


def _name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError("should be up to 64 letters, digits, dots, - or _, first a letter or digit")
    if (size := len(name.encode())) > _MOST_BYTES:
        raise ValueError(f"is {size} bytes long in UTF-8: at most {_MOST_BYTES} fit into the name of a file")
    return name


def _station_name(name: str) -> str:
    if name in RESERVED_NAMES:
        raise ValueError("is a topic of the agent itself: choose another name")
    return _name(name)


def _topic_prefix(prefix: str) -> str:
    if not all(_NAME.fullmatch(level) for level in prefix.split("/")):
        raise ValueError("should be names with / between them, such as plant1/paint")
    if (size := len(prefix.encode())) > _MOST_PREFIX_BYTES:
        raise ValueError(f"is {size} bytes long in UTF-8: at most {_MOST_PREFIX_BYTES} fit into a topic")
    return prefix


def _topic_filter(wanted: str) -> str:
    levels = wanted.split("/")
    if (
        not wanted
        or any(len(level) > 1 and ("+" in level or "#" in level) for level in levels)
        or "#" in levels[:-1]
    ):
        raise ValueError("should be a topic filter such as plant1/mes/#")
    return visible_key(wanted)


def _sparkplug_id(name: str) -> str:
    if re.search(r"[+/#]", name) or name == "STATE":
        raise ValueError("should be text without +, / and #, and not STATE")
    return visible_as_given(name)


def _template(template: str) -> str:
    if template.count("{}") != 1 or re.search(r"[{}]", template.replace("{}", "")):
        raise ValueError("should hold {} once, for the phrase, and no other brace")
    return visible_as_given(template)


def _none_if_empty(text: object) -> object:
    return None if isinstance(text, str) and not text.strip() else text


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, as nobody else can reach it."""
    if host in LOOPBACK:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def at_port(host: str, port: int) -> str:
    """Return ``host:port`` as addresses have it: IPv6 in brackets, its zone escaped."""
    return f"[{host.replace('%', '%25')}]:{port}" if ":" in host else f"{host}:{port}"


def _host(host: str) -> str:
    if not re.fullmatch(r"[\w.-]+", host):
        try:
            ipaddress.IPv6Address(host)
        except ValueError:
            what = "should be the name or the address of a host alone"
            raise ValueError(
                f"{what}: scheme, port, brackets, user and password have no place here"
            ) from None
        return host
    labels = host.removesuffix(".").split(".")
    if not all(label and len(label.encode()) <= 63 for label in labels) or len(host.encode()) > 253:
        raise ValueError("is no name of a host: between its dots stand 1 to 63 letters, 253 in all")
    if all(label.isdecimal() for label in labels):
        try:
            ipaddress.IPv4Address(host)
        except ValueError:
            raise ValueError("is no address: four numbers up to 255 with dots between them") from None
    return host


Host = Annotated[str, AfterValidator(_host)]
"""A machine; not shown where it is none, as people put addresses with passwords there."""
Name = Annotated[str, AfterValidator(_name)]
"""A name that is safe in an MQTT topic and as a file name."""
StationName = Annotated[str, AfterValidator(_station_name)]
Text = Annotated[str, AfterValidator(visible)]
"""What a person wrote; blanks around it are left out."""
Exactly = Annotated[str, AfterValidator(visible_as_given)]
"""What somebody compares with what they have, or what a digest is made of: blanks around it stay."""
Label = Annotated[str, AfterValidator(visible_key)]
PartId = Annotated[Text | None, BeforeValidator(_none_if_empty)]
"""What a scanner read; None where it read nothing."""
PartPattern = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(visible)]
"""Of part ids, as a shell has patterns of file names."""
ProductionText = Annotated[Text, Field(max_length=100)]
"""What a person or a host calls an order, a lot or a shift."""
ProductionName = Literal["order", "lot", "shift"]
PRODUCTION_NAMES: tuple[ProductionName, ...] = get_args(ProductionName)
SparkplugId = Annotated[str, Field(max_length=64), AfterValidator(_sparkplug_id)]
"""A level of a Sparkplug topic; blanks are allowed, as in "Paint Shop"."""
Template = Annotated[str, AfterValidator(_template)]
TopicPrefix = Annotated[str, AfterValidator(_topic_prefix)]
TopicFilter = Annotated[str, AfterValidator(_topic_filter)]
