"""Golden pictures that a person and the model call by different names are told, with their files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from agent.baseline.golden_check import GoldenFinding, NamedPictures, examine
from tests.support.line_site import FEW

LABELS = ("ok", "scratch", "dent")
FAILS = np.array([False, True, True])


def pictures(named: dict[str, list[str]], scores: dict[str, float] | None = None) -> NamedPictures:
    """Return pictures by the folder that they lie in, and what the model calls each."""
    rows = [(folder, row, name) for folder, names in named.items() for row, name in enumerate(names)]
    score = {"ok": -5.0, "scratch": 5.0, "dent": 5.0} | (scores or {})
    return NamedPictures(
        [Path("golden", folder, f"{row}.png") for folder, row, _ in rows],
        np.array([LABELS.index(folder) for folder, _, _ in rows], np.int64),
        np.array([LABELS.index(name) for _, _, name in rows]),
        np.array([score[name] for _, _, name in rows], np.float32),
    )


def found(golden: NamedPictures) -> list[GoldenFinding]:
    return examine(golden, LABELS, FAILS, 0.0)


def test_what_both_call_alike_is_not_remarked() -> None:
    assert found(pictures({name: [name] * 6 for name in LABELS})) == []


def test_swapped_folders_are_refused() -> None:
    (one, *others) = found(pictures({"ok": ["scratch"] * 4 + ["ok"], "scratch": ["ok"] * 6}))
    assert one.refuses
    assert one.text.startswith(
        "the folders ok and scratch look swapped: the model calls 4 of 5 pictures in ok"
    )
    assert "ok/0.png, ok/1.png" in one.text
    assert "scratch/0.png, scratch/1.png, scratch/2.png, scratch/3.png, scratch/4.png and 1 more" in one.text
    assert not any(other.refuses for other in others)


def test_good_parts_that_are_all_rejected_are_refused() -> None:
    """A defect that the model does not know is none of that: it is why a person gives pictures of it."""
    (one,) = [each for each in found(pictures({"ok": ["scratch"] * 3})) if each.refuses]
    assert one.text.startswith("all 3 golden pictures of good parts would be rejected: ok/0.png")
    unknown = found(pictures({"ok": ["ok"] * 3, "dent": ["ok"] * 6}))
    assert [each.refuses for each in unknown] == [False, False]
    assert "6 of 6 golden pictures of defects are missed: dent/0.png" in unknown[0].text
    assert "names 6 of 6 golden pictures of dent otherwise, mostly ok" in unknown[1].text


def test_a_single_picture_in_the_wrong_folder_is_named() -> None:
    (one,) = found(pictures({"ok": ["ok"] * 9 + ["scratch"]}))
    assert one == GoldenFinding(False, "1 of 10 golden pictures of good parts are rejected: ok/9.png")


@FEW
@given(st.dictionaries(st.sampled_from(LABELS), st.lists(st.sampled_from(LABELS), min_size=1, max_size=9)))
def test_whatever_lies_where_each_finding_names_pictures(named: dict[str, list[str]]) -> None:
    """And nothing is refused for fewer than three pictures."""
    if not named:
        return
    for one in found(pictures(named)):
        assert ".png" in one.text
        assert not one.refuses or max(map(len, named.values())) >= 3
