"""What it saves to encode prompts at the length they need: ``python -m benchmarks.prompt_length``.

ViT-B-32's text tower with random weights (time does not depend on them) on torch, and `mekiki-line` on ONNX
Runtime; six prompts, one thread, both lengths in turn in the same run; CPU time, so that a busy machine
counts less.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from safetensors.torch import save_file

from adapters.core.protocol import Engine, Tokens
from adapters.engines.factory import ModelSettings, open_engine
from adapters.engines.torch_engine import TorchEngine
from adapters.torch_model.loader import load_clip
from benchmarks.machine import describe, in_turn, in_words, table, write

PROMPTS = [
    f"a close-up photo of a metal housing with {defect}" for defect in ("a scratch", "a dent", "a stain")
]
PROMPTS += [
    f"a photo of {thing}" for thing in ("a flawless metal housing", "a chipped edge", "a missing hole")
]
ROUNDS = 9


def main() -> None:
    """Measure both towers and write ``results/prompt_length``."""
    engines = {"ViT-B-32, torch": _vit_b_32(), "mekiki-line, ONNX Runtime": _shipped()}
    figures: dict[str, Any] = {
        "machine": describe("torch", "open_clip_torch", "onnxruntime"),
        "prompts": len(PROMPTS),
    }
    rows = []
    for name, engine in engines.items():
        short = engine.tokenize(PROMPTS)
        full = np.zeros((len(short), engine.info.context_length), np.int64)
        full[:, : short.shape[1]] = short
        lengths = {
            "short": lambda e=engine, t=short: _encode(e, t),
            "full": lambda e=engine, t=full: _encode(e, t),
        }
        times = [float(np.median(of_length)) for of_length in in_turn(lengths, ROUNDS).values()]
        difference = float(np.abs(_encode(engine, short) - _encode(engine, full)).max())
        figures[name] = {
            "tokens": short.shape[1],
            "context": full.shape[1],
            "cpu_ms": [round(1e3 * t, 1) for t in times],
            "saved_factor": round(times[1] / times[0], 2),
            "largest_difference": difference,
        }
        row = [name, f"{short.shape[1]} of {full.shape[1]}", f"{1e3 * times[0]:.1f}", f"{1e3 * times[1]:.1f}"]
        rows.append([*row, f"{times[1] / times[0]:.1f}", f"{difference:.1e}"])
    machine = in_words(figures["machine"])
    heads = [
        "text tower",
        "tokens",
        "CPU ms, needed length",
        "CPU ms, whole context",
        "factor",
        "largest difference",
    ]
    write(
        "prompt_length",
        figures,
        "# Prompts at the length they need\n\nWritten by `python -m benchmarks.prompt_length`."
        f" {len(PROMPTS)} prompts, one thread, median of {ROUNDS} in turn. Machine: {machine}.\n\n"
        + table(heads, rows),
    )


def _encode(engine: Engine, tokens: Tokens) -> Any:
    return engine.encode_text(tokens, engine.source)


def _vit_b_32() -> Engine:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "vit-b-32.safetensors"
        torch.manual_seed(0)
        save_file(open_clip.create_model("ViT-B-32").state_dict(), file)
        return TorchEngine(load_clip("ViT-B-32", checkpoint=file, device="cpu"), threads=1)


def _shipped() -> Engine:
    return open_engine(ModelSettings(threads=1))


if __name__ == "__main__":
    main()
