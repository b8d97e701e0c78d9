"""No setting is NaN or infinite, and no command over MQTT brings such a number: all there are."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from agent.commands import BODIES, Refusal, TriggerBody, read
from agent.config import Config
from agent.configfile import load
from agent.errors import ConfigError
from agent.message import Inbound

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
