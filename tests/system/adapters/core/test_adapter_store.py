"""The adapter store: what was promoted answers after any crash, and what is damaged never does."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from adapters.core.adapter import Adapter, AdapterError, AdapterFileError, load_adapter, save_adapter
from adapters.core.version_store import AdapterStore, OtherRecipe, UnknownVersion
from tests.faults.kill_store import AT, WEIGHTS, a_version, an_adapter, open_store
from tests.support.insides import limit
from tests.support.places import ROOT

LATER = "2026-01-02T00:00:00.000Z"
RECIPE = "sha256:recipe"


def filled(folder: Path, count: int = 3) -> AdapterStore:
    """A store whose version n has n - 1 as its parent; the last one answers."""
    store = open_store(folder)
    for number in range(1, count + 1):
        store.promote(a_version(number, number - 1), AT, {"turn": number})
    return store


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_new_store_answers_with_the_source(tmp_path: Path) -> None:
    """Nothing was promoted: number 0, nothing to tell, nothing wrong."""
    store = open_store(tmp_path / "adapters")
    active = store.active()
    assert (active.number, active.version, active.adapter.digest) == (0, None, an_adapter().digest)
    assert (active.since, active.learner, store.found) == (None, {}, ())
    assert store.versions() == []


def test_what_was_promoted_answers_after_a_restart(tmp_path: Path) -> None:
    """The same numbers to the last bit, with all facts, since when, and what the learner wanted to know."""
    filled(tmp_path)
    active = open_store(tmp_path).active()
    expected = a_version(3)
    assert active.version is not None
    assert (active.number, active.version.parent, active.since) == (3, 2, AT)
    assert active.adapter.digest == expected.digest
    assert active.adapter.parent == a_version(2).digest
    for fact in ("origin", "made_at", "window", "offset", "recipe", "condition", "numbers"):
        assert getattr(active.version, fact) == getattr(expected, fact)
    assert active.learner == {"turn": 3}


def test_a_version_may_differ_from_the_source_in_its_offset_alone(tmp_path: Path) -> None:
    """Then its tensors are the source's and only the operating point was promoted."""
    store = open_store(tmp_path)
    store.promote(replace(a_version(5), adapter=an_adapter()), AT)
    active = open_store(tmp_path).active()
    assert active.version is not None
    assert (active.number, active.version.offset) == (1, 5 / 8)
    assert active.adapter.digest == an_adapter().digest


def test_numbers_grow_and_never_come_again(tmp_path: Path) -> None:
    """Not after going back, not after the newest file was lost, not after a restart."""
    store = filled(tmp_path)
    store.activate(1, LATER)
    assert store.promote(a_version(4, 1), AT).number == 4
    (tmp_path / "000004.safetensors").unlink()
    assert open_store(tmp_path).promote(a_version(5), AT).number == 5


def test_going_back_is_a_choice_of_number(tmp_path: Path) -> None:
    """To any version and to the source, with the learner's memory kept where it says nothing new."""
    store = filled(tmp_path)
    assert store.activate(1, LATER).adapter.digest == a_version(1).digest
    again = open_store(tmp_path).active()
    assert (again.number, again.since, again.learner) == (1, LATER, {"turn": 3})
    store.activate(0, LATER, {"turn": 9})
    again = open_store(tmp_path).active()
    assert (again.number, again.version, again.learner) == (0, None, {"turn": 9})


def test_a_choice_that_cannot_answer_changes_nothing(tmp_path: Path) -> None:
    """An unknown number and a damaged file are refused by name; what answered still does."""
    store = filled(tmp_path)
    damage(tmp_path / "000001.safetensors")
    with pytest.raises(UnknownVersion, match="no version 7: there is 1, 2, 3"):
        store.activate(7, LATER)
    with pytest.raises(AdapterFileError, match=r"000001\.safetensors"):
        store.activate(1, LATER)
    assert store.active().number == open_store(tmp_path).active().number == 3


def test_the_learners_memory_survives_alone(tmp_path: Path) -> None:
    """`remember` changes neither what answers nor since when; odd floats become text."""
    store = filled(tmp_path)
    store.remember({"state": "HOLD", "loss": float("nan"), "n": np.int64(3)})
    active = open_store(tmp_path).active()
    assert (active.number, active.since) == (3, AT)
    assert active.learner == store.active().learner == {"state": "HOLD", "loss": "nan", "n": 3}


def test_numbers_that_are_not_finite_survive_and_an_offset_may_not_be(tmp_path: Path) -> None:
    """A guard may not know a number; an operating point must."""
    store = open_store(tmp_path)
    store.promote(replace(a_version(1), numbers={"gain": float("-inf"), "lost": float("nan")}), AT)
    numbers = store.load(1).numbers
    assert numbers["gain"] == float("-inf")
    assert np.isnan(numbers["lost"])
    with pytest.raises(AdapterError, match="offset is nan"):
        replace(a_version(1), offset=float("nan"))


def test_a_damaged_active_version_falls_back_to_its_parent(tmp_path: Path) -> None:
    """And says so: which version, which file. A new choice ends it."""
    filled(tmp_path)
    damage(tmp_path / "000003.safetensors")
    store = open_store(tmp_path)
    assert (store.active().number, store.active().fallen_from) == (2, 3)
    assert "000003.safetensors" in store.found[0]
    assert store.active().learner == {"turn": 3}
    store.activate(2, LATER)
    again = open_store(tmp_path)
    assert (again.active().number, again.active().fallen_from, again.found) == (2, None, ())


def test_without_a_readable_parent_the_source_answers(tmp_path: Path) -> None:
    """Both files are named."""
    filled(tmp_path)
    damage(tmp_path / "000003.safetensors")
    (tmp_path / "000002.safetensors").unlink()
    store = open_store(tmp_path)
    assert (store.active().number, store.active().fallen_from) == (0, 3)
    assert len(store.found) == 2


def test_another_model_answers_with_its_own_source(tmp_path: Path) -> None:
    """What an earlier model learned stays on disk and is not used."""
    filled(tmp_path)
    store = AdapterStore(tmp_path, an_adapter(), "sha256:" + "1" * 64)
    assert (store.active().number, store.active().fallen_from) == (0, 3)
    assert "made for weights" in store.found[0]
    assert (store.versions(), store.numbers()) == ([], [1, 2, 3])


def test_exchanged_files_are_noticed(tmp_path: Path) -> None:
    """A good file under another number, or another good version 3, is not what was promoted."""
    filled(tmp_path / "a")
    (tmp_path / "a" / "000003.safetensors").write_bytes((tmp_path / "a" / "000001.safetensors").read_bytes())
    with pytest.raises(AdapterFileError, match="holds version 1"):
        open_store(tmp_path / "a").load(3)
    other = filled(tmp_path / "b", 2)
    other.promote(replace(a_version(3, 2), offset=9.0), AT)
    (tmp_path / "a" / "000003.safetensors").write_bytes((tmp_path / "b" / "000003.safetensors").read_bytes())
    store = open_store(tmp_path / "a")
    assert (store.active().number, store.active().fallen_from) == (2, 3)
    assert "not the version 3 that was promoted" in store.found[0]


def test_every_damage_to_the_pointer_means_the_source(tmp_path: Path) -> None:
    """No flipped bit and no cut makes another version answer, or keeps the store from opening."""
    filled(tmp_path)
    path = tmp_path / "active.json"
    intact = path.read_bytes()
    for position in range(len(intact)):
        altered = bytearray(intact)
        altered[position] ^= 1 << position % 7
        path.write_bytes(altered)
        store = AdapterStore(tmp_path, an_adapter(), WEIGHTS, reading=True)
        # White space between the fields may become another white space.
        assert store.active().number == 3 or (store.active().number == 0 and "damaged" in store.found[0])
    for keep in (0, 1, len(intact) // 2, len(intact) - 1):
        path.write_bytes(intact[:keep])
        assert open_store(tmp_path).active().number == 0
    path.unlink()
    store = open_store(tmp_path)
    assert "missing" in store.found[0]
    assert store.promote(a_version(9), AT).number == 4


def test_half_files_are_ignored_and_removed_by_the_owner_alone(tmp_path: Path) -> None:
    """Who only looks removes nothing: the writer may be alive."""
    filled(tmp_path)
    for name in (".000004.safetensors.abc", ".active.json.xyz"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "half").write_bytes(b"\0" * 10)
    before = sorted(path.name for path in tmp_path.iterdir())
    AdapterStore(tmp_path, an_adapter(), WEIGHTS, reading=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    store = open_store(tmp_path)
    assert store.numbers() == [1, 2, 3]
    assert not list(tmp_path.glob(".*"))


def test_looking_makes_nothing(tmp_path: Path) -> None:
    """A folder made by who looks would not belong to the service's user."""
    store = AdapterStore(tmp_path / "adapters", an_adapter(), WEIGHTS, reading=True)
    assert (store.active().number, store.numbers()) == (0, [])
    assert not (tmp_path / "adapters").exists()


def test_prune_keeps_the_newest_the_pinned_and_the_active(tmp_path: Path) -> None:
    """Bounded disk; what answers and what a person pinned stay, also after a restart."""
    store = filled(tmp_path, 8)
    store.pin(2)
    store.activate(4, LATER)
    assert open_store(tmp_path).prune() == [1, 3, 5]
    store.unpin(2)
    assert store.prune() == [2]
    assert store.numbers() == [4, 6, 7, 8]
    with pytest.raises(UnknownVersion):
        store.pin(1)


def test_the_damaged_version_stays_until_a_new_choice(tmp_path: Path) -> None:
    """A person may want to look at what the agent fell back from."""
    filled(tmp_path, 2)
    damage(tmp_path / "000002.safetensors")
    store = AdapterStore(tmp_path, an_adapter(), WEIGHTS, keep=0)
    assert store.prune() == []
    store.activate(1, LATER)
    assert store.prune() == [2]


@pytest.mark.parametrize("call", ["file", "pointer"])
def test_a_full_disk_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """What answered still does, here and after a restart, and the same call succeeds when there is room."""
    store = filled(tmp_path)
    left = 0 if call == "file" else 2  # a file takes two: its own, and its folder's
    sync = os.fsync

    def full(handle: int) -> None:
        nonlocal left
        if left == 0:
            raise OSError(28, "No space left on device")
        left -= 1
        sync(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        store.promote(a_version(4, 3), LATER, {"turn": 4})
    monkeypatch.undo()
    for each in (store, open_store(tmp_path)):
        assert (each.active().number, each.active().learner) == (3, {"turn": 3})
    promoted = store.promote(a_version(4, 3), LATER, {"turn": 4})
    assert open_store(tmp_path).active().number == promoted.number > 3


def test_the_file_is_on_the_disk_before_it_is_pointed_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Content, name, folder; then the same for the pointer: no power cut leaves a name without content."""
    store = open_store(tmp_path)
    steps: list[str] = []
    sync, replace_file = os.fsync, os.replace

    def fsync(handle: int) -> None:
        steps.append(f"sync {Path(f'/proc/self/fd/{handle}').readlink().name}")
        sync(handle)

    def rename(old: Path, new: Path) -> None:
        steps.append(f"name {Path(new).name}")
        replace_file(old, new)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", rename)
    store.promote(a_version(1), AT)
    file, pointer, folder = "000001.safetensors", "active.json", f"sync {tmp_path.name}"
    assert steps == [f"sync {file}", f"name {file}", folder, f"sync {pointer}", f"name {pointer}", folder]


def test_an_exported_version_is_imported_under_a_new_number(tmp_path: Path) -> None:
    """Numbers to the last bit and all facts; it does not answer before it is activated."""
    exported = filled(tmp_path / "a").export(2, tmp_path / "carried.safetensors")
    there = AdapterStore(tmp_path / "b", an_adapter(), WEIGHTS, reading=True)
    imported = there.add(tmp_path / "carried.safetensors", RECIPE)
    assert (imported.number, imported.origin, imported.parent) == (1, "imported", 0)
    assert (imported.digest, imported.offset, imported.window) == (
        exported.digest,
        exported.offset,
        exported.window,
    )
    store = open_store(tmp_path / "b")
    assert store.active().number == 0
    assert store.activate(1, LATER).adapter.digest == exported.digest
    assert load_adapter(tmp_path / "carried.safetensors", an_adapter(), WEIGHTS).digest == exported.digest


def test_an_import_beside_a_running_agent_takes_no_number_twice(tmp_path: Path) -> None:
    """The agent goes on behind the number that was given meanwhile."""
    agent = filled(tmp_path / "a")
    agent.export(3, tmp_path / "file")
    assert (
        AdapterStore(tmp_path / "a", an_adapter(), WEIGHTS, reading=True)
        .add(tmp_path / "file", RECIPE)
        .number
        == 4
    )
    assert agent.promote(a_version(8, 3), AT).number == 5
    assert agent.load(4).origin == "imported"


def test_what_must_not_be_imported_is_refused(tmp_path: Path) -> None:
    """Damaged, of another model, of other shapes, an adapter without facts; another recipe unless allowed."""
    store, file = filled(tmp_path / "a"), tmp_path / "file"
    store.export(1, file)
    stranger = AdapterStore(tmp_path / "b", an_adapter(), "sha256:" + "1" * 64)
    with pytest.raises(AdapterFileError, match="made for weights"):
        stranger.add(file, RECIPE)
    smaller = AdapterStore(tmp_path / "b", Adapter({"ln": np.ones(3, np.float32)}), WEIGHTS)
    with pytest.raises(AdapterFileError, match="another model"):
        smaller.add(file, RECIPE)
    with pytest.raises(OtherRecipe, match="made for recipe sha256:recipe"):
        store.add(file, "sha256:other")
    assert store.add(file, "sha256:other", any_recipe=True).recipe == "sha256:other"
    damage(file)
    with pytest.raises(AdapterFileError, match="altered"):
        store.add(file, RECIPE)
    save_adapter(an_adapter(1), file, WEIGHTS)
    with pytest.raises(AdapterFileError, match="without its operating point"):
        store.add(file, RECIPE)
    for nonsense in ("{", "[]", json.dumps({"origin": "learned"}), "[" * 5000):
        save_adapter(an_adapter(1), file, WEIGHTS, {"version": nonsense})
        with pytest.raises(AdapterFileError, match="not an exported version"):
            store.add(file, RECIPE)
    assert store.numbers() == [1, 2, 3, 4]


def test_a_writer_that_hangs_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call fails as on a full disk, and nothing has changed."""
    store = filled(tmp_path)
    limit(monkeypatch, "a lock is waited for", 0.05)
    with (tmp_path / "lock").open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(OSError, match="another program"):
            store.promote(a_version(4), AT)
    assert store.promote(a_version(4), AT).number == 4


@pytest.mark.parametrize("how", [("--kills", "25"), ("--steps",)])
def test_killed_at_any_moment_it_answers_with_what_was_promoted(how: tuple[str, ...]) -> None:
    """At random moments, a short form of `tests.faults.kill_store --kills`; and before every step on disk."""
    run = subprocess.run(
        [sys.executable, "-m", "tests.faults.kill_store", *how],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
    )
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout).get("steps", 100) > 40
