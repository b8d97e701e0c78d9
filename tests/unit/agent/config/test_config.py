"""config.yaml: what it may say, and what comes of it."""

from __future__ import annotations

import json
import re
import typing
from collections.abc import Iterator
from functools import partial

import jsonschema
import pytest
import yaml
from pydantic import BaseModel

from agent.config import cross_checks
from agent.config.loader import load, print_config, schema
from agent.config.models import Config
from tests.support.configs import MINIMAL, ROOT, SHIPPED, load_text, station, uncommented

SCHEMA = ROOT / "docs" / "config.schema.json"


@pytest.fixture
def config_of(tmp_path):
    """Return a function that loads a config from text."""
    return partial(load_text, tmp_path)


def test_shipped_config_is_all_defaults():
    """Each value in config.yaml is what the agent would take without it."""
    wanted = {"version": 1, "stations": {"line": {"camera": {"kind": "simulated"}, "recipe": "line"}}}
    assert load(SHIPPED).config == cross_checks.anchored(Config.model_validate(wanted), ROOT)


def test_shipped_config_is_valid_with_everything_uncommented(config_of, tmp_path, monkeypatch):
    """What stands behind a # in config.yaml works once the # is gone."""
    monkeypatch.setenv("CAM_USER", "reader")
    for name in ("ca.pem", "agent.pem", "agent.key", "cam_password"):
        (tmp_path / name).write_text("x\n")
    (tmp_path / "photos").mkdir()
    (tmp_path / "recordings" / "top").mkdir(parents=True)
    config = config_of(uncommented()).config
    assert list(config.stations) == ["line", "top", "belt", "press", "photos", "again"]
    assert config.stations["top"].quality.stale_s == 1.0
    assert config.recipes["housing"].classes["scratch"].severity == "major"


def test_shipped_config_shows_every_setting():
    """There is no setting that config.yaml does not show, in use or behind a #."""
    shown = set(shown_settings(Config, yaml.safe_load(uncommented())))
    assert all_settings(Config) - shown == set()
    assert len(shown) > 90


def models_in(annotation: object) -> list[type[BaseModel]]:
    """Return every model within an annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for each in typing.get_args(annotation) for model in models_in(each)]


def all_settings(model: type[BaseModel]) -> set[tuple[str, str]]:
    """Return the settings of a model and of everything in it, as model and key."""
    found = {(model.__name__, key) for key in model.model_fields}
    for field in model.model_fields.values():
        found |= {setting for inner in models_in(field.annotation) for setting in all_settings(inner)}
    return found


def shown_settings(model: type[BaseModel], data: object) -> Iterator[tuple[str, str]]:
    """Yield the settings of a model that `data` holds; maps by name and lists are looked through."""
    if isinstance(data, list):
        for item in data:
            yield from shown_settings(model, item)
    if not isinstance(data, dict):
        return
    for key, value in data.items():
        if key in model.model_fields:
            yield model.__name__, key
        inner = models_in(model.model_fields[key].annotation) if key in model.model_fields else [model]
        for each in inner:
            yield from shown_settings(each, value)


def test_exported_schema_is_current():
    """docs/config.schema.json is what the models say."""
    assert json.loads(SCHEMA.read_text()) == schema()


def test_schema_accepts_the_shipped_config_and_refuses_a_typo():
    """An editor that knows the schema sees what the agent would say."""
    validator = jsonschema.Draft202012Validator(schema())
    data = yaml.safe_load(SHIPPED.read_text())
    validator.validate(data)
    data["station_defaults"] = {"roi": {"crop": [0.0, 0.0, 0.5, 0.5]}}
    validator.validate(data)
    data["stations"]["line"]["camera"]["sed"] = 1
    assert not validator.is_valid(data)


def test_relative_paths_start_at_the_config(config_of, tmp_path):
    """Data folder, pictures and clips are found from wherever the agent is started."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "clip.mp4").touch()
    text = station("{camera: {kind: folder, path: photos}, recipe: line}")
    config = config_of(
        f"{text}  c:\n    {{camera: {{kind: opencv, source: clip.mp4}}, recipe: line}}\n"
    ).config
    assert config.agent.data_dir == str(tmp_path / "data")
    assert config.stations["b"].camera.path == str(tmp_path / "photos")
    assert config.stations["c"].camera.source.get_secret_value() == str(tmp_path / "clip.mp4")


@pytest.mark.parametrize(
    "source", ["0", "/dev/video7", "rtsp://10.0.0.11/s", "videotestsrc ! appsink", "http://h/a.mjpg"]
)
def test_what_is_no_file_is_left_alone(config_of, source):
    """Devices, URLs and pipelines are neither looked for on the disk nor made absolute."""
    config = config_of(station(f"{{camera: {{kind: opencv, source: '{source}'}}, recipe: line}}")).config
    assert config.stations["b"].camera.source.get_secret_value() == source


def test_stations_start_from_the_defaults(config_of):
    """Maps of station_defaults merge, lists replace, and a map of another mode stands alone."""
    config = config_of("""\
version: 1
station_defaults:
  recipe: line
  camera: {kind: simulated, seed: 5, defect_rate: 0.5}
  trigger: {mode: interval, every_s: 2}
  roi: {crop: [0, 0, 0.5, 0.5], masks: {a: [[0, 0], [1, 0], [1, 1]]}}
stations:
  one: {}
  two:
    camera: {seed: 6}
    trigger: {mode: continuous}
    roi: {crop: [0.1, 0.1, 0.9, 0.9], masks: {b: [[0, 0], [1, 0], [1, 1]]}}
""").config
    one, two = config.stations["one"], config.stations["two"]
    assert (one.camera.seed, one.camera.defect_rate, one.trigger.every_s) == (5, 0.5, 2)
    assert (two.camera.seed, two.camera.defect_rate, two.trigger.mode) == (6, 0.5, "continuous")
    assert (two.roi.crop, sorted(two.roi.masks)) == ((0.1, 0.1, 0.9, 0.9), ["a", "b"])


def test_plain_words_are_text_and_keys_keep_their_spelling(config_of):
    """YAML 1.2: `no` is a word, and a class may be called 1 or on."""
    config = config_of(
        MINIMAL
        + """\
recipes:
  signs:
    templates: ["the word {}"]
    classes:
      1: {verdict: pass, phrases: [no, "1"]}
      on: {verdict: fail, phrases: [off, 12:30]}
"""
    ).config
    classes = config.recipes["signs"].classes
    assert {label: each.phrases for label, each in classes.items()} == {
        "1": ("no", "1"),
        "on": ("off", "12:30"),
    }


def test_print_shows_every_setting_and_loads_again(config_of, monkeypatch):
    """What is printed is a config with all defaults in it; loading it gives the same, digest included."""
    monkeypatch.setenv("MQTT_USER", "u")
    monkeypatch.setenv("MQTT_PW", "p")
    loaded = config_of(MINIMAL + "mqtt: {username: '${env:MQTT_USER}', password: '${env:MQTT_PW}'}\n")
    again = config_of(print_config(loaded))
    assert (again.config, again.digest) == (loaded.config, loaded.digest)
    assert yaml.safe_load(print_config(loaded))["mqtt"]["keepalive_s"] == 20


def test_print_quotes_what_would_be_read_as_something_else(config_of):
    """Labels such as 1e5, no and 0x10 come back as the text they were."""
    classes = "".join(
        f"      '{label}': {{verdict: fail, phrases: ['{label}']}}\n"
        for label in ("1e5", "no", "0x10", "0o7", "null", "1_000", ".inf", "12:30", "ä: #")
    )
    loaded = config_of(f"{MINIMAL}recipes:\n  r:\n    templates: ['{{}}']\n    classes:\n{classes}")
    assert config_of(print_config(loaded)).config == loaded.config


def test_digest_follows_the_meaning_not_the_writing(config_of):
    """Comments, order and defaults written out change nothing; a setting does."""
    written = config_of(MINIMAL)
    same = config_of(
        "# x\nlog: {level: info}\nstations: {top: {recipe: line, camera: {kind: simulated}}}\nversion: 1\n"
    )
    other = config_of(f"{MINIMAL}log: {{level: debug}}\n")
    assert written.digest == same.digest
    assert written.digest != other.digest
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", written.digest)
