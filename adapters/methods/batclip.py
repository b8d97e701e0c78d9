"""BATCLIP: both encoders adapt online, without labels, so that images and their class texts agree again.

After Maharana, Zhang, Karlinsky, Feris and Guo, "BATCLIP: Bimodal Online Test-Time Adaptation for CLIP",
ICCV 2025, https://arxiv.org/abs/2412.02837. LayerNorm gains and biases of both towers move; nothing else.

Two modes:

``exact`` is the paper and its code: entropy - matching - separation, where matching takes the class means of
image features as they are, and separation is the *sum* over all ordered pairs of classes that occur.

``line`` is for 2 to 10 classes: there the sum makes separation 0.24 times as strong as matching with 2
classes and 7.6 times with 10, and matching grows with the length of the features without any change of an
answer. So separation is the *mean* over pairs times a weight, and matching is a cosine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from adapters.core.norm_vector import NormVector
from adapters.learner.optimizer import Optimizer
from adapters.methods.method import Learned, Outputs, StepResult, Texts, entropy, forward, parameter
from adapters.torch_model.clip import Clip
from adapters.torch_model.differentiable import Precision, named

PAPER = Optimizer("AdamW", 1e-3, weight_decay=0.01)
"""What the paper takes for ViT-B on CIFAR-10-C; Adam 5e-4 on CIFAR-100-C, AdamW 5e-4 on ImageNet-C."""


@dataclass(frozen=True, slots=True)
class Batclip:
    """One update per batch.

    Attributes:
        mode: see the module.
        separation_weight: of ``line``; 10 is about what the sum over pairs amounts to with four classes.
        optimizer: how LayerNorms move.
        precision: of the encoders.
    """

    mode: Literal["exact", "line"] = "exact"
    separation_weight: float = 10.0
    optimizer: Optimizer = PAPER
    precision: Precision = "fp32"

    def start(self, clip: Clip, texts: Texts) -> Learned:
        """Return the model as it was trained."""
        return Learned.start(clip, self.precision)

    def step(self, clip: Clip, state: Learned, images: Tensor, texts: Texts) -> tuple[Learned, StepResult]:
        """Answer for ``(B, 3, S, S)`` pictures with the state's adapter, then move it once."""
        norms = NormVector(clip.source, tuple(clip.source.tensors))
        vector = parameter(norms, state.adapter, clip.device)
        outputs = forward(clip, named(norms, vector), images, texts, self.precision)
        terms = self.terms(outputs)
        learned, numbers = state.descend(norms, vector, terms.loss, self.optimizer)
        values = torch.stack([terms.entropy, terms.matching, terms.separation, terms.classes]).tolist()
        names = ("entropy", "matching", "separation", "classes")
        return learned, StepResult(
            outputs.logits.detach(), {**numbers, **dict(zip(names, values, strict=True))}
        )

    def terms(self, outputs: Outputs) -> Terms:
        """Return the loss and what it consists of."""
        prototypes = Prototypes.of(outputs.logits, outputs.features)
        uncertainty = entropy(outputs.logits).mean()
        if self.mode == "exact":
            matching = prototypes.matching(outputs.texts)
            separation = prototypes.separation()
            loss = uncertainty - matching - separation
        else:
            matching = prototypes.matching_cosine(outputs.texts)
            separation = prototypes.separation() / prototypes.pairs.sum().clamp(min=1)
            loss = uncertainty - matching - self.separation_weight * separation
        return Terms(uncertainty, matching, separation, loss, prototypes.present.sum())


@dataclass(frozen=True, slots=True)
class Terms:
    """Scalars of one batch, as tensors.

    Attributes:
        entropy: mean over pictures, to minimise.
        matching: of images to the text of their class, to maximise.
        separation: of classes from each other, to maximise; 0 when only one occurs.
        loss: what is differentiated.
        classes: how many occur among the predicted ones.
    """

    entropy: Tensor
    matching: Tensor
    separation: Tensor
    loss: Tensor
    classes: Tensor


@dataclass(frozen=True, slots=True)
class Prototypes:
    """Mean image feature of each predicted class; no step of it waits for the device.

    Attributes:
        means: ``(C, D)``, zero where the class does not occur.
        present: ``(C,)`` 1 where it occurs.
    """

    means: Tensor
    present: Tensor

    @classmethod
    def of(cls, logits: Tensor, features: Tensor) -> Prototypes:
        """Average ``(B, D)`` features by the class that ``(B, C)`` logits predict."""
        labels = F.one_hot(logits.argmax(1), logits.shape[1]).T.to(features.dtype)  # (C, B)
        counts = labels.sum(1)  # (C,)
        means = labels @ features / counts.clamp(min=1).unsqueeze(1)
        return cls(means, (counts > 0).to(features.dtype))

    @property
    def pairs(self) -> Tensor:
        """``(C, C)`` 1 for two different classes that both occur."""
        both = self.present.unsqueeze(0) * self.present.unsqueeze(1)
        return both - torch.diag(self.present)

    def matching(self, texts: Tensor) -> Tensor:
        """Return the mean over classes of their mean feature's projection on ``(C, D)`` unit-length texts."""
        return (self.means * texts).sum() / self.present.sum()

    def matching_cosine(self, texts: Tensor) -> Tensor:
        """Return the mean over classes of the cosine between prototype and text."""
        return (F.normalize(self.means, dim=1) * texts).sum() / self.present.sum()

    def separation(self) -> Tensor:
        """Return the sum over ordered pairs of one minus the cosine of their prototypes."""
        unit = F.normalize(self.means, dim=1)  # (C, D)
        return ((1 - unit @ unit.T) * self.pairs).sum()
