"""`mekiki replay`: the same recording gives the same verdicts, adapters and audit trail, to the last bit."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from learning_site import TORCH, site

from agent.cli import main
from agent.configfile import Loaded
from agent.replay import event_id
from agent.replay_plot import rolling
from agent.store import lock_folder
from camera.frame import Capture
from camera.recorder import Limits, Recorder
from camera.settings import QualityLimits, RegionOfInterest, SimulatedCamera
from camera.simulated import SimulatedLine

FRAMES, CHANGE = 650, 150
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
        limits=Limits(10**9), started_at=BEGAN,
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
def test_two_replays_are_equal_to_the_last_bit(long: Path, tmp_path: Path) -> None:
    """Two processes give the same verdicts, adapters and audit trail; something was learned in them."""
    loaded = site(tmp_path, model=TORCH, adaptation={"every_frames": 100})

    (verdicts, once), (_, again) = (replayed(long, loaded) for _ in range(2))

    assert once == again
    assert once["frames"] == len(verdicts) == FRAMES
    assert once["adapters"]
    assert once["audit_lines"] > len(once["adapters"])
    assert verdicts[-1]["provenance"]["adapter"] == once["adapters"][-1]["number"]
    assert verdicts[-1]["provenance"]["adapter_digest"] == once["adapters"][-1]["digest"]
    print(once)
