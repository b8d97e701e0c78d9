"""Two forms of differential attention: ``python -m benchmarks.diff_attention [--device cuda]``.

Fused is two calls of scaled-dot-product attention and a subtraction, explicit computes both maps and subtracts
them before it multiplies the values once. One layer of ViT-B/16's image tower and of its text tower, random
weights (time does not depend on them), in turn in the same run. Forward without gradients is what inspecting
costs; forward and backward ask for the gradient by the layer's input, as adapting LayerNorms does.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from timm.layers import DiffAttention
from torch import Tensor

from benchmarks.machine import describe, in_turn, in_words, table, write


@dataclass(frozen=True)
class Shape:
    """What enters a layer, and its heads in pairs."""

    name: str
    batch: int
    tokens: int
    width: int
    pairs: int
    causal: bool


SHAPES = (
    Shape("image, 197 tokens", 8, 197, 768, 6, causal=False),
    Shape("text, 77 tokens", 8, 77, 512, 4, causal=True),
    Shape("text, 14 tokens", 8, 14, 512, 4, causal=True),
)
FORMS = {"fused": True, "explicit": False}


def main() -> None:
    """Measure all shapes and write ``results/diff_attention``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--rounds", type=int, default=41)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    device = torch.device(arguments.device)
    chip = torch.cuda.get_device_name() if device.type == "cuda" else "CPU, one thread"
    figures: dict[str, Any] = {
        "machine": describe("torch", "timm"),
        "device": chip,
        "rounds": arguments.rounds,
    }
    rows = []
    for shape in SHAPES:
        figures[shape.name] = found = _measure(shape, device, arguments.rounds)
        for work in ("forward", "forward and backward"):
            fused, explicit = found[work]["fused_ms"], found[work]["explicit_ms"]
            gain = f"{explicit / fused:.2f}"
            rows.append(
                [
                    shape.name,
                    work,
                    f"{fused:.2f}",
                    f"{explicit:.2f}",
                    gain,
                    f"{found['largest_difference']:.1e}",
                ]
            )
    machine = in_words(figures["machine"])
    heads = ["layer", "work", "fused, ms", "explicit, ms", "explicit / fused", "largest difference"]
    name = "diff_attention" if device.type == "cpu" else f"diff_attention_{device.type}"
    write(
        name,
        figures,
        "# Differential attention, fused and explicit\n\nWritten by `python -m benchmarks.diff_attention`."
        f" One layer, batch {SHAPES[0].batch}, fp32, {chip}, median of {arguments.rounds} in turn; the difference is"
        f" relative to the largest output. Machine: {machine}.\n\n" + table(heads, rows),
    )


def _measure(shape: Shape, device: torch.device, rounds: int) -> dict[str, Any]:
    torch.manual_seed(0)
    layer = DiffAttention(shape.width, num_heads=shape.pairs, qkv_bias=True).to(device).eval()
    x = torch.randn(shape.batch, shape.tokens, shape.width, device=device)
    mask = None
    if shape.causal:
        mask = torch.full((shape.tokens, shape.tokens), -torch.inf, device=device).triu(1)

    def attend(fused: bool, inputs: Tensor) -> Tensor:
        layer.fused_attn = fused
        answer: Tensor = layer(inputs, attn_mask=mask)
        return answer

    def forward(fused: bool) -> None:
        with torch.inference_mode():
            attend(fused, x)

    def both(fused: bool) -> None:
        inputs = x.clone().requires_grad_()
        torch.autograd.grad(attend(fused, inputs).sum(), inputs)

    with torch.inference_mode():
        expected = attend(fused=False, inputs=x)
        difference = float((attend(fused=True, inputs=x) - expected).abs().max() / expected.abs().max())
    return {
        "forward": _median_ms(forward, device, rounds),
        "forward and backward": _median_ms(both, device, rounds),
        "largest_difference": difference,
    }


def _median_ms(work: Callable[[bool], None], device: torch.device, rounds: int) -> dict[str, float]:
    ways = {form: partial(work, fused) for form, fused in FORMS.items()}
    times = in_turn(ways, rounds, torch.cuda.synchronize if device.type == "cuda" else None)
    return {f"{form}_ms": round(1e3 * float(np.median(kept)), 3) for form, kept in times.items()}


if __name__ == "__main__":
    main()
