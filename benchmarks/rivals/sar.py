"""SAR: the model becomes surer of what it is sure of, flatly; when it is sure of everything, it begins again.

After Niu, Wu, Zhang, Wen, Chen, Zhao and Tan, "Towards Stable Test-Time Adaptation in Dynamic Wild World",
ICLR 2023, https://arxiv.org/abs/2302.12400; code: https://github.com/mr-eggplant/SAR.

Where we differ from the code:

- Recovery forgets the moving average too. Theirs clears it and then writes the old value back, so that the
  model is reset at every batch until the average has climbed over the limit (mr-eggplant/SAR#4).
- The limit of recovery is a share of ln C. Theirs is 0.2 for any number of classes, which is 0.029 ln C for
  ImageNet, where it comes from; with two classes it would be 0.29 ln C.
- A batch without a sure picture changes nothing. There, their loss is NaN and its gradient zero, so that the
  momentum of earlier batches moves the weights on.
- The blocks left out are the top quarter of any tower; theirs are 9, 10 and 11, of a ViT-B. So is every norm
  behind the blocks; theirs is the one that timm calls ``norm``, and open_clip's own ``ln_post`` moves.
- The learning rate is theirs for a ViT and batches of 64, whatever the batch; theirs is proportional to it.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import torch
from torch import Tensor

from adapters.core.norm_vector import NormVector
from adapters.learner.optimizer import Optimizer
from adapters.methods.method import Learned, StepResult, Texts, entropy, forward, parameter
from adapters.torch_model.clip import Clip
from adapters.torch_model.differentiable import Precision, named

PAPER = Optimizer("SGD", 1e-3)

EMA_KEEPS = 0.9

_BLOCK = re.compile(r"visual\.(?:transformer\.resblocks|trunk\.blocks)\.(\d+)\.")
"""How open_clip and timm number a tower's blocks; not those of a stage (ConvNeXt), which start again at 0."""


@dataclass(frozen=True, eq=False)
class Watched:
    """What is learned, and how sure the model has become.

    Attributes:
        learned: the adapter and its optimiser.
        ema: moving average of the loss at the worst point; None before the first step and after a recovery.
        resets: recoveries so far.
    """

    learned: Learned
    ema: float | None = None
    resets: int = 0


@dataclass(frozen=True, slots=True)
class Sar:
    """One update per batch, two passes each.

    Attributes:
        margin: share of ln C that the entropy of a sure picture is below.
        radius: how far the worst point is, in the length of the LayerNorm vector (rho).
        collapsed: share of ln C that the moving average of the loss must not fall below.
        optimizer: how LayerNorms move.
        precision: of the image tower.
    """

    margin: float = 0.4
    radius: float = 0.05
    collapsed: float = 0.029
    optimizer: Optimizer = PAPER
    precision: Precision = "fp32"

    def start(self, clip: Clip, texts: Texts) -> Watched:
        """Return the model as it was trained."""
        return Watched(Learned.start(clip, self.precision))

    def step(self, clip: Clip, state: Watched, images: Tensor, texts: Texts) -> tuple[Watched, StepResult]:
        """Answer for ``(B, 3, S, S)`` pictures with the state's adapter, then move it once, or recover."""
        norms = NormVector(clip.source, lower_norms(clip))
        vector = parameter(norms, state.learned.adapter, clip.device)
        limit = self.margin * math.log(len(texts.frozen))

        outputs = forward(clip, named(norms, vector), images, texts.frozen, self.precision)
        uncertainty = entropy(outputs.logits)  # (B,)
        sure = uncertainty < limit
        if sure.any():
            scale = state.learned.loss_scale
            (gradient,) = torch.autograd.grad(uncertainty[sure].mean() * scale, vector)
            climb = self.radius * gradient / (gradient.norm() + 1e-12 * scale)
            # `climb` is a constant: the gradient at the worst point moves the vector from where it was.
            worst = forward(clip, named(norms, vector + climb), images, texts.frozen, self.precision)
            uncertainty = entropy(worst.logits)
            # Not "< limit": NaN stays in, and `descend` then takes no step and lowers the loss scale of fp16.
            sure = sure & ~(uncertainty >= limit)
        reliable = float(sure.sum())
        if reliable:
            learned, numbers = state.learned.descend(norms, vector, uncertainty[sure].mean(), self.optimizer)
        else:
            learned, numbers = state.learned.stay()

        ema = state.ema
        if not numbers["skipped"]:
            ema = numbers["loss"] if ema is None else EMA_KEEPS * ema + (1 - EMA_KEEPS) * numbers["loss"]
        after = Watched(learned, ema, state.resets)
        if ema is not None and ema < self.collapsed * math.log(len(texts.frozen)):
            after = Watched(Learned.start(clip, self.precision), resets=state.resets + 1)
        seen = {"reliable": reliable, "ema": math.nan if ema is None else ema, "resets": float(after.resets)}
        return after, StepResult(outputs.logits.detach(), {**numbers, **seen})


def lower_norms(clip: Clip) -> list[str]:
    """Return the image tower's norms below the top quarter of its blocks; without any, all but the last."""
    adaptable = set(clip.norm_names("image"))
    # A model names its parameters in the order in which pictures pass them, an adapter in the alphabet's.
    names = [name for name, _ in clip.model.named_parameters() if name in adaptable]
    blocks = {name: int(match[1]) for name in names if (match := _BLOCK.match(name))}
    if not blocks:
        last = names[-1].rpartition(".")[0]
        return [name for name in names if name.rpartition(".")[0] != last]
    top = max(1, 3 * (max(blocks.values()) + 1) // 4)
    end = max(names.index(name) for name, block in blocks.items() if block < top)
    return names[: end + 1]
