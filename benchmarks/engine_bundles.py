"""The engines that run here, on bundles with int8 made for the occasion: for the two benchmarks of engines."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import save_file

from adapters.build.bundle import build_bundle
from adapters.core.protocol import Engine, ModelError
from adapters.engines.bundle_model import KINDS, BundleModel, open_kind
from adapters.engines.torch_engine import TorchEngine
from adapters.torch_model.architecture import fresh_model
from adapters.torch_model.clip import Clip
from adapters.torch_model.loader import load_clip
from benchmarks.build_line_bundle import NAME, WEIGHTS

TORCH = "torch fp32"
"""What the others are held against."""


def line_clip() -> Clip:
    """Return `mekiki-line` from its checkpoint."""
    return load_clip(NAME, checkpoint=WEIGHTS, device="cpu")


def random_clip(name: str) -> Clip:
    """Return a model with random weights: what it answers means nothing, how long it takes does."""
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "weights.safetensors"
        save_file(fresh_model(name).state_dict(), file)
        return load_clip(name, checkpoint=file, device="cpu")


@contextmanager
def engines_of(clip: Clip, threads: int) -> Iterator[tuple[dict[str, Engine], Path]]:
    """Yield every engine that runs here by its name, torch first, and the bundle, which lives as long."""
    engines: dict[str, Engine] = {
        TORCH: TorchEngine(clip, threads),
        "torch bf16": TorchEngine(clip, threads, "bf16"),
    }
    with tempfile.TemporaryDirectory() as folder:
        built = build_bundle(clip, Path(folder) / clip.info.name, int8=True)
        for kind in KINDS:
            try:
                engines[str(kind)], _ = open_kind(kind, BundleModel(built.folder, None, "cpu", threads))
            except ModelError as error:
                print(f"{kind}: {error}", flush=True)
        yield engines, built.folder
