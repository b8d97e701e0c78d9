"""A folder judged as a station would: what is drawn, judged, left out and refused."""

from __future__ import annotations

import errno
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from agent.base.errors import StoreError, UsageError
from agent.config.recipes import Recipe, ReferenceSettings
from agent.evaluation.judging import DegradedView, PictureJudge
from agent.evaluation.picture_set import good_class, scan
from agent.evaluation.run import EvaluationOptions, JudgedSet, evaluate
from agent.evaluation.summary import facts, sentences, summary
from agent.golden import reference_build
from tests.support.tiny_patches import PixelPatches, part, write_parts


class Counting(PixelPatches):
    calls = 0

    def patches(self, pixels: np.ndarray) -> np.ndarray:
        self.calls += 1
        return super().patches(pixels)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_parts(tmp_path / "set" / "good", range(20))
    write_parts(tmp_path / "set" / "spot", range(50, 58), spot=True)
    return tmp_path / "set"


def judged(
    folder: Path,
    said: list[str] | None = None,
    backbone: PixelPatches | None = None,
    degradation: DegradedView | None = None,
    **more: int,
) -> JudgedSet:
    judge = PictureJudge(Recipe(reference=ReferenceSettings()), None, backbone or PixelPatches(), degradation)
    asked = {"samples": 5, "draws": 3, "seed": 0, **more}
    options = EvaluationOptions(good="good", **asked)
    said = [] if said is None else said
    return evaluate(scan(folder), judge, options, said.append, lambda done, all_: None)


def test_good_and_bad_are_told_apart(folder: Path) -> None:
    found = judged(folder)
    made = summary(found)
    assert made.auroc_draws == (1.0, 1.0, 1.0)
    assert (made.good, made.defects) == (15, 8)
    assert made.missed.value == 0
    said = facts(found, made)
    assert {"auroc", "auroc_draws", "false_rejects", "missed", "ms_per_picture", "claim"} <= said.keys()
    assert said["confusion"]["spot"] == {"unknown": 8.0}
    assert any("not known" in line for line in sentences(found, made))


def test_features_of_a_picture_are_computed_once(folder: Path) -> None:
    """However many draws take or judge it."""
    backbone = Counting()
    judged(folder, backbone=backbone, draws=7)
    assert backbone.calls == 28


def test_the_time_of_a_picture_is_whole_also_where_its_features_were_kept(folder: Path) -> None:
    class Slow(PixelPatches):
        def patches(self, pixels: np.ndarray) -> np.ndarray:
            time.sleep(0.02)
            return super().patches(pixels)

    assert min(one.ms for one in judged(folder, backbone=Slow()).pictures) >= 20


def test_golden_samples_are_not_judged_in_their_draw(folder: Path) -> None:
    found = judged(folder)
    for draw in range(3):
        left_out = [one for one in found.pictures if one.decisions[draw] is None]
        assert len(left_out) == 5
    assert len({one.id for one in found.pictures}) == 28


def test_the_same_seed_draws_the_same(folder: Path) -> None:
    one, same, other = judged(folder), judged(folder), judged(folder, seed=1)
    assert one.thresholds == same.thresholds
    assert one.thresholds != other.thresholds


def test_a_worse_lens_is_before_the_judged_pictures_alone(folder: Path) -> None:
    """Thresholds are those of the clean golden samples."""
    clean = judged(folder)
    dim = judged(folder, degradation=DegradedView("dim", 4, 0))
    assert dim.thresholds == clean.thresholds
    assert summary(dim).false_rejects.value == 1


def test_one_sample_is_enough_to_begin(folder: Path) -> None:
    made = summary(judged(folder, samples=1))
    assert made.auroc.value > 0.9
    assert made.good == 19


def test_39_samples_claim_something(tmp_path: Path) -> None:
    write_parts(tmp_path / "set" / "good", range(45))
    write_parts(tmp_path / "set" / "spot", range(50, 53), spot=True)
    found = judged(tmp_path / "set", samples=39, draws=1)
    claim = facts(found, summary(found))["claim"]
    assert claim is not None
    assert claim["false_rejects_at_most"] <= 0.1
    (said,) = (line for line in sentences(found, summary(found)) if line.startswith("claim"))
    assert said.endswith("; 29 of 39 samples only set the threshold, parts are compared with 10")


def test_what_cannot_be_read_is_named_and_left_out(folder: Path) -> None:
    (folder / "good" / "000a.jpg").write_bytes(b"\xff\xd8\xff")
    (folder / "good" / "zero.png").touch()
    (folder / "spot" / "tiny.png").write_bytes((folder / "spot" / "050.png").read_bytes()[:60])
    said: list[str] = []
    found = judged(folder, said)
    assert found.unreadable == {"good": 2, "spot": 1}
    for name in ("000a.jpg", "zero.png", "tiny.png"):
        assert sum(name in line for line in said) == 1


def test_a_class_of_which_nothing_can_be_read_ends_it(folder: Path) -> None:
    (folder / "dent").mkdir()
    (folder / "dent" / "one.png").write_bytes(b"nothing")
    with pytest.raises(UsageError, match="class dent: no picture of it can be judged"):
        judged(folder)


def test_many_unreadable_files_are_counted_not_listed(folder: Path) -> None:
    for number in range(30):
        (folder / "spot" / f"x{number}.png").write_bytes(bytes([number]))
    said: list[str] = []
    judged(folder, said)
    assert len(said) == 21
    assert said[-1] == "and 10 more files that cannot be read"


def test_grey_16_bit_and_other_sizes_are_judged(folder: Path) -> None:
    grey = part(3)[:, :, 0]
    Image.fromarray(grey).save(folder / "good" / "grey.tif")
    Image.fromarray(grey.astype(np.uint16) * 257).save(folder / "good" / "deep.png")
    Image.fromarray(part(60, side=200)[:90]).save(folder / "good" / "wide.bmp")
    found = judged(folder)
    assert found.twice == 1  # grey and deep are the same picture
    assert len(found.pictures) == 30


def test_copies_count_once_and_a_picture_in_two_classes_is_refused(folder: Path) -> None:
    """Copies of a file are found before anything is judged, the same pixels in another format later."""
    (folder / "good" / "copy.png").write_bytes((folder / "good" / "000.png").read_bytes())
    pictures = scan(folder)
    assert len(pictures.files["good"]) == 20
    assert any("1 files are copies" in note for note in pictures.notes)
    Image.fromarray(part(4)).save(folder / "spot" / "four.bmp")
    with pytest.raises(UsageError, match=r"good/004\.png, .*spot/four\.bmp: the same picture is both"):
        judged(folder)
    (folder / "spot" / "four.bmp").unlink()
    (folder / "spot" / "four.png").write_bytes((folder / "good" / "004.png").read_bytes())
    with pytest.raises(UsageError, match=r"good/004\.png, .*spot/four\.png: the same picture is both"):
        scan(folder)


@pytest.mark.parametrize("samples", [20, 21, 1000])
def test_more_samples_than_good_pictures_are_refused(folder: Path, samples: int) -> None:
    with pytest.raises(UsageError, match="class good has 20 pictures, and at least one must be left"):
        judged(folder, samples=samples)


def test_more_samples_than_fit_into_memory_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as a station's reference is built of, and no more."""
    monkeypatch.setattr(reference_build, "MOST_BYTES", 6 * 4 * int(np.prod(PixelPatches().info.grid)) * 3)
    most = reference_build.most_samples(PixelPatches().info, 1)
    with pytest.raises(UsageError, match=f"--samples {most + 1}: a reference is built of {most} samples"):
        judged(folder, samples=most + 1)
    assert judged(folder, samples=most).thresholds


def test_a_full_disk_is_told_before_anything_is_judged(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Written to when it is full, the mapped file would end the process with a signal."""

    def full(file: int, start: int, size: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(StoreError, match=r"no room for .* MB of features: No space left .*TMPDIR"):
        judged(folder)
    assert list((tmp_path / "temporary").iterdir()) == []


def test_too_few_good_pictures_that_can_be_read_are_told(folder: Path) -> None:
    for path in list((folder / "good").iterdir())[:17]:
        path.write_bytes(path.name.encode())
    with pytest.raises(UsageError, match="3 pictures can be used, 5 are to be drawn"):
        judged(folder)


def test_one_picture_a_class_is_enough_to_judge(tmp_path: Path) -> None:
    write_parts(tmp_path / "set" / "good", range(3))
    write_parts(tmp_path / "set" / "spot", range(50, 51), spot=True)
    write_parts(tmp_path / "set" / "dent", range(60, 61), spot=True)
    made = summary(judged(tmp_path / "set", samples=2))
    assert (made.good, made.defects) == (1, 2)
    assert made.auroc.low < 1


def test_folders_that_are_empty_nested_or_lead_in_a_circle(folder: Path) -> None:
    (folder / "empty" / "deep").mkdir(parents=True)
    (folder / "notes.txt").write_text("hello")
    (folder / "good" / "list.csv").write_text("hello")
    (folder / "loop").symlink_to("..")
    (folder / "self").symlink_to("self")
    (folder / "good" / "round").symlink_to(folder)
    write_parts(folder / "spot" / "more" / "below", range(70, 72), spot=True)
    pictures = scan(folder)
    assert {label: len(files) for label, files in pictures.files.items()} == {"good": 20, "spot": 10}
    assert sum("left out" in note for note in pictures.notes) == 2
    assert any("1 files are no pictures" in note for note in pictures.notes)


def test_fewer_than_two_classes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such folder"):
        scan(tmp_path / "nowhere")
    write_parts(tmp_path / "set" / "good", range(2))
    with pytest.raises(UsageError, match=r"two classes .* there is only good"):
        scan(tmp_path / "set")


@pytest.mark.parametrize(
    ("names", "asked", "good"),
    [(("good", "ok", "bad"), None, "good"), (("OK", "bad"), None, "OK"), (("a", "b"), "a", "a"),
     (("no-defect", "bad"), None, "no-defect"), (("ok", "normal"), None, None), (("a", "b"), None, None),
     (("a", "b"), "c", None)],
)  # fmt: skip
def test_the_good_class_is_named_or_asked_for(
    tmp_path: Path, names: tuple[str, ...], asked: str | None, good: str | None
) -> None:
    for place, name in enumerate(names):
        write_parts(tmp_path / name, range(place, place + 1))
    pictures = scan(tmp_path)
    if good is None:
        with pytest.raises(UsageError) as refused:
            good_class(pictures, asked, tmp_path)
        assert all(name in str(refused.value) for name in names)
    else:
        assert good_class(pictures, asked, tmp_path) == good
