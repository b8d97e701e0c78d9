"""The best achievable: LayerNorms and threshold found with labels, on pictures of the very same conditions.

Under every condition of a stream, labelled pictures that the stream does not show are taken under it. The image
tower's LayerNorms are trained on most of them; on the rest, the model with these norms and the model as it was
trained get their own best threshold, and the better of the two is kept. A ramp has four conditions, the middle
of each quarter; each begins with the norms of the quarter before. Clean parts are left to the frozen model.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from adapters.core.norm_vector import NormVector
from adapters.core.observation import Bytes, as_pixels, log_odds
from adapters.learner.optimizer import Optimizer
from adapters.methods.method import forward
from adapters.torch_model.differentiable import Precision, named
from benchmarks.stream_frames import held_out
from benchmarks.stream_methods import Answers, Quiet, Setting
from benchmarks.stream_site import Site, encode, operating_point
from benchmarks.streams import Stream

QUARTERS = 4

Severities = tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class Effort:
    """How hard the oracle tries.

    Attributes:
        per_class: labelled pictures to train on, of each class.
        chosen_on: labelled pictures to choose the threshold on, half of them ok.
        steps: of AdamW, from `rate` down to 0 as a cosine; half of them where a ramp goes on.
        batch: pictures a step.
        rate: learning rate.
        precision: of the image tower while training.
    """

    per_class: int = 40
    chosen_on: int = 240
    steps: int = 60
    batch: int = 24
    rate: float = 1e-2
    precision: Precision = "bf16"


@dataclass(frozen=True, slots=True)
class Piece:
    """Frames ``start`` to ``stop`` - 1 under one condition; `continues` the ramp of the piece before."""

    start: int
    stop: int
    severities: Severities
    continues: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """What the oracle uses under one condition: norms, None for the source's, and the score to fail from."""

    norms: dict[str, Tensor] | None
    limit: float


class Oracle(Quiet):
    """Knows every condition, and has labelled pictures taken under it.

    Owns what was fitted, one for each distinct condition.
    """

    call_frames = 10_000

    def __init__(self, setting: Setting, effort: Effort = Effort()) -> None:
        self._setting, self._effort = setting, effort
        self.fingerprint = f"oracle {effort!r}"

    def start(self, site: Site) -> None:
        """Fit every condition of the stream."""
        self._site = site
        self._pieces = list(pieces(self._setting.stream))
        self._fitted: dict[Severities, Fitted] = {(): Fitted(None, site.limit)}
        before: Fitted | None = None
        for piece in self._pieces:
            if piece.severities not in self._fitted:
                self._fitted[piece.severities] = self._fit(piece, before)
            before = self._fitted[piece.severities]

    def see(self, first: int, pictures: Bytes, usable: NDArray[np.bool_]) -> Answers:
        """Judge each frame with what was fitted to its condition."""
        parts = []
        for piece in self._pieces:
            start, stop = max(piece.start - first, 0), min(piece.stop - first, len(pictures))
            if start < stop:
                parts.append(self._judge(first, start, pictures[start:stop], self._fitted[piece.severities]))
        return Answers(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    def _judge(
        self, first: int, start: int, pictures: Bytes, fitted: Fitted
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
        site = self._site
        if fitted.norms is None:
            logits = site.frozen.rows(first + start, len(pictures)).logits
        else:
            logits = encode(site.clip, site.texts, pictures, fitted.norms).logits
        raw = log_odds(logits, site.fails)
        return raw - np.float32(fitted.limit), raw, logits.argmax(1)

    def _fit(self, piece: Piece, before: Fitted | None) -> Fitted:
        """Train, then keep what does better on other pictures."""
        site, effort, world = self._site, self._effort, self._setting.world
        spec, seed = site.clip.info.preprocess, self._setting.seed
        labels = np.repeat(np.arange(len(site.fails)), effort.per_class)
        # One drawing for both, or a second one under the same conditions would show the first pictures again.
        chooses = _half_ok(site.fails, effort.chosen_on)
        pictures = held_out(world, spec, np.concatenate([labels, chooses]), piece.severities, seed)
        start = before.norms if piece.continues and before is not None else None
        norms = self._train(pictures[: len(labels)], labels, start)
        choice, bad = pictures[len(labels) :], site.fails[chooses]
        best, most = Fitted(None, site.limit), -1.0
        for candidate in (None, norms):
            scores = log_odds(encode(site.clip, site.texts, choice, candidate).logits, site.fails)
            limit = operating_point(scores[~bad], scores[bad])
            right = float((scores[~bad] < limit).mean() + (scores[bad] >= limit).mean())
            if right > most:
                best, most = Fitted(candidate, limit), right
        return best

    def _train(
        self, pictures: Bytes, labels: NDArray[np.int64], start: dict[str, Tensor] | None
    ) -> dict[str, Tensor]:
        """Descend the cross-entropy of the classes; batches hold the classes evenly."""
        site, effort = self._site, self._effort
        norms = NormVector(site.clip.source, site.clip.norm_names("image"))
        vector = norms.read(site.clip.source)
        if start is not None:
            vector = norms.join({name: start[name].numpy() for name in norms.names})
        steps = effort.steps // 2 if start is not None else effort.steps
        memory = None
        rng = np.random.default_rng(self._setting.seed)
        order = _evenly(labels, effort.batch * steps, rng)
        for step in range(steps):
            rows = order[step * effort.batch : (step + 1) * effort.batch]
            pixels = torch.from_numpy(as_pixels(pictures[rows], site.clip.info.preprocess))
            leaf = torch.from_numpy(vector).requires_grad_()
            outputs = forward(site.clip, named(norms, leaf), pixels, site.texts.frozen, effort.precision)
            loss = F.cross_entropy(outputs.logits, torch.from_numpy(labels[rows]))
            (gradient,) = torch.autograd.grad(loss, leaf)
            rate = effort.rate * 0.5 * (1 + math.cos(math.pi * step / steps))
            vector, memory = Optimizer("AdamW", rate).descend(vector, gradient.numpy(), memory)
        return named(norms, torch.from_numpy(vector))


def pieces(stream: Stream) -> Iterator[Piece]:
    """Cut a stream into stretches under one condition; nothing is asked of black and of strangers."""
    for first, segment in zip(stream.starts, stream.segments, strict=True):
        if segment.steady:
            yield Piece(first, first + segment.frames, segment.severities(0.0))
            continue
        cuts = np.linspace(0, segment.frames, QUARTERS + 1).round().astype(int)
        for quarter, (start, stop) in enumerate(itertools.pairwise(cuts)):
            severities = segment.severities((quarter + 0.5) / QUARTERS)
            yield Piece(first + int(start), first + int(stop), severities, continues=quarter > 0)


def _half_ok(fails: NDArray[np.bool_], count: int) -> NDArray[np.int64]:
    good, bad = np.flatnonzero(~fails), np.flatnonzero(fails)
    return np.concatenate([np.resize(good, count // 2), np.resize(bad, count // 2)])


def _evenly(labels: NDArray[np.int64], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return ``(count,)`` rows, every class in turn."""
    of_class = [rng.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)]
    wanted = -(-count // len(of_class))
    return np.stack([np.resize(rows, wanted) for rows in of_class], axis=1).reshape(-1)[:count]
