"""`inspect`, `replay` and `commission` know products by part ids, as the agent does."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from PIL import Image

from agent.cli.main import main
from agent.config.loader import Loaded, load
from camera.core.frame import Capture
from camera.core.settings import QualityLimits, RegionOfInterest
from camera.recording.writer import Recorder, RecordingLimits
from tests.support.learning_site import clean, photos
from tests.support.two_products import LID, edit, plant

IDS = ("H-1", "L-1", "H-2", "L-2", "x")
BEGAN = datetime(2026, 1, 5, 6, 0, tzinfo=UTC)


@pytest.fixture
def loaded(tmp_path: Path) -> Loaded:
    """A station whose folder holds parts of both products."""
    made, belt = plant(tmp_path), tmp_path / "belt"
    (belt / "deep").mkdir(parents=True)
    for row, part in enumerate(IDS):
        Image.fromarray(photos()[row]).save(belt / f"{part}.png")
    Image.fromarray(photos()[9]).save(belt / "deep" / "L-9.png")
    camera = {"kind": "folder", "path": str(belt)}
    edit(made, lambda one: one.update(products=[{"recipe": "lid", "part_id": "L-*"}], camera=camera))
    return load(made.path)


def test_files_are_judged_by_the_product_that_their_names_say(
    loaded: Loaded, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder's and single ones; the id of a part is the path in its folder."""
    arguments = ["inspect", "--station", "line", "-c", str(loaded.path), "--json"]
    assert main([*arguments, str(tmp_path / "belt")]) == 0
    shown = capsys.readouterr()
    found = {Path(one["path"]).stem: one for one in map(json.loads, shown.out.splitlines())}
    lids = {name for name, one in found.items() if "chipped" in one["scores"]}
    assert lids == {"L-1", "L-2"}
    assert set(found) >= {"H-1", "H-2", "x"}
    assert "recipe line, version 1 at offset -4.000 answers" in shown.err
    assert f"parts L-*: recipe lid, the model as it was trained at offset {LID:.3f} answers" in shown.err
    assert main([*arguments, str(tmp_path / "belt" / "L-1.png")]) == 0
    assert json.loads(capsys.readouterr().out)["scores"] == found["L-1"]["scores"]


@pytest.mark.parametrize(("start", "offset"), [("source", None), ("active", -4.0)])
def test_a_replay_judges_by_the_recorded_ids(
    loaded: Loaded, tmp_path: Path, capsys: pytest.CaptureFixture[str], start: str, offset: float | None
) -> None:
    recorder = Recorder(
        tmp_path / "recorded", station="line", camera={"kind": "folder", "path": "belt"},
        roi=RegionOfInterest(), quality=QualityLimits(), limits=RecordingLimits(10**9), started_at=BEGAN,
    )  # fmt: skip
    for number, part in enumerate(IDS):
        at = timedelta(seconds=number)
        recorder.add(Capture(photos()[number], BEGAN + at, int(at.total_seconds() * 1e9), f"{part}"))
    recorder.finish("frames")
    recorder.close()
    edit(loaded, lambda one: one.update(camera={"kind": "simulated", "seed": 5, "fps": 10}))
    arguments = ["replay", str(tmp_path / "recorded"), "-c", str(loaded.path), "--json", "--from", start]
    assert main(arguments) == 0
    *verdicts, _ = map(json.loads, capsys.readouterr().out.splitlines())
    expected = clean().offset if offset is None else offset
    for part, one in zip(IDS, verdicts, strict=True):
        lid = part.startswith("L-")
        assert one["recipe"] == ("lid" if lid else "line")
        assert one["provenance"]["offset"] == pytest.approx(LID if lid else expected, abs=1e-5)


@pytest.mark.parametrize(("recipe", "seen", "passed"), [("lid", 2, 4), ("line", 4, 2), (None, 4, 2)])
def test_a_baseline_is_measured_on_its_own_parts(
    loaded: Loaded, capsys: pytest.CaptureFixture[str], recipe: str | None, seen: int, passed: int
) -> None:
    """How many were passed over is said, also where the rest is too few."""
    chosen = [] if recipe is None else ["--recipe", recipe]
    arguments = ["commission", "-s", "line", "-c", str(loaded.path), "--replace", "--parts", "1000"]
    assert main([*arguments, *chosen]) == 1
    told = capsys.readouterr().err
    assert (
        f"ended after {seen} parts that could be judged, {passed} of other products were passed over" in told
    )
