"""What a device can do at best, measured by torch: matrix products in each precision, and copies of its memory.

The same for a card as `floor` is for a processor's thread, and it runs on any device of torch's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from adapters.core.protocol import Precision

DTYPES: dict[Precision, torch.dtype] = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}
TOGETHER = 10
"""Calls between two looks at the clock: a single one is shorter than its way to a card."""


@dataclass(frozen=True, slots=True)
class Roof:
    """One device.

    Attributes:
        tflops: of a square matrix product, by precision; a multiplication and addition are two.
        gbytes: read and written a second by a copy within the device's memory.
    """

    tflops: Mapping[Precision, float]
    gbytes: float

    def seconds(self, gflop: float, megabytes: float, precision: Precision) -> float:
        """Return the least time for so many operations and so much to be read."""
        return max(gflop / (1e3 * self.tflops[precision]), megabytes / (1e3 * self.gbytes))


def measure(device: torch.device, precisions: Sequence[Precision], side: int, copied_bytes: int) -> Roof:
    """Measure both, the best of several tries: nothing is faster than the roof.

    Args:
        device: of torch's.
        precisions: of the products.
        side: of the square matrices; large enough to fill the device.
        copied_bytes: far more than the device's caches hold.
    """
    tflops: dict[Precision, float] = {}
    for precision in precisions:
        left, right = (torch.randn(side, side, device=device).to(DTYPES[precision]) for _ in range(2))
        out = torch.empty_like(left)
        took_s = _best(lambda a=left, b=right, c=out: torch.mm(a, b, out=c), device)  # type: ignore[misc]
        tflops[precision] = 2 * side**3 / took_s / 1e12
    source = torch.ones(copied_bytes // 4, device=device)
    target = torch.empty_like(source)
    took_s = _best(lambda: target.copy_(source), device)
    return Roof(tflops, 2 * source.nbytes / took_s / 1e9)


def waiter(device: torch.device) -> Callable[[], None]:
    """Return what waits until a device has done all that it was asked for."""
    return torch.cuda.synchronize if device.type == "cuda" else lambda: None


def _best(call: Callable[[], object], device: torch.device, rounds: int = 9) -> float:
    """Return seconds of one call."""
    wait, times = waiter(device), []
    for _ in range(rounds):
        wait()
        began = time.perf_counter()
        for _ in range(TOGETHER):
            call()
        wait()
        times.append((time.perf_counter() - began) / TOGETHER)
    return min(times[1:])
