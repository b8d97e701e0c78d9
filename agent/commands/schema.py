"""Commands over MQTT as values: from a message to what it asks for, or to why that cannot be. Pure functions.

What is read here comes from anybody who may publish: every text ends up on one printable line, every number
has bounds, and nothing that is not in a model below passes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel, Field, ValidationError

from agent.base.refusal import refusal
from agent.base.text import harmless
from agent.commands.bodies import BODIES, AboutStation, Body, LabelBody, Setting
from agent.config.types import Exactly
from agent.domain.command_answer import one_line
from agent.domain.trigger_body import TriggerBody
from agent.mqtt.messages import Inbound

_VERB = re.compile(r"[a-z_]{1,32}(/[a-z_]{1,32}){0,2}")
_TRUTH = {"on": True, "true": True, "off": False, "false": False}


@dataclass(frozen=True, slots=True)
class Reply:
    """Where an answer goes.

    Attributes:
        verb: last part of ``P/cmd/response/<verb>``.
        topic: the MQTT 5 client's response topic, or None.
    """

    verb: str
    topic: str | None = None
    correlation: bytes | None = None


@dataclass(frozen=True, slots=True)
class Command:
    """Something that somebody asks for, complete and within bounds.

    Attributes:
        station: from the topic or the payload; None where none is named.
        body: as `BODIES` has it for the verb.
    """

    verb: str
    station: str | None
    body: Body
    reply: Reply

    @property
    def actor(self) -> str:
        """Who asks, for audit trails."""
        return f"mqtt:{self.body.user}"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A message that is no command, and why; `transaction` where it could be read."""

    reply: Reply
    why: str
    transaction: str | None = None
    station: str | None = None


def read(
    inbound: Inbound, own: str, prefix: str, largest: int, filters: Sequence[str] = ()
) -> Command | Refusal:
    """Read a message below our own topics.

    Args:
        inbound: not retained.
        own: ``<topic_prefix>/<agent id>``.
        prefix: ``<topic_prefix>``.
        largest: bytes of a payload.
        filters: where answers may be wanted; none: anywhere below `prefix` that is no agent's.
    """
    verb, station = _address(inbound.topic, own)
    topic = inbound.response_topic
    reply = Reply(verb if _VERB.fullmatch(verb) else "unknown", topic, inbound.correlation)
    if topic is not None and not may_answer(topic, own, prefix, filters):
        why = "the response topic is not one that this agent may write to"
        return Refusal(Reply(reply.verb), why, _transaction(inbound.payload[:largest]), station)
    if len(inbound.payload) > largest:
        return Refusal(reply, f"more than {largest} bytes", None, station)
    if verb == "trigger":  # a good one at a station that takes triggers does not come here
        return Refusal(reply, _no_trigger(inbound.payload), None, station)
    model = BODIES.get(verb)
    if model is None:
        why = f"no such verb: there is {', '.join(sorted(BODIES))}"
        return Refusal(reply, why, _transaction(inbound.payload), station)
    if station is None and model in (Setting, LabelBody):
        place = f"{verb.removeprefix('set/')}/set" if model is Setting else verb
        why = f"this is asked of a station: publish it to {own}/<station>/{place}"
        return Refusal(reply, one_line(why), _transaction(inbound.payload), None)
    try:
        body = _parse(model, verb, inbound.payload)
    except ValidationError as error:
        return Refusal(reply, one_line(refusal(error, model)), _transaction(inbound.payload), station)
    except ValueError as error:
        return Refusal(reply, one_line(str(error)), None, station)
    if isinstance(body, AboutStation):
        station = body.station
    return Command(verb, station, body, reply)


def may_answer(topic: str, own: str, prefix: str, filters: Sequence[str]) -> bool:
    """Whether we may be made to write there: never where an agent takes commands or says something."""
    levels = topic.split("/")
    if not all(map(harmless, topic)) or len(topic.encode()) > 1000 or set("+#") & set(topic) or "" in levels:
        return False
    if topic.startswith(f"{own}/cmd/response/"):
        return True
    if topic.startswith((f"{own}/", "$")):
        return False
    if filters:
        return any(matches(wanted, topic) for wanted in filters)
    hears = levels[-1] in ("set", "trigger", "label") or "request" in levels
    return topic.startswith(f"{prefix}/") and not hears


def matches(wanted: str, topic: str) -> bool:
    """Whether a topic filter takes a topic."""
    ours, theirs = wanted.split("/"), topic.split("/")
    for place, level in enumerate(ours):
        if level == "#":
            return True
        if place >= len(theirs) or level not in ("+", theirs[place]):
            return False
    return len(ours) == len(theirs)


def _address(topic: str, own: str) -> tuple[str, str | None]:
    """Return verb and station of a topic below `own`."""
    rest = topic.removeprefix(f"{own}/")
    if rest.startswith("cmd/request/"):
        return rest.removeprefix("cmd/request/"), None
    station, _, name = rest.partition("/")
    name, _, last = name.partition("/")
    return (f"set/{name}" if last == "set" else name), one_line(station)


def _parse(model: type[Body], verb: str, payload: bytes) -> Body:
    """Raise ValueError (ValidationError is one) with what is wrong."""
    try:
        payload.decode()
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    if model is Setting:
        return _setting(verb.removeprefix("set/"), payload)
    return model.model_validate_json(payload or b"{}")


def _no_trigger(payload: bytes) -> str:
    try:
        TriggerBody.model_validate_json(payload)
    except ValidationError as error:
        return one_line(refusal(error, TriggerBody))
    return "this station takes no triggers: its trigger.mode is not mqtt"


def _setting(name: str, payload: bytes) -> Setting:
    """Read a setting, as an object or as the bare word that Home Assistant and simple clients send."""
    if payload.lstrip()[:1] == b"{":
        setting = Setting.model_validate_json(payload)
    else:
        setting = Setting(value=payload.decode())
    if name == "enabled":
        value = setting.value if isinstance(setting.value, bool) else _TRUTH.get(setting.value.lower())
        if value is None:
            raise ValueError("enabled is set to true or false")
        return setting.model_copy(update={"value": value})
    if isinstance(setting.value, bool):
        raise ValueError(f"{name} is set to a name")
    return setting


def _transaction(payload: bytes) -> str | None:
    """Return the transaction of a command that is wrong elsewhere, so that who asked knows."""

    class Anything(BaseModel):
        transaction: Exactly | None = Field(default=None, max_length=100)

    try:
        return Anything.model_validate_json(payload, strict=True).transaction
    except ValidationError:
        return None
