"""What a stream is shown to: the protocol of a contender, and the published methods behind it.

A published method answers for 64 frames with what it has learned so far, and then takes its step on them. Black
pictures it never sees: the camera's own check stands before every method, rivals included.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from adapters.core.observation import Bytes, as_pixels, log_odds
from adapters.core.protocol import Floats
from adapters.learner.optimizer import Optimizer
from adapters.methods.batclip import Batclip
from adapters.methods.method import Method
from benchmarks.bench_rates import MAKERS, RATES, RDUMB_STEPS
from benchmarks.rivals.rdumb import RDumb
from benchmarks.rivals.sar import Sar
from benchmarks.rivals.tda import Tda
from benchmarks.rivals.tent import Tent
from benchmarks.stream_site import FrozenAnswers, Site
from benchmarks.stream_worlds import World
from benchmarks.streams import Stream

BATCH = 64
"""Frames of one step of a published method."""

LINE_RATES = {"BATCLIP exact": 1e-3, "TENT": 1e-3, "RDumb": 2.5e-4, "SAR": 1e-3}
"""Learning rates with mekiki-line: the papers'. The small photo models have theirs from `bench_rates`."""


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """What a contender says about B frames; anything, NaN included, where the picture is not usable.

    Attributes:
        scores: ``(B,)`` log-odds of a defect above the contender's operating point: fails from 0 on.
        raw: ``(B,)`` the same without an operating point, for the ranking; comparable inside a segment.
        labels: ``(B,)`` index of the class it names.
    """

    scores: Floats
    raw: Floats
    labels: NDArray[np.int64]

    @classmethod
    def of(cls, logits: Floats, site: Site) -> Answers:
        """Judge ``(B, C)`` logits at the operating point that was fixed at commissioning."""
        raw = log_odds(logits, site.fails)
        return cls(raw - np.float32(site.limit), raw, logits.argmax(1))


class Contender(Protocol):
    """Something that judges a stream frame by frame and may learn from it.

    Attributes:
        call_frames: how many frames it is shown at once.
        labels_a_day: how many true labels somebody gives it in 28 800 frames.
    """

    call_frames: int
    labels_a_day: float

    @property
    def fingerprint(self) -> str:
        """All that its answers follow from, besides the stream and the site."""
        ...

    def start(self, site: Site) -> None:
        """Prepare for the first frame."""
        ...

    def see(self, first: int, pictures: Bytes, usable: NDArray[np.bool_]) -> Answers:
        """Judge ``(B, S, S, 3)`` pictures, the frames from number `first` on, and learn from them."""
        ...

    def tell(self, number: int, label: int) -> None:
        """Hear what a frame that it has seen really was."""
        ...

    def events(self) -> list[dict[str, Any]]:
        """Return what happened, in order: each with ``frame`` and ``event``, and whatever else says more.

        ``update``, ``promotion`` and ``rollback`` are counted; ``state`` with a ``state`` colours the plot.
        """
        ...

    def trace(self) -> dict[str, list[float]]:
        """Return numbers over time: ``frame`` and, as long as that, any others by name, for the plot."""
        ...


class Quiet:
    """A contender's answers to what it does not take part in."""

    call_frames = BATCH
    labels_a_day = 0.0

    def tell(self, number: int, label: int) -> None:
        """Make nothing of it."""

    def events(self) -> list[dict[str, Any]]:
        """Return none."""
        return []

    def trace(self) -> dict[str, list[float]]:
        """Return none."""
        return {}


class FrozenContender(Quiet):
    """The model as it was trained, at the operating point fixed at commissioning."""

    fingerprint = "frozen"

    def start(self, site: Site) -> None:
        """Take its answers from the site."""
        self._site = site

    def see(self, first: int, pictures: Bytes, usable: NDArray[np.bool_]) -> Answers:
        """Say what the site already knows."""
        return Answers.of(self._site.frozen.rows(first, len(pictures)).logits, self._site)


class TdaContender(Quiet):
    """TDA, which trains nothing and so needs no more than the frozen answers."""

    def __init__(self, method: Tda) -> None:
        self._method = method
        self.fingerprint = repr(method)

    def start(self, site: Site) -> None:
        """Empty the caches."""
        self._site = site
        self._state = self._method.start(site.clip, site.texts)

    def see(self, first: int, pictures: Bytes, usable: NDArray[np.bool_]) -> Answers:
        """Answer one frame after another."""
        known: FrozenAnswers = self._site.frozen.rows(first, len(pictures))
        logits = np.array(known.logits)
        self._state, logits[usable] = self._method.answer(
            self._state, torch.from_numpy(known.logits[usable]), torch.from_numpy(known.features[usable])
        )
        return Answers.of(logits, self._site)


class Rival(Quiet):
    """A method of `adapters.methods.method`: one step on every batch, in the order of arrival, without a guard.

    Owns the method's state. A batch in which a reset falls is parted there.
    """

    def __init__(self, method: Method[Any], resets: tuple[int, ...] = ()) -> None:
        self._method = method
        self._resets = resets
        self.fingerprint = f"{method!r} {resets} {BATCH}"

    def start(self, site: Site) -> None:
        """Begin with the model as it was trained."""
        self._site = site
        self._state = self._method.start(site.clip, site.texts)
        self._events: list[dict[str, Any]] = []
        self._trace: dict[str, list[float]] = {"frame": [], "loss": []}

    def see(self, first: int, pictures: Bytes, usable: NDArray[np.bool_]) -> Answers:
        """Answer with what is learned so far, then learn."""
        count, site = len(pictures), self._site
        logits = np.zeros((count, len(site.fails)), np.float32)
        cuts = [0, *(reset - first for reset in self._resets if 0 < reset - first < count), count]
        for start, stop in itertools.pairwise(cuts):
            if first + start in self._resets:
                self._state = self._method.start(site.clip, site.texts)
                self._events.append({"frame": first + start, "event": "reset"})
            rows = start + np.flatnonzero(usable[start:stop])
            if len(rows):
                logits[rows] = self._step(first + stop - 1, pictures[rows])
        return Answers.of(logits, site)

    def events(self) -> list[dict[str, Any]]:
        """Return every update and every reset that it was told to make."""
        return self._events

    def trace(self) -> dict[str, list[float]]:
        """Return the loss after each step."""
        return self._trace

    def _step(self, frame: int, pictures: Bytes) -> Floats:
        site = self._site
        pixels = torch.from_numpy(as_pixels(pictures, site.clip.info.preprocess))
        self._state, answer = self._method.step(site.clip, self._state, pixels, site.texts)
        if not answer.numbers.get("skipped"):
            self._events.append({"frame": frame, "event": "update"})
        self._trace["frame"].append(frame)
        self._trace["loss"].append(answer.numbers.get("loss", float("nan")))
        return answer.logits.numpy()


@dataclass(frozen=True, slots=True, eq=False)
class Setting:
    """What the benchmark knows beforehand; only privileged contenders look beyond the model's name.

    Attributes:
        model: one of `stream_site.MODELS`.
        world: what is inspected.
        stream: what will come.
        seed: of the run.
    """

    model: str
    world: World
    stream: Stream
    seed: int


def rival(name: str, model: str) -> Method[Any]:
    """Return a published method with the learning rate that it has with this model."""
    if model in ("clip", "diffclip"):
        return MAKERS[name](RATES[name])
    rate = LINE_RATES[name]
    makers: dict[str, Callable[[], Method[Any]]] = {
        "BATCLIP exact": lambda: Batclip(optimizer=Optimizer("AdamW", rate, weight_decay=0.01)),
        "TENT": lambda: Tent(optimizer=Optimizer("Adam", rate)),
        "RDumb": lambda: RDumb(reset_every=RDUMB_STEPS, optimizer=Optimizer("SGD", rate)),
        "SAR": lambda: Sar(optimizer=Optimizer("SGD", rate)),
    }
    return makers[name]()


RIVALS: dict[str, Callable[[Setting], Contender]] = {
    "frozen": lambda setting: FrozenContender(),
    "TENT": lambda setting: Rival(rival("TENT", setting.model)),
    "SAR": lambda setting: Rival(rival("SAR", setting.model)),
    "BATCLIP exact": lambda setting: Rival(rival("BATCLIP exact", setting.model)),
    "BATCLIP + oracle reset": lambda setting: Rival(
        rival("BATCLIP exact", setting.model), setting.stream.starts[1:]
    ),
    "RDumb": lambda setting: Rival(rival("RDumb", setting.model)),
    "TDA": lambda setting: TdaContender(Tda()),
}
"""What the learner is compared with; `BATCLIP + oracle reset` is told where each segment begins."""
