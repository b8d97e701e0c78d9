"""A bundle on ONNX Runtime: to inspect, and to learn."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from adapters.bundle.reader import IMAGE, TEXT, graph, read_bundle
from adapters.core.protocol import NO_INT8, NO_PATCHES, ModelError, place
from adapters.encoders.onnx_encoders import OnnxEncoder, OnnxEncoders
from adapters.encoders.onnx_session import open_session
from adapters.engines.onnx_engine import OnnxEngine


def open_bundle(
    folder: Path,
    *,
    sha256: str | None = None,
    device: str = "auto",
    threads: int | None = None,
    precision: Literal["fp32", "int8"] = "fp32",
) -> OnnxEngine:
    """Verify every file of a bundle and open it on ONNX Runtime.

    Args:
        folder: the bundle.
        sha256: what manifest.json must hash to.
        device: ``auto``, ``cpu`` or ``cuda``; int8 runs on the CPU.
        threads: CPU threads of the model; None leaves it to ONNX Runtime.
        precision: of the image tower.

    Raises:
        ModelError: a file is missing, altered or too many, or nothing here can run the model.
    """
    bundle = read_bundle(folder, sha256)
    int8 = precision == "int8"
    if int8 and not bundle.has_int8:
        raise ModelError(NO_INT8.format(folder, graph(IMAGE, "int8")))
    device = "cpu" if int8 else device
    image = open_session(folder / graph(IMAGE, "int8" if int8 else ""), device, threads)
    text = open_session(folder / graph(TEXT), device, threads)
    info = bundle.info(place(f"onnx:{image.get_providers()[0]}", precision))
    # The numbers of a batch are scaled to int8 together: what a picture gets would depend on the others.

    def patched() -> Any:
        if int8:
            raise ModelError(f"{folder}: precision int8 gives no patches: set precision: fp32")
        if not bundle.has_patches:
            raise ModelError(NO_PATCHES.format(folder, graph(IMAGE, "patches")))
        return open_session(folder / graph(IMAGE, "patches"), device, threads)

    return OnnxEngine(image, text, info, bundle.source, bundle.tokenizer, alone=int8, patched=patched)


def open_encoders(
    folder: Path, *, sha256: str | None = None, device: str = "auto", threads: int | None = None
) -> OnnxEncoders:
    """Verify every file of a bundle and open what learns; arguments and errors are those of `open_bundle`."""
    bundle = read_bundle(folder, sha256)
    image, text = (
        OnnxEncoder(
            open_session(folder / graph(tower, "forward"), device, threads, takes_turns=True),
            open_session(folder / graph(tower, "backward"), device, threads, takes_turns=True),
        )
        for tower in (IMAGE, TEXT)
    )
    return OnnxEncoders(bundle.info(image.provider), bundle.source, image, text)
