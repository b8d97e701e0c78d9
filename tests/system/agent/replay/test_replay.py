"""`mekiki replay`: the same recording gives the same verdicts, adapters and audit trail, to the last bit."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import cv2
import jsonschema
import numpy as np
import pytest

from agent.base.data_dir import lock_folder
from agent.cli.main import main
from agent.config.loader import Loaded
from agent.replay.plot import rolling
from camera.core.frame import Capture
from camera.core.settings import QualityLimits, RegionOfInterest, SimulatedCamera
from camera.recording.writer import Recorder, RecordingLimits
from camera.simulation.belt import SimulatedBelt
from camera.simulation.source import SimulatedLine
from tests.support.learning_site import ONNX, TORCH, clean, site
from tests.support.learning_steps import promote
from tests.support.places import ROOT

SCHEMA = json.loads((ROOT / "docs/schemas/mekiki.result.v2.schema.json").read_text())
FRAMES, CHANGE = 175, 50
CAMERA = {
    "kind": "simulated",
    "seed": 7,
    "defect_rate": 0.1,
    "conditions": [{"kind": "contrast", "from_part": CHANGE, "severity": 5.0}],
}
BEGAN = datetime(2026, 1, 5, 6, 0, tzinfo=UTC)


@cache
def line() -> SimulatedLine:
    return SimulatedLine(SimulatedCamera.model_validate_json(json.dumps(CAMERA)))


def record(folder: Path, frames: int) -> Path:
    """Record the simulated line, ten parts a second."""
    recorder = Recorder(
        folder, station="line", camera=CAMERA, roi=RegionOfInterest(), quality=QualityLimits(),
        limits=RecordingLimits(10**9), started_at=BEGAN,
    )  # fmt: skip
    for number in range(1, frames + 1):
        after = timedelta(seconds=(number - 1) / 10)
        part = line().part_id(number)
        recorder.add(Capture(line().picture(number), BEGAN + after, int(after.total_seconds() * 1e9), part))
    recorder.finish("frames")
    recorder.close()
    return folder


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording on which there is something to learn."""
    return record(tmp_path_factory.mktemp("recorded") / "long", FRAMES)


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record(tmp_path_factory.mktemp("recorded") / "short", 30)


def replayed(recording: Path, loaded: Loaded, *more: str) -> tuple[list[dict], dict]:
    """Replay in a process of its own; return verdicts and summary."""
    done = subprocess.run(
        [sys.executable, "-m", "agent", "replay", str(recording), "-c", str(loaded.path), "--json", *more],
        capture_output=True, text=True, timeout=150, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    *verdicts, summary = map(json.loads, done.stdout.splitlines())
    return verdicts, summary


def in_process(capsys: pytest.CaptureFixture[str], recording: Path, loaded: Loaded, *more: str) -> tuple:
    """Replay here; return verdicts and summary."""
    assert main(["replay", str(recording), "-c", str(loaded.path), "--json", *more]) == 0
    *verdicts, summary = map(json.loads, capsys.readouterr().out.splitlines())
    return verdicts, summary


def alter(recording: Path, number: int) -> None:
    """Change one pixel of a picture, and let all hashes fit again."""
    index, manifest = recording / "frames.jsonl", recording / "manifest.json"
    entries = [json.loads(text) for text in index.read_text().splitlines()]
    entry = entries[number - 1]
    picture = cv2.imread(str(recording / entry["file"]))
    picture[128, 128] ^= 255
    cv2.imwrite(str(recording / entry["file"]), picture)
    entry["sha256"] = hashlib.sha256((recording / entry["file"]).read_bytes()).hexdigest()
    index.write_text("".join(f"{json.dumps(entry)}\n" for entry in entries))
    facts = json.loads(manifest.read_text())
    facts["sha256"] = hashlib.sha256(index.read_bytes()).hexdigest()
    manifest.write_text(json.dumps(facts))


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
@pytest.mark.parametrize("model", [ONNX, TORCH], ids=["onnx", "torch"])
def test_two_replays_are_equal_to_the_last_bit(long: Path, tmp_path: Path, model: dict) -> None:
    """Two processes give the same verdicts, adapters and audit trail; LayerNorms were learned in them."""
    loaded = site(tmp_path, model=model, adaptation={"every_frames": 100})

    (verdicts, once), (_, again) = (replayed(long, loaded) for _ in range(2))

    assert once == again
    assert once["frames"] == len(verdicts) == FRAMES
    assert once["adapters"]
    assert once["audit_lines"] > len(once["adapters"])
    promoted = {(one["number"], one["digest"]) for one in once["adapters"]}
    answered = {(v["provenance"]["adapter"], v["provenance"]["adapter_digest"]) for v in verdicts}
    assert {one for one in answered if one[0]} <= promoted
    assert len(answered) > 1
    assert len({digest for _, digest in answered}) > 1


def test_a_changed_picture_gives_another_digest(short: Path, tmp_path: Path, capsys) -> None:
    """Of two recordings that differ in one pixel the verdicts have other digests; again, the same."""
    loaded = site(tmp_path)
    altered = shutil.copytree(short, tmp_path / "altered")
    alter(altered, 20)
    once, again, other = (in_process(capsys, folder, loaded)[1] for folder in (short, short, altered))
    assert once == again
    assert once["verdicts_sha256"] != other["verdicts_sha256"]


def test_a_damaged_picture_is_not_inspected(short: Path, tmp_path: Path, capsys) -> None:
    """As when the recording is played: unreadable, and the next one follows."""
    damaged = shutil.copytree(short, tmp_path / "damaged")
    picture = sorted((damaged / "frames").iterdir())[4]
    picture.write_bytes(picture.read_bytes()[:-20])
    verdicts, summary = in_process(capsys, damaged, site(tmp_path))
    assert [v["reason"] for v in verdicts].count("unreadable") == 1
    assert verdicts[4]["verdict"] == "not_inspected"
    assert summary["frames"] == 30


def test_verdicts_bear_the_times_of_the_recording(short: Path, tmp_path: Path, capsys) -> None:
    """Nothing of today: captured and decided when recorded, latency 0, ids that sort and do not repeat."""
    verdicts, summary = in_process(capsys, short, site(tmp_path), "--limit", "12")
    assert summary["frames"] == len(verdicts) == 12
    assert [v["captured_at"] for v in verdicts] == [v["decided_at"] for v in verdicts]
    assert verdicts[10]["captured_at"] == "2026-01-05T06:00:01.000Z"
    assert all(set(v["latency_ms"].values()) == {0} for v in verdicts)
    ids = [v["event_id"] for v in verdicts]
    assert ids == sorted(set(ids))
    assert [v["trigger"]["part_id"] for v in verdicts] == [line().part_id(n) for n in range(1, 13)]
    for verdict in verdicts:
        jsonschema.validate(verdict, SCHEMA)


def test_the_truth_of_a_simulated_line_is_counted(short: Path, tmp_path: Path, capsys) -> None:
    """Good and defective parts, and what each side got wrong, are those that the verdicts show."""
    verdicts, summary = in_process(capsys, short, site(tmp_path))
    labels = [line().label(number) for number in range(1, 31)]
    truth = summary["truth"]
    assert (truth["good"], truth["defective"]) == (labels.count("ok"), 30 - labels.count("ok"))
    missed = sum(v["verdict"] == "pass" for v, label in zip(verdicts, labels, strict=True) if label != "ok")
    assert truth["answering"]["missed"] == missed
    assert summary["answering"] == dict(sorted(Counter(v["verdict"] for v in verdicts).items()))


def test_a_running_agents_data_are_only_read(short: Path, tmp_path: Path, capsys) -> None:
    """While the agent holds the data folder: starts from what answers there, leaves all as it was."""
    loaded = site(tmp_path)
    promote(loaded, offset=1.5)
    promote(loaded, offset=2.5)
    data = Path(loaded.config.agent.data_dir)
    with lock_folder(data):
        before = tree(data)
        active, _ = in_process(capsys, short, loaded, "--from", "active", "--limit", "3")
        source, _ = in_process(capsys, short, loaded, "--limit", "3")
        assert tree(data) == before
    assert {(v["provenance"]["adapter"], v["provenance"]["offset"]) for v in active} == {(2, 2.5)}
    assert {v["provenance"]["adapter"] for v in source} == {0}
    assert source[0]["provenance"]["commissioning"] == clean().digest


def test_a_station_that_is_not_commissioned_is_inspected_and_says_why(
    short: Path, tmp_path: Path, capsys
) -> None:
    """Nothing is learned, nothing is on record, and the command to run is named."""
    _, summary = in_process(capsys, short, site(tmp_path, commissioned=False), "--limit", "3")
    assert "mekiki commission --station line" in summary["why_off"]
    assert (summary["adapters"], summary["audit_head"], summary["audit_lines"]) == ([], None, 0)


def test_without_json_a_table_and_a_picture(short: Path, tmp_path: Path, capsys) -> None:
    """Both sides of each verdict, the digest, and a PNG."""
    loaded = site(tmp_path)
    picture = tmp_path / "course.png"
    assert main(["replay", str(short), "-c", str(loaded.path), "--plot", str(picture)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("30 frames\n")
    assert re.search(r"^pass +\d+ +\d+$", out, re.MULTILINE)
    assert re.search(r"^verdicts sha256:[0-9a-f]{64}$", out, re.MULTILINE)
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["nowhere"], 64, "no such folder"),
        ([".", "-s", "lime"], 64, "did you mean line"),
        ([".", "--plot", "no/where/x.png"], 64, "no such folder"),
        ([".", "--limit", "0"], 64, "not a positive number"),
        ([".", "--from", "yesterday"], 64, "invalid choice"),
    ],
)
def test_mistakes_are_named(
    arguments: list[str], code: int, said: str, short: Path, tmp_path: Path, capsys, monkeypatch
) -> None:
    """One message, the documented code, no traceback."""
    loaded = site(tmp_path, commissioned=False)
    monkeypatch.chdir(short)
    try:
        got = main(["replay", *arguments, "-c", str(loaded.path)])
    except SystemExit as error:  # argparse leaves this way
        got = error.code
    out, err = capsys.readouterr()
    assert (got, out) == (code, "")
    assert said in err.lower()
    assert "Traceback" not in err


def test_without_matplotlib_a_plot_is_refused_before_the_work(
    short: Path, tmp_path: Path, capsys, monkeypatch
) -> None:
    """The message names the extra; nothing was replayed."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "agent.replay.plot", raising=False)
    loaded = site(tmp_path, commissioned=False)
    assert main(["replay", str(short), "-c", str(loaded.path), "--plot", str(tmp_path / "x.png")]) == 78
    out, err = capsys.readouterr()
    assert out == ""
    assert "mekiki[plot]" in err


def test_the_rolling_share_is_of_the_last_frames_only() -> None:
    """Fewer at the beginning, then exactly as many as asked for."""
    values = np.array([True, False, True, True, False])
    assert rolling(values, 2).tolist() == [1.0, 0.5, 0.5, 1.0, 0.5]


def test_parts_that_the_station_finds_are_the_same_in_each_replay(tmp_path: Path, capsys) -> None:
    """A belt with three parts: three results with their numbers, twice the same."""
    belt = SimulatedBelt(3, "gaps", 2)
    recorder = Recorder(
        tmp_path / "belt", station="line", camera={"kind": "opencv", "source": "/dev/video0"},
        roi=RegionOfInterest(), quality=QualityLimits(), limits=RecordingLimits(10**9), started_at=BEGAN,
    )  # fmt: skip
    for number in range(len(belt)):
        after = timedelta(seconds=number / 30)
        recorder.add(Capture(belt.picture(number), BEGAN + after, int(after.total_seconds() * 1e9)))
    recorder.finish("frames")
    recorder.close()
    loaded = site(tmp_path, camera={"kind": "opencv", "source": "/dev/video0"},
                  station_defaults={"trigger": {"mode": "presence", "pictures": 2}})  # fmt: skip

    (verdicts, once), (_, again) = (in_process(capsys, tmp_path / "belt", loaded) for _ in range(2))

    assert once == again
    assert [(one["part"]["number"], one["part"]["picture"], one["part"]["of"]) for one in verdicts] == [
        (number, place, 2) for number in (1, 2, 3) for place in (1, 2)
    ]
    for one in verdicts:
        jsonschema.validate(one, SCHEMA)
        assert one["part"]["pictures"][-1]["event_id"] == one["event_id"]
        assert len(one["part"]["pictures"]) == one["part"]["picture"]
