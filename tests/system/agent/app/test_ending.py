"""The end of a run: nothing that was decided is lost without a word."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from agent.app import daemon as daemon_module
from agent.app.composition import Components
from agent.app.run_record import RunRecord
from agent.app.run_summary import Summary
from agent.base.call_queue import CallQueue
from agent.base.errors import EXIT_OK, EXIT_UNEXPECTED
from agent.cli.main import main
from agent.domain.command_answer import Answer, refused
from agent.inspection.inspector import Inspector
from agent.store.image_writer import ImageWriter
from agent.telemetry.status_topics import StatusTopics
from tests.support.evidence_site import ALL, a_frame
from tests.support.insides import limit
from tests.support.mqtt_peers import wait_until
from tests.support.running_agent import write_config
from tests.support.verdicts import a_publisher, a_store, a_verdict, availability, close_stores

LINE = {"line": {"camera": {"kind": "simulated"}}}


def test_results_that_a_locked_database_does_not_take_are_counted_and_told(
    tiny_bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Not `0 lost`, not exit code 0, and the next start hears of it."""
    path = write_config(tmp_path, tiny_bundle, LINE)
    assert main(["run", "-c", str(path), "--frames", "5"]) == EXIT_OK
    with closing(sqlite3.connect(tmp_path / "data" / "mekiki.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert main(["run", "-c", str(path), "--frames", "40"]) == EXIT_UNEXPECTED
    said = capfd.readouterr().err
    assert "40 frames inspected, 0 verdicts stored, 0 published, 0 wait for the broker, 40 lost" in said
    assert "40 results were decided and are not stored, they are lost" in said
    assert "database is locked" in said
    last = RunRecord(tmp_path / "data").begin()
    assert last is not None
    assert not last.orderly
    assert "40 results were decided and are not stored" in last.reason
    trail = [json.loads(line) for line in (tmp_path / "data" / "audit.jsonl").read_text().splitlines()]
    assert "40 results" in trail[-1]["why"]


def test_a_database_that_is_free_again_in_time_takes_everything(tmp_path: Path) -> None:
    """It is tried for as long as there is time, also beyond the time for delivery."""
    store = a_store(tmp_path)
    publisher = a_publisher(store, None)
    thread = threading.Thread(target=publisher.run)
    other = sqlite3.connect(tmp_path / "mekiki.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    try:
        thread.start()
        publisher.put([a_verdict() for _ in range(7)])
        wait_until(lambda: publisher.stats().store_problem is not None, 60)
        publisher.stop(60.0, availability("stopped"))
        other.execute("ROLLBACK")
        thread.join(60)
        assert not thread.is_alive()
        assert publisher.stats().stored == 7
        assert publisher.unsaved().results == publisher.stats().lost == 0
    finally:
        other.close()
        close_stores()


def test_pictures_of_lost_results_are_counted_with_them(tmp_path: Path) -> None:
    """Written or not; those of stored results are recorded at the next start."""
    store = a_store(tmp_path)
    evidence = ImageWriter(store.files, ALL)
    publisher = a_publisher(store, None, evidence=evidence)
    writer, thread = threading.Thread(target=evidence.run), threading.Thread(target=publisher.run)
    with closing(sqlite3.connect(tmp_path / "mekiki.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        thread.start()
        parts = [a_verdict() for _ in range(3)]
        publisher.put(parts)
        for part in parts:
            evidence.offer(a_frame(part), part)
        assert evidence.unwritten == 3
        writer.start()
        wait_until(lambda: evidence.unwritten == 0, 60)
        assert (publisher.unsaved().results, publisher.unsaved().pictures) == (3, 3)
        evidence.end()
        publisher.stop(0.1, availability("stopped"))
        thread.join(60)
        writer.join(60)
        found = publisher.unsaved()
    assert (found.results, found.pictures, publisher.stats().lost) == (3, 3, 3)
    assert "database is locked" in str(found.problem)


def test_a_thread_that_is_left_behind_is_no_orderly_end(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """An inspector that hangs in its model: what it has in hand gets no result."""
    freed, hung = threading.Event(), threading.Event()

    def hang(self: Inspector, frames: object) -> object:
        hung.set()
        freed.wait(60)
        return judge(self, frames)  # type: ignore[arg-type]

    judge = Inspector.judge
    monkeypatch.setattr(Inspector, "judge", hang)
    limit(monkeypatch, "the inspector may take to end", 0.1)
    path = write_config(tmp_path, tiny_bundle, LINE)
    run = daemon_module.Daemon.run

    def stop_soon(self: daemon_module.Daemon) -> Summary:
        threading.Thread(target=lambda: (hung.wait(60), self.stop())).start()
        return run(self)

    monkeypatch.setattr(daemon_module.Daemon, "run", stop_soon)
    try:
        assert main(["run", "-c", str(path)]) == EXIT_UNEXPECTED
    finally:
        freed.set()
    assert "left behind: inspector" in capfd.readouterr().err


def test_what_others_ask_for_keeps_nobody_waiting() -> None:
    """The rest comes with the next turn; at the end it is refused."""
    calls: CallQueue[Answer] = CallQueue(refused("later"), lambda: None)
    done: list[int] = []

    def act(number: int) -> Answer:
        done.append(number)
        time.sleep(0.01)
        return Answer("done")

    futures = [calls.leave(lambda number=number: act(number)) for number in range(5)]  # type: ignore[misc]
    calls.run(limit_s=0.005)
    assert done == [0]
    calls.close(limit_s=0.005)
    assert done == [0, 1]
    assert [future.result(0).status for future in futures] == ["done"] * 2 + ["refused"] * 3


def test_a_fault_of_the_main_loop_is_no_orderly_end(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither in the audit trail nor for whoever listens to the availability."""
    turns = iter(range(3))
    turn = Components.turn

    def fail(self: Components) -> None:
        if next(turns, None) is None:
            raise OSError(5, "Input/output error")
        turn(self)

    said: list[str] = []
    word = StatusTopics.availability
    monkeypatch.setattr(StatusTopics, "availability", lambda self, one: said.append(one) or word(self, one))
    monkeypatch.setattr(Components, "turn", fail)
    assert main(["run", "-c", str(write_config(tmp_path, tiny_bundle, LINE))]) == EXIT_UNEXPECTED
    assert said[-1] == "offline"
    row = json.loads((tmp_path / "data" / "audit.jsonl").read_text().splitlines()[-1])
    assert (row["event"], row["why"]) == ("stopped", "OSError: see the journal")


def test_a_start_that_comes_to_nothing_leaves_the_last_end_to_be_told(tmp_path: Path) -> None:
    """What was lost is told by the one that begins."""
    first = RunRecord(tmp_path)
    first.begin()
    first.end("stopped; 40 results are lost", orderly=False)
    failed = RunRecord(tmp_path)
    assert failed.begin() is not None
    failed.take_back("ConfigError: the pins")
    found = RunRecord(tmp_path).begin()
    assert found is not None
    assert found.reason == "stopped; 40 results are lost"
    (tmp_path / "new").mkdir()
    failed = RunRecord(tmp_path / "new")
    failed.begin()
    failed.take_back("ConfigError: the pins")
    found = RunRecord(tmp_path / "new").begin()
    assert found is not None
    assert found.reason == "ConfigError: the pins"
