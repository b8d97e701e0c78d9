"""The learner's update on torch: `LineUpdate` with a model of its own."""

from __future__ import annotations

from adapters.adapter import Adapter
from adapters.clip import Clip
from adapters.learning import Learned, Texts
from adapters.line_update import LineUpdate
from adapters.prompts import Prompts
from adapters.seen import Labelled


class TorchUpdate:
    """Makes proposals; owns a `Clip` that nobody else may use at the same time."""

    def __init__(self, clip: Clip, prompts: Prompts, update: LineUpdate | None = None) -> None:
        self._clip = clip
        self._texts = Texts.of(clip, prompts)
        self._update = update or LineUpdate()

    def __call__(
        self, adapter: Adapter, known: Labelled, stream: Labelled, seed: int
    ) -> tuple[Adapter, dict[str, float]]:
        """Return the adapter some steps further; see `LineUpdate.propose`."""
        learned, numbers = self._update.propose(
            self._clip, self._texts, Learned(adapter), known, stream, seed
        )
        return learned.adapter, numbers
