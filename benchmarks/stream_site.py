"""A line on the day that it starts: the model, the commissioning's pictures, the operating point fixed on them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from adapters.core.observation import Bytes, Observation, as_pixels, log_odds
from adapters.core.protocol import Floats
from adapters.methods.method import Texts, forward
from adapters.torch_model.clip import Clip
from adapters.torch_model.differentiable import Precision
from adapters.torch_model.loader import load_clip
from benchmarks import photo_model
from benchmarks.ship_line import WEIGHTS
from benchmarks.stream_frames import Commissioning, save
from benchmarks.stream_worlds import World

MODELS = ("line", "steel", "clip", "diffclip")
"""mekiki-line on flanges; mekiki-line on NEU steel; the small CLIP and the small DiffCLIP on CIFAR-10 photos."""

THRESHOLD = 0.5
"""Of every recipe here."""

CHUNK = 64


@dataclass(frozen=True, slots=True, eq=False)
class FrozenAnswers:
    """What the model as it was trained says about N pictures.

    Attributes:
        logits: ``(N, C)``.
        features: ``(N, D)`` unit-length.
    """

    logits: Floats
    features: Floats

    def rows(self, first: int, count: int) -> FrozenAnswers:
        """Return what it says about some of them."""
        return FrozenAnswers(self.logits[first : first + count], self.features[first : first + count])


@dataclass(frozen=True, eq=False)
class Site:
    """All that a contender is given before the first frame.

    Attributes:
        model: one of `MODELS`.
        seed: of the run.
        clip: the model; the contender's own.
        texts: the recipe's words.
        fails: ``(C,)`` which classes fail.
        threshold: the recipe's, on the probability of a defect.
        commissioning: pictures taken before the start.
        reference: the frozen answers to `commissioning.reference`.
        golden: the frozen answers to `commissioning.golden`.
        offset: the operating point: a part fails when its score is at least offset + logit(threshold).
        frozen: the frozen answers to the stream, by frame, so that nobody has to encode a frame twice. A
            contender looks at no row before it was shown the frame.
    """

    model: str
    seed: int
    clip: Clip
    texts: Texts
    fails: NDArray[np.bool_]
    threshold: float
    commissioning: Commissioning
    reference: FrozenAnswers
    golden: FrozenAnswers
    offset: float
    frozen: FrozenAnswers

    @property
    def limit(self) -> float:
        """Score from which on a part fails at the operating point."""
        return self.offset + math.log(self.threshold / (1 - self.threshold))


def open_model(model: str, world: World) -> tuple[Clip, Texts]:
    """Load one of `MODELS` on the CPU, with the words of what it inspects."""
    if model in ("line", "steel"):
        clip = load_clip("mekiki-line", checkpoint=WEIGHTS, device="cpu")
    else:
        photo_model.register()
        clip = load_clip(photo_model.NAME, checkpoint=photo_model.weights(model), device="cpu")
    return clip, Texts.of(clip, world.prompts)


def build_site(
    out: Path,
    model: str,
    world: World,
    opened: tuple[Clip, Texts],
    pictures: tuple[str, Commissioning],
    stream: tuple[str, Bytes],
    seed: int,
) -> Site:
    """Fix the operating point on the commissioning's pictures and look at the stream with the frozen model.

    Args:
        out: folder where the frozen answers are kept: pictures are encoded once per model.
        model: one of `MODELS`.
        world: what it inspects.
        opened: the model and the recipe's words.
        pictures: `stream_frames.cell_name` and pictures of the commissioning.
        stream: `stream_frames.cell_name` and pictures of the stream.
        seed: of the run.
    """
    clip, texts = opened
    name, commissioned = pictures
    reference = frozen_answers(out, name, opened, commissioned.reference)
    golden = frozen_answers(out, f"{name}-golden", opened, commissioned.golden)
    bad = world.fails[commissioned.golden_labels]
    scores = log_odds(golden.logits, world.fails)[bad]
    point = operating_point(log_odds(reference.logits, world.fails), scores)
    return Site(
        model=model,
        seed=seed,
        clip=clip,
        texts=texts,
        fails=world.fails,
        threshold=THRESHOLD,
        commissioning=commissioned,
        reference=reference,
        golden=golden,
        offset=point - math.log(THRESHOLD / (1 - THRESHOLD)),
        frozen=frozen_answers(out, stream[0], opened, stream[1]),
    )


def frozen_answers(out: Path, name: str, opened: tuple[Clip, Texts], pictures: Bytes) -> FrozenAnswers:
    """Return what the model as it was trained says about some pictures; kept in `out` under their name."""
    clip, texts = opened
    weights = clip.info.weights.removeprefix("sha256:")[:10]
    file = out / f"{name}-frozen-{weights}.npz"
    if not file.exists():
        answers = encode(clip, texts, pictures)
        save(file, lambda unfinished: np.savez(unfinished, logits=answers.logits, features=answers.features))
    return FrozenAnswers(**dict(np.load(file)))


def seen_of(
    pictures: Bytes, answers: FrozenAnswers, fails: NDArray[np.bool_], first: int
) -> list[Observation]:
    """Return what the frozen model saw; frame numbers start at `first`, one a second."""
    scores = log_odds(answers.logits, fails)
    shifted = answers.logits - answers.logits.max(axis=1, keepdims=True)
    chances = np.exp(shifted) / np.exp(shifted).sum(axis=1, keepdims=True)
    entropies = -(chances * np.log(np.maximum(chances, 1e-12))).sum(axis=1)
    return [
        Observation(
            first + row,
            float(first + row),
            picture,
            answers.features[row],
            float(scores[row]),
            int(answers.logits[row].argmax()),
            float(entropies[row]),
        )
        for row, picture in enumerate(pictures)
    ]


def operating_point(good: Floats, bad: Floats) -> float:
    """Return the score of best balanced accuracy: the middle of the best interval between two scores.

    Args:
        good: ``(R,)`` scores of parts taken as ok; a few may be defective.
        bad: ``(G,)`` scores of defective parts.
    """
    scores = np.unique(np.concatenate([good, bad]).astype(np.float64))
    low, high = scores[:-1], scores[1:]
    middles = (low + high) / 2
    right = np.searchsorted(np.sort(good), middles) / len(good)
    right += 1 - np.searchsorted(np.sort(bad), middles) / len(bad)
    # Neighbouring intervals differ by one part; of equally good ones the widest leaves most room.
    best = np.flatnonzero(right > right.max() - 1e-9)
    return float(middles[best[np.argmax((high - low)[best])]])


@torch.no_grad()
def encode(
    clip: Clip,
    texts: Texts,
    pictures: Bytes,
    norms: dict[str, torch.Tensor] | None = None,
    precision: Precision = "fp32",
) -> FrozenAnswers:
    """Return what the model says about ``(N, S, S, 3)`` pictures, with other LayerNorms where given."""
    logits, features = [], []
    for start in range(0, len(pictures), CHUNK):
        pixels = torch.from_numpy(as_pixels(pictures[start : start + CHUNK], clip.info.preprocess))
        outputs = forward(clip, norms or {}, pixels, texts.frozen, precision)
        logits.append(outputs.logits.numpy())
        features.append(F.normalize(outputs.features, dim=1).numpy())
    return FrozenAnswers(np.concatenate(logits), np.concatenate(features))
