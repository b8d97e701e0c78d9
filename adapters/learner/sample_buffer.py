"""The rolling buffer: which frames of a station are kept to learn from, and which of them are drawn.

Taken from RoTTA (Yuan, Xie and Li, "Robust Test-Time Adaptation in Dynamic Scenarios", CVPR 2023,
https://arxiv.org/abs/2303.13899): a cap for each predicted class, and expiry by age. From NOTE (Gong et al.,
"NOTE: Robust Continual Test-time Adaptation Against Temporal Correlation", NeurIPS 2022,
https://arxiv.org/abs/2208.05117): random replacement inside a class. From EATA (Niu et al., "Efficient
Test-Time Model Adaptation without Forgetting", ICML 2022, https://arxiv.org/abs/2204.02610): no frame that
the model is unsure about, and none that says nothing new.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from adapters.core.observation import Bytes, Observation
from adapters.core.protocol import Floats

_PAIRS = 20_000
_SAME = 1 - 1e-5
"""From this cosine on two features are one: unit length is rounded, in float32 by 1e-7 a step."""


@dataclass(frozen=True, slots=True)
class BufferPolicy:
    """What is kept, and why.

    Attributes:
        max_bytes: of pictures and features together. A line PC has other things to do with its memory.
        recent: frames of the ring. It shows what pictures look like now, so it takes every frame.
        per_class: evidence kept of each class. On a line nearly every frame is of one class; without a cap
            the others would be crowded out, and a class that occurs alone only confirms itself.
        max_age_frames: evidence that is older has been seen under another lamp.
        max_age_s: the same for a line that stands still.
        spacing: evidence of one class lies at least so many frames apart: neighbours share their cause.
        duplicate: cosine above which two frames of a class are one piece of evidence. The newer one stays: it
            says the same about the part and more about the present light. How alike features are depends on
            the model, so the learner asks `duplicate_cosine`.
        unsure: evidence needs an entropy below this share of ln C: what the frozen model guesses teaches
            errors. EATA's and SAR's 0.4.
    """

    max_bytes: int = 64 * 2**20
    recent: int = 200
    per_class: int = 16
    max_age_frames: int = 1500
    max_age_s: float = 3600.0
    spacing: int = 3
    duplicate: float = 0.9992
    unsure: float = 0.4

    def __post_init__(self) -> None:
        if min(self.max_bytes, self.recent, self.per_class, self.max_age_frames, self.spacing) < 1:
            raise ValueError(f"limits of a buffer are 1 or more: {self}")
        if not (self.max_age_s > 0 and 0 < self.duplicate <= 1 and 0 < self.unsure <= 1):
            raise ValueError(f"age is more than 0 s, cosine and share of ln C lie in 0..1: {self}")


@dataclass(frozen=True, slots=True)
class Distinct:
    """How much evidence there is; a learner does not start on too little.

    Attributes:
        counts: frames of each class, no two of a class alike.
    """

    counts: tuple[int, ...]

    @property
    def frames(self) -> int:
        """How many frames."""
        return sum(self.counts)

    @property
    def classes(self) -> int:
        """How many classes have a frame."""
        return sum(count > 0 for count in self.counts)

    def classes_with(self, frames: int) -> int:
        """How many classes have at least so many frames."""
        return sum(count >= frames for count in self.counts)


@dataclass(slots=True)
class _Content:
    """Everything that `Buffer.clear` forgets."""

    rng: np.random.Generator
    evidence: list[list[Observation]]
    """Per class, oldest first."""
    met: list[deque[tuple[int, float]]]
    """Per class, number and time of every frame that could have been evidence and is not too old."""
    recent: deque[Observation] = field(default_factory=deque)


class Buffer:
    """When full: the ring loses its oldest frame, a class one at random; over `max_bytes`, see `offer`.

    Owned by the learner's thread. Equal offers after an equal seed leave equal content.

    Args:
        classes: C, how many the recipe has.
        policy: what is kept.
        seed: of the random replacement.
    """

    def __init__(self, classes: int, policy: BufferPolicy | None = None, seed: int = 0) -> None:
        if classes < 2:
            raise ValueError(f"{classes} classes: entropy needs two")
        self.policy = policy or BufferPolicy()
        self._classes = classes
        self._seed = seed
        self.clear()

    def clear(self) -> None:
        """Forget everything, for another recipe or after a reset: as good as new, its random numbers too."""
        evidence: list[list[Observation]] = [[] for _ in range(self._classes)]
        met: list[deque[tuple[int, float]]] = [deque() for _ in range(self._classes)]
        self._content = _Content(np.random.default_rng(self._seed), evidence, met)

    def offer(self, seen: Observation) -> bool:
        """Take a frame into the ring, and keep it as evidence if it is some.

        Where pictures are so large that both do not fit into `max_bytes`, the ring loses its oldest frames
        until half of the bytes are left to it, then the largest class its oldest, then the ring the rest.

        Returns:
            Whether it is evidence now.

        Raises:
            ValueError: its number is not above that of the frame before, or there is no such class.
        """
        content = self._content
        if content.recent and seen.number <= content.recent[-1].number:
            raise ValueError(f"frame {seen.number} after frame {content.recent[-1].number}")
        if not 0 <= seen.label < self._classes:
            raise ValueError(f"frame {seen.number}: class {seen.label} of {self._classes}")
        content.recent.append(seen)
        if len(content.recent) > self.policy.recent:
            content.recent.popleft()
        self._expire(seen)
        kept = self._keep(seen)
        self._shrink()
        return kept and any(seen is other for other in content.evidence[seen.label])

    def recent(self, n: int) -> list[Observation]:
        """Return the last `n` frames in their order; fewer where there are no more."""
        return list(self._content.recent)[-n:] if n > 0 else []

    @property
    def distinct(self) -> Distinct:
        """How much evidence there is of each class."""
        return Distinct(tuple(len(frames) for frames in self._content.evidence))

    @property
    def nbytes(self) -> int:
        """Bytes of pictures and features; a frame that is both recent and evidence counts once."""
        content = self._content
        frames = {id(s): s for part in (content.recent, *content.evidence) for s in part}
        return sum(_nbytes(s) for s in frames.values())

    def _expire(self, now: Observation) -> None:
        for frames, met in zip(self._content.evidence, self._content.met, strict=True):
            frames[:] = [s for s in frames if not self._too_old(s.number, s.at_s, now)]
            while met and self._too_old(*met[0], now):
                met.popleft()

    def _too_old(self, number: int, at_s: float, now: Observation) -> bool:
        return now.number - number > self.policy.max_age_frames or now.at_s - at_s > self.policy.max_age_s

    def _keep(self, seen: Observation) -> bool:
        policy, content = self.policy, self._content
        frames, met = content.evidence[seen.label], content.met[seen.label]
        if not seen.entropy < policy.unsure * math.log(self._classes):
            return False
        if met and seen.number - met[-1][0] < policy.spacing:
            return False
        met.append((seen.number, seen.at_s))
        frames[:] = [other for other in frames if float(seen.feature @ other.feature) <= policy.duplicate]
        if len(frames) == policy.per_class:
            # NOTE's reservoir: after n frames each of them is among the kept with the same chance. `met`
            # forgets with age as `frames` does; counting for ever, the buffer would stop taking new ones.
            if content.rng.random() >= policy.per_class / len(met):
                return False
            del frames[int(content.rng.integers(len(frames)))]
        frames.append(seen)
        return True

    def _shrink(self) -> None:
        content, limit = self._content, self.policy.max_bytes
        if (excess := self.nbytes - limit) <= 0:
            return
        while excess > 0 and len(content.recent) > 1:
            if sum(_nbytes(s) for s in content.recent) <= limit // 2:
                break
            content.recent.popleft()
            excess = self.nbytes - limit
        while excess > 0 and any(content.evidence):
            del max(content.evidence, key=len)[0]
            excess = self.nbytes - limit
        while excess > 0 and content.recent:
            content.recent.popleft()
            excess = self.nbytes - limit


def good_parts(recent: Sequence[Observation], fails: NDArray[np.bool_]) -> tuple[Bytes, NDArray[np.int64]]:
    """Return the half that looks least like a defect, ``(P, S, S, 3)``, and the passing class of each.

    A line makes more good parts than bad ones, and the ranking survives a worse picture; what the frozen
    model names a defect in that half is a false alarm, and is of the class that most good parts are of.

    Args:
        recent: frames of one condition.
        fails: ``(C,)`` which classes are defects; at least one is none.
    """
    passing = np.flatnonzero(~fails)
    rows = np.argsort([one.score for one in recent], kind="stable")[: len(recent) // 2]
    named = np.array([recent[row].label for row in rows])
    usual = passing[np.argmax([(named == c).sum() for c in passing])]
    return np.stack([recent[row].picture for row in rows]), np.where(fails[named], usual, named)


def duplicate_cosine(features: Floats, share: float = 0.01, seed: int = 0) -> float:
    """Return the cosine that so few pairs of a station's different parts exceed.

    No one number fits two models: of good parts of the simulated line 86 % of all pairs have a cosine above
    0.985 with `mekiki-line`, so that a fixed limit of 0.985 would leave one of them, and 1 % above 0.9992.

    Where most pictures are repetitions, that cosine says nothing about parts: it is below 1 in any case, and
    equal features are always above it.

    Args:
        features: ``(N, D)`` unit-length, of different parts.
        share: of pairs.
        seed: of the pairs that are looked at.
    """
    if len(features) < 2:
        return BufferPolicy().duplicate
    rng = np.random.default_rng(seed)
    first = rng.integers(len(features), size=_PAIRS)
    second = (first + rng.integers(1, len(features), size=_PAIRS)) % len(features)
    cosines = np.einsum("nd,nd->n", features[first], features[second])
    return float(np.clip(np.quantile(cosines, 1 - share), 1 - _SAME, _SAME))


def _nbytes(seen: Observation) -> int:
    return seen.picture.nbytes + seen.feature.nbytes
