"""TDA: nothing is trained; a cache of sure pictures speaks for their classes, one of unsure ones against.

After Karmanov, Guan, Lu, El Saddik and Xing, "Efficient Test-Time Adaptation of Vision-Language Models",
CVPR 2024, https://arxiv.org/abs/2403.18293; code: https://github.com/kdiAAA/TDA.

One picture after another, in the order of the batch, is offered to the caches and then answered with them. So
the answer's logits are the adapted ones, unlike those of methods that learn. Settings are those for ImageNet.

Where we differ from the code: cosines are multiplied by the model's own scale, not by 100; numbers are fp32,
not fp16; a picture is one view, where theirs averages the surest of 64 for the variants of ImageNet.

Kept as it is: entropy in nats is divided by log2 C, so that of an even guess is 0.69 and not 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from adapters.core.protocol import Floats
from adapters.methods.method import StepResult, Texts, entropy, forward
from adapters.torch_model.clip import Clip
from adapters.torch_model.differentiable import Precision
from benchmarks.rivals.cache import Cache


@dataclass(frozen=True, eq=False)
class Caches:
    """What TDA remembers; nobody changes it any more."""

    positive: Cache
    negative: Cache

    def __post_init__(self) -> None:
        self.positive.seal()
        self.negative.seal()


@dataclass(frozen=True, slots=True)
class Use:
    """How a cache is used.

    Attributes:
        capacity: pictures per class.
        alpha: weight of what it says.
        beta: sharpness; the larger, the fewer pictures count.
    """

    capacity: int
    alpha: float
    beta: float


@dataclass(frozen=True, slots=True)
class Tda:
    """Training-free.

    Attributes:
        positive: cache of sure pictures.
        negative: cache of unsure pictures.
        unsure: entropy / log2 C of pictures for the negative cache, strictly between these.
        possible: probability of classes that an unsure picture speaks against, strictly between these.
        precision: of the image tower.
    """

    positive: Use = Use(3, 2.0, 5.0)
    negative: Use = Use(2, 0.117, 1.0)
    unsure: tuple[float, float] = (0.2, 0.5)
    possible: tuple[float, float] = (0.03, 1.0)
    precision: Precision = "fp32"

    def start(self, clip: Clip, texts: Texts) -> Caches:
        """Return empty caches."""
        count, width = texts.frozen.shape
        return Caches(
            Cache.empty(count, self.positive.capacity, width),
            Cache.empty(count, self.negative.capacity, width),
        )

    @torch.no_grad()
    def step(self, clip: Clip, state: Caches, images: Tensor, texts: Texts) -> tuple[Caches, StepResult]:
        """Take ``(B, 3, S, S)`` pictures in one after another, and answer each with the caches it finds."""
        outputs = forward(clip, {}, images, texts.frozen, self.precision)
        after, logits = self.answer(state, outputs.logits, F.normalize(outputs.features, dim=1))
        sizes = {"positive": float(len(after.positive)), "negative": float(len(after.negative))}
        return after, StepResult(torch.from_numpy(logits).to(clip.device), sizes)

    def answer(self, state: Caches, logits: Tensor, features: Tensor) -> tuple[Caches, Floats]:
        """Do the same for ``(B, C)`` zero-shot logits and ``(B, D)`` unit-length features.

        On the CPU and in NumPy: a picture's work is too small for a GPU's or torch's cost per call.
        """
        positive, negative = state.positive.copy(), state.negative.copy()
        entropies, chances = entropy(logits).cpu().numpy(), logits.softmax(1).cpu().numpy()  # (B,), (B, C)
        rows, adapted = features.cpu().numpy(), logits.cpu().numpy().copy()
        least, most = (share * math.log2(logits.shape[1]) for share in self.unsure)
        alone = np.eye(logits.shape[1], dtype=np.float32)
        for number, (feature, uncertainty) in enumerate(zip(rows, entropies, strict=True)):
            label = int(adapted[number].argmax())
            positive.offer(label, feature, uncertainty, alone[label])
            if least < uncertainty < most:
                low, high = self.possible
                possible = (low < chances[number]) & (chances[number] < high)
                negative.offer(label, feature, uncertainty, possible.astype(np.float32))
            adapted[number] += self.positive.alpha * positive.evidence(feature, self.positive.beta)
            adapted[number] -= self.negative.alpha * negative.evidence(feature, self.negative.beta)
        return Caches(positive, negative), adapted
