"""RDumb: learn from sure pictures that say something new, and begin again every thousand batches.

After Press, Schneider, Kümmerer and Bethge, "RDumb: A simple approach that questions our progress in
continual test-time adaptation", NeurIPS 2023, https://arxiv.org/abs/2306.05401; code:
https://github.com/oripress/CCC.

What it learns with is ETA: Niu, Wu, Zhang, Chen, Zheng, Zhao and Tan, "Efficient Test-Time Model Adaptation
without Forgetting", ICML 2022, https://arxiv.org/abs/2204.02610; code: https://github.com/mr-eggplant/EATA.

Where we differ from RDumb's code:

- The image tower's LayerNorms move; theirs are the BatchNorms of a ResNet-50, with the batch's statistics.
- A picture is sure below 0.4 ln C, as for ETA's authors; theirs is ln(1000) / 2 - 1, which is 0.355 ln C.
- A picture is redundant from a cosine of 0.4 on, ETA's value for 10 classes; theirs is 0.05, the one for 1000
  classes: set `redundant` for those. With few classes, most of them alike, nearly everything is redundant.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from adapters.core.norm_vector import NormVector
from adapters.learner.optimizer import Optimizer
from adapters.methods.method import Learned, StepResult, Texts, entropy, forward, parameter
from adapters.torch_model.clip import Clip
from adapters.torch_model.differentiable import Precision, named

PAPER = Optimizer("SGD", 2.5e-4)

EMA_KEEPS = 0.9


@dataclass(frozen=True, eq=False)
class Period:
    """What has been learned since the last reset.

    Attributes:
        learned: the adapter and its optimiser.
        probabilities: ``(C,)`` moving average over the pictures learned from; None before the first.
        steps: since the last reset.
        resets: so far.
    """

    learned: Learned
    probabilities: Tensor | None = None
    steps: int = 0
    resets: int = 0


@dataclass(frozen=True, slots=True)
class RDumb:
    """One update per batch.

    Attributes:
        reset_every: batches.
        margin: share of ln C that the entropy of a sure picture is below (E0).
        redundant: absolute cosine with the average probabilities from which on a picture says nothing new.
        optimizer: how LayerNorms move.
        precision: of the image tower.
    """

    reset_every: int = 1000
    margin: float = 0.4
    redundant: float = 0.4
    optimizer: Optimizer = PAPER
    precision: Precision = "fp32"

    def start(self, clip: Clip, texts: Texts) -> Period:
        """Return the model as it was trained."""
        return Period(Learned.start(clip, self.precision))

    def step(self, clip: Clip, state: Period, images: Tensor, texts: Texts) -> tuple[Period, StepResult]:
        """Reset if it is time, answer for ``(B, 3, S, S)`` pictures, then move the adapter once."""
        if state.steps == self.reset_every:
            state = Period(Learned.start(clip, self.precision), resets=state.resets + 1)
        norms = NormVector(clip.source, clip.norm_names("image"))
        vector = parameter(norms, state.learned.adapter, clip.device)
        outputs = forward(clip, named(norms, vector), images, texts.frozen, self.precision)

        limit = self.margin * math.log(len(texts.frozen))
        uncertainty = entropy(outputs.logits)  # (B,)
        probabilities = outputs.logits.detach().softmax(1)  # (B, C)
        sure = uncertainty < limit
        chosen = sure & self._new(probabilities, state.probabilities)
        reliable, learned_from = torch.stack([sure.sum(), chosen.sum()]).tolist()
        average = state.probabilities
        if learned_from:
            weights = (limit - uncertainty[chosen].detach()).exp()
            loss = (weights * uncertainty[chosen]).mean()
            learned, numbers = state.learned.descend(norms, vector, loss, self.optimizer)
            if not numbers["skipped"]:
                average = _moved(average, probabilities[chosen].mean(0))
        else:
            learned, numbers = state.learned.stay()
        seen = {"reliable": float(reliable), "chosen": float(learned_from), "resets": float(state.resets)}
        after = Period(learned, average, state.steps + 1, state.resets)
        return after, StepResult(outputs.logits.detach(), {**numbers, **seen})

    def _new(self, probabilities: Tensor, average: Tensor | None) -> Tensor:
        """Return ``(B,)`` whether a picture's classes are others than those learned from so far."""
        if average is None:
            return torch.ones(len(probabilities), dtype=torch.bool, device=probabilities.device)
        return F.cosine_similarity(average.unsqueeze(0), probabilities, dim=1).abs() < self.redundant


def _moved(average: Tensor | None, batch: Tensor) -> Tensor:
    return batch if average is None else EMA_KEEPS * average + (1 - EMA_KEEPS) * batch
