"""A backbone that a user brings: an ONNX file of any maker, as its manifest describes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from adapters.backbone.backbone_manifest import MANIFEST, BackboneManifest, read_backbone_manifest
from adapters.backbone.onnx_backbone import OnnxBackbone, OutputForm
from adapters.core.patches import PatchInfo, features_digest
from adapters.core.protocol import ModelError
from adapters.encoders.onnx_session import open_session, run_errors

_MOST_CHANNELS = 16_384


def folder_backbone(folder: Path, device: str, threads: int | None) -> OnnxBackbone:
    """Open the backbone of a folder, and try it on two pictures without content.

    Raises:
        ModelError: a file is missing, altered or too many, or the graph is not as its manifest says.
    """
    manifest, file = read_backbone_manifest(folder)
    session = open_session(file, device, threads)
    where = str(folder / MANIFEST)
    at_once = _batch(session, manifest, where)
    form = OutputForm(manifest.input, manifest.output, manifest.layout, manifest.prefix_tokens)
    channels = _channels(_tried(session, manifest, min(at_once, 2), where), manifest, where)
    info = PatchInfo(manifest.name, _digest(manifest), manifest.preprocess, manifest.grid, channels)
    return OnnxBackbone(session, form, info, at_once)


def _batch(session: Any, manifest: BackboneManifest, where: str) -> int:
    """Return how many pictures it takes at once, after a look at what it takes and gives."""
    inputs = {one.name: one for one in session.get_inputs()}
    outputs = [one.name for one in session.get_outputs()]
    if manifest.output not in outputs:
        raise ModelError(f"{where}: output: there is no {manifest.output!r}, the file has {_names(outputs)}")
    if list(inputs) != [manifest.input]:
        raise ModelError(f"{where}: input: {manifest.input!r} must be the only one, it has {_names(inputs)}")
    found, side = inputs[manifest.input], manifest.size
    expected = (3, side, side)
    fits = len(found.shape) == 4 and all(
        not isinstance(length, int) or length == wanted
        for length, wanted in zip(found.shape[1:], expected, strict=True)
    )
    if found.type != "tensor(float)" or not fits:
        raise ModelError(
            f"{where}: input: {manifest.input} takes {found.type} of shape {found.shape}, not tensor(float)"
            f" of (N, 3, {side}, {side})"
        )
    batch = found.shape[0]
    if isinstance(batch, int) and batch != 1:
        raise ModelError(
            f"{where}: input: {manifest.input} takes {batch} pictures at a time, no more and no less; export"
            " it with a batch of any length, or of 1"
        )
    return 1 if batch == 1 else OnnxBackbone.AT_ONCE


def _tried(session: Any, manifest: BackboneManifest, count: int, where: str) -> Any:
    """Return what it gives of pictures without content."""
    pixels = np.zeros((count, 3, manifest.size, manifest.size), np.float32)
    try:
        return session.run([manifest.output], {manifest.input: pixels})[0]
    except run_errors() as error:
        reason = str(error).splitlines()[0][:200]
        raise ModelError(
            f"{where}: the file cannot be run with {count} pictures of {manifest.size} pixels: {reason}"
        ) from error


def _channels(output: Any, manifest: BackboneManifest, where: str) -> int:
    """Return D of an output that has the shape that the manifest says."""
    height, width = manifest.grid
    tokens = manifest.prefix_tokens + height * width
    shape: tuple[int, ...] = np.shape(output) if isinstance(output, np.ndarray) else ()
    wanted: tuple[str | int, ...]
    if manifest.layout == "nchw":
        wanted, axis = ("N", "D", height, width), 1
    else:
        wanted, axis = ("N", tokens, "D"), 2
    fits = len(shape) == len(wanted) and all(
        length == other for length, other in zip(shape, wanted, strict=True) if isinstance(other, int)
    )
    if not fits or not 1 <= shape[axis] <= _MOST_CHANNELS or output.dtype != np.float32:
        kind = f"{getattr(output, 'dtype', 'no tensor')} of shape {shape}"
        raise ModelError(f"{where}: output: {manifest.output} is {kind}, not float32 of {wanted}")
    if not np.isfinite(output).all():
        raise ModelError(f"{where}: output: {manifest.output} has numbers that are not finite")
    return shape[axis]


def _digest(manifest: BackboneManifest) -> str:
    """Return the digest of all that makes a feature; what the backbone is called does not."""
    fields = manifest.model_dump(mode="json", exclude={"name", "file"})
    return features_digest(fields)


def _names(names: Any) -> str:
    shown = list(names)
    return ", ".join(repr(name[:60]) for name in shown[:8]) + (" and more" if len(shown) > 8 else "")
