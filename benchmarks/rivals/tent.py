"""TENT: the image tower's norms move so that the model becomes surer of what it says.

After Wang, Shelhamer, Liu, Olshausen and Darrell, "Tent: Fully Test-Time Adaptation by Entropy Minimization",
ICLR 2021, https://arxiv.org/abs/2006.10726; code: https://github.com/DequanWang/tent.

Where we differ: their networks have BatchNorms, whose statistics they also take from the batch; CLIP has
LayerNorms, which have none, so only gains and biases move. Which ones, and how, is what BATCLIP's authors
compare with (their ``cfgs/cifar10_c/tent.yaml``): the image tower's, with Adam; the texts stay as trained.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from adapters.core.norm_vector import NormVector
from adapters.learner.optimizer import Optimizer
from adapters.methods.method import Learned, StepResult, Texts, entropy, forward, parameter
from adapters.torch_model.clip import Clip
from adapters.torch_model.differentiable import Precision, named

PAPER = Optimizer("Adam", 1e-3)


@dataclass(frozen=True, slots=True)
class Tent:
    """One update per batch.

    Attributes:
        optimizer: how LayerNorms move.
        precision: of the image tower.
    """

    optimizer: Optimizer = PAPER
    precision: Precision = "fp32"

    def start(self, clip: Clip, texts: Texts) -> Learned:
        """Return the model as it was trained."""
        return Learned.start(clip, self.precision)

    def step(self, clip: Clip, state: Learned, images: Tensor, texts: Texts) -> tuple[Learned, StepResult]:
        """Answer for ``(B, 3, S, S)`` pictures with the state's adapter, then move it once."""
        norms = NormVector(clip.source, clip.norm_names("image"))
        vector = parameter(norms, state.adapter, clip.device)
        outputs = forward(clip, named(norms, vector), images, texts.frozen, self.precision)
        loss = entropy(outputs.logits).mean()
        learned, numbers = state.descend(norms, vector, loss, self.optimizer)
        return learned, StepResult(outputs.logits.detach(), numbers)
