"""Small ONNX files as a user would bring them as backbones, written by the product's own writer."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from adapters.backbone.graph_writer import GraphWriter

SIZE, GRID, CHANNELS, PREFIX = 32, (4, 4), 5, 2


def graph(batch: int | str = "n", size: int | str = SIZE) -> bytes:
    """Return a file with ``map`` (N, D, h, w), ``tokens`` (N, prefix + h w, D) and two odd outputs."""
    writer = GraphWriter()
    weight = writer.constant(np.random.default_rng(0).normal(size=(CHANNELS, 3, 8, 8)).astype(np.float32))
    found = writer.node("Conv", ["images", weight], kernel_shape=(8, 8), strides=(8, 8))
    flat = writer.node("Reshape", [found, writer.constant(np.array([0, CHANNELS, -1], np.int64))])
    rows = writer.node("Transpose", [flat], perm=(0, 2, 1))
    first = writer.node("Slice", [rows, *(writer.constant(np.array([n], np.int64)) for n in (0, PREFIX, 1))])
    shape = (batch, CHANNELS, "h", "w")
    return writer.model(
        {"images": (batch, 3, size, size)},
        {
            "map": (found, shape),
            "tokens": (writer.node("Concat", [first, rows], axis=1), (batch, "t", CHANNELS)),
            "odd": (writer.node("Log", [writer.constant(np.array(-1, np.float32))]), ()),
            "nan": (writer.node("Div", [found, writer.constant(np.array(0, np.float32))]), shape),
        },
    )


def manifest(content: bytes, **changed: Any) -> dict[str, Any]:
    """Return a good manifest of such a file, with some keys changed; None leaves one out."""
    fields = {
        "format": "mekiki.backbone.v1",
        "name": "small",
        "file": "small.onnx",
        "sha256": hashlib.sha256(content).hexdigest(),
        "input": "images",
        "size": SIZE,
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
        "interpolation": "bicubic",
        "output": "tokens",
        "layout": "tokens",
        "prefix_tokens": PREFIX,
        "grid": list(GRID),
    } | changed
    return {key: value for key, value in fields.items() if value is not None}


def write_backbone(folder: Path, content: bytes, **changed: Any) -> Path:
    """Write a backbone's folder, and return it."""
    folder.mkdir(exist_ok=True)
    (folder / "small.onnx").write_bytes(content)
    (folder / "manifest.json").write_text(json.dumps(manifest(content, **changed)))
    return folder
