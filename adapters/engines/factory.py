"""From the `model` section of config.yaml to an engine that runs.

Imports neither torch nor ONNX Runtime before a model is opened.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from adapters.core.protocol import GET_AGAIN, NO_INT8, Engine, ModelError, Precision
from adapters.encoders.installed_runtimes import runtime_problem

if TYPE_CHECKING:
    from adapters.torch_model.clip import Clip

Device = Literal["auto", "cpu", "cuda"]

PRECISIONS: dict[str, tuple[Precision, ...]] = {
    "onnx": ("fp32", "int8"),
    "openvino": ("fp32", "bf16"),
    "torch": ("fp32", "bf16", "fp16"),
}
"""What each engine can compute in, its default first."""

_EXTRAS = {
    "torch": ("mekiki[torch]", ", or set another model.engine"),
    "open_clip": ("mekiki[torch]", ", or set another model.engine"),
    "openvino": ("mekiki[openvino]", ", or set engine: onnx"),
}
"""What brings a package, and what else can be done."""

FP16_NEEDS_CUDA = "precision: fp16 needs a CUDA card: a CPU takes ten times as long for it as for fp32"


class ModelSettings(BaseModel):
    """Which model looks at the parts, and what runs it."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    engine: Literal["auto", "onnx", "openvino", "torch"] = Field(
        default="onnx",
        description="onnx and openvino run a bundle, torch a checkpoint; auto takes what runs a bundle"
        " fastest on this machine, measured once, in the precision of the commissioned stations",
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
    threads: int | None = Field(
        default=None, ge=1, le=1024, description="CPU threads; without it half of the cores"
    )

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


def open_engine(
    settings: ModelSettings, folder: Path | None = None, stay_in: Precision | None = None
) -> Engine:
    """Open the model that the settings name, to inspect: files are verified, and what it answers is checked.

    Args:
        settings: which model, and what runs it.
        folder: where ``engine: auto`` keeps what it found out about this machine; None keeps nothing.
        stay_in: the precision that ``engine: auto`` is to choose an engine of, where one works in it.

    Raises:
        AdapterError: a file is missing, altered or of another model, or the engine answers wrongly on this
            machine; the message names it and the remedy.
    """
    require_possible(settings)
    threads = settings.threads or default_threads()
    precision = settings.precision or "fp32"
    if settings.engine == "torch":
        return _open_torch(settings, threads, precision)

    from adapters.bundle.reader import bundle_path
    from adapters.engines.bundle_model import BundleModel, Kind, open_kind

    model = BundleModel(bundle_path(settings.bundle), settings.sha256, settings.device, threads)
    if settings.engine == "auto":
        from adapters.engines.auto_select import chosen_engine

        return chosen_engine(model, folder, stay_in)
    return open_kind(Kind(settings.engine, precision), model)[0]


def require_possible(settings: ModelSettings) -> None:
    """Make sure of all that can be seen without opening the model; takes milliseconds, and no memory.

    Raises:
        ModelError: it cannot be opened here; the message names what is missing, and the remedy.
    """
    if settings.engine == "torch":
        _require_installed("torch", "open_clip")
        if settings.checkpoint is not None and not Path(settings.checkpoint).is_file():
            raise ModelError(f"{settings.checkpoint}: no such file: set model.checkpoint to the weights")
        return
    from adapters.bundle.manifest import read_manifest
    from adapters.bundle.reader import IMAGE, bundle_path, graph

    folder = bundle_path(settings.bundle)
    manifest, _ = read_manifest(folder, settings.sha256)
    missing = next((name for name in manifest.files if not (folder / name).is_file()), None)
    if missing is not None:
        raise ModelError(f"{folder / missing}: missing: {GET_AGAIN}")
    if settings.precision == "int8" and graph(IMAGE, "int8") not in manifest.files:
        raise ModelError(NO_INT8.format(folder, graph(IMAGE, "int8")))
    if settings.engine == "openvino":
        _require_installed("openvino")
    elif settings.engine == "onnx" and find_spec("onnxruntime") is None:
        raise ModelError(runtime_problem() or "onnxruntime is not installed here: pip install 'mekiki[cpu]'")
    elif settings.device == "cuda":
        from adapters.encoders.onnx_session import require_cuda

        require_cuda()


def _require_installed(*packages: str) -> None:
    for package in packages:
        if find_spec(package) is None:
            extra, instead = _EXTRAS[package]
            raise ModelError(f"{package} is not installed here: pip install '{extra}'{instead}")


def open_plain(settings: ModelSettings, threads: int | None = None) -> Engine:
    """Open the same model in fp32, a bundle on ONNX Runtime: to learn, or for its LayerNorms alone.

    Raises:
        AdapterError: a file is missing, altered or of another model; the message names it and the remedy.
    """
    threads = threads or settings.threads or default_threads()
    if settings.engine == "torch":
        from adapters.engines.torch_engine import TorchEngine

        return TorchEngine(open_clip_model(settings), threads)
    from adapters.bundle.reader import bundle_path
    from adapters.engines.open_bundle import open_bundle

    folder = bundle_path(settings.bundle)
    return open_bundle(folder, sha256=settings.sha256, device=settings.device, threads=threads)


def _open_torch(settings: ModelSettings, threads: int, precision: Precision) -> Engine:
    from adapters.engines.self_check import check_finite, check_mixed_precision
    from adapters.engines.torch_engine import TorchEngine

    clip = open_clip_model(settings)
    if precision == "fp16" and clip.device.type != "cuda":
        raise ModelError(FP16_NEEDS_CUDA)
    engine = TorchEngine(clip, threads, precision)
    check_finite(engine)
    if precision != "fp32":
        check_mixed_precision(engine, TorchEngine(clip, threads), precision)
    return engine


def open_clip_model(settings: ModelSettings) -> Clip:
    """Load the checkpoint that settings with ``engine: torch`` name; one `Clip` serves one thread.

    Raises:
        AdapterError: a file is missing, altered or of another model; the message names it and the remedy.
    """
    from adapters.torch_model.loader import load_clip

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
