"""What differs between two configs and what that takes; how a file of an older version is read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.config.diff import changes, in_force
from agent.config.loader import Loaded, load_text
from agent.config.migrations import up_to_date
from agent.config.yaml_reader import parse
from agent.config.yaml_tree import Node

BASE: dict[str, Any] = {
    "version": 1,
    "mqtt": {"username": "ada", "password": "geheim"},
    "recipes": {
        "mine": {
            "templates": ["{}"],
            "classes": {
                "ok": {"verdict": "pass", "phrases": ["good"]},
                "bad": {"verdict": "fail", "phrases": ["bad"]},
            },
        }
    },
    "stations": {
        "a": {"recipe": "mine", "camera": {"kind": "simulated"}},
        "b": {"recipe": "line", "camera": {"kind": "opencv", "source": "rtsp://me:hush@10.0.0.1/x"}},
    },
}

EDITS: dict[tuple[str, ...], tuple[Any, str]] = {
    ("recipes", "mine", "threshold"): (0.7, "live"),
    ("recipes", "mine", "abstain_margin"): (0.1, "live"),
    ("recipes", "mine", "templates"): (["a {}"], "live"),
    ("recipes", "mine", "classes", "bad", "severity"): ("minor", "live"),
    ("stations", "a", "recipe"): ("line", "live"),
    ("stations", "a", "roi"): ({"crop": [0, 0, 0.5, 1]}, "live"),
    ("stations", "a", "quality"): ({"min_luma": 1.0}, "live"),
    ("stations", "a", "trigger"): ({"mode": "interval", "every_s": 1.0}, "live"),
    ("stations", "a", "images"): ({"last_fail": True}, "live"),
    ("stations", "a", "adaptation"): ({"mode": "frozen"}, "live, restarts the learners"),
    ("stations", "a", "camera"): ({"kind": "folder", "path": "."}, "restarts station a"),
    ("stations", "b", "camera", "source"): ("rtsp://me:whisper@10.0.0.1/x", "restarts station b"),
    ("stations", "b", "enabled"): (False, "restarts station b"),
    ("stations", "c"): ({"recipe": "line", "camera": {"kind": "simulated"}}, "starts station c"),
    ("storage", "keep_results"): (5, "live"),
    ("log", "level"): ("debug", "live"),
    ("mqtt", "host"): ("broker", "live"),
    ("mqtt", "password"): ("anders", "live"),
    ("inspector", "batch"): (2, "live"),
    ("mqtt", "topic_prefix"): ("x", "needs a restart of the agent"),
    ("agent", "id"): ("x", "needs a restart of the agent"),
    ("model", "engine"): ("openvino", "needs a restart of the agent"),
    ("metrics", "port"): (1, "needs a restart of the agent"),
    ("sparkplug", "group_id"): ("x", "needs a restart of the agent"),
}


def loaded(config: Any) -> Loaded:
    return load_text(yaml.safe_dump(config), Path("config.yaml"))


def edited(*paths: tuple[str, ...]) -> Loaded:
    config: Any = yaml.safe_load(yaml.safe_dump(BASE))
    for path in paths:
        place = config
        for key in path[:-1]:
            place = place.setdefault(key, {})
        place[path[-1]] = EDITS[path][0]
    return loaded(config)


@pytest.mark.parametrize("path", EDITS, ids=".".join)
def test_each_setting_says_what_its_change_takes(path: tuple[str, ...]) -> None:
    found = changes(edited(), edited(path))
    assert found, "the change was not seen"
    assert all(".".join(path) in change.key or change.key in ".".join(path) for change in found)
    assert {change.consequence for change in found} == {EDITS[path][1]}


def test_a_station_that_goes_is_stopped() -> None:
    config: Any = yaml.safe_load(yaml.safe_dump(BASE))
    del config["stations"]["b"]
    (change,) = changes(edited(), loaded(config))
    assert (change.key, change.after, change.consequence) == ("stations.b", None, "stops station b")


@given(
    st.lists(st.sampled_from(list(EDITS)), unique=True), st.lists(st.sampled_from(list(EDITS)), unique=True)
)
@settings(max_examples=60, deadline=None)
def test_what_is_in_force_is_the_old_and_all_of_the_new_but_what_needs_a_restart(
    first: list[tuple[str, ...]], second: list[tuple[str, ...]]
) -> None:
    """Nothing is shown of a secret, and equal settings have equal digests however they came about."""
    old, new = edited(*first), edited(*second)
    now = in_force(old, new)
    waiting = [change for change in changes(old, new) if change.effect == "restart"]
    assert list(changes(now, new)) == waiting
    assert changes(new, in_force(new, new)) == ()
    assert in_force(new, new).digest == new.digest
    assert (now.digest == new.digest) == (not waiting)
    told = " ".join(map(str, changes(old, new)))
    assert not any(secret in told for secret in ("geheim", "anders", "hush", "whisper"))


def test_an_old_file_is_lifted_step_by_step_and_keeps_its_lines() -> None:
    """What is wrong is told where it stands in the file as it is."""
    tree, _ = parse("version: 1\nlog:\n  verbosity: 3\n")

    def rename(node: Node) -> Node:
        assert isinstance(node.value, dict)
        log = node.value["log"]
        assert isinstance(log.value, dict)
        return replace(
            node, value={**node.value, "log": replace(log, value={"level": log.value["verbosity"]})}
        )

    def say(node: Node) -> Node:
        assert isinstance(node.value, dict)
        assert node.value["log"].plain() == {"level": 3}, "steps come in their order"
        return node

    lifted, problems = up_to_date(tree, [rename, say])
    assert (lifted.plain(), problems) == ({"version": 3, "log": {"level": 3}}, [])
    assert lifted.problem(("log", "level"), "").line == 3

    newest, _ = parse("version: 2\nlog: {}\n")
    assert up_to_date(newest, [rename])[0].plain() == {"version": 2, "log": {}}
    _, problems = up_to_date(newest, [])
    assert problems[0].what.startswith("written for a newer agent")


@pytest.mark.parametrize("version", ["0", "-1", "1.0", "true", "one", "''", "null"])
def test_what_is_no_version_is_left_to_the_models(version: str) -> None:
    tree, _ = parse(f"version: {version}\n")
    assert up_to_date(tree, []) == (tree, [])
