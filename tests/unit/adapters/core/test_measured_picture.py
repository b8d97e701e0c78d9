"""What a baseline was measured on is told apart fact by fact; what is not known is not held against it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.core.measured_picture import MeasuredPicture

HERE = MeasuredPicture(
    region=(0.1, 0.0, 0.9, 1.0),
    masks=(((0.0, 0.0), (0.5, 0.0), (0.0, 0.5)),),
    view="fill",
    tiles="1x1",
    camera={"kind": "device", "width": 1280, "height": None},
)
SHARE = st.floats(0, 1)
POINT = st.tuples(SHARE, SHARE)
PICTURES = st.builds(
    MeasuredPicture,
    region=st.none() | st.tuples(SHARE, SHARE, SHARE, SHARE),
    masks=st.none() | st.lists(st.lists(POINT, min_size=3, max_size=4).map(tuple), max_size=3).map(tuple),
    view=st.none() | st.sampled_from(["auto", "fit", "fill", "crop"]),
    tiles=st.none() | st.sampled_from(["1x1", "2x1"]),
    camera=st.none()
    | st.dictionaries(st.text(max_size=5), st.none() | st.integers(0, 9) | st.text(max_size=5)),
)


@given(PICTURES)
def test_what_is_written_is_read_as_it_was(picture: MeasuredPicture) -> None:
    """Through JSON, to the last bit: a region that was not changed is no other one."""
    again = MeasuredPicture.read(json.loads(json.dumps(picture.facts(), allow_nan=False)))
    assert again == picture
    assert again.differs_from(picture) == []


@given(PICTURES, PICTURES)
def test_what_is_not_known_is_not_held_against_it(one: MeasuredPicture, other: MeasuredPicture) -> None:
    """Nothing is told of a fact that either side does not know, and each fact is told once."""
    told = [setting for setting, _ in one.differs_from(other)]
    assert len(set(told)) == len(told)
    for setting, name in (
        ("roi.crop", "region"),
        ("roi.masks", "masks"),
        ("view", "view"),
        ("tiles", "tiles"),
    ):
        if None in (getattr(one, name), getattr(other, name)):
            assert setting not in told
    assert MeasuredPicture().differs_from(one) == one.differs_from(MeasuredPicture()) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            {"region": (0.0, 0.0, 1.0, 0.5)},
            ("roi.crop", "region of interest: was [0.1, 0, 0.9, 1], is [0, 0, 1, 0.5]"),
        ),
        ({"masks": ()}, ("roi.masks", "masks: were 1, are 0")),
        ({"masks": (((0.0, 0.0), (0.5, 0.0), (0.1, 0.5)),)}, ("roi.masks", "masks: are other polygons")),
        ({"view": "fit"}, ("view", "view: was fill, is fit")),
        ({"tiles": "2x1"}, ("tiles", "tiles: was 1x1, is 2x1")),
        (
            {"camera": {"kind": "device", "width": 1280, "height": 720}},
            ("camera.height", "camera height: was not set, is 720"),
        ),
        ({"camera": {"kind": "stream"}}, ("camera.kind", "camera kind: was device, is stream")),
    ],
)
def test_a_message_names_the_setting_what_it_was_and_is(
    change: dict[str, Any], told: tuple[str, str]
) -> None:
    assert HERE.differs_from(replace(HERE, **change)) == [told]


def test_a_station_that_was_measured_with_a_cut_keeps_it_under_auto() -> None:
    """Where nobody asks for another view; where somebody does, it is another one."""
    cut = MeasuredPicture(view="crop")
    assert cut.differs_from(MeasuredPicture(view="auto")) == []
    assert cut.differs_from(MeasuredPicture(view="fit")) == [("view", "view: was crop, is fit")]
    padded = MeasuredPicture(view="auto")
    assert padded.differs_from(MeasuredPicture(view="crop")) == [("view", "view: was auto, is crop")]


@pytest.mark.parametrize(
    "facts",
    [[], "x", {"region": [1, 2]}, {"region": "left"}, {"masks": 7}, {"masks": [[1]]}, {"view": []},
     {"camera": []}, {"camera": {"kind": {}}}],
)  # fmt: skip
def test_odd_facts_are_refused(facts: Any) -> None:
    """As a ValueError or a TypeError, which readers of the file know as damage."""
    with pytest.raises((ValueError, TypeError)):
        MeasuredPicture.read(facts)
