"""Every setting that `mekiki check --diff` calls live is in force after a reload: nothing was built once."""

from __future__ import annotations

import functools
import logging
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import SecretStr

from adapters.engines.open_bundle import open_bundle
from agent.app.composition import Components
from agent.config.diff import changes, effect_of
from agent.config.loader import Loaded, load
from agent.config.models_mqtt import MqttSettings
from agent.mqtt.connection import BrokerConnection
from agent.mqtt.packets import largest_inbound
from agent.mqtt.reconnect import Reconnector
from agent.store.retention import Retention
from agent.store.store import Store
from camera.core.settings import QualityLimits, Reconnect, Settings
from tests.support.insides import adopt_plans, delivery, looks_by_present_settings
from tests.support.mqtt_peers import Subscriber, mosquitto, wait_until
from tests.support.mqtt_wire import cable
from tests.support.running_agent import running


def config(bundle: Path, *, after: bool) -> dict[str, Any]:
    """Return a config with every live setting; those of `after` all differ from the others."""
    n = 1 if after else 0

    def number(value: int) -> int:
        return value + 100_003 * n

    def text(value: str) -> str:
        return f"{value}-{'after' if after else 'before'}"

    recipe = {
        "templates": [text("a photo of {}")],
        "threshold": 0.3125 + n / 8,
        "abstain_margin": 0.03125 + n / 64,
        "smallest_defect_px": 11.5 + n,
        "reference": {"severity": ("major", "minor")[n], "false_rejects": 0.0123 + n / 8},
        "classes": {
            "ok": {"verdict": "pass", "phrases": [text("good")]},
            "bad": {"verdict": "fail", "severity": ("minor", "major")[n], "phrases": [text("bad")]},
        },
    }
    station = {
        "camera": {"kind": "simulated", "fps": 1.0},
        "roi": {"crop": [0.0, 0.0, 0.40625 + n / 4, 1.0], "masks": {text("m"): [[0, 0], [0.1, 0], [0, 0.1]]}},
        "view": ("fit", "crop")[n],
        "tiles": ("2x1", "1x3")[n],
        "quality": {
            "min_luma": 1.0 + n,
            "max_luma": 251.0 + n,
            "min_sharpness": 0.53125 + n,
            "frozen_s": 3001.5 + n,
            "stale_s": 4001.5 + n,
        },
        "images": {"last_fail": after, "max_width_px": 1234 + n, "jpeg_quality": 31 + n},
        "production": {name: text(f"own {name}") for name in ("order", "lot", "shift")},
        "adaptation": {"shadow_share": 0.21875 + n / 4},
    }
    return {
        "version": 1,
        "agent": {"id": "agent", "data_dir": "data"},
        "model": {"bundle": str(bundle)},
        "mqtt": {
            "enabled": True,
            "host": ("127.0.0.1", "127.0.0.2")[n],
            "port": 1 + n,
            "protocol": (5, 311)[n],
            "username": text("user"),
            "password": text("password"),
            "tls": {"ca": None},
            "keepalive_s": 311 + n,
            "connect_timeout_s": 2.125 + n,
            "reconnect": {"initial_s": 7.125 + n, "max_s": 77.125 + n, "jitter": 0.15625 + n / 4},
            "drain_per_s": 1717.5 + n,
            "result_version": (2, 1)[n],
            "stats_interval_s": 2727.5 + n,
            "commands": {
                "allow": [text("ping")],
                "per_s": 737.5 + n,
                "max_payload_kb": 747 + n,
                "response_topics": [text("plant")],
            },
        },
        "production": {name: text(name) for name in ("order", "lot", "shift")},
        "recipes": {
            "one": recipe,
            "two": {**recipe, "votes": {"k": 2 + n, "n": 5 + n}},
            "three": recipe,
            "four": {**recipe, "votes": {"k": 2 + n, "n": 5 + n}},
        },
        "stations": {
            "interval": {
                **station,
                "recipe": ("two", "four")[n],
                "products": [{"recipe": ("one", "three")[n], "part_id": text("HB-")}],
                "trigger": {"mode": "interval", "every_s": 5001.5 + n},
            },
            "waits": {
                **station,
                "recipe": ("one", "three")[n],
                "products": [{"recipe": ("three", "one")[n], "part_id": text("L?-")}],
                "trigger": {"mode": "mqtt", "deadline_ms": 7001 + n},
            },
        },
        "inspector": {"batch": 201 + n},
        "storage": {
            "keep_results": number(201_001),
            "keep_days": 301.5 + n,
            "max_mb": number(401_001),
            "max_waiting": number(501_001),
            "min_free_mb": 3 + n,
            "ballast_mb": 1 + n,
            "images": {
                "enabled": after,
                "verdicts": [("fail", "unsure")[n]],
                "sampled_passes": 0.28125 + n / 4,
                "max_width_px": 1732 + n,
                "jpeg_quality": 41 + n,
                "keep_days": 601.5 + n,
                "max_mb": number(701_001),
            },
        },
        "log": {"level": ("info", "debug")[n], "format": ("text", "json")[n]},
    }


def leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(value, dict) and path[-1:] != ("masks",):
        for key, one in value.items():
            yield from leaves(one, (*path, key))
    else:
        yield path, value.get_secret_value() if isinstance(value, SecretStr) else value


def live(loaded: Loaded) -> dict[tuple[str, ...], Any]:
    found = dict(leaves(loaded.config.model_dump(mode="python")))
    return {path: value for path, value in found.items() if effect_of(path) == "live"}


SAME = {
    ("mode",),
    ("tls", "ca"),
    ("tls", "cert"),
    ("tls", "key"),
    ("verdict",),
    ("votes",),
    ("ok", "severity"),
    ("reference", "features"),
}
"""What is the same in both: the kind of a trigger, an absent file, the side of a class, the backbone."""


def both(folder: Path, bundle: Path) -> tuple[Loaded, str]:
    """Return the config before, and the text of the file after."""
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config(bundle, after=False)))
    return load(path), yaml.safe_dump(config(bundle, after=True))


def test_every_live_setting_differs_between_the_two_configs(tiny_bundle: Path, tmp_path: Path) -> None:
    """So the tests below leave none out, also not one that is new."""
    before, text = both(tmp_path, tiny_bundle)
    before.path.write_text(text)
    after = load(before.path)
    old, new = live(before), live(after)
    same = {path for path in old if old[path] == new.get(path) and not {path[-1:], path[-2:]} & SAME}
    assert same == set()
    assert {change.effect for change in changes(before, after)} == {"live"}
    recipe = {*type(before.config.recipes["two"]).model_fields}
    assert recipe == {key for _, _, key, *_ in (path for path in old if path[:2] == ("recipes", "two"))}


def reachable(root: object) -> Iterator[object]:
    """Yield all that can be reached from an object, but what is kept of the start on purpose."""
    seen, waiting = set[int](), [root]
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        waiting += _inside(one)


def _inside(one: object) -> list[object]:
    if isinstance(one, dict):
        return [*one.keys(), *one.values()]
    if isinstance(one, list | tuple | set | frozenset):
        return list(one)
    if isinstance(one, types.MethodType):
        return [one.__self__, one.__func__]
    if isinstance(one, functools.partial):
        return [one.func, *one.args, *one.keywords.values()]
    if isinstance(one, types.FunctionType):
        cells = [cell.cell_contents for cell in one.__closure__ or ()]
        return [*cells, *(one.__defaults__ or ())]
    if type(one).__module__.split(".")[0] not in ("agent", "camera", "collections"):
        return []
    slots = [name for kind in type(one).__mro__ for name in getattr(kind, "__slots__", ())]
    found = [getattr(one, name) for name in slots if hasattr(one, name)]
    kept = {name: value for name, value in getattr(one, "__dict__", {}).items() if name != "prepared"}
    return [*found, *kept.values(), *(list(one) if hasattr(one, "__iter__") else [])]


@pytest.mark.usefixtures("_logging")
def test_nothing_of_the_agent_holds_a_live_setting_of_before(tiny_bundle: Path, tmp_path: Path) -> None:
    """After a reload every settings object that any part can reach is that of the config in force."""
    before, text = both(tmp_path, tiny_bundle)
    engine = open_bundle(tiny_bundle, device="cpu", threads=1)
    (tmp_path / "data").mkdir()
    store = Store(tmp_path / "data", Retention.of(before.config.storage))
    parts = Components(
        before, before, (), engine, store,
        refused=(), unusable=None, last=None, proven=False, frames=None,
        on_crash=lambda error: None, wake=lambda: None,
    )  # fmt: skip
    try:
        parts.stations.use(parts.prepared)
        before.path.write_text(text)
        after = load(before.path)
        old = {value for value in live(before).values() if isinstance(value, int | float | str)}
        # Its keys too: what the old one named may be there still under another name.
        new = {value for value in reachable(after.config) if isinstance(value, int | float | str)}
        assert parts.reloader.reload("test").state == "applied"
        delivery(parts.publisher).tend(0.0, ending=True)
        adopt_plans(parts.inspector)
        assert parts.triggers.receive("waits", b'{"trigger_id": "t"}')
        wait_until(lambda: [*parts.mailbox.take(8, 0.1), *looked(parts)].count(True) == 2, 60)
        wanted = [*of_settings(after.config)]
        limits = [one for one in wanted if isinstance(one, QualityLimits)]
        wanted += [one.model_copy(update={"stale_s": None}) for one in limits]  # no picture of a file is late
        found = [*reachable(parts)]
        stale = [one for one in found if isinstance(one, Settings) and one not in wanted]
        assert stale == []
        told = {one for one in found if isinstance(one, int | float | str) and not isinstance(one, bool)}
        assert {value for value in (old - new) & told if not isinstance(value, int) or value > 100} == set()
        assert logging.getLogger("agent").level == logging.DEBUG
    finally:
        parts.stations.stop()
        parts.mailbox.close()
        parts.stations.join(20)
        store.close()


def looked(parts: Components) -> list[bool]:
    """Return which cameras look at their pictures by the present settings."""
    return [looks_by_present_settings(feed) for feed in parts.stations.feeds]


def of_settings(value: object) -> Iterator[object]:
    """Yield a settings object and all that it holds."""
    if isinstance(value, Settings):
        yield value
        for name in type(value).model_fields:
            yield from of_settings(getattr(value, name))
    elif isinstance(value, dict | tuple):
        for one in value.values() if isinstance(value, dict) else value:
            yield from of_settings(one)


@pytest.mark.broker
def test_larger_commands_are_taken_as_soon_as_they_are_allowed(tiny_bundle: Path, tmp_path: Path) -> None:
    """What MQTT 5 says of packets is said anew: until then the broker keeps what is larger to itself."""
    (tmp_path / "broker").mkdir()
    path = tmp_path / "config.yaml"
    with mosquitto(tmp_path / "broker") as broker, cable(broker.port) as wire:
        written = config(tiny_bundle, after=False)
        written["mqtt"] = {
            "host": "127.0.0.1", "port": wire.port, "topic_prefix": "plant",
            "reconnect": {"initial_s": 0.1, "max_s": 0.3}, "commands": {"max_payload_kb": 1},
        }  # fmt: skip
        path.write_text(yaml.safe_dump(written))
        subscriber = Subscriber(broker.port)
        padded = b'{"transaction": "large"' + b" " * 120_000 + b"}"
        with running(load(path)):
            wait_until(lambda: subscriber.last("waits/recipe/state") is not None, 60)
            subscriber.send("plant/agent/cmd/request/ping", padded)
            assert subscriber.ask("ping")["status"] == "done"
            assert subscriber.answer("large") is None
            assert wire.witnesses[-1].takes == largest_inbound(load(path).config.mqtt)
            written["mqtt"]["commands"]["max_payload_kb"] = 200
            path.write_text(yaml.safe_dump(written))
            wanted = largest_inbound(load(path).config.mqtt)
            wait_until(lambda: wire.witnesses[-1].takes == wanted, 60)
            wait_until(lambda: subscriber.last("info")["config"]["digest"] == load(path).digest, 60)
            assert subscriber.ask("ping")["status"] == "done"
            subscriber.send("plant/agent/cmd/request/ping", padded)
            wait_until(lambda: subscriber.answer("large") is not None, 60)
        assert wire.violations() == []
        subscriber.close()


def test_a_shorter_wait_for_the_broker_does_not_wait_for_the_longer_one_first() -> None:
    """An hour between two tries was a mistake: with it mended the next try is now."""
    patient = MqttSettings(reconnect=Reconnect(initial_s=3600.0, max_s=3600.0))
    reconnector = Reconnector(patient)
    link = BrokerConnection(patient, "me", 5, None, lambda: None, None)  # never opened
    assert reconnector.lost(link, 0.0) > 1000
    reconnector.use(patient.model_copy(update={"drain_per_s": 1.0}))
    assert not reconnector.due(100.0)
    reconnector.use(patient.model_copy(update={"reconnect": Reconnect(initial_s=0.5, max_s=1.0)}))
    assert reconnector.due(100.0)
    assert reconnector.lost(link, 100.0) < 1


@pytest.fixture
def _logging() -> Iterator[None]:
    root, ours = logging.getLogger(), [logging.getLogger(name) for name in ("agent", "camera", "adapters")]
    before, levels = root.handlers[:], [one.level for one in (root, *ours)]
    yield
    root.handlers[:] = before
    for one, level in zip((root, *ours), levels, strict=True):
        one.setLevel(level)
