"""The reference of a golden set: of good parts alone, with what it claims and what is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters.baseline.claims import SHARES, needed
from adapters.reference.good_scores import split
from adapters.reference.reference import Reference, UnusableReference
from agent.base.errors import StoreError, UsageError
from agent.config.models import Config
from agent.golden import changes
from agent.golden.pictures import named_files
from agent.golden.reference_build import (
    MOST_BYTES,
    build_reference,
    facts_sentence,
    most_samples,
    samples_for,
)
from agent.golden.store import GoldenChange, GoldenStore
from agent.versions.products import product
from agent.versions.station_reference import open_reference
from tests.support.tiny_patches import PixelPatches, write_parts


def config(tmp_path: Path, **station: object) -> Config:
    return Config.model_validate(
        {
            "version": 1,
            "agent": {"id": "a", "data_dir": str(tmp_path / "data")},
            "mqtt": {"enabled": False},
            "recipes": {"nut": {"reference": {}}},
            "stations": {"top": {"camera": {"kind": "simulated"}, "recipe": "nut", **station}},
        }
    )


def store_of(now: Config) -> GoldenStore:
    return GoldenStore(product(now, "top").golden, "top")


def added(now: Config, folder: Path, label: str) -> None:
    files = named_files([folder], label)
    changes.add(store_of(now), now.stations["top"], files, GoldenChange("a", "add"), by="a")


def test_a_reference_is_built_of_good_parts_and_found_by_the_agent(tmp_path: Path) -> None:
    now = config(tmp_path)
    added(now, write_parts(tmp_path / "good", range(10)), "good")
    added(now, write_parts(tmp_path / "bad", range(20, 24), spot=True), "spot")
    built = build_reference(now, "top", "nut", PixelPatches(), actor="anna")
    assert (built.good, built.used, built.reference.claim) == (10, 10, None)
    found = open_reference(now, "top", "nut", PixelPatches.info)
    assert found.digest == built.reference.digest
    assert found.facts["made_by"] == "anna"
    assert found.facts["golden"]["version"] == 2
    assert "29 more for at most 10.0%, 99 more for at most 5.0%" in built.sentences()[1]
    index = store_of(now).index()
    assert facts_sentence(found.facts, index) is None
    changes.remove(store_of(now), ["000.png"], GoldenChange("a", "remove"))
    assert "built of version 2, version 3 counts" in str(facts_sentence(found.facts, store_of(now).index()))


def test_enough_good_parts_claim_something(tmp_path: Path) -> None:
    now = config(tmp_path)
    added(now, write_parts(tmp_path / "good", range(39)), "good")
    built = build_reference(now, "top", "nut", PixelPatches(), actor="anna")
    assert built.reference.claim is not None
    assert built.reference.claim.false_rejects_at_most <= 0.1
    assert "at most 9.8% of good parts, with 95% confidence" in built.sentences()[1]


@pytest.mark.parametrize("share", SHARES)
def test_so_many_samples_hold_out_what_the_claim_needs(share: float) -> None:
    """As the reference divides them: one sample less claims less."""
    enough = samples_for(share)
    assert len(split(enough, 0)[1]) >= needed(share)
    assert len(split(enough - 1, 0)[1]) < needed(share)


def test_without_good_parts_nothing_is_built_and_nothing_lost(tmp_path: Path) -> None:
    now = config(tmp_path)
    added(now, write_parts(tmp_path / "bad", range(20, 22), spot=True), "spot")
    with pytest.raises(UsageError, match=r"no golden sample is of a good part \(class good\)"):
        build_reference(now, "top", "nut", PixelPatches(), actor="anna")
    added(now, write_parts(tmp_path / "good", range(1)), "good")
    assert build_reference(now, "top", "nut", PixelPatches(), actor="anna").good == 1
    assert len(store_of(now).index().classes()) == 3


def test_samples_of_another_region_build_nothing(tmp_path: Path) -> None:
    now = config(tmp_path)
    added(now, write_parts(tmp_path / "good", range(10)), "good")
    later = config(tmp_path, roi={"crop": (0, 0, 0.5, 1)})
    with pytest.raises(UsageError, match=r"10 of 10 golden samples.*stations\.top\.roi back"):
        build_reference(later, "top", "nut", PixelPatches(), actor="anna")


def test_a_set_that_changes_meanwhile_keeps_the_older_reference_out(tmp_path: Path) -> None:
    now = config(tmp_path)
    added(now, write_parts(tmp_path / "good", range(10)), "good")

    def meanwhile(done: int, all_: int) -> None:
        if done == 5:
            changes.remove(store_of(now), ["003.png"], GoldenChange("bert", "remove"))

    with pytest.raises(StoreError, match="another command has changed"):
        build_reference(now, "top", "nut", PixelPatches(), actor="anna", progress=meanwhile)
    with pytest.raises(UnusableReference):
        Reference.load(product(now, "top").reference)


def test_a_reference_takes_as_many_samples_as_memory_is_meant_for() -> None:
    info = PixelPatches.info
    assert most_samples(info, 1) == MOST_BYTES // (8 * 8 * 48 * 4)
    assert most_samples(info, 4) == MOST_BYTES // (4 * 8 * 8 * 48 * 4)
