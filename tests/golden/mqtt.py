"""The golden master's run of a real agent: what it says over MQTT while a plant asks it things in turn."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from tests import mqtt_peers
from tests.golden.cases import CLEAN, LEARNS
from tests.golden.site import run
from tests.support.mqtt_peers import Subscriber, mosquitto, wait_until

OWN = "plant/agent"
PATIENCE_S = 60.0
_EMPTY: dict[str, Any] = {}

_ASKED: tuple[tuple[str, Any], ...] = (
    ("ping", {}),
    ("ping", {"user": "eve"}),
    ("ping", {"nonsense": 1}),
    ("ping", {"user": "two\nlines"}),
    ("nonsense", {}),
    ("adapter/list", {}),
    ("adapter/list", {"station": "line"}),
    ("adapter/list", {"station": "nowhere"}),
    ("adapter/show", {"station": "line", "number": 1}),
    ("adapter/show", {"station": "line", "number": 99}),
    ("adapter/show", {"station": "line"}),
    ("adapter/show", {"station": "line", "number": "one"}),
    ("adapter/show", {"station": "press", "number": 0}),
    ("adapter/rollback", {"station": "press", "number": 0}),
    ("adapter/rollback", {"station": "line", "number": 99}),
    ("adapter/rollback", {"station": "line", "number": -1}),
    ("adapter/activate", {"station": "line", "number": 99}),
    ("adapter/pin", {"station": "line", "number": 0}),
    ("replay", {"station": "line", "from_seq": 1, "to_seq": 3}),
    ("replay", {"station": "line", "from_seq": 3, "to_seq": 1}),
    ("replay", {"station": "line", "from_seq": 100000}),
    ("replay", {"station": "line", "from_seq": 0}),
    ("replay", {"station": "nowhere", "from_seq": 1}),
    ("replay", {"from_seq": 1}),
    ("reload", {"why": "golden"}),
)
_LEARNER_ASKED = (
    ("adapter/rollback", {"station": "line", "number": 1, "why": "golden"}, "rolled_back"),
    ("adapter/pin", {"station": "line", "number": 1, "user": "eve"}, "pinned"),
    ("adapter/unpin", {"station": "line", "number": 1}, "unpinned"),
    ("adapter/freeze", {"station": "line"}, "freeze"),
    ("adapter/resume", {"station": "line"}, "resume"),
    ("adapter/reset", {"station": "line", "user": "eve"}, "reset"),
)
_BAD_BYTES = (
    ("cmd/request/ping", b"{"),
    ("cmd/request/ping", b"\xff"),
    ("cmd/request/ping", b"[]"),
    ("cmd/request/ping", b'{"user": "' + b"x" * 20_000 + b'"}'),
    ("cmd/request/reload", b'{"why": 1}'),
    ("press/trigger", b"{}"),
    ("press/trigger", b'{"trigger_id": "a", "deadline_ms": 0}'),
    ("line/trigger", b'{"trigger_id": "a"}'),
    ("line/label", b'{"event_id": "x", "label": "good"}'),
    ("line/label", b'{"event_id": "01ARZ3NDEKTSV4RRFFQ69G5FAV", "label": "good"}'),
    ("nowhere/recipe/set", b"line"),
    ("line/nonsense/set", b"x"),
    ("line/recipe/set", b"nowhere"),
    ("line/adaptation/set", b"locked"),
    ("line/enabled/set", b"perhaps"),
    ("line/threshold/set", b"0.4"),
)
_SETTINGS = (
    ("line/recipe/set", b"steel-neu", "steel-neu"),
    ("line/recipe/set", b'{"value": "line", "user": "eve"}', "line"),
    ("line/adaptation/set", b"frozen", "frozen"),
    ("line/adaptation/set", b"adaptive", "adaptive"),
    ("press/enabled/set", b"OFF", False),
    ("press/enabled/set", b"ON", True),
)

# What is said by the clock, not because something happened: how often and with which counters is chance.
# So of these topics the fields alone are kept.
_BY_THE_CLOCK = re.compile(r"/(stats|camera|drift)$|/cmd/response/stats$")
# Said when something changes, and two changes within one look are told as one: each text once, sorted.
_IN_NO_ORDER = re.compile(r"/(info|health|adapter|adapter/event)$|^homeassistant/")
_LAST = re.compile(r"^plant/agent/[a-z]+/state$")
"""Counts on once a second: the last word alone."""


def trace(work: Path, port: int, environment: dict[str, str], normal: Callable[[str], str]) -> str:
    """Run an agent through the script and return what was said, topic by topic."""
    mqtt_peers.free_port = lambda: port  # the config's digest covers it
    shutil.copytree(work / "data-learned", work / "data")
    (work / "pictures").mkdir()
    for picture in sorted((work / "recording-1" / "frames").iterdir())[40:56]:
        shutil.copy(picture, work / "pictures")
    config = _config(port)
    path = work / "config.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    with mosquitto(work):
        heard = Subscriber(port)
        with (work / "journal.txt").open("wb") as journal:
            agent = subprocess.Popen(
                [sys.executable, "-m", "agent", "run"], cwd=work, env=environment, stderr=journal
            )
            try:
                status = _script(heard, agent, config, path)
                agent.send_signal(signal.SIGTERM)
                code = agent.wait(PATIENCE_S)
            finally:
                agent.kill()
        wait_until(lambda: heard.last("agent/availability") == "stopped")
        heard.close()
    said = normal((work / "journal.txt").read_text())
    # Threads write it: which of them is first is chance. Of what is refused it tells once in a while.
    told = (line for line in said.splitlines() if " refused: " not in line)
    journal_lines = sorted({re.sub(r"\d+ frames inspected.*", "<end>", line) for line in told})
    parts = [
        f"exit code {code}",
        f"mekiki status: {status}",
        f"against the schemas: {heard.invalid}",
        *_topics(heard, normal),
    ]
    return "\n".join([*parts, "== journal, sorted", *journal_lines, ""])


def _config(port: int) -> dict[str, Any]:
    photos = {"kind": "folder", "path": "pictures", "fps": 10}
    waiting = {
        "recipe": "line",
        "camera": {**CLEAN, "seed": 3, "defect_rate": 0.5},
        "trigger": {"mode": "mqtt", "deadline_ms": 20_000},
    }
    return {
        "version": 1,
        "agent": {"id": "agent", "data_dir": "data"},
        "model": {"threads": 1, "bundle": "bundle"},
        "mqtt": {
            "host": "127.0.0.1",
            "port": port,
            "topic_prefix": "plant",
            "stats_interval_s": 2.0,
            "commands": {"allow": ["*"], "response_topics": ["mes/#"]},
        },
        "stations": {
            "line": {**LEARNS, "camera": photos},
            "press": waiting,
            "idle": waiting,  # without it the agent would end when press is switched off
        },
        "inspector": {"batch": 1},  # which pictures are looked at together changes the last digits
        "storage": {"min_free_mb": 0},
        "homeassistant": {"enabled": True},
    }


def _script(heard: Subscriber, agent: subprocess.Popen[bytes], config: dict[str, Any], path: Path) -> str:
    """Go through the script; returns what `mekiki status` says at its end."""

    def until(condition: Callable[[], Any]) -> None:
        wait_until(lambda: condition() or agent.poll() is not None, PATIENCE_S)
        assert agent.poll() is None, "the agent has ended: see journal.txt"

    def answers() -> int:
        return len(heard.answers())

    def send(topic: str, payload: Any) -> None:
        before = answers()
        heard.send(f"{OWN}/{topic}", payload)
        until(lambda: answers() > before)

    until(lambda: len(heard.results("line")) == 16)
    until(lambda: heard.last("line/adapter") is not None and heard.last("press/enabled/state") is not None)
    for number in range(5):
        heard.send(f"{OWN}/press/trigger", {"trigger_id": f"plc-{number}", "part_id": f"SN{number}"})
        until(lambda wanted=number + 1: len(heard.results("press")) == wanted)
    heard.send(f"{OWN}/press/trigger", {"trigger_id": "plc-0", "part_id": "SN0"})  # again: no second result
    heard.send(f"{OWN}/press/trigger", {"trigger_id": "hurry", "deadline_ms": 1})
    until(lambda: len(heard.results("press")) == 6)
    for number, (verb, payload) in enumerate(_ASKED):
        send(f"cmd/request/{verb}", {**payload, "transaction": f"t{number}"})
    until(lambda: len([one for one in heard.results("line") if one["replayed"]]) == 3)
    send("cmd/request/ping", {"transaction": "t0"})  # again: the same answer
    send("cmd/request/stats", {"transaction": "stats"})
    for number, (verb, payload, event) in enumerate(_LEARNER_ASKED):
        send(f"cmd/request/{verb}", {**payload, "transaction": f"l{number}"})
        until(lambda wanted=event: wanted in _events(heard))
    for topic, payload in _BAD_BYTES:  # some of them get no answer: nobody listens there
        heard.send(f"{OWN}/{topic}", payload)
    send("cmd/request/ping", {"transaction": "after what is bad"})
    until(lambda: heard.answer("after what is bad"))
    event_id = heard.results("line")[0]["event_id"]
    for label in ("good", "defective", "scratch", "nonsense"):
        send("line/label", {"event_id": event_id, "label": label, "user": "eve"})
    for topic, payload, value in _SETTINGS:
        send(topic, payload)
        until(lambda t=topic, v=value: (heard.last(t.replace("/set", "/state")) or _EMPTY).get("value") == v)
    _reload(heard, agent, config, path, until)
    until(lambda: heard.last("agent/stats") is not None)
    until(lambda: heard.last("agent/health")["health"] == "degraded")
    status = run(["status", "--json"])
    return f"exit code {status.returncode}, {_fields(status.stdout)}"


def _reload(
    heard: Subscriber, agent: Any, config: dict[str, Any], path: Path, until: Callable[..., None]
) -> None:
    """Save a good config, and one that is refused; the agent notices by itself, or by the signal."""
    before = heard.last("agent/info")["config"]["digest"]
    config["stations"]["line"]["quality"] = {"min_luma": 9.0}
    config["mqtt"]["commands"]["allow"] = ["ping"]
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    agent.send_signal(signal.SIGHUP)
    until(lambda: heard.last("agent/info")["config"]["digest"] != before)
    asked = len(heard.answers())
    heard.send(f"{OWN}/cmd/request/stats", {"transaction": "not allowed"})
    until(lambda: len(heard.answers()) > asked)
    path.write_text("version: 1\nstations: [\n")
    agent.send_signal(signal.SIGHUP)
    until(lambda: heard.last("agent/info")["config"]["refused"])


def _events(heard: Subscriber) -> list[str]:
    return [json.loads(p)["event"] for t, p, _ in list(heard.messages) if t.endswith("/adapter/event")]


def _fields(text: str) -> str:
    return " ".join(sorted(set(re.findall(r'"([a-z_0-9]+)":', text))))


def _topics(heard: Subscriber, normal: Callable[[str], str]) -> list[str]:
    by_topic: dict[str, list[str]] = {}
    for topic, payload, _ in heard.messages:
        if re.search(r"/cmd/request/|/(set|label|trigger)$", topic):
            continue  # what we said
        text = normal(payload.decode())
        if _BY_THE_CLOCK.search(topic):
            text = _fields(text)
        by_topic.setdefault(topic, []).append(text)
    lines = []
    for topic, texts in sorted(by_topic.items()):
        if _BY_THE_CLOCK.search(topic):
            texts = [max(texts, key=len)]
        elif _IN_NO_ORDER.search(topic):
            texts = sorted(set(texts))
        elif _LAST.search(topic):
            texts = texts[-1:]
        lines += [f"== {topic}", *texts]
    return lines
