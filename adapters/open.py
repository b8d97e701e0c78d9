"""From the `model` section of config.yaml to an engine that runs.

Imports neither torch nor ONNX Runtime before a model is opened.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from adapters.engine import Engine, ModelError, Precision

if TYPE_CHECKING:
    from adapters.clip import Clip

Device = Literal["auto", "cpu", "cuda"]

PRECISIONS: dict[str, tuple[Precision, ...]] = {
    "onnx": ("fp32", "int8"),
    "openvino": ("fp32", "bf16"),
    "torch": ("fp32", "bf16", "fp16"),
}
"""What each engine can compute in, its default first."""

FP16_NEEDS_CUDA = "precision: fp16 needs a CUDA card: a CPU takes ten times as long for it as for fp32"


class ModelSettings(BaseModel):
    """Which model looks at the parts, and what runs it."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    engine: Literal["auto", "onnx", "openvino", "torch"] = Field(
        default="onnx",
        description="onnx and openvino run a bundle, torch a checkpoint; auto takes what runs a bundle"
        " fastest on this machine, measured once",
    )
    precision: Precision | None = Field(
        default=None,
        description="of the image tower; without it fp32. onnx: fp32 or int8; openvino: fp32 or bf16;"
        " torch: fp32, bf16 or fp16; auto chooses by itself",
    )
    bundle: str = Field(
        default="mekiki-line", min_length=1, description="not torch: a shipped bundle's name, or a folder"
    )
    name: str | None = Field(default=None, description="torch: as open_clip names it, such as ViT-B-32")
    checkpoint: str | None = Field(default=None, description="torch: weights file, safetensors or torch")
    pretrained: str | None = Field(default=None, description="torch: open_clip's tag, from the hub's cache")
    sha256: str | None = Field(
        default=None,
        pattern=r"^(sha256:)?[0-9a-f]{64}$",
        description="torch: of the weights file; else of the bundle's manifest.json; checked before loading",
    )
    device: Device = Field(default="auto", description="auto takes a CUDA card where there is one")
    threads: int | None = Field(default=None, ge=1, description="CPU threads; without it half of the cores")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.engine == "torch":
            self._require_checkpoint()
        else:
            for key in ("name", "checkpoint", "pretrained"):
                if getattr(self, key) is not None:
                    raise ValueError(
                        f"{key} is for engine: torch; engine: {self.engine} takes its model from bundle"
                    )
        if self.precision is None:
            precision: Precision = "fp32"
        elif self.engine == "auto":
            raise ValueError("engine: auto chooses the precision too: leave it out, or name an engine")
        else:
            precision = self.precision
            if precision not in PRECISIONS[self.engine]:
                able = [engine for engine, known in PRECISIONS.items() if precision in known]
                raise ValueError(
                    f"engine: {self.engine} computes in {' or '.join(PRECISIONS[self.engine])},"
                    f" not in {precision}; {' and '.join(able)} can"
                )
        if self.device == "cuda" and (self.engine == "openvino" or precision == "int8"):
            raise ValueError(
                f"engine: {self.engine}, precision: {precision} runs on the CPU: set device: auto or cpu"
            )
        if self.device == "cpu" and precision == "fp16":
            raise ValueError(FP16_NEEDS_CUDA)
        return self

    def _require_checkpoint(self) -> None:
        if self.bundle != type(self).model_fields["bundle"].default:
            raise ValueError("bundle is not for engine: torch, which takes checkpoint or pretrained")
        if self.name is None:
            raise ValueError("engine: torch needs name, such as ViT-B-32")
        if (self.checkpoint is None) == (self.pretrained is None):
            raise ValueError("engine: torch needs exactly one of checkpoint and pretrained")


def open_engine(settings: ModelSettings, folder: Path | None = None) -> Engine:
    """Open the model that the settings name, to inspect: files are verified, and what it answers is checked.

    Args:
        settings: which model, and what runs it.
        folder: where ``engine: auto`` keeps what it found out about this machine; None keeps nothing.

    Raises:
        AdapterError: a file is missing, altered or of another model, or the engine answers wrongly on this
            machine; the message names it and the remedy.
    """
    threads = settings.threads or default_threads()
    precision = settings.precision or "fp32"
    if settings.engine == "torch":
        return _open_torch(settings, threads, precision)

    from adapters.bundle import bundle_path
    from adapters.bundle_engine import BundleModel, Kind, open_kind

    model = BundleModel(bundle_path(settings.bundle), settings.sha256, settings.device, threads)
    if settings.engine == "auto":
        from adapters.engine_choice import chosen_engine

        return chosen_engine(model, folder)
    return open_kind(Kind(settings.engine, precision), model)[0]


def open_plain(settings: ModelSettings, threads: int | None = None) -> Engine:
    """Open the same model in fp32, a bundle on ONNX Runtime: to learn, or for its LayerNorms alone.

    Raises:
        AdapterError: a file is missing, altered or of another model; the message names it and the remedy.
    """
    threads = threads or settings.threads or default_threads()
    if settings.engine == "torch":
        from adapters.torch_engine import TorchEngine

        return TorchEngine(open_clip_model(settings), threads)
    from adapters.bundle import bundle_path, open_bundle

    folder = bundle_path(settings.bundle)
    return open_bundle(folder, sha256=settings.sha256, device=settings.device, threads=threads)


def _open_torch(settings: ModelSettings, threads: int, precision: Precision) -> Engine:
    from adapters.torch_engine import TorchEngine

    clip = open_clip_model(settings)
    if precision == "fp16" and clip.device.type != "cuda":
        raise ModelError(FP16_NEEDS_CUDA)
    engine = TorchEngine(clip, threads, precision)
    if precision != "fp32":
        from adapters.engine_check import check_lowered

        check_lowered(engine, TorchEngine(clip, threads), precision)
    return engine


def open_clip_model(settings: ModelSettings) -> Clip:
    """Load the checkpoint that settings with ``engine: torch`` name; one `Clip` serves one thread.

    Raises:
        AdapterError: a file is missing, altered or of another model; the message names it and the remedy.
    """
    from adapters.clip import load_clip

    return load_clip(
        settings.name or "",
        checkpoint=Path(settings.checkpoint) if settings.checkpoint else None,
        pretrained=settings.pretrained,
        sha256=settings.sha256,
        device=settings.device,
    )


def default_threads() -> int:
    """Half of the cores that this process may use, at least one: the rest is for cameras and the store."""
    # A systemd CPUAffinity= or a container's cpuset leaves fewer cores than cpu_count() knows.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // 2)
