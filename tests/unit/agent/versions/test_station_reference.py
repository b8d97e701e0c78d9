"""A station's reference: it holds for its features and its pictures, and each product has its own place."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from adapters.reference.reference import UnusableReference
from agent.config.models import Config
from agent.versions.products import home, product
from agent.versions.station_reference import backbone_of, facts_of, open_reference, sentence
from tests.support.configs import load_text
from tests.support.small_backbone import INFO, a_reference

TEXT = """\
version: 1
agent: {data_dir: data}
recipes:
  plain: {reference: {}}
  other: {reference: {}}
stations:
  top:
    camera: {kind: simulated}
    recipe: plain
    products: [{recipe: other, part_id: "O*"}]
"""


def config(folder: Path, more: str = "") -> Config:
    return load_text(folder, TEXT + more).config


def made(folder: Path, of: Config, recipe: str = "plain") -> Path:
    file = product(of, "top", recipe).reference
    a_reference(file, facts=facts_of(of, "top", recipe, INFO))
    return file


def test_a_reference_is_opened_where_it_fits(tmp_path: Path) -> None:
    """It knows station, recipe, picture and backbone, and says so in one line."""
    now = config(tmp_path)
    made(tmp_path, now)
    found = open_reference(now, "top", "plain", INFO)
    assert (found.facts["station"], found.facts["recipe"]) == ("top", "plain")
    backbone = backbone_of(found)
    assert backbone is not None
    assert (backbone.name, backbone.size, backbone.resize_mode) == ("blocks", 32, "squash")
    assert f"of {found.samples} good samples by blocks at 32x32" in sentence(found)
    assert sentence(found).endswith("false rejects not known")


def test_without_samples_it_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UnusableReference) as caught:
        open_reference(config(tmp_path), "top", "plain", INFO)
    assert str(caught.value) == (
        "recipe plain has no reference here yet: run mekiki golden add --station top --recipe plain with"
        " pictures of good parts"
    )


def test_other_features_are_refused(tmp_path: Path) -> None:
    now = config(tmp_path)
    made(tmp_path, now)
    with pytest.raises(UnusableReference, match=r"set recipes\.plain\.reference\.features back"):
        open_reference(now, "top", "plain", replace(INFO, digest="sha256:" + "c" * 64))


@pytest.mark.parametrize(
    ("more", "setting"),
    [
        ("    roi: {crop: [0, 0, 0.5, 1]}\n", "stations.top.roi.crop"),
        ("    roi: {masks: {lamp: [[0, 0], [0.1, 0], [0, 0.1]]}}\n", "stations.top.roi.masks"),
        ("    view: fit\n", "stations.top.view"),
        ("    tiles: 2x1\n", "stations.top.tiles"),
    ],
)
def test_other_pictures_are_refused(tmp_path: Path, more: str, setting: str) -> None:
    """A region, masks, a view or tiles that are others make other pictures: the setting is named."""
    made(tmp_path, config(tmp_path))
    with pytest.raises(UnusableReference, match=f"or set {setting} back"):
        open_reference(config(tmp_path, more), "top", "plain", INFO)


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    now = config(tmp_path)
    file = made(tmp_path, now)
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(UnusableReference, match="build it again with mekiki golden build"):
        open_reference(now, "top", "plain", INFO)


@pytest.mark.parametrize("fault", ["tiles", "memory", "scale"])
def test_a_file_whose_numbers_do_not_fit_is_refused(tmp_path: Path, fault: str) -> None:
    """Its digest is right and it names no picture: the first part would end the loop."""
    now = config(tmp_path)
    file = product(now, "top", "plain").reference
    whole = a_reference(tiles=(2, 1) if fault == "tiles" else (1, 1))
    if fault == "memory":
        cut = replace(whole.appearance, memory=whole.appearance.memory[:, 1:])
        whole = replace(whole, appearance=cut)
    if fault == "scale":
        whole = replace(whole, scale=replace(whole.scale, mean=whole.scale.mean[:, :-1]))
    file.parent.mkdir(parents=True, exist_ok=True)
    whole.save(file)
    with pytest.raises(UnusableReference, match="parts cannot be compared with it"):
        open_reference(now, "top", "plain", INFO)


def test_a_folder_that_may_not_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(path: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    now = config(tmp_path)
    monkeypatch.setattr(Path, "is_file", forbidden)
    with pytest.raises(UnusableReference, match="not readable: Permission denied"):
        open_reference(now, "top", "plain", INFO)


def test_products_that_have_no_baseline_do_not_share_a_folder(tmp_path: Path) -> None:
    """Without a baseline nothing says whose the station's own folder is."""
    now = config(tmp_path)
    files = {made(tmp_path, now, recipe) for recipe in ("plain", "other")}
    assert len(files) == 2
    assert home(now, "top") not in {file.parent for file in files}
    assert {product(now, "top", recipe).reference for recipe in ("plain", "other")} == files
