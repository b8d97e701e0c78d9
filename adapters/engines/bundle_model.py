"""A bundle on the engine and at the precision that were asked for, checked before anybody uses it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from adapters.core.protocol import Engine, ModelError, Precision
from adapters.engines.self_check import Agreement, check_bundle


@dataclass(frozen=True, slots=True)
class Kind:
    """What runs a bundle."""

    engine: Literal["onnx", "openvino"]
    precision: Precision

    def __str__(self) -> str:
        return f"{self.engine} {self.precision}"


KINDS = (
    Kind("onnx", "fp32"),
    Kind("openvino", "fp32"),
    Kind("openvino", "bf16"),
    Kind("onnx", "int8"),
)
"""From the most exact to the least."""


@dataclass(frozen=True, slots=True)
class BundleModel:
    """A bundle, and where it is to run.

    Attributes:
        folder: the bundle.
        sha256: what its manifest.json must hash to; None for any.
        device: ``auto``, ``cpu`` or ``cuda``.
        threads: CPU threads.
    """

    folder: Path
    sha256: str | None
    device: str
    threads: int


def open_kind(kind: Kind, model: BundleModel) -> tuple[Engine, Agreement]:
    """Open a bundle on one engine and check what it answers.

    Raises:
        ModelError: a file is missing or altered, nothing here can run it, or it answers otherwise than torch.
    """
    engine = _opened(kind, model)
    return engine, check_bundle(engine, model.folder, kind.engine, kind.precision)


def _opened(kind: Kind, model: BundleModel) -> Engine:
    if model.device == "cuda" and kind != KINDS[0]:
        raise ModelError(f"engine {kind.engine}, precision {kind.precision}: runs on the CPU, not on cuda")
    if kind.engine == "openvino":
        from adapters.engines.openvino_engine import open_openvino

        assert kind.precision in ("fp32", "bf16")
        return open_openvino(
            model.folder, precision=kind.precision, sha256=model.sha256, threads=model.threads
        )
    from adapters.engines.open_bundle import open_bundle

    assert kind.precision in ("fp32", "int8")
    return open_bundle(
        model.folder,
        precision=kind.precision,
        sha256=model.sha256,
        device=model.device,
        threads=model.threads,
    )
