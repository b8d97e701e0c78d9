"""No adaptation: the model as it was trained, the yardstick of every method that learns.

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021,
https://arxiv.org/abs/2103.00020.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from adapters.methods.method import StepResult, Texts, forward
from adapters.torch_model.clip import Clip
from adapters.torch_model.differentiable import Precision


@dataclass(frozen=True, slots=True)
class Frozen:
    """Zero-shot CLIP. There is no state: it is None.

    Attributes:
        precision: of the image tower.
    """

    precision: Precision = "fp32"

    def start(self, clip: Clip, texts: Texts) -> None:
        """Return nothing: there is nothing to remember."""
        return

    @torch.no_grad()
    def step(self, clip: Clip, state: None, images: Tensor, texts: Texts) -> tuple[None, StepResult]:
        """Answer for ``(B, 3, S, S)`` pictures."""
        return None, StepResult(forward(clip, {}, images, texts.frozen, self.precision).logits, {})
