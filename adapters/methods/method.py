"""What methods that adapt without labels share: texts, a differentiable forward pass, an optimiser, state.

A method is a value; its `step` is a pure function of the model, the state, the pictures and the texts. To
reset is to begin again with `start`. While a step runs, torch lends the model other LayerNorms: one thread at
a time may use a `Clip`, so a learner beside an engine needs one of its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from adapters.core.adapter import Adapter
from adapters.core.norm_vector import NormVector
from adapters.core.prompts import Prompts
from adapters.learner.optimizer import Moments, Optimizer
from adapters.torch_model.clip import Clip
from adapters.torch_model.differentiable import Precision, encode

FIRST_LOSS_SCALE = 1024.0
GROWTH_STEPS = 2000


@dataclass(frozen=True, eq=False)
class Texts:
    """The words of all classes, tokenised.

    Attributes:
        tokens: ``(N, L)`` every phrase in every template.
        classes: ``(N,)`` the class of each text, 0..C-1.
        frozen: ``(C, D)`` unit-length features with the source LayerNorms.
    """

    tokens: Tensor
    classes: Tensor
    frozen: Tensor

    @classmethod
    def of(cls, clip: Clip, prompts: Prompts) -> Texts:
        """Tokenise a recipe's prompts for a model.

        Raises:
            PromptTooLong: a text does not fit into the model's context.
        """
        texts = [text for of_class in prompts.texts for text in of_class]
        tokens = torch.tensor(clip.tokenizer(texts), device=clip.device)
        classes = [number for number, of_class in enumerate(prompts.texts) for _ in of_class]
        owner = torch.tensor(classes, device=clip.device)
        with torch.no_grad():
            frozen = class_means(clip.encode_text(tokens, {}).float(), owner, len(prompts.labels))
        return cls(tokens, owner, frozen)


@dataclass(frozen=True, eq=False)
class Outputs:
    """What one forward pass gives.

    Attributes:
        logits: ``(B, C)`` scaled cosine similarities.
        features: ``(B, D)`` image features, not normalised.
        texts: ``(C, D)`` unit-length class features.
    """

    logits: Tensor
    features: Tensor
    texts: Tensor


@dataclass(frozen=True, slots=True)
class StepResult:
    """What a step says besides its new state.

    Attributes:
        logits: ``(B, C)`` before the update, without gradient.
        numbers: the terms of the loss and what became of the step, for the log.
    """

    logits: Tensor
    numbers: Mapping[str, float]


State = TypeVar("State")


class Method(Protocol[State]):
    """A way to adapt. `State` is frozen and complete: nothing else is remembered between steps."""

    def start(self, clip: Clip, texts: Texts) -> State:
        """Return the state before the first step; the same again is a reset."""
        ...

    def step(self, clip: Clip, state: State, images: Tensor, texts: Texts) -> tuple[State, StepResult]:
        """Answer for ``(B, 3, S, S)`` preprocessed pictures and learn from them."""
        ...


@dataclass(frozen=True, eq=False)
class Learned:
    """An adapter on its way, and what its optimiser remembers.

    Attributes:
        adapter: the LayerNorms after the last step.
        memory: the moments of the optimiser; None before the first step.
        loss_scale: factor on the loss before the backward pass, for fp16; otherwise 1.
        good_steps: since the scale last changed.
    """

    adapter: Adapter
    memory: Moments | None = None
    loss_scale: float = 1.0
    good_steps: int = 0

    @classmethod
    def start(cls, clip: Clip, precision: Precision = "fp32") -> Learned:
        """Return the model as it was trained."""
        return cls(clip.source, loss_scale=FIRST_LOSS_SCALE if precision == "fp16" else 1.0)

    def descend(
        self, norms: NormVector, vector: Tensor, loss: Tensor, optimizer: Optimizer
    ) -> tuple[Learned, dict[str, float]]:
        """Take one step down `loss`, or none if its gradient is not finite.

        Args:
            norms: what the vector holds.
            vector: ``(P,)`` that `loss` was computed with, and is differentiated by.
            loss: a scalar.
            optimizer: how to step.

        Returns:
            The state after the step; ``loss``, ``gradient_norm`` and ``skipped`` (0 or 1) of it.
        """
        (gradient,) = torch.autograd.grad(loss * self.loss_scale, vector)
        gradient = gradient / self.loss_scale
        value, length = torch.stack([loss.detach(), gradient.norm()]).tolist()
        numbers = {"loss": value, "gradient_norm": length, "skipped": 0.0}
        if not (abs(value) < float("inf") and length < float("inf")):  # NaN is not less than anything
            scale = max(self.loss_scale / 2, 2.0) if self.loss_scale > 1 else 1.0
            return replace(self, loss_scale=scale, good_steps=0), {**numbers, "skipped": 1.0}
        here, down = (tensor.detach().float().cpu().numpy() for tensor in (vector, gradient))
        moved, memory = optimizer.descend(here, down, self.memory)
        scale, good = self.loss_scale, self.good_steps + 1
        if scale > 1 and good == GROWTH_STEPS:
            scale, good = 2 * scale, 0
        return Learned(norms.write(moved, self.adapter), memory, scale, good), numbers

    def stay(self) -> tuple[Learned, dict[str, float]]:
        """Return the same for a batch with nothing to learn from: the state as it is, no loss."""
        return self, {"loss": math.nan, "gradient_norm": 0.0, "skipped": 1.0}


def forward(
    clip: Clip,
    norms: Mapping[str, Tensor],
    images: Tensor,
    texts: Tensor | Texts,
    precision: Precision = "fp32",
) -> Outputs:
    """Return logits and features of ``(B, 3, S, S)`` pictures, differentiable by `norms` alone.

    Args:
        clip: the model; its weights are constants.
        norms: LayerNorm tensors by name; what is missing is as trained.
        images: preprocessed, on the model's device.
        texts: texts to encode with `norms`, or class features to take as they are.
        precision: of the encoders' products, see `adapters.torch_model.mixed_precision`; the rest is fp32.

    Raises:
        ValueError: no pictures.
    """
    features, encoded = encode(
        clip, norms, images, texts.tokens if isinstance(texts, Texts) else None, precision
    )
    if isinstance(texts, Texts):
        assert encoded is not None
        classes = class_means(encoded, texts.classes, len(texts.frozen))  # (C, D)
    else:
        classes = texts
    logits = clip.info.logit_scale * F.normalize(features, dim=1) @ classes.T  # (B, C)
    return Outputs(logits, features, classes)


def parameter(norms: NormVector, adapter: Adapter, device: torch.device) -> Tensor:
    """Return an adapter's ``(P,)`` numbers as a leaf that gradients reach."""
    return torch.from_numpy(norms.read(adapter)).to(device).requires_grad_()


def class_means(features: Tensor, classes: Tensor, count: int) -> Tensor:
    """Return ``(C, D)`` unit-length means of each class's unit-length texts: open_clip's zero-shot recipe.

    Args:
        features: ``(N, D)``, not normalised.
        classes: ``(N,)`` class of each text, every class at least once.
        count: C.
    """
    unit = F.normalize(features, dim=1)
    owner = F.one_hot(classes, count).T.to(unit.dtype)  # (C, N)
    return F.normalize(owner @ unit, dim=1)


def entropy(logits: Tensor) -> Tensor:
    """Return ``(B,)`` entropy of each picture's class probabilities, in nats."""
    return -(logits.softmax(1) * logits.log_softmax(1)).sum(1)
