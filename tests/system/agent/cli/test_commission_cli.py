"""`mekiki commission`: what it fixes, what it says, and when it writes nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from adapters.baseline.baseline import Commissioning
from adapters.baseline.claims import bound
from adapters.core.observation import Observation
from adapters.monitoring.drift_baseline import MIN_BLOCK_FRAMES, MIN_BLOCKS
from agent.audit.hash_chain import verify
from agent.base.data_dir import lock_folder
from agent.baseline import report
from agent.baseline.capture import WatchedParts
from agent.cli import parser as cli_parser
from agent.cli.main import main
from agent.config.recipes import shipped
from tests.support.learning_site import LINE, PARTS, engine, photos, scorer, site, stream, write_photos

DEFECTS = ["scratch", "dent", "stain", "missing_hole", "chipped_edge"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    site(tmp_path, commissioned=False)
    return tmp_path


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> list[Observation]:
    """Let the line have been watched already: these frames are what was seen."""
    seen = stream(1000)

    def watch(*_arguments: object) -> WatchedParts:
        return WatchedParts(seen, 0)

    monkeypatch.setattr("agent.cli.commission.watch", watch)
    return seen


def commission(folder: Path, *arguments: str) -> int:
    return main(
        ["commission", "-s", "line", "-c", str(folder / "config.yaml"), "--parts", "1000", *arguments]
    )


def written(folder: Path) -> Path:
    return folder / "data" / "stations" / "line" / "commissioning.safetensors"


def test_a_whole_line_is_commissioned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Camera, golden pictures, operating point, file and record; then the agent knows it."""
    belt, album = tmp_path / "belt", tmp_path / "album"
    belt.mkdir()
    album.mkdir()
    good = [row for row in range(PARTS) if LINE.label(row + 1) == "ok"]
    for row in good:
        Image.fromarray(photos()[row]).resize((128, 128)).save(album / f"{row}.png")
    for number, row in enumerate(np.random.default_rng(0).choice(good, 1010)):
        (belt / f"{number:05}.png").symlink_to(album / f"{row}.png")
    site(tmp_path, commissioned=False, camera={"kind": "folder", "path": str(belt)})
    golden = write_photos(tmp_path / "golden", DEFECTS[:2], 5)

    assert commission(tmp_path, "--golden", str(golden), "--json") == 0

    told = json.loads(capsys.readouterr().out)
    made = Commissioning.load(written(tmp_path))
    assert (made.digest, made.offset) == (told["digest"], told["offset"])
    assert made.recipe == shipped("line").words
    assert made.weights == engine().info.weights
    assert told["labelled_by"] == "golden"
    assert told["numbers"]["parts"] == 1000
    assert told["samples"]["person"] == {"scratch": 5, "dent": 5}
    assert set(told["samples"]["model"]) >= {"ok"}
    assert told["without"] == ["ok", "stain", "missing_hole", "chipped_edge"]
    assert (told["learns"], told["claim"], told["all_good"]) == (True, None, False)
    assert [one.partition(":")[0] for one in told["unwatched"]] == [
        "false rejects of good parts that the model takes for defects"
    ]
    trail = written(tmp_path).parent / "audit.jsonl"
    assert verify(trail).ok
    record = json.loads(trail.read_text())
    assert record["after"]["commissioning"] == made.digest
    assert "10 samples confirmed" in record["why"]
    assert (record["numbers"]["confirmed"], record["numbers"]["confirmed_defects"]) == (10, 10)


def test_it_tells_a_process_engineer_in_words(
    folder: Path, watched: list[Observation], capsys: pytest.CaptureFixture[str]
) -> None:
    """What was measured on what, what a person said and what the model guessed, and the digest to pin."""
    golden = write_photos(folder / "golden", ["ok", *DEFECTS], 6)
    assert commission(folder, "--golden", str(golden)) == 0
    text = capsys.readouterr().out
    for words in (
        "operating point",
        "false rejects: at most 39.31% of the good parts, with 95% confidence: 0 of 6 golden good samples",
        "so many can show no better than 39.3%, for 10.0% it takes 29",
        "of the parts that were watched, good or not, 5.",
        "samples confirmed by a person: 6 ok, ",
        "samples guessed by the model, confirmed by nobody: 10 ok, ",
        "blocks of 50 parts",
        "it learns: LayerNorms and operating point",
    ):
        assert words in text
    assert Commissioning.load(written(folder)).digest in text


def test_it_says_what_nobody_can_watch(
    folder: Path, watched: list[Observation], capsys: pytest.CaptureFixture[str]
) -> None:
    """Without defects there is an operating point that follows, and the remedy is named."""
    good = [one for one in watched if one.label == 0 and one.score < 0]
    watched[:] = [good[row % len(good)] for row in range(1000)]
    assert commission(folder) == 0
    text = capsys.readouterr().out
    assert "missed defects: not known, because no defect is confirmed by a person" in text
    assert "false rejects: not known, because nobody vouches for good parts" in text
    assert f"no confirmed sample of ok, {', '.join(DEFECTS)}" in text
    assert "it follows the pictures with its operating point and watches drift" in text
    assert "it cannot watch missed defects: 0 defects confirmed by a person, 6 are needed" in text
    assert "--golden" in text


def test_a_folder_of_good_parts_makes_no_defect_known(
    folder: Path, watched: list[Observation], capsys: pytest.CaptureFixture[str]
) -> None:
    """What the model names beside it is a guess, in words and in numbers, however much there is of it."""
    golden = write_photos(folder / "golden", ["ok"], 10)
    assert commission(folder, "--golden", str(golden), "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["samples"]["person"] == {"ok": 10}
    assert sum(n for label, n in told["samples"]["model"].items() if label != "ok") > 6
    assert (told["learns"], told["numbers"]["confirmed_defects"]) == (False, 0)
    assert "guessed by the model do not count" in told["unwatched"][0]
    assert told["claim"]["good_parts"] == 10


def test_who_vouches_for_all_parts_is_told_what_that_bounds(
    folder: Path, watched: list[Observation], capsys: pytest.CaptureFixture[str]
) -> None:
    """And warned where the model is sure of a defect among them; the claim is in trail and file."""
    watched[:] = stream(1000, defects=0.004)
    assert commission(folder, "--all-good", "--json") == 0
    said = capsys.readouterr()
    claim = json.loads(said.out)["claim"]
    assert (claim["basis"], claim["confidence"]) == ("all_good", 0.95)
    # The stream shows its parts again and again: each counts once.
    assert claim["good_parts"] == len({one.picture.tobytes() for one in watched}) < PARTS
    assert claim["false_rejects_at_most"] == bound(0, claim["good_parts"])
    assert "parts that you call good look surely defective to the model" in said.err
    clean = Commissioning.load(written(folder))
    strange = f"{clean.numbers['surely_bad']:.0f}"
    assert int(strange) > 0
    assert f"good {strange} look surely defective" in " ".join(report.lines(clean))
    made = clean.testimony
    assert made.claim is not None
    assert (made.claim.facts(), made.all_good) == (claim, True)
    record = json.loads((written(folder).parent / "audit.jsonl").read_text())
    assert record["numbers"]["claim_good_parts"] == claim["good_parts"]


def test_a_picture_that_is_there_twice_counts_once(
    folder: Path, watched: list[Observation], capsys: pytest.CaptureFixture[str]
) -> None:
    """The same folder given twice confirms nothing more; the same picture in two classes is refused."""
    golden = write_photos(folder / "golden", ["ok", "scratch"], 5)
    assert commission(folder, "--golden", str(golden), "--golden", str(golden), "--json") == 0
    assert json.loads(capsys.readouterr().out)["samples"]["person"] == {"ok": 5, "scratch": 5}
    shutil.copy(next((golden / "ok").iterdir()), golden / "scratch" / "copy.png")
    assert commission(folder, "--golden", str(golden), "--replace") == 64
    assert "the same picture is both ok and scratch" in capsys.readouterr().err


def test_swapped_folders_are_refused_with_the_pictures(
    folder: Path, watched: list[Observation], capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is written; who is sure insists, and is warned all the same."""
    golden = write_photos(folder / "golden", ["ok", "scratch"], 6)
    (golden / "ok").rename(golden / "aside")
    (golden / "scratch").rename(golden / "ok")
    (golden / "aside").rename(golden / "scratch")
    assert commission(folder, "--golden", str(golden)) == 1
    err = capsys.readouterr().err
    assert "the folders ok and scratch look swapped" in err
    assert "(ok/" in err
    assert "--trust-golden" in err
    assert not written(folder).exists()
    code = commission(folder, "--golden", str(golden), "--trust-golden")
    assert "look swapped" in capsys.readouterr().err
    assert code in (0, 1)


def test_what_is_there_is_replaced_only_on_demand(
    folder: Path, watched: list[Observation], capsys: pytest.CaptureFixture[str]
) -> None:
    """And the record names what was replaced."""
    assert commission(folder) == 0
    first = Commissioning.load(written(folder)).digest
    assert commission(folder) == 64
    assert "--replace" in capsys.readouterr().err
    assert commission(folder, "--replace", "--false-rejects", "0.1") == 0
    lines = (written(folder).parent / "audit.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["before"] == {"commissioning": first}


def test_a_new_commissioning_forgets_what_answered(folder: Path, watched: list[Observation]) -> None:
    """What was learned from another clean line does not answer on this one; it stays stored."""
    from agent.config.loader import load
    from tests.support.learning_steps import a_store, promote

    loaded = load(folder / "config.yaml")
    promote(loaded, 3.0)
    assert commission(folder) == 0
    store = a_store(loaded)
    assert (store.active().number, store.numbers()) == (0, [1])


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ("none", "no such folder"),
        ("empty", "holds no folder of a class"),
        ("scrach", "did you mean scratch?"),
        ("hollow", "no picture in it"),
        ("broken", "0.png"),
        ("black", "black: the line would not inspect it"),
    ],
)
def test_golden_pictures_that_are_none(
    bad: str, words: str, folder: Path, watched: list[Observation], capsys: pytest.CaptureFixture[str]
) -> None:
    """Each is told in one sentence, with the file or the labels that there are; nothing is written."""
    golden = folder / "golden"
    if bad != "none":
        golden.mkdir()
    if bad in ("scrach", "hollow", "broken", "black"):
        place = golden / ("scrach" if bad == "scrach" else "scratch")
        place.mkdir()
        if bad == "broken":
            (place / "0.png").write_bytes(b"no picture")
        elif bad != "hollow":
            Image.new("RGB", (64, 64)).save(place / "0.png")
    assert commission(folder, "--golden", str(golden)) == 64
    err = capsys.readouterr().err
    assert words in err
    assert "Traceback" not in err
    assert not written(folder).exists()


def test_masked_areas_of_golden_pictures_are_never_kept(tmp_path: Path, watched: list[Observation]) -> None:
    """They go the way of the camera's pictures: the left half is masked, so it is black in the file."""
    path = site(tmp_path, commissioned=False).path
    config = yaml.safe_load(path.read_text())
    left = [[0.0, 0.0], [0.5, 0.0], [0.5, 1.0], [0.0, 1.0]]
    config["stations"]["line"]["roi"] = {"masks": {"left": left}}
    path.write_text(yaml.safe_dump(config))
    golden = write_photos(tmp_path / "golden", DEFECTS, 6)
    assert commission(tmp_path, "--golden", str(golden)) in (0, 1)
    from agent.baseline.golden_samples import read_golden
    from agent.config.loader import load

    station = load(path).config.stations["line"]
    known = read_golden(golden, shipped("line"), station, scorer()).samples
    side = known.pictures.shape[1]
    assert (known.pictures[:, :, : side // 2 - 2] == 0).all()
    assert known.pictures[:, :, side // 2 + 2 :].any()


def test_a_line_that_is_bad_already_is_refused(
    folder: Path, watched: list[Observation], capsys: pytest.CaptureFixture[str]
) -> None:
    """Golden pictures say where defects begin; when a third of the parts lie there the line is not clean."""
    watched[:] = stream(1000, defects=0.4)
    assert commission(folder, "--golden", str(write_photos(folder / "golden", DEFECTS, 6))) == 1
    err = capsys.readouterr().err
    assert "of the parts would be rejected" in err
    assert "nothing was written" in err
    assert not written(folder).exists()


def test_a_line_of_which_the_model_is_not_sure_is_refused(
    folder: Path, watched: list[Observation], capsys: pytest.CaptureFixture[str]
) -> None:
    """As of bad pictures, or of words that do not fit: what is then called good is guesswork."""
    watched[:] = stream(1000, "motion")
    assert commission(folder) == 1
    assert "sure" in capsys.readouterr().err
    assert not written(folder).exists()


def test_a_source_that_is_too_short(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Twelve pictures say nothing about drift; how many are needed is told."""
    site(folder, commissioned=False, camera={"kind": "simulated", "parts": 12})
    assert commission(folder) == 1
    assert "ended after 12 parts that could be judged, 1000 are needed" in capsys.readouterr().err
    assert not written(folder).exists()


def test_it_refuses_while_an_agent_runs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever holds the data folder writes the audit trail."""
    with lock_folder(folder / "data"):
        assert commission(folder) == 75
    assert "another agent uses this data folder" in capsys.readouterr().err


def test_what_cannot_be_commissioned_is_said_before_anything_is_opened(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An unknown station, too few parts, a recipe without an operating point."""
    config = str(folder / "config.yaml")
    assert main(["commission", "-s", "lin", "-c", config]) == 64
    assert "no station is called 'lin'" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main(["commission", "-s", "line", "-c", config, "--parts", "999"])
    assert ended.value.code == 64
    sorting = {"templates": ["{}"], "classes": {n: {"verdict": "fail", "phrases": [n]} for n in ("a", "b")}}
    site(folder, commissioned=False, recipes={"line": sorting})
    assert commission(folder) == 64
    assert "needs a class that passes and one that fails" in capsys.readouterr().err


def test_the_command_line_knows_how_many_parts_drift_needs() -> None:
    """It says so without importing numpy."""
    assert cli_parser.LEAST_PARTS == MIN_BLOCKS * MIN_BLOCK_FRAMES
