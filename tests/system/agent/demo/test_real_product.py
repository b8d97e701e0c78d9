"""The demo's real product: ten photos, a verdict, a map; one sentence where there are none."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from agent.demo.real_product import tell_of_nuts
from tests.support.places import SHARED
from tests.support.tiny_patches import write_parts


def test_without_photos_one_sentence_says_so(tmp_path: Path) -> None:
    (said,) = tell_of_nuts(tmp_path, tmp_path / "nowhere")
    assert "is left out" in said


def test_a_product_is_taught_judged_and_drawn(tmp_path: Path) -> None:
    """With parts of our own in the place of the photos."""
    write_parts(tmp_path / "photos" / "good", range(14))
    write_parts(tmp_path / "photos" / "colour_defect", range(20, 23), spot=True)
    said = tell_of_nuts(tmp_path, tmp_path / "photos")
    assert "of 3 with a colour defect it misses 0" in said[1]
    assert said[2].startswith("colour_defect/")
    assert "fail, anomaly" in said[2]
    with Image.open(tmp_path / "hazelnut.png") as drawn:
        assert drawn.size[0] >= 64


@pytest.mark.data
@pytest.mark.skipif(not (SHARED / "hazelnut-toy").is_dir(), reason=f"no photos at {SHARED}")
def test_hazelnuts(tmp_path: Path) -> None:
    said = tell_of_nuts(tmp_path, SHARED / "hazelnut-toy")
    assert "of 17 with a colour defect it misses 0" in said[1]
