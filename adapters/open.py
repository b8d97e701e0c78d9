"""From the `model` section of config.yaml to an engine that runs.

Imports neither torch nor ONNX Runtime before a model is opened.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from adapters.engine import Engine

if TYPE_CHECKING:
    from adapters.clip import Clip

Device = Literal["auto", "cpu", "cuda"]


class ModelSettings(BaseModel):
    """Which model looks at the parts, and what runs it."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    engine: Literal["onnx", "torch"] = Field(
        default="onnx", description="onnx runs a bundle, torch a checkpoint"
    )
    bundle: str = Field(
        default="mekiki-line", min_length=1, description="onnx: a shipped bundle's name, or a folder"
    )
    name: str | None = Field(default=None, description="torch: as open_clip names it, such as ViT-B-32")
    checkpoint: str | None = Field(default=None, description="torch: weights file, safetensors or torch")
    pretrained: str | None = Field(default=None, description="torch: open_clip's tag, from the hub's cache")
    sha256: str | None = Field(
        default=None,
        pattern=r"^(sha256:)?[0-9a-f]{64}$",
        description="torch: of the weights file; onnx: of the bundle's manifest.json; checked before loading",
    )
    device: Device = Field(default="auto", description="auto takes a CUDA card where there is one")
    threads: int | None = Field(default=None, ge=1, description="CPU threads; without it half of the cores")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.engine == "onnx":
            for key in ("name", "checkpoint", "pretrained"):
                if getattr(self, key) is not None:
                    raise ValueError(f"{key} is for engine: torch; engine: onnx takes its model from bundle")
            return self
        if self.bundle != type(self).model_fields["bundle"].default:
            raise ValueError("bundle is for engine: onnx; engine: torch takes checkpoint or pretrained")
        if self.name is None:
            raise ValueError("engine: torch needs name, such as ViT-B-32")
        if (self.checkpoint is None) == (self.pretrained is None):
            raise ValueError("engine: torch needs exactly one of checkpoint and pretrained")
        return self


def open_engine(settings: ModelSettings) -> Engine:
    """Open the model that the settings name; every file is verified before it is used.

    Raises:
        AdapterError: a file is missing, altered or of another model; the message names it and the remedy.
    """
    threads = settings.threads or default_threads()
    if settings.engine == "onnx":
        from adapters.bundle import bundle_path, open_bundle

        return open_bundle(
            bundle_path(settings.bundle), sha256=settings.sha256, device=settings.device, threads=threads
        )

    from adapters.torch_engine import TorchEngine

    return TorchEngine(open_clip_model(settings), threads=threads)


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
