"""config.yaml: how it says what is wrong, and where."""

from __future__ import annotations

import json
import re
from functools import partial

import pytest

from agent.base.errors import ConfigError
from agent.config.loader import load
from agent.config.yaml_reader import MAX_DEPTH
from tests.support.configs import MINIMAL, load_text, problems_in, station


@pytest.fixture
def config_of(tmp_path):
    """Return a function that loads a config from text."""
    return partial(load_text, tmp_path)


@pytest.fixture
def problems_of(tmp_path):
    """Return a function that gives the problems of a text."""
    return partial(problems_in, tmp_path)


def test_all_problems_come_at_once_each_with_its_line(problems_of):
    """One run shows everything: unknown keys, wrong types, limits, names, files and recipes."""
    assert problems_of(
        """\
version: 2
agnt: {}
agent: {id: a/b}
mqtt:
  port: abc
  enabled: yes
  host: 5
  password: 12345
recipes:
  r:
    templates: ["{} {}"]
    votes: {k: 3, n: 2}
    classes:
      a: {verdict: pass, severity: minor, phrases: [x]}
      b: {verdict: faill, phrases: []}
stations:
  top:
    camera: {kind: opencv, sourc: 1, width: 1.5}
    recipe: lin
    roi: {crop: [0, 0, 1], masks: {a: [[0, 0], [1, 2], [0, 1]]}}
    trigger: {mode: intervall}
  health: {camera: {kind: folder, path: nowhere}, recipe: r}
  c: {camera: {source: clip.mp4}, recipe: r, roi: {crop: [0.5, 0, 0.5, 1]}}
""".replace("nowhere", "/nowhere")
    ) == [
        "config.yaml:1: version: written for a newer agent: this one knows up to 1: install that agent again",
        "config.yaml:2: agnt: unknown key: did you mean agent?",
        "config.yaml:3: agent.id: should be up to 64 letters, digits, dots, - or _, first a letter or digit",
        "config.yaml:5: mqtt.port: should be a whole number, is 'abc'",
        "config.yaml:6: mqtt.enabled: should be true or false, is 'yes'",
        "config.yaml:7: mqtt.host: should be text, is 5: put it in quotes",
        "config.yaml:8: mqtt.password: should be text, is a number: put it in quotes",
        "config.yaml:11: recipes.r.templates.0: should hold {} once, for the phrase, and no other brace",
        "config.yaml:12: recipes.r.votes.n: should be at least k",
        "config.yaml:14: recipes.r.classes.a.severity: only a class with verdict: fail has a severity",
        "config.yaml:15: recipes.r.classes.b.verdict: should be pass or fail, is 'faill': did you mean fail?",
        "config.yaml:15: recipes.r.classes.b.phrases: has too few entries: at least 1 are needed",
        "config.yaml:18: stations.top.camera.source: is missing: add it",
        "config.yaml:18: stations.top.camera.width: should be a whole number, is 1.5",
        "config.yaml:18: stations.top.camera.sourc: unknown key: did you mean source?",
        "config.yaml:19: stations.top.recipe: no recipe is called 'lin': did you mean line?",
        "config.yaml:20: stations.top.roi.crop: has too few entries: 4 are needed",
        "config.yaml:20: stations.top.roi.masks.a.1.1: should be at most 1, is 2",
        "config.yaml:21: stations.top.trigger.mode: should be continuous, interval, mqtt or presence,"
        " is 'intervall': did you mean interval?",
        "config.yaml:22: stations.health: is a topic of the agent itself: choose another name",
        "config.yaml:22: stations.health.camera.path: no such folder: '/nowhere': name another",
        "config.yaml:23: stations.c.camera: needs the key 'kind': it says which other keys are allowed here",
        "config.yaml:23: stations.c.roi.crop: leaves nothing: left < right and top < bottom are needed",
        "config.yaml:23: stations.c.camera.source: no such file: 'clip.mp4': relative paths start at FOLDER",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("mqtt: {password: x}", "mqtt: password without username: give both"),
        ("mqtt: {embedded_broker: true, enabled: false}", "mqtt: embedded_broker with enabled: false"),
        ("mqtt: {embedded_broker: true, host: plant}", "mqtt: embedded_broker serves on loopback only"),
        ("mqtt: {embedded_broker: true, tls: {}}", "mqtt: embedded_broker speaks no TLS"),
        ("mqtt: {tls: {cert: config.yaml}}", "mqtt.tls: cert and key belong together"),
        (
            "mqtt: {tls: {ca: nope.pem}}",
            "mqtt.tls.ca: no such file: 'nope.pem': relative paths start at FOLDER",
        ),
        ("mqtt: {reconnect: {initial_s: 9, max_s: 3}}", "mqtt.reconnect: initial_s is more than max_s"),
        ("mqtt: {topic_prefix: plant/#}", "mqtt.topic_prefix: should be names with / between them"),
        ("mqtt: {port: 0}", "mqtt.port: should be at least 1, is 0"),
        ("agent: {data_dir: config.yaml}", "agent.data_dir: is a file, not a folder: 'config.yaml'"),
        ("model: {engine: onnx, name: ViT-B-32}", "model: name is for engine: torch"),
        (
            "model: {engine: torch, name: ViT-B-32}",
            "model: engine: torch needs exactly one of checkpoint and",
        ),
        ("model: {bundle: my/bundle}", "model.bundle: no such folder: 'my/bundle'"),
        ("recipes: {}\nrecipes: {}", "recipes: stands here twice: first in line 6"),
        ("recipes: {r: {templates: [a], classes: {}}}", "recipes.r.templates.0: should hold {} once"),
        (
            "recipes: {r: {templates: ['{}'], classes: {}}}",
            "recipes.r.classes: has too few entries: at least 2",
        ),
        ("recipes:", "recipes: should be a mapping of keys, is empty"),
        ("station_defaults: 3", "station_defaults: should be a mapping of keys, is a number"),
        ("station_defaults: {roi: {crup: 1}}", "station_defaults.roi.crup: unknown key: did you mean crop?"),
        ("station_default: {}", "station_default: unknown key: did you mean station_defaults?"),
        (
            "log: !!python/name:os.system x",
            "log: a tag: tags are not used here: remove it; text that begins with ! stands in quotes",
        ),
        ("storage: {min_free_mb: .inf}", "storage.min_free_mb: should be a number of usual size"),
        (
            "storage: {min_free_mb: 99999999999999999999}",
            "storage.min_free_mb: should be a number of usual size",
        ),
        ('agent: {id: "a\\0"}', "agent.id: holds a character that is no text: remove it"),
        ("agent: [", "not valid YAML"),
        ("agent:\n\tid: x", "not valid YAML: a tab: indent with spaces"),
        ("---\nversion: 1", "a second document starts here"),
        (
            "agent: *nobody",
            "not valid YAML: an alias stands before the end of its anchor, or has none",
        ),
        (
            "agent: &me {id: *me}",
            "not valid YAML: an alias stands before the end of its anchor, or has none",
        ),
        ("? [a]\n: b", "a key should be text"),
        ("agent: {id: \x07}", "not valid YAML: a control character: remove it"),
    ],
)
def test_what_cannot_be_is_refused_where_it_stands(problems_of, text, problem):
    """Impossible combinations, missing files and bad YAML name their line and key, and what to do."""
    first = problems_of(f"{MINIMAL}{text}\n")[0]
    assert re.match(r"config\.yaml:[678]: ", first)
    assert first.split(": ", 1)[1].startswith(problem)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{camera: {kind: opencv, source: ''}, recipe: line}", "b.camera.source: no such file: ''"),
        ("{camera: {kind: folder, path: nope}, recipe: line}", "b.camera.path: no such folder: 'nope'"),
        (
            "{camera: {kind: sim}, recipe: line}",
            "b.camera.kind: should be opencv, folder, recording or simulated, is 'sim'",
        ),
        ("{camera: rtsp://u:hunter2@h/, recipe: line}", "b.camera: should be a mapping of keys, is text"),
        ("{camera: {kind: simulated}, recipe: }", "b.recipe: should be text, is empty"),
        (
            "{camera: {kind: simulated}, recipe: line, quality: {min_luma: 9, max_luma: 8}}",
            "b.quality: min_luma is not less than max_luma: no picture would ever be judged",
        ),
        (
            "{camera: {kind: simulated}, recipe: line, roi: {masks: {a: [[0, 0], [1, 1]]}}}",
            "b.roi.masks.a: has too few entries: at least 3 are needed",
        ),
        (
            "{camera: {kind: simulated, conditions: [{kind: dim, from_part: 9, to_part: 9}]}, recipe: line}",
            "b.camera.conditions.0: to_part is not after from_part",
        ),
    ],
)
def test_a_bad_station_is_refused_where_it_stands(problems_of, text, problem):
    """What a station says is checked against the file system and in itself."""
    assert problems_of(station(text))[0].startswith(f"config.yaml:7: stations.{problem}")


@pytest.mark.parametrize(("first", "second"), [("0", "/dev/video0"), ("'1'", "1"), ("/dev/cam", "/dev/cam")])
def test_two_stations_cannot_share_a_device(problems_of, first, second):
    """A V4L2 device opens once, whatever it is called."""
    text = station(f"{{camera: {{kind: opencv, source: {first}}}, recipe: line}}")
    assert problems_of(f"{text}  c:\n    {{camera: {{kind: opencv, source: {second}}}, recipe: line}}\n") == [
        "config.yaml:9: stations.c.camera.source: the same device as in stations.b: use another"
    ]


@pytest.mark.parametrize("name", ["a/b", "a+b", "a#", "a b", "", "$SYS", "cmd", "x" * 65, ".."])
def test_names_are_safe_in_topics(problems_of, name):
    """A station or agent cannot be called what a topic cannot hold."""
    [problem] = problems_of(f"{MINIMAL}  {json.dumps(name)}: {{camera: {{kind: simulated}}, recipe: line}}\n")
    assert problem.startswith("config.yaml:6: stations.")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "config.yaml:1: is empty: start from the config.yaml that ships with the agent"),
        (b"# nothing\n", "config.yaml:1: is empty: start from the config.yaml that ships with the agent"),
        (b"- a\n", "config.yaml:1: should be a mapping of settings, is a list"),
        (b"version: 1\nagent: {id: caf\xe9}\n", "config.yaml:2: not UTF-8: save it as UTF-8"),
        (MINIMAL.encode("utf-16"), "config.yaml:1: not UTF-8: save it as UTF-8"),
        (b"#" * (4 * 1024**2 + 1), "config.yaml:1: larger than 4 MiB: make it smaller"),
        (b"[" * 100_000, f"config.yaml:1: nested deeper than {MAX_DEPTH} levels"),
    ],
)
def test_what_is_no_config_is_refused(problems_of, content, problem):
    """Empty, foreign, encoded otherwise, too large or too deep: one line says so."""
    assert problems_of(content) == [problem]


def test_a_config_without_its_version_is_told_what_to_write(problems_of):
    assert problems_of(MINIMAL.replace("version: 1", "log: {}")) == [
        "config.yaml:1: version: is missing: add version: 1"
    ]


def test_byte_order_mark_is_no_problem(config_of):
    """Editors on Windows put one at the beginning."""
    assert config_of(b"\xef\xbb\xbf" + MINIMAL.encode()).config == config_of(MINIMAL).config


def test_unreadable_file_is_a_config_error(tmp_path):
    """A missing config and a folder in its place are told like any other problem."""
    for path in (tmp_path / "absent.yaml", tmp_path):
        with pytest.raises(ConfigError, match=r":1: cannot be read: .*: name a config file"):
            load(path)


def test_a_problem_found_later_still_has_its_line(config_of, tmp_path):
    """Who finds out after loading, as the tokenizer does, can say where."""
    loaded = config_of(MINIMAL)
    assert loaded.problem(("stations", "top", "recipe"), "what: hint") == (
        f"{tmp_path}/config.yaml:5: stations.top.recipe: what: hint"
    )
