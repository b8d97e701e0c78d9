"""Which backbone a config means, opened once for all stations."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import Final, Literal

from adapters.backbone.efficientnet_lite0 import DEVIATION, MEAN, graph_of, layout
from adapters.backbone.folder_backbone import folder_backbone
from adapters.backbone.graph_cache import kept_graph
from adapters.backbone.onnx_backbone import OnnxBackbone, OutputForm
from adapters.backbone.packaged_weights import SHA256, packaged_weights
from adapters.core.patches import PatchExtractor, PatchInfo, features_digest
from adapters.core.protocol import ModelError, Preprocess
from adapters.encoders.onnx_session import open_session

PACKAGED: Final = "backbone"
SIZE: Final = 288
"""Side of the pictures in pixels, where nothing else is asked for."""
LEAST_SIZE, MOST_SIZE = 64, 1024

BackbonePrecision = Literal["fp32", "int8"]
_NAME: Final = "efficientnet-lite0"


def open_backbone(
    name: str,
    cache: Path,
    *,
    device: str = "auto",
    threads: int | None = None,
    size: int | None = None,
    precision: BackbonePrecision = "fp32",
) -> PatchExtractor:
    """Open a backbone.

    Args:
        name: ``backbone`` for the one of the profile (EfficientNet-Lite0), or the folder of an ONNX file with
            its manifest.
        cache: folder where graphs that are made once are kept; made if it is not there. Where nothing can be
            written there, a graph is opened from memory.
        device: ``auto``, ``cpu`` or ``cuda``.
        threads: CPU threads; None leaves it to the runtime.
        size: side of the pictures in pixels; None: `SIZE`, or what the folder's manifest says.
        precision: of the one of the profile; int8 runs on the CPU. A folder's file is what it is.

    Raises:
        ModelError: a file is missing, has another hash, is damaged, or cannot be run here.
    """
    if name == PACKAGED:
        return _packaged(cache, device, threads, SIZE if size is None else size, precision)
    if precision != "fp32":
        raise ModelError(f"{name}: precision {precision} is of {PACKAGED!r} alone: leave it out")
    backbone = folder_backbone(Path(name), device, threads)
    made_for = backbone.info.preprocess.size
    if size not in (None, made_for):
        raise ModelError(f"{name}: takes pictures of {made_for} pixels, not of {size}")
    return backbone


def _packaged(
    cache: Path, device: str, threads: int | None, size: int, precision: BackbonePrecision
) -> OnnxBackbone:
    if not LEAST_SIZE <= size <= MOST_SIZE:
        raise ModelError(f"{PACKAGED}: size {size}: must be from {LEAST_SIZE} to {MOST_SIZE} pixels")
    if precision == "int8" and device == "cuda":
        raise ModelError(f"{PACKAGED}: precision int8 runs on the CPU: set device cpu or precision fp32")
    graph, shape = graph_of(packaged_weights(), size, precision), layout(size)
    preprocess = Preprocess(size, MEAN, DEVIATION, "bilinear", "squash")
    made_of = {
        "weights": SHA256,
        "graph": hashlib.sha256(graph).hexdigest(),
        "precision": precision,
        "preprocess": asdict(preprocess),
    }
    info = PatchInfo(_NAME, features_digest(made_of), preprocess, shape.grid, sum(shape.layers), shape.layers)
    kept = kept_graph(cache, f"{_NAME}-{size}-{precision}", graph)
    session = open_session(kept, "cpu" if precision == "int8" else device, threads)
    return OnnxBackbone(session, OutputForm("images", "patches", "places"), info)
