"""What backbones are read from: manifests that a user wrote, weights in torch's old format."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from adapters.backbone.backbone_manifest import read_backbone_manifest
from adapters.backbone.legacy_torch import tensors_of
from adapters.backbone.plain_pickle import RefusedPickle
from adapters.core.adapter import AdapterError
from tests.support.legacy_torch_files import Tensor, legacy_file
from tests.support.small_graphs import manifest

MANIFESTS = (json.dumps(manifest(b"")).encode(),)
_NUMBERS = np.arange(6, dtype=np.float32)
WEIGHTS = (
    legacy_file({"a": Tensor("1", _NUMBERS, (2, 3), (3, 1)), "b": Tensor("1", _NUMBERS, (2,), (1,), 4)}),
    legacy_file({"n": Tensor("7", np.array([1], np.int64), (), ()), "w": Tensor("8", _NUMBERS, (6,), (1,))}),
)


def read_manifests(folder: Path) -> Callable[[bytes], bool]:
    """Return what reads a manifest beside an empty file."""
    (folder / "small.onnx").write_bytes(b"")

    def take(data: bytes) -> bool:
        (folder / "manifest.json").write_bytes(data)
        try:
            read_backbone_manifest(folder)
        except AdapterError as error:
            assert str(error).isprintable()
            return False
        return True

    return take


def read_weights(folder: Path) -> Callable[[bytes], bool]:
    """Return what reads weights, and makes sure that a small file does not become large."""

    def take(data: bytes) -> bool:
        try:
            tensors = tensors_of(data)
        except RefusedPickle as error:
            assert str(error).isprintable()
            return False
        assert sum(tensor.nbytes for tensor in tensors.values()) <= 64 * len(data)
        return True

    return take
