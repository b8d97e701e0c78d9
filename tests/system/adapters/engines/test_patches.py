"""Patches of the model that judges by words: a second answer of the same pass, alike on every engine."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from adapters.bundle.manifest import file_digest
from adapters.bundle.reader import SHIPPED
from adapters.core.adapter import Adapter
from adapters.core.patches import PatchExtractor, TokenEngine
from adapters.core.protocol import Engine, Floats, ModelError
from adapters.engines.bundle_model import Kind, open_kind
from adapters.engines.engine_patches import patches_of
from adapters.engines.known_answers import TOLERANCE
from adapters.engines.open_bundle import open_bundle
from adapters.engines.torch_engine import TorchEngine
from tests.support.available_engines import model
from tests.support.model_zoo import checkpoint, register

if TYPE_CHECKING:
    from adapters.torch_model.clip import Clip


@pytest.fixture(scope="module")
def patched(tiny_clip: Clip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model's bundle with patches and int8."""
    from adapters.build.bundle import build_bundle

    folder = tmp_path_factory.mktemp("bundles") / "patched"
    return build_bundle(tiny_clip, folder, patches=True, int8=True).folder


def pictures(count: int, side: int = 32) -> Floats:
    return np.random.default_rng(0).normal(size=(count, 3, side, side)).astype(np.float32)


def moved(source: Adapter, seed: int) -> Adapter:
    random = np.random.default_rng(seed)
    tensors = {
        name: tensor + random.normal(0, 0.1, tensor.shape).astype(np.float32)
        for name, tensor in source.tensors.items()
    }
    return Adapter(tensors, number=seed, parent=source.digest)


def difference(found: Floats, expected: Floats) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def test_one_pass_gives_the_words_features_and_patches_that_torch_gives(
    patched: Path, tiny_clip: Clip
) -> None:
    """Each picture with its own adapter; what they are is said alike, so a reference fits both engines."""
    onnx, torch = open_bundle(patched, device="cpu", threads=1), TorchEngine(tiny_clip)
    adapters = [onnx.source, moved(onnx.source, 1), moved(onnx.source, 2)]
    images = pictures(3)
    features, patches = onnx.encode_with_patches(images, adapters)
    assert difference(features, onnx.encode_image(images, adapters)) <= TOLERANCE
    expected = torch.encode_with_patches(images, adapters)
    assert patches.shape == expected[1].shape == (3, 4, 4, 32)
    assert difference(features, expected[0]) <= TOLERANCE
    assert difference(patches, expected[1]) <= TOLERANCE
    assert onnx.patch_info() == torch.patch_info()
    # The adapter reaches the patches: a reference is compared with those of the source.
    alone = onnx.encode_with_patches(images[1:2], [onnx.source])[1]
    assert difference(patches[1:2], alone) > 100 * TOLERANCE
    empty = onnx.encode_with_patches(images[:0], [])
    assert [part.shape for part in empty] == [(0, 16), (0, 4, 4, 32)]


def test_the_model_is_a_backbone_with_its_source_adapter(patched: Path) -> None:
    engine = open_bundle(patched, device="cpu", threads=1)
    backbone: PatchExtractor = patches_of(engine)
    images = pictures(2)
    assert backbone.info.layers == (32,)
    assert backbone.info.preprocess == engine.info.preprocess
    np.testing.assert_array_equal(
        backbone.patches(images), engine.encode_with_patches(images, [engine.source] * 2)[1]
    )


def test_a_place_of_the_picture_is_the_place_of_its_patch(patched: Path) -> None:
    """Row by row from the upper left: what changes there changes most there."""
    engine = open_bundle(patched, device="cpu", threads=1)
    images = np.repeat(pictures(1), 2, axis=0)
    images[1, :, 16:24, 8:16] += 3  # the third row, the second column
    before, after = engine.encode_with_patches(images, [engine.source] * 2)[1]
    assert np.unravel_index(np.linalg.norm(after - before, axis=-1).argmax(), (4, 4)) == (2, 1)


def test_a_bundle_without_patches_works_and_says_what_to_do(tiny_bundle: Path, patched: Path) -> None:
    engine = open_bundle(tiny_bundle, device="cpu", threads=1)
    assert engine.encode_image(pictures(1), [engine.source]).shape == (1, 16)
    message = r"has no image\.patches\.onnx: build it again with --patches, or set features: backbone"
    with pytest.raises(ModelError, match=message):
        patches_of(engine)
    with pytest.raises(ModelError, match=message):
        engine.encode_with_patches(pictures(1), [engine.source])
    with pytest.raises(ModelError, match="precision int8 gives no patches: set precision: fp32"):
        patches_of(open_bundle(patched, device="cpu", threads=1, precision="int8"))


def test_an_engine_without_patches_says_which_has_them(patched: Path) -> None:
    engine, _ = open_kind(Kind("openvino", "fp32"), model(patched))
    assert not isinstance(engine, TokenEngine)
    with pytest.raises(ModelError, match=r"tiny on openvino gives no patches: set engine: onnx or torch"):
        patches_of(engine)


def test_a_file_with_other_patches_is_refused(patched: Path, tmp_path: Path) -> None:
    """Such as of a later release: the channels of the layers must be those of the output."""
    import onnx

    folder = tmp_path / "other"
    shutil.copytree(patched, folder)
    file = folder / "image.patches.onnx"
    graph = onnx.load(file, load_external_data=False)
    graph.metadata_props[0].value = "16,15"
    file.write_bytes(graph.SerializeToString())
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][file.name] = {"sha256": file_digest(file), "size": file.stat().st_size}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ModelError, match="its patches are not of this release: build it again"):
        patches_of(open_bundle(folder, device="cpu", threads=1))


@pytest.mark.parametrize(
    ("name", "grid", "layers"),
    [
        ("zoo-convnext", (20, 20), (24, 32, 48)),
        ("zoo-timm-vit", (10, 10), (64, 64)),
        ("zoo-short", (4, 4), (32,)),
    ],
)
def test_towers_of_every_kind_have_patches(
    tmp_path: Path, name: str, grid: tuple[int, int], layers: tuple[int, ...]
) -> None:
    """Transformers of open_clip and timm, and convolutions; the build itself holds them against torch."""
    from adapters.build.bundle import build

    register(tmp_path / "zoo")
    file = checkpoint(name, tmp_path / "weights.safetensors")
    folder = build(str(file), tmp_path / "bundle", name=name, patches=True).folder
    info = patches_of(open_bundle(folder, device="cpu", threads=1)).info
    assert (info.grid, info.layers, info.channels) == (grid, layers, sum(layers))


def test_a_tower_of_which_nothing_is_known_is_refused_with_patches() -> None:
    from adapters.torch_model.patch_tokens import taps_of

    class Bare:
        visual: Any = object()

    with pytest.raises(
        ModelError, match="bare: where its image tower has patches is not known: build it without"
    ):
        taps_of("bare", Bare())


def test_the_shipped_model_has_patches() -> None:
    """Of strides 4, 8 and 16, on the places of the middle one."""
    engine: Engine = open_bundle(SHIPPED / "mekiki-line", device="cpu", threads=1)
    info = patches_of(engine).info
    assert (info.grid, info.layers) == ((16, 16), (48, 96, 192))
