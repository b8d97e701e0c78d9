"""Optimisers as pure functions on one vector, step for step as torch's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from adapters.core.protocol import Floats

BETA_2 = 0.999
EPSILON = 1e-8


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """What an optimiser remembers.

    Attributes:
        steps: taken so far.
        first: ``(P,)`` mean of gradients; of SGD their decaying sum.
        second: ``(P,)`` mean of their squares; of SGD empty.
    """

    steps: int
    first: Floats
    second: Floats


@dataclass(frozen=True, slots=True)
class Optimizer:
    """How LayerNorms move down a gradient.

    Attributes:
        kind: which one: Kingma and Ba, "Adam", ICLR 2015, https://arxiv.org/abs/1412.6980; Loshchilov and
            Hutter, "Decoupled Weight Decay Regularization", ICLR 2019, https://arxiv.org/abs/1711.05101.
        rate: learning rate.
        momentum: of SGD; for Adam and AdamW the first beta, the second is 0.999.
        weight_decay: towards zero.
    """

    kind: Literal["AdamW", "Adam", "SGD"]
    rate: float
    momentum: float = 0.9
    weight_decay: float = 0.0

    def descend(self, vector: Floats, gradient: Floats, memory: Moments | None) -> tuple[Floats, Moments]:
        """Return the ``(P,)`` vector one step further and what is remembered; no argument changes."""
        if self.kind == "AdamW":
            vector = vector * np.float32(1 - self.rate * self.weight_decay)
        elif self.weight_decay:
            gradient = gradient + np.float32(self.weight_decay) * vector
        if self.kind == "SGD":
            first = gradient if memory is None else np.float32(self.momentum) * memory.first + gradient
            steps = 1 if memory is None else memory.steps + 1
            return vector - np.float32(self.rate) * first, Moments(steps, first, np.zeros(0, np.float32))
        before = memory or Moments(0, np.zeros_like(vector), np.zeros_like(vector))
        steps = before.steps + 1
        first = before.first + np.float32(1 - self.momentum) * (gradient - before.first)
        second = np.float32(BETA_2) * before.second + np.float32(1 - BETA_2) * (gradient * gradient)
        spread = np.sqrt(second) / np.float32(np.sqrt(1 - BETA_2**steps)) + np.float32(EPSILON)
        step = np.float32(self.rate / (1 - self.momentum**steps))
        moved = np.asarray(vector - step * (first / spread), np.float32)
        return moved, Moments(steps, first, second)
