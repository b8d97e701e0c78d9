"""No setting is NaN or infinite, and no command over MQTT brings such a number: all there are."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from pydantic import SecretStr, ValidationError

from agent.base.errors import ConfigError
from agent.base.rate_limiter import RateLimiter
from agent.clock.trusted_time import FIRST
from agent.commands.bodies import BODIES
from agent.commands.schema import Refusal, read
from agent.config.loader import load, schema
from agent.config.models import Config
from agent.domain.trigger_body import TriggerBody
from agent.inspection.ballot import Ballot
from agent.inspection.feed_factory import feed_settings
from agent.mqtt.connection import BrokerConnection
from agent.mqtt.messages import Inbound, Message
from agent.mqtt.packets import publish_properties
from agent.store.retention import Holdings, Retention, excess
from agent.store.store import Store
from camera.feed.view import View
from camera.pictures.preprocess import InputSpec
from camera.sources.factory import open_source
from camera.sources.opencv_reader import VideoError, open_camera
from tests.support.verdicts import a_verdict

CAMERAS: list[dict[str, Any]] = [
    {"kind": "opencv", "source": "rtsp://10.0.0.1/x"},
    {"kind": "folder", "path": "."},
    {"kind": "recording", "path": "."},
    {"kind": "simulated", "conditions": [{"kind": "dim", "to_part": 9}]},
]
ODD = [".nan", ".NaN", ".inf", "-.inf", "1e999"]


def written(folder: Path, camera: dict[str, Any]) -> Path:
    """Return a config file that says as much as one can."""
    classes = {name: {"verdict": name, "phrases": [name]} for name in ("pass", "fail")}
    recipe = {"templates": ["{}"], "votes": {"k": 1, "n": 2}, "classes": classes}
    station = {"camera": camera, "recipe": "r", "trigger": {"mode": "interval", "every_s": 2.0}}
    station["roi"] = {"masks": {"a": [[0.0, 0.0], [0.5, 0.0], [0.5, 0.5]]}}
    station["adaptation"] = {"pins": {"offset": 1.0}}
    config = {"version": 1, "recipes": {"r": recipe}, "stations": {"s": station}}
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def numbers(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield where a number stands, or may stand."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from numbers(item, (*path, key))
    elif isinstance(value, list | tuple):
        for row, item in enumerate(value):
            yield from numbers(item, (*path, row))
    elif value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        yield path


def put(value: Any, path: tuple[Any, ...], new: object) -> Any:
    """Return a copy with another value at a path."""
    if not path:
        return new
    if isinstance(value, dict):
        return {**value, path[0]: put(value[path[0]], path[1:], new)}
    return type(value)(put(item, path[1:], new) if row == path[0] else item for row, item in enumerate(value))


def refuses(config: dict[str, Any]) -> bool:
    try:
        Config.model_validate(config)
    except ValidationError:
        return True
    return False


@pytest.mark.parametrize("camera", CAMERAS, ids=lambda camera: camera["kind"])
def test_no_setting_is_nan_or_infinite(camera: dict[str, Any], tmp_path: Path) -> None:
    """Refused by the model of each, also where it does not come out of a file."""
    known = load(written(tmp_path, camera)).config.model_dump(mode="python")
    Config.model_validate(known)
    paths = list(numbers(known))
    assert len(paths) > 50
    for path in paths:
        for odd in (math.nan, math.inf, -math.inf):
            assert refuses(put(known, path, odd)), f"{path} may be {odd}"


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("camera", CAMERAS, ids=lambda camera: camera["kind"])
def test_the_file_says_where_it_stands(camera: dict[str, Any], odd: str, tmp_path: Path) -> None:
    """With line and key, all at once; quoted it is a text, which is no number either."""
    path = written(tmp_path, camera)
    effective = load(path).effective
    places = [place for place in numbers(effective) if place[0] in ("recipes", "stations", "mqtt", "storage")]
    for given in (odd, f'"{odd}"'):
        changed = effective
        for place in places:
            changed = put(changed, place, "ODD")
        path.write_text(yaml.safe_dump(changed).replace("ODD", given))
        with pytest.raises(ConfigError) as caught:
            load(path)
        told = "\n".join(caught.value.problems)
        if given == odd:
            assert told.count("should be a number of usual size") >= min(len(places), 100) - 1
        for key in ("threshold", "abstain_margin", "every_s"):
            assert key in told


@pytest.mark.parametrize("odd", ["NaN", "Infinity", "-Infinity", "1e999"])
@pytest.mark.parametrize("verb", sorted(BODIES))
def test_no_command_takes_such_a_number(verb: str, odd: str) -> None:
    """In any field that it has, in one that it has not, and as a whole."""
    fields = [*BODIES[verb].model_fields, "other"]
    setting = verb.removeprefix("set/")
    is_setting = setting != verb
    topic = f"p/a/s/{setting}/set" if is_setting else f"p/a/cmd/request/{verb}"
    whole = [] if is_setting else [f"[{odd}]"]  # a bare word is the name of a recipe
    for payload in [*(f'{{"{field}": {odd}}}' for field in fields), *whole]:
        found = read(Inbound(topic, payload.encode()), "p/a", "p", 10_000)
        assert isinstance(found, Refusal), payload
    for field in TriggerBody.model_fields:
        with pytest.raises(ValidationError):
            TriggerBody.model_validate_json(f'{{"trigger_id": "1", "{field}": {odd}}}')


def test_every_number_has_both_ends() -> None:
    """What has none overflows somewhere while the line runs, in a config that `check` called good."""
    open_ended = []

    def look(node: Any, path: str) -> None:
        if isinstance(node, dict):
            if node.get("type") in ("number", "integer") and not {"const", "enum"} & set(node):
                low, high = {"minimum", "exclusiveMinimum"} & set(node), {"maximum", "exclusiveMaximum"}
                if not (low and high & set(node)):
                    open_ended.append(path)
            for key, item in node.items():
                look(item, f"{path}.{key}")
        elif isinstance(node, list):
            for item in node:
                look(item, path)

    look(schema(), "")
    assert open_ended == []


LADDER = [-(10**12), 0, 1e-323, 1e-6, 1, 30, 1000, 1024, 3600, 36_500, 65_535, 86_400, 604_800, 10**6]
LADDER += [10**9, 10**12, 10**15, 10**18, 1e30, 1e300]


def ends(config: dict[str, Any], path: tuple[Any, ...]) -> list[Any]:
    """Return the smallest and the largest value on the ladder that may stand at a path."""
    fits = [value for value in LADDER if not refuses(put(config, path, value))]
    return [*fits[:1], *fits[-1:]]


def use(config: Config, folder: Path) -> None:
    """Do with the numbers what an agent does that runs."""
    full = Holdings(10**18, 10**18, 0)
    for now in (FIRST, datetime.now(UTC)):
        excess(Retention.of(config.storage), full, now)
    retention = Retention.of(config.storage)
    store = Store(folder / "store", replace(retention, ballast_bytes=min(retention.ballast_bytes, 10)))
    try:
        # The floor of the disk may be above all that there is.
        store.retention = replace(store.retention, min_free_bytes=0)
        store.commit([a_verdict(), a_verdict()])
        store.retention = retention
        store.collect_garbage(datetime.now(UTC))
    finally:
        store.close()
    mqtt, station = config.mqtt, next(iter(config.stations.values()))
    expiry_s = math.ceil(2 * mqtt.stats_interval_s)
    publish_properties(Message("t", b"", 0, False, "x", expiry_s)).pack()  # type: ignore[no-untyped-call]
    RateLimiter(mqtt.drain_per_s).allows(1.0)
    RateLimiter(mqtt.commands.per_s).allows(1.0)
    BrokerConnection(mqtt, "x", 5, None, lambda: None, None)
    Ballot(config.recipes["r"].votes)
    for live in (False, True):
        view = View(
            feed_settings(station, config.recipes["r"]), InputSpec(32, (0.5,) * 3, (0.5,) * 3), live=live
        )
        view.due(10**18)
        picture = np.zeros((64, 96, 3), np.uint8)
        view.sees(picture, picture)
    camera, stop = station.camera, threading.Event()
    waits = [mqtt.connect_timeout_s, mqtt.reconnect.initial_s, mqtt.reconnect.max_s, mqtt.stats_interval_s]
    if camera.kind == "opencv":
        waits += [camera.open_timeout_s, camera.read_timeout_s, camera.reconnect.max_s, 1 / (camera.fps or 1)]
        there = camera.model_copy(update={"source": SecretStr(str(folder / "none.mp4"))})
        with suppress(VideoError):
            open_camera(there, cv2.CAP_FFMPEG)
    elif camera.kind == "simulated":
        assert next(open_source(camera).captures(stop)).image is not None
    stop.set()
    for wait_s in waits:
        stop.wait(wait_s)
        assert 2 * wait_s < threading.TIMEOUT_MAX


@pytest.mark.parametrize("camera", CAMERAS, ids=lambda camera: camera["kind"])
def test_what_check_calls_good_ends_nothing(camera: dict[str, Any], tmp_path: Path) -> None:
    """The largest and the smallest value of each number, through what uses it."""
    known = load(written(tmp_path, camera)).config.model_dump(mode="python")
    sections = {"mqtt", "storage", "stations", "recipes", "inspector"}
    tried = 0
    for path in numbers(known):
        if path[0] not in sections:
            continue
        for value in ends(known, path):
            use(Config.model_validate(put(known, path, value)), tmp_path)
            tried += 1
    assert tried > 80
