"""What a newer release writes: additions are passed over and kept, a new format is refused and left alone."""

from __future__ import annotations

import hashlib
import json
import logging
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.numpy
import yaml

from adapters.baseline.baseline import Commissioning, CommissioningError, ReferenceSamples
from adapters.core import adapter
from adapters.core.adapter import AdapterFileError
from adapters.core.version import read_version, save_version
from adapters.core.version_store import AdapterStore
from adapters.engines.auto_select import Choice, Circumstances
from adapters.files.formats import is_newer, mismatch
from adapters.gate.state_machine import Phase, State
from agent import __version__
from agent.app.run_record import RunRecord
from agent.audit.hash_chain import Audit, verify
from agent.base.errors import ConfigError, StoreError
from agent.clock.time_book import TimeBook
from agent.clock.trusted_time import ClockReading
from agent.config import overrides
from agent.config.loader import load
from agent.config.recipes import shipped
from agent.homeassistant.announcer import Announcer
from agent.inspection.frame_count import FrameCount
from agent.mqtt.retained_topics import RetainedTopics
from agent.sparkplug.bd_seq import BdSeq
from agent.store.database import NAME, open_database, open_to_read
from agent.store.integrity import check
from agent.store.schema import STEPS, MigrationStep, lift, require_usable
from agent.versions.commissioned import Uncommissioned, open_station
from agent.versions.learner_memory import Memory, record
from camera.core.frame import CameraError
from camera.core.source import stamp
from camera.recording.reader import Recording, RecordingError
from camera.watched_folder.arrivals import Sight
from camera.watched_folder.done_ledger import SCHEMA, DoneFile, DoneLedger
from tests.faults.kill_store import AT, WEIGHTS, a_version, an_adapter, open_store
from tests.support import releases
from tests.support.insides import sealed_facts, stored_choice, write_besides
from tests.support.learning_site import engine, site
from tests.support.line_site import PLAIN, commissioned, frames
from tests.support.noisy_recording import noise, recorder
from tests.support.verdicts import a_store, a_verdict

ADDS = MigrationStep("CREATE TABLE shift (began_at TEXT); ALTER TABLE verdict ADD COLUMN shift TEXT;")
BREAKS = MigrationStep("ALTER TABLE label RENAME COLUMN label TO name;", breaking=True)


def lifted(path: Path, *steps: MigrationStep) -> None:
    """Let a newer release open a database."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        lift(db, (*STEPS, *steps))


def numbers(path: Path) -> tuple[int, dict[str, Any]]:
    with closing(sqlite3.connect(path)) as db:
        (usable_by,) = db.execute("PRAGMA user_version").fetchone()
        tables = {row[0] for row in db.execute("SELECT name FROM sqlite_schema")}
        about = dict(db.execute("SELECT key, value FROM about")) if "about" in tables else {}
    return usable_by, about


def test_a_database_of_this_release_is_one_of_release_0_1_0(tmp_path: Path) -> None:
    """That release refuses a number above 2."""
    a_store(tmp_path).close()

    assert numbers(tmp_path / NAME) == (2, {})


def test_a_step_that_adds_does_not_lock_an_older_release_out(tmp_path: Path) -> None:
    """It reads, writes and numbers on; the newer one finds its table again and takes no step twice."""
    store = a_store(tmp_path)
    store.commit([a_verdict() for _ in range(3)])
    store.close()
    lifted(tmp_path / NAME, ADDS)
    assert numbers(tmp_path / NAME) == (2, {"schema": 3, "release": __version__})

    store = a_store(tmp_path)
    assert [row.seq for row in store.backlog(0, 10)] == [1, 2, 3]
    assert [row.seq for row in store.commit([a_verdict()])] == [4]
    store.close()

    assert check(tmp_path).problems == ()
    assert numbers(tmp_path / NAME) == (2, {"schema": 3, "release": __version__})
    lifted(tmp_path / NAME, ADDS)
    with closing(sqlite3.connect(tmp_path / NAME)) as db:
        assert db.execute("SELECT COUNT(*), COUNT(shift) FROM verdict").fetchone() == (4, 0)


def test_a_step_that_breaks_names_who_took_it(tmp_path: Path) -> None:
    """Nothing is changed or put aside, whoever opens the file."""
    a_store(tmp_path).close()
    path = tmp_path / NAME
    lifted(path, ADDS, BREAKS)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE about SET value = '9.2.0' WHERE key = 'release'")
    before = path.read_bytes()
    said = r"mekiki\.db: written by a newer version of the agent \(release 9\.2\.0, schema 4\).*install that"

    for opens in (open_database, open_to_read, lambda path: a_store(path.parent)):
        with pytest.raises(StoreError, match=said):
            opens(path)  # type: ignore[operator]

    assert path.read_bytes() == before
    assert {file.name for file in tmp_path.iterdir()} == {NAME, "lock"}
    with closing(sqlite3.connect(path)) as db:
        require_usable(db, path, (*STEPS, ADDS, BREAKS))


def test_a_step_that_fails_is_not_taken_by_half(tmp_path: Path) -> None:
    path = tmp_path / NAME
    a_store(tmp_path).close()

    with pytest.raises(sqlite3.OperationalError):
        lifted(
            path, MigrationStep("CREATE TABLE shift (began_at TEXT); ALTER TABLE nothing ADD COLUMN x TEXT;")
        )

    assert numbers(path) == (2, {})
    lifted(path, ADDS)


def test_a_version_keeps_what_a_newer_release_has_said_of_it(tmp_path: Path) -> None:
    """Also in a copy that is carried to another station."""
    newer = replace(a_version(1), release="9.1.0", more={"lamp": {"hours": 7}})
    save_version(newer, tmp_path / "exported.safetensors", WEIGHTS)

    store = open_store(tmp_path / "adapters")
    taken = store.add(tmp_path / "exported.safetensors", newer.recipe)
    store.export(taken.number, tmp_path / "again.safetensors")

    found = read_version(tmp_path / "again.safetensors", an_adapter(), WEIGHTS)
    assert (found.release, dict(found.more)) == ("9.1.0", {"lamp": {"hours": 7}})
    assert (found.offset, found.digest) == (newer.offset, newer.digest)


def test_a_version_in_a_newer_format_is_left_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it was made from answers meanwhile; the file stays, and answers again where it can be read."""
    store = open_store(tmp_path)
    store.promote(a_version(1), AT)
    with monkeypatch.context() as newer:
        newer.setattr(adapter, "FORMAT", "mekiki.adapter.v2")
        store.promote(replace(a_version(2, parent=0), release="9.2.0"), AT)
    file = tmp_path / "000002.safetensors"
    before = file.read_bytes()

    older = open_store(tmp_path)

    assert older.active().number == 0
    assert older.active().fallen_from == 2
    (line,) = older.found
    assert "000002.safetensors: format 'mekiki.adapter.v2', this version reads mekiki.adapter.v1" in line
    assert "newer version of the agent (release 9.2.0): install that version again" in line
    assert file.read_bytes() == before
    monkeypatch.setattr(adapter, "FORMAT", "mekiki.adapter.v2")
    assert open_store(tmp_path).active().number == 2


def test_active_json_keeps_what_a_newer_release_has_added(tmp_path: Path) -> None:
    """Whatever this one writes there: another version, a pin, a memory."""
    open_store(tmp_path).promote(a_version(1), AT)
    rewrite_pointer(tmp_path, lamp_hours=7)

    store = open_store(tmp_path)
    assert (store.found, store.active().number) == ((), 1)
    store.promote(a_version(2, parent=1), AT)
    store.pin(1)
    store.remember({"frame": 5})

    content = json.loads((tmp_path / "active.json").read_text())
    assert (content["lamp_hours"], content["number"], content["pinned"]) == (7, 2, [1])
    assert open_store(tmp_path).active().number == 2


def test_active_json_in_a_newer_format_is_not_written_over(tmp_path: Path) -> None:
    """Pins and numbers would be lost: this release does not use the folder at all."""
    open_store(tmp_path).promote(a_version(1), AT)
    rewrite_pointer(tmp_path, format="mekiki.active.v2", release="9.2.0")
    before = (tmp_path / "active.json").read_bytes()

    for reading in (False, True):
        with pytest.raises(AdapterFileError, match=r"active\.json: format .*active\.v2.*release 9\.2\.0"):
            AdapterStore(tmp_path, an_adapter(), WEIGHTS, reading=reading)

    assert (tmp_path / "active.json").read_bytes() == before


def test_a_station_inspects_on_where_a_newer_release_has_written_what_answers(tmp_path: Path) -> None:
    """With the model as it was trained, at the commissioned operating point; nothing there is changed."""
    loaded = site(tmp_path, commissioned=False)
    releases.at_line(tmp_path / "config.yaml", "commission", "promote")
    folder = tmp_path / "data" / "stations" / "line"
    rewrite_pointer(folder / "adapters", format="mekiki.active.v2", release="9.2.0")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    found = open_station(loaded, "line", shipped("line"), engine())

    assert isinstance(found, Uncommissioned)
    assert (found.unusable, found.answering.number, found.answering.offset) == (True, 0, 1.25)
    assert "active.json" in found.why
    assert "(release 9.2.0): install that version again" in found.why
    assert {path: path.read_bytes() for path in before} == before


def rewrite_pointer(folder: Path, **fields: Any) -> None:
    """Let a newer release write active.json."""
    content = json.loads((folder / "active.json").read_text())
    del content["seal"]
    text = json.dumps(content | fields, sort_keys=True)
    sealed = {**json.loads(text), "seal": hashlib.sha256(text.encode()).hexdigest()}
    (folder / "active.json").write_text(json.dumps(sealed))


def test_a_baseline_keeps_its_digest_whatever_is_said_of_it_besides(tmp_path: Path) -> None:
    """Pins name the digest, and releases that do not know an addition compute it without."""
    plain = commissioned(frames(1000))
    newer = replace(plain, release="9.1.0", more={"precision": "fp32", "lamp": 7})
    newer.save(tmp_path / "baseline")
    assert newer.digest == plain.digest

    found = Commissioning.load(tmp_path / "baseline")
    found.save(tmp_path / "again")

    found = Commissioning.load(tmp_path / "again")
    assert (found.release, found.more) == ("9.1.0", {"precision": "fp32", "lamp": 7})
    assert (found.digest, found.offset) == (plain.digest, plain.offset)


def test_what_is_said_of_a_baseline_besides_cannot_be_changed(tmp_path: Path) -> None:
    replace(commissioned(frames(1000)), more={"precision": "fp32"}).save(tmp_path / "baseline")
    rewrite_head(tmp_path / "baseline", {"more": '{"precision": "int8"}'})

    with pytest.raises(CommissioningError, match="altered since it was written"):
        Commissioning.load(tmp_path / "baseline")


def test_a_baseline_of_an_older_release_is_marked_with_what_it_does_not_know(tmp_path: Path) -> None:
    """Digest, threshold and samples stay; only what is certain counts as confirmed, nothing is claimed."""
    golden = ReferenceSamples(
        np.zeros((24, 16, 16, 3), np.uint8), np.repeat(np.arange(len(PLAIN)), 8).astype(np.int64)
    )
    for given, learns, unknown in ((golden, True, True), (None, False, False)):
        new = commissioned(frames(1000), given)
        new.save(tmp_path / "baseline")
        forget(tmp_path / "baseline", "named_by", "testimony")

        old = Commissioning.load(tmp_path / "baseline")

        assert (old.digest, old.offset, old.more) == (new.digest, new.offset, {})
        assert (old.testimony.claim, old.testimony.all_good, old.testimony.made_by) == (None, None, "")
        assert new.sight.learns == learns
        assert bool(old.counts["unknown"]) == unknown
        for label, count in old.counts["person"].items():
            assert count <= new.counts["person"][label]
        old.save(tmp_path / "again")
        again = Commissioning.load(tmp_path / "again")
        assert (again.counts, again.testimony) == (old.counts, old.testimony)


@pytest.mark.parametrize(
    "said",
    [
        {"named_by": [1]},
        {"named_by": "all"},
        {"named_by": [9] * 60},
        {"named_by": None},
        {"testimony": {}},
        {"testimony": [1]},
        {"testimony": {"made_by": 3, "all_good": None, "claim": None}},
        {"testimony": {"made_by": "", "all_good": "yes", "claim": None}},
        {"testimony": {"made_by": "", "all_good": True, "claim": {"good_parts": 5}}},
    ],
)
def test_what_a_baseline_vouches_for_is_whole_or_refused(said: dict[str, Any], tmp_path: Path) -> None:
    commissioned(frames(1000)).save(tmp_path / "baseline")
    forget(tmp_path / "baseline", **said)

    with pytest.raises(CommissioningError, match=r"damaged \(.*commission the station again"):
        Commissioning.load(tmp_path / "baseline")


def forget(file: Path, *names: str, **fields: Any) -> None:
    """Let a release write a baseline that leaves out some of what ours says besides, or says it otherwise."""
    with safetensors.safe_open(file, framework="np") as opened:
        head = dict(opened.metadata())
    said = {name: value for name, value in json.loads(head["more"]).items() if name not in names} | fields
    more = json.dumps(said, sort_keys=True)
    sealed = sealed_facts(more, head["digest"], head["release"])
    rewrite_head(file, {"more": more, "more_digest": sealed})


def test_a_baseline_in_a_newer_format_is_named_with_who_wrote_it(tmp_path: Path) -> None:
    commissioned(frames(1000)).save(tmp_path / "baseline")
    rewrite_head(tmp_path / "baseline", {"format": "mekiki.commissioning.v2", "release": "9.2.0"})

    with pytest.raises(
        CommissioningError, match=r"commissioning\.v2.*release 9\.2\.0\): install that version"
    ):
        Commissioning.load(tmp_path / "baseline")


def rewrite_head(file: Path, fields: Mapping[str, str]) -> None:
    with safetensors.safe_open(file, framework="np") as opened:
        head = dict(opened.metadata())
        arrays = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - no mapping
    file.write_bytes(safetensors.numpy.save(arrays, {**head, **fields}))


def test_a_recording_is_read_whatever_a_newer_release_has_added(tmp_path: Path) -> None:
    written = recorder(tmp_path / "out")
    written.add(stamp(noise(1)))
    written.finish("frames")
    manifest = tmp_path / "out" / "manifest.json"
    content = json.loads(manifest.read_text())
    content["roi"]["lens"] = 12
    manifest.write_text(json.dumps({**content, "lamp_hours": 7}))

    assert len(Recording(tmp_path / "out")) == 1

    manifest.write_text(json.dumps({**content, "format": "mekiki.recording.v2", "release": "9.2.0"}))
    with pytest.raises(RecordingError, match=r"release '9\.2\.0' as 'mekiki\.recording\.v2': read it with"):
        Recording(tmp_path / "out")


def test_a_choice_of_engine_is_used_whatever_a_newer_release_has_added(tmp_path: Path) -> None:
    """A minute of measuring is spared."""
    now = Circumstances(processor="x", cores=2, threads=1, device="cpu", runtimes={}, bundle="sha256:1")
    choice = Choice(measured_at=AT, circumstances=now, engine="onnx", precision="fp32", ms={"onnx": (1.0,)})
    content = json.loads(choice.model_dump_json())
    content["circumstances"]["kernel"] = "6.1"
    (tmp_path / "engine.json").write_text(json.dumps({**content, "watts": 3}))

    assert stored_choice(tmp_path / "engine.json", now) == choice


def a_config(folder: Path) -> Path:
    station = {"recipe": "line", "camera": {"kind": "simulated"}}
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump({"version": 1, "stations": {"top": station}}))
    return path


def test_overrides_of_a_newer_release_are_kept_and_have_no_effect(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What this one knows is in force; what it does not know is told, and stays."""
    foreign = {"station": "top", "name": "threshold", "value": 0.7, "file": 0.5}
    known = {"station": "top", "name": "enabled", "value": False, "file": True}
    stored = {"version": 1, "overrides": [foreign, {**known, "by": "anna"}], "shift": "early"}
    file = tmp_path / "overrides.json"
    file.write_text(json.dumps(stored))

    found = overrides.read(tmp_path)

    assert found == (overrides.Override("top", "enabled", False, True),)
    assert "'threshold' was set by a newer version of the agent" in caplog.text
    loaded = load(a_config(tmp_path))
    overrides.write(tmp_path, overrides.with_set(loaded, found, "top", "enabled", True))
    assert json.loads(file.read_text()) == {"version": 1, "overrides": [foreign], "shift": "early"}


def test_overrides_in_a_newer_form_are_no_reason_to_go_by_the_config_alone(tmp_path: Path) -> None:
    """A station that was switched off, or over to another recipe, would inspect as if it were not."""
    file = tmp_path / "overrides.json"
    file.write_text(json.dumps({"version": 2, "stations": {}}))

    with pytest.raises(StoreError, match=r"overrides\.json: version 2.*install that version again, or move"):
        overrides.read(tmp_path)

    assert file.exists()


@pytest.mark.parametrize(
    "text", ["[" * 200_000, '{"overrides": ' * 50_000, "[]", '{"overrides": [1e999]}', "\x00"]
)
def test_overrides_that_cannot_be_read_are_told_and_written_anew(text: str, tmp_path: Path) -> None:
    file = tmp_path / "overrides.json"
    file.write_text(text)
    assert overrides.read(tmp_path) == ()
    overrides.write(tmp_path, ())
    assert json.loads(file.read_text()) == {"version": 1, "overrides": []}


def test_a_config_for_a_newer_release_is_refused_with_what_to_do(tmp_path: Path) -> None:
    path = a_config(tmp_path)
    path.write_text(path.read_text().replace("version: 1", "version: 2"))

    with pytest.raises(ConfigError, match=r"version: written for a newer agent.*install that agent again"):
        load(path)


def test_a_trail_goes_on_behind_lines_of_a_newer_release(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What they say besides is a part of the chain: it cannot be changed either."""
    file = tmp_path / "audit.jsonl"
    with monkeypatch.context() as newer:
        write_besides(newer, {"shift": "early"})
        Audit("top", file).append(AT, "promoted", actor="guard", why="better")
    older = Audit("top", file)

    assert older.found == ()
    older.append(AT, "reset", actor="anna", why="lamp changed")
    assert verify(file).ok
    file.write_text(file.read_text().replace("early", "late"))
    assert not verify(file).ok


@pytest.mark.parametrize("missing", ["why", "station", "hash"])
def test_a_line_without_a_field_is_no_line(missing: str, tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    Audit("top", file).append(AT, "promoted", actor="guard", why="better")
    entry = json.loads(file.read_text())
    del entry[missing]
    file.write_text(f"{json.dumps(entry, separators=(',', ':'))}\n")

    (problem,) = verify(file).problems
    assert f"{missing} is missing" in problem


def test_small_memories_take_what_a_newer_release_has_added(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """How the last run ended, and the number of the next connection."""
    RunRecord(tmp_path).end("stopped", orderly=True)
    add_to(tmp_path / "last_run.json", restarts=3)
    last = RunRecord(tmp_path).begin()
    assert last is not None
    assert last.orderly

    first = BdSeq(tmp_path, "group/node").next()
    add_to(tmp_path / "sparkplug.json", host="scada")
    assert BdSeq(tmp_path, "group/node").next() == first + 1
    assert json.loads((tmp_path / "sparkplug.json").read_text())["host"] == "scada"
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_what_home_assistant_was_told_stays_with_what_a_newer_release_remembers(tmp_path: Path) -> None:
    path = a_config(tmp_path)
    path.write_text(f"{path.read_text()}homeassistant: {{enabled: true}}\n")
    loaded = load(path)
    Announcer(tmp_path, RetainedTopics(lambda station: station), "model").show(loaded.config)
    told = json.loads((tmp_path / "homeassistant.json").read_text())
    (tmp_path / "homeassistant.json").write_text(json.dumps({**told, "components": {}, "icons": ["lamp"]}))

    Announcer(tmp_path, RetainedTopics(lambda station: station), "model").show(loaded.config)

    assert json.loads((tmp_path / "homeassistant.json").read_text()) == {**told, "icons": ["lamp"]}


def test_a_clock_is_known_whatever_a_newer_release_has_added(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    now = datetime(2026, 11, 1, tzinfo=UTC)
    clocks = ClockReading(now, 100.0, synchronised=True)
    TimeBook(tmp_path, {"top": 5}, now, lambda: clocks).write()
    add_to(tmp_path / "clock.json", by="ptp", doubts=[["top", 1, 3, "2026-10-01T00:00:00.000Z", "lamp"]])

    (doubt,) = TimeBook(tmp_path, {"top": 5}, now, lambda: clocks).doubts("top")

    assert (doubt.first, doubt.last) == (1, 3)
    assert caplog.text == ""


def test_a_learner_goes_on_with_the_memory_of_a_newer_release() -> None:
    """What it does not know there, it does without; a line for the trail is written as it can be."""
    said = record(AT, "promoted", "guard", "better")
    ours = Memory("sha256:1", FrameCount("run", 40, 2, 9.0), state=State(Phase.HOLD, 3), records=(said,))
    newer = ours.blob()
    newer |= {"lamp_hours": 7, "count": {**newer["count"], "lost": 1}, "state": {**newer["state"], "mood": 1}}
    newer["records"] = [{**said, "shift": "early"}]

    assert Memory.read(newer) == ours
    unknown = Memory.read({**newer, "state": {**newer["state"], "phase": "dream"}})
    assert unknown == replace(ours, state=State(since=42))


def add_to(file: Path, **fields: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))


@pytest.mark.parametrize(
    ("found", "newer"),
    [
        ("mekiki.adapter.v2", True),
        ("mekiki.adapter.v10", True),
        ("mekiki.adapter.v1", False),
        ("mekiki.adapter.v0", False),
        ("mekiki.active.v2", False),
        ("mekiki.adapter.v2b", False),
        ("mekiki_adapter.v2", False),
        (None, False),
        (2, False),
    ],
)
def test_a_newer_format_is_a_higher_number_of_the_same_kind(found: object, newer: bool) -> None:
    assert is_newer(found, "mekiki.adapter.v1") is newer


@pytest.mark.parametrize("release", [None, "", "x" * 1000, "9\n[31m", 7])
def test_who_wrote_a_file_is_shown_only_where_it_is_the_name_of_a_release(release: object) -> None:
    said = mismatch("mekiki.adapter.v2", "mekiki.adapter.v1", release, "roll back")

    assert "release" not in said.replace("this release", "")
    assert "install that version again" in said
    assert said.isprintable()


def test_marks_of_a_watched_folder(tmp_path: Path) -> None:
    """Additions are passed over; a higher number is refused, and the file is as it was."""
    file = tmp_path / "marks.jsonl"
    DoneLedger(file, tmp_path).add({"a.png": DoneFile(Sight(1, 2))})
    file.write_text(file.read_text().replace("false]", 'false, "more"]') + '{"more": 1}\n')
    assert DoneLedger(file, tmp_path).get("a.png") == DoneFile(Sight(1, 2))
    newer = file.read_text().replace(SCHEMA, "mekiki.folder.v2")
    file.write_text(newer)
    with pytest.raises(CameraError, match=r"marks\.jsonl: written by a newer version"):
        DoneLedger(file, tmp_path)
    assert file.read_text() == newer
