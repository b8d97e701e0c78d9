"""Golden sets: each change is a version or nothing at all, and nothing is lost on the way."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adapters.files.atomic_file import write_durably
from agent.audit.hash_chain import verify
from agent.base.errors import StoreError, UsageError
from agent.config.models import Station
from agent.golden import changes, transfer
from agent.golden.pictures import named_files
from agent.golden.store import GoldenChange, GoldenStore
from camera.core.kept_region import kept_region
from camera.core.settings import RegionOfInterest
from tests.support.tiny_patches import part, write_parts

BY = GoldenChange("anna", "add")


def station(roi: RegionOfInterest | None = None) -> Station:
    fields = {"camera": {"kind": "simulated"}, "recipe": "line"}
    made = Station.model_validate(fields)
    return made if roi is None else made.model_copy(update={"roi": roi})


@pytest.fixture
def store(tmp_path: Path) -> GoldenStore:
    return GoldenStore(tmp_path / "golden", "top")


def added(store: GoldenStore, folder: Path, label: str = "good", **more: bool) -> changes.Added:
    return changes.add(store, station(), named_files([folder], label), BY, by="anna", **more)


def test_a_sample_is_the_region_with_its_masks_to_the_last_bit(store: GoldenStore, tmp_path: Path) -> None:
    """Cut and masked as for the camera, kept without loss, and known as cut to whoever reads it."""
    folder = write_parts(tmp_path / "in", range(1))
    roi = RegionOfInterest(crop=(0.25, 0, 1, 0.5), masks={"a": ((0.25, 0), (0.5, 0), (0.5, 0.25))})
    done = changes.add(store, station(roi), named_files([folder], "good"), BY, by="anna")
    picture = store.picture(done.new[0])
    whole = part(0)[:32, 16:]
    assert picture.shape == whole.shape
    black = (picture == 0).all(axis=2)
    assert 20 < black.sum() < 200
    np.testing.assert_array_equal(picture[~black], whole[~black])
    kept = kept_region(store.place(done.new[0]))
    assert kept is not None
    assert kept.shows(roi)
    sample = done.index.samples[done.new[0]]
    assert (sample.file, sample.added_by, sample.width, sample.height) == ("000.png", "anna", 48, 32)


def test_versions_are_listed_and_gone_back_to(store: GoldenStore, tmp_path: Path) -> None:
    """A removed sample stays on the disk until no version has it."""
    ids = added(store, write_parts(tmp_path / "in", range(3))).new
    changes.remove(store, ["001.png"], GoldenChange("bert", "remove", "a scratch"))
    index = store.index()
    assert [(one.what, len(one.added), len(one.removed)) for one in index.versions] == [
        ("add", 3, 0),
        ("remove", 0, 1),
    ]
    assert len(index.classes()) == 2
    assert index.classes(1) == dict.fromkeys(sorted(ids), "good")
    index = changes.restore(store, 1, GoldenChange("bert", "restore"))
    assert index.classes() == index.classes(1)
    assert index.versions[-1].digest == index.versions[0].digest
    with pytest.raises(UsageError, match=r"no version 7 .* there is 1, 2, 3"):
        changes.restore(store, 7, BY)
    with pytest.raises(UsageError, match="what counts already"):
        changes.restore(store, 1, BY)


def test_purging_forgets_old_versions_and_their_pictures(store: GoldenStore, tmp_path: Path) -> None:
    added(store, write_parts(tmp_path / "in", range(3)))
    changes.remove(store, ["001.png"], BY)
    before = store.index().classes()
    with store.writing() as index:
        kept = store.purge(index, 1)
        assert store.tidy(kept) == 1
    again = store.index()
    assert again.classes() == before
    assert [one.number for one in again.versions] == [2]
    assert len(list((store.folder / "pictures").iterdir())) == 2
    assert added(store, write_parts(tmp_path / "more", range(5, 6))).index.number == 3


def test_the_same_picture_in_two_classes_is_refused_with_both_names(
    store: GoldenStore, tmp_path: Path
) -> None:
    write_parts(tmp_path / "in" / "good", range(2))
    write_parts(tmp_path / "in" / "spot", range(1, 3))
    files = named_files([tmp_path / "in"], None)
    with pytest.raises(UsageError, match=r"spot/001\.png.*good/001\.png.* both spot and good"):
        changes.add(store, station(), files, BY, by="anna")
    assert store.index().versions == ()
    assert list((store.folder / "pictures").iterdir()) == []


def test_a_file_that_cannot_be_used_keeps_all_out_unless_it_is_to_be_skipped(
    store: GoldenStore, tmp_path: Path
) -> None:
    folder = write_parts(tmp_path / "in", range(2))
    (folder / "000b.png").write_bytes(b"no picture")
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(folder / "black.png")
    with pytest.raises(
        UsageError, match=r"000b\.png: not a picture; .*black\.png: black.* nothing was added"
    ):
        added(store, folder)
    assert store.index().versions == ()
    done = added(store, folder, skip=True)
    assert (len(done.new), len(done.refused)) == (2, 2)


def test_a_picture_that_is_there_counts_once(store: GoldenStore, tmp_path: Path) -> None:
    folder = write_parts(tmp_path / "in", range(2))
    Image.fromarray(part(0)).save(folder / "copy.bmp")
    done = added(store, folder)
    assert (len(done.new), len(done.there)) == (2, 1)
    again = added(store, folder)
    assert (again.new, len(again.there), again.index.number) == ((), 3, 1)


def test_a_full_disk_leaves_the_set_as_it_was(
    store: GoldenStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pictures of the attempt are gone, and the message says so."""
    added(store, write_parts(tmp_path / "in", range(2)))
    before = (store.folder / "golden.json").read_bytes()

    def full(path: Path, content: bytes) -> None:
        if path.name == "golden.json":
            raise OSError(errno.ENOSPC, "No space left on device")
        write_durably(path, content)

    monkeypatch.setattr("agent.golden.store.write_durably", full)
    with pytest.raises(StoreError, match=r"No space left .* as they were"):
        added(store, write_parts(tmp_path / "more", range(7, 9)))
    assert (store.folder / "golden.json").read_bytes() == before
    assert len(list((store.folder / "pictures").iterdir())) == 2


def test_what_a_killed_command_left_is_tidied_and_told(store: GoldenStore, tmp_path: Path) -> None:
    """A picture without a place in the index goes; a line that the trail lacks is written."""
    added(store, write_parts(tmp_path / "in", range(2)))
    store.trail.unlink()  # killed between the index and the trail
    write_durably(store.place("f" * 64), b"half an attempt")
    added(store, write_parts(tmp_path / "more", range(7, 8)))
    assert not store.place("f" * 64).exists()
    lines = [json.loads(line) for line in store.trail.read_text().splitlines()]
    assert [(line["event"], line["after"]["version"], line["actor"]) for line in lines] == [
        ("golden_add", 1, "anna"),
        ("golden_add", 2, "anna"),
    ]
    assert verify(store.trail).ok


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "damaged: "),
        (b'{"format": "mekiki.golden.v9", "release": "9.1.0"}', "newer version of the agent .release 9.1.0"),
        (b'{"format": "mekiki.golden.v1", "versions": [{}]}', "damaged: versions.0"),
        (b'{"format": "mekiki.golden.v1", "x": NaN}', "damaged: "),
        (b"[]", "format"),
    ],
)
def test_an_index_that_cannot_be_used_is_named(store: GoldenStore, content: bytes, said: str) -> None:
    store.folder.mkdir()
    (store.folder / "golden.json").write_bytes(content)
    with pytest.raises(StoreError, match=rf"golden\.json: .*{said}"):
        store.index()


def test_an_index_that_was_edited_is_found(store: GoldenStore, tmp_path: Path) -> None:
    added(store, write_parts(tmp_path / "in", range(2)))
    file = store.folder / "golden.json"
    file.write_text(file.read_text().replace('"good"', '"bad"', 1))
    with pytest.raises(StoreError, match="version 1 is not what it says"):
        store.index()


def test_a_text_is_no_way_around_finite_numbers(store: GoldenStore, tmp_path: Path) -> None:
    """What was read could not be written again."""
    added(store, write_parts(tmp_path / "in", range(2)))
    file = store.folder / "golden.json"
    index = json.loads(file.read_text())
    next(iter(index["samples"].values()))["crop"] = ["inf", "nan", 0, 0]
    file.write_text(json.dumps(index))
    with pytest.raises(StoreError, match=r"golden\.json: damaged: samples\..*finite"):
        store.index()


def test_what_a_newer_release_has_added_stays(store: GoldenStore, tmp_path: Path) -> None:
    added(store, write_parts(tmp_path / "in", range(2)))
    file = store.folder / "golden.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "colour": "blue"}))
    changes.remove(store, ["000.png"], BY)
    assert json.loads(file.read_text())["colour"] == "blue"


def test_a_damaged_picture_is_never_taken_for_a_sample(store: GoldenStore, tmp_path: Path) -> None:
    first, second = added(store, write_parts(tmp_path / "in", range(2))).new
    store.place(first).write_bytes(store.place(second).read_bytes())
    with pytest.raises(StoreError, match="not the picture that was added"):
        store.picture(first)
    store.place(first).unlink()
    with pytest.raises(StoreError, match=r"No such file.*add the part's picture again"):
        store.picture(first)


@pytest.mark.parametrize("removed", [False, True])
def test_a_damaged_picture_is_kept_again_where_it_is_added_again(
    store: GoldenStore, tmp_path: Path, removed: bool
) -> None:
    """As the message says; a sample that only an older version has is still known."""
    first, second = added(store, write_parts(tmp_path / "in", range(2))).new
    transfer.export(store, tmp_path / "out")
    whole = store.picture(first)
    if removed:
        changes.remove(store, [first], BY)
    store.place(first).write_bytes(b"damaged")
    added(store, tmp_path / "in")
    assert store.picture(first).tobytes() == whole.tobytes()
    assert set(store.index().classes()) == {first, second}
    if removed:
        changes.remove(store, [first], BY)
    store.place(first).write_bytes(b"damaged")
    transfer.take_in(store, station(), tmp_path / "out", BY)
    assert store.picture(first).tobytes() == whole.tobytes()


def test_a_set_goes_from_one_station_to_another(store: GoldenStore, tmp_path: Path) -> None:
    """With who added what; into a set that has some of it already."""
    ids = added(store, write_parts(tmp_path / "in", range(3))).new
    added(store, write_parts(tmp_path / "bad", range(3, 4), spot=True), "spot")
    assert transfer.export(store, tmp_path / "out") == 4
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["golden.json", "good", "spot"]
    other = GoldenStore(tmp_path / "other", "side")
    added(other, write_parts(tmp_path / "one", range(1)))
    index, count = transfer.take_in(other, station(), tmp_path / "out", GoldenChange("bert", "import"))
    assert (count, len(index.classes())) == (3, 4)
    assert index.samples[ids[2]].added_by == "anna"
    assert other.picture(ids[2]).tobytes() == store.picture(ids[2]).tobytes()
    with pytest.raises(UsageError, match="give a new or empty folder"):
        transfer.export(store, tmp_path / "out")


def test_a_set_of_another_region_is_refused(store: GoldenStore, tmp_path: Path) -> None:
    added(store, write_parts(tmp_path / "in", range(2)))
    transfer.export(store, tmp_path / "out")
    other = GoldenStore(tmp_path / "other", "side")
    cut = station(RegionOfInterest(crop=(0, 0, 0.5, 1)))
    with pytest.raises(UsageError, match=r"2 of 2 golden samples.* cut by another region of interest"):
        transfer.take_in(other, cut, tmp_path / "out", GoldenChange("bert", "import"))
    assert other.index().versions == ()


def test_a_folder_that_was_not_exported_is_no_import(store: GoldenStore, tmp_path: Path) -> None:
    folder = write_parts(tmp_path / "in" / "good", range(1)).parent
    with pytest.raises(UsageError, match=r"holds no golden\.json.*mekiki golden add"):
        transfer.take_in(store, station(), folder, GoldenChange("bert", "import"))


@pytest.mark.parametrize("name", ["..", ".hidden", "a/b", " good", "a\nb", "x" * 101, ""])
def test_a_class_has_a_name_that_a_folder_can_have(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="give it another name"):
        named_files([write_parts(tmp_path / "in", range(1))], name)


def test_a_file_without_a_class_and_a_folder_without_folders_are_told(tmp_path: Path) -> None:
    folder = write_parts(tmp_path / "in", range(1))
    with pytest.raises(UsageError, match="of which class is it"):
        named_files([folder / "000.png"], None)
    with pytest.raises(UsageError, match=r"holds no folder of a class.*--class"):
        named_files([folder], None)
    with pytest.raises(UsageError, match="no such file"):
        named_files([tmp_path / "nowhere.png"], "good")


def test_a_name_that_means_no_sample_or_several_removes_nothing(store: GoldenStore, tmp_path: Path) -> None:
    ids = added(store, write_parts(tmp_path / "in", range(2))).new
    with pytest.raises(UsageError, match="no golden sample has this id"):
        changes.remove(store, [ids[0], "nothing"], BY)
    assert len(store.index().classes()) == 2
    name = f"good/{store.index().samples[ids[0]].file}"  # as `mekiki golden check` has it
    with pytest.raises(UsageError, match="no golden sample has this id"):
        changes.remove(store, [name.replace("good", "bad", 1)], BY)
    assert changes.remove(store, [name], BY)[1] == [ids[0]]
    changes.restore(store, 1, BY)
    _, gone = changes.remove(store, ["good/"], BY)
    assert sorted(gone) == sorted(ids)
