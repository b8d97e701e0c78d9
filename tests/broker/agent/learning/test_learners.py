"""The process that learns, beside the one that inspects: neither death nor silence of it is felt there."""

from __future__ import annotations

import ctypes
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.base.codec import JSON
from agent.base.thread_priority import LEARNING
from agent.config.loader import Loaded
from agent.config.recipes import shipped
from agent.domain.learner_stats import LearnerStats
from agent.inspection.sample_queue import InspectedSample
from agent.learning.supervisor import LearnerHandle, LearnerSupervisor
from agent.versions.commissioned import open_station
from agent.versions.operator_requests import Request, ask
from agent.versions.station_plans import predictors
from tests.support.insides import limit, lives_of_learners
from tests.support.learner_children import children, conditions
from tests.support.learning_site import engine, site, stream
from tests.support.learning_steps import line_folder, promote
from tests.support.mqtt_peers import Subscriber, check_complete, mosquitto, wait_until
from tests.support.running_agent import at, running

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

PATIENCE_S = 60.0


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def stored(folder: Path) -> int:
    with sqlite3.connect(folder / "data" / "mekiki.db") as db:
        return int(db.execute("SELECT count(*) FROM verdict").fetchone()[0])


@pytest.mark.broker
def test_a_learner_that_is_killed_is_started_again_and_no_part_is_missed(tmp_path: Path) -> None:
    """Health says so meanwhile, and the parts that it never saw are counted."""
    (tmp_path / "broker").mkdir()
    camera = {"kind": "simulated", "seed": 5, "fps": 20}
    with mosquitto(tmp_path / "broker") as broker:
        loaded = site(tmp_path, camera=camera, mqtt=at(broker), adaptation={"mode": "frozen"})
        subscriber = Subscriber(broker.port)
        with running(loaded):
            wait_until(lambda: (subscriber.last("drift") or {}).get("block", 0) >= 1, PATIENCE_S)
            first = children(os.getpid())
            os.kill(first[0], signal.SIGKILL)
            wait_until(lambda: conditions(subscriber) == ["learning_away"], PATIENCE_S)
            wait_until(lambda: conditions(subscriber) == [], PATIENCE_S)
            assert children(os.getpid()) != first
            wait_until(lambda: (subscriber.last("drift") or {}).get("unseen", 0) > 0, PATIENCE_S)
        results = subscriber.results()
        assert subscriber.invalid == []
        subscriber.close()
    assert check_complete(results, results[-1]["seq"]) == []
    missing = [r["verdict"] for r in results if r["verdict"] == "not_inspected"]
    assert missing == []
    assert children(os.getpid()) == []


def test_a_learner_that_hangs_does_not_hold_up_the_end(tmp_path: Path) -> None:
    loaded = site(tmp_path, camera={"kind": "simulated", "seed": 5, "fps": 20})
    with running(loaded) as (daemon, summaries):
        wait_until(lambda: children(os.getpid()) != [], PATIENCE_S)
        hanging = children(os.getpid())[0]
        wait_until(lambda: stored(tmp_path) > 5, PATIENCE_S)
        os.kill(hanging, signal.SIGSTOP)
        daemon.stop()
        wait_until(lambda: summaries != [], PATIENCE_S)
    assert not alive(hanging)


@contextmanager
def learning(
    loaded: Loaded, told: list[tuple[str, JSON]]
) -> Iterator[tuple[LearnerSupervisor, LearnerHandle]]:
    """Run the process of the station `line`; the test is the inspector."""
    recipe = shipped("line")
    found = open_station(loaded, "line", recipe, engine())
    learners = LearnerSupervisor(loaded, lambda station, topic, payload: told.append((topic, payload)))
    handle = LearnerHandle("line", *predictors(engine(), recipe, found))
    learners.use(loaded, {"line": handle})
    thread = threading.Thread(target=learners.run)
    thread.start()
    try:
        yield learners, handle
    finally:
        learners.stop()
        assert learners.wait(PATIENCE_S)
        thread.join(PATIENCE_S)
        assert children(os.getpid()) == []


def blocks(told: list[tuple[str, JSON]]) -> list[int]:
    return [payload["block"] for topic, payload in told if topic == "drift"]


def feed(handle: LearnerHandle, count: int, first: int = 1) -> None:
    for seen in stream(count, first=first):
        handle.put(InspectedSample(seen, rejected=False, rejected_frozen=False))


def test_a_learner_gives_way_and_leaves_signals_to_the_agent(tmp_path: Path) -> None:
    """Systemd sends them to every process of a service."""
    told: list[tuple[str, JSON]] = []
    with learning(site(tmp_path), told) as (_, handle):
        wait_until(lambda: blocks(told) == [0], PATIENCE_S)
        (process,) = children(os.getpid())
        ours = os.getpriority(os.PRIO_PROCESS, 0)
        assert os.getpriority(os.PRIO_PROCESS, process) == min(19, ours + LEARNING)
        assert Path(f"/proc/{process}/oom_score_adj").read_text().strip() == "500"
        os.kill(process, signal.SIGTERM)
        os.kill(process, signal.SIGINT)
        feed(handle, 50)
        wait_until(lambda: blocks(told) == [0, 1], PATIENCE_S)
        assert children(os.getpid()) == [process]


def test_what_is_promoted_answers_here(tmp_path: Path) -> None:
    """Complete and as it lies on disk; the model as it was trained is our own again after a rollback."""
    loaded = site(tmp_path)
    version = promote(loaded, 1.5)
    told: list[tuple[str, JSON]] = []
    with learning(loaded, told) as (_, handle):
        frozen_first = handle.answering()
        assert frozen_first.number == version.number
        wait_until(lambda: blocks(told) == [0], PATIENCE_S)
        now = handle.answering()
        assert now is not frozen_first, "the learner says at first what answers"
        assert (now.adapter.digest, now.offset) == (version.digest, version.offset)
        np.testing.assert_allclose(now.class_features, frozen_first.class_features, atol=1e-5)
        ask(line_folder(loaded) / "requests", Request(kind="rollback", actor="ada", at="now", number=0))
        wait_until(lambda: handle.answering().number == 0, PATIENCE_S)


def test_without_a_process_what_answers_goes_on_and_what_is_missed_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even a process can be had: that is health's business, and it is tried again."""
    limit(monkeypatch, "the learners pause", 0.3)
    loaded = site(tmp_path)
    told: list[tuple[str, JSON]] = []
    real = subprocess.Popen
    tries: list[object] = []

    def refused(*arguments: Any, **options: Any) -> Any:
        tries.append(arguments)
        if len(tries) < 3:
            raise OSError(12, "Cannot allocate memory")
        return real(*arguments, **options)

    monkeypatch.setattr(subprocess, "Popen", refused)
    with learning(loaded, told) as (learners, handle):
        feed(handle, 10)
        wait_until(lambda: "Cannot allocate memory" in (learners.stats()[0].away or ""), PATIENCE_S)
        assert handle.answering().number == 0
        wait_until(lambda: blocks(told) == [0], PATIENCE_S)
        assert learners.stats() == [LearnerStats("line")]
        feed(handle, 50, first=11)
        wait_until(lambda: blocks(told) == [0, 1], PATIENCE_S)
    unseen = [payload["unseen"] for topic, payload in told if topic == "drift"]
    assert unseen == [0, 10]


@pytest.mark.parametrize("when", ["while it lives", "in the pause"])
def test_what_is_asked_of_learners_that_died_ends_their_pause(
    when: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once: what waited already when a process was started has had its turn, and does not drive it."""
    limit(monkeypatch, "the learners pause", 900.0)
    loaded = site(tmp_path)
    lives: list[int] = []

    def asks() -> None:
        ask(line_folder(loaded) / "requests", Request(kind="freeze", actor="ada", at="now"))

    def lives_briefly(self: LearnerSupervisor, *arguments: object) -> str:
        lives.append(1)
        if when == "while it lives" and len(lives) < 3:
            asks()
        return "ended"

    lives_of_learners(monkeypatch, lives_briefly)
    learners = LearnerSupervisor(loaded, lambda *told: None)
    learners.use(loaded, {"line": LearnerHandle("line", None, None)})  # type: ignore[arg-type]
    asks()
    thread = threading.Thread(target=learners.run)
    thread.start()
    try:
        for count in (1, 2):
            wait_until(lambda count=count: len(lives) >= count, PATIENCE_S)
            if when == "in the pause":
                asks()
        wait_until(lambda: len(lives) == 3, PATIENCE_S)
    finally:
        learners.stop()
        thread.join(PATIENCE_S)
    assert len(lives) == 3


@pytest.mark.slow
@pytest.mark.parametrize("parts", [0, 60])
def test_learners_die_with_the_agent(parts: int, tmp_path: Path) -> None:
    """Killed without a word, and without the end of their link: two writers would share a data folder."""
    loaded = site(tmp_path, camera={"kind": "simulated", "seed": 5, "fps": 20})
    with subprocess.Popen([sys.executable, "-m", "agent", "run", "-c", str(loaded.path)]) as agent:
        wait_until(lambda: children(agent.pid) != [] and stored(tmp_path) >= parts, PATIENCE_S)
        (process,) = children(agent.pid)
        held = sockets_of(agent.pid)
        agent.kill()
    try:
        wait_until(lambda: not alive(process), 10)
    finally:
        for file in held:
            os.close(file)


def sockets_of(process: int) -> list[int]:
    """Return copies of a process's sockets: as long as they are open, nobody sees that it is gone."""
    system, held = ctypes.CDLL(None, use_errno=True), []
    pidfd = os.pidfd_open(process)
    for name in Path(f"/proc/{process}/fd").iterdir():
        if not str(name.readlink()).startswith("socket:"):
            continue
        copy = system.syscall(438, pidfd, int(name.name), 0)  # pidfd_getfd
        if copy < 0:
            pytest.skip(f"sockets of a child cannot be had here: {os.strerror(ctypes.get_errno())}")
        held.append(copy)
    os.close(pidfd)
    return held
