"""How a station learns, and what it learns with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol

from adapters.core.adapter import Adapter
from adapters.core.observation import Labelled
from adapters.gate.promotion_gate import GateLimits
from adapters.gate.state_machine import Patience
from adapters.learner.sample_buffer import BufferPolicy

Mode = Literal["adaptive", "shadow", "frozen", "locked"]
Level = Literal["full", "operating_point"]


class Update(Protocol):
    """Makes a proposal from an adapter; `adapters.learner.rehearsal_update.Proposer` is one."""

    def __call__(
        self, adapter: Adapter, known: Labelled, stream: Labelled, seed: int
    ) -> tuple[Adapter, dict[str, float]]:
        """Return the adapter some steps further and the numbers of the last step.

        Args:
            adapter: where to start.
            known: known parts under the condition of now.
            stream: recent good parts.
            seed: of what is drawn.
        """
        ...


@dataclass(frozen=True, slots=True)
class LearnerSettings:
    """How a station learns; frames are those that were fit to be judged.

    Attributes:
        mode: ``adaptive``; ``shadow``: everything, but the frozen model answers; ``frozen`` and ``locked``:
            what was promoted last answers and nothing is learned.
        level: ``operating_point`` moves no LayerNorm: for weak machines.
        every: frames from one proposal to the next, and between looks at a held adapter where pictures creep.
        recheck: frames from one look at a held adapter to the next where they do not.
        bound: how far the operating point may follow the pictures, in nats.
        step: smallest move of the operating point that is worth a version, in nats.
        per_hour: how far it may move within an hour beyond what the stream's good parts have moved, to and
            fro added up, in nats.
        jump: of the drift report, from which on another adapter is looked for while one answers; less than
            what confirms drift, because looking costs little.
        slack: rise of the soft error of known parts that is no deterioration.
        candidates: stored adapters that are tried after a change, those of the most similar conditions.
    """

    mode: Mode = "adaptive"
    level: Level = "full"
    every: int = 50
    recheck: int = 400
    bound: float = 8.0
    step: float = 0.75
    per_hour: float = 6.0
    jump: float = 0.35
    slack: float = 0.02
    candidates: int = 3
    patience: Patience = field(default_factory=Patience)
    limits: GateLimits = field(default_factory=GateLimits)
    buffer: BufferPolicy = field(default_factory=BufferPolicy)


def why_off(mode: Mode, frozen_by: str | None) -> str | None:
    """Return why nothing is learned at all; None where it is.

    Args:
        mode: of the station.
        frozen_by: who has stopped learning.
    """
    if mode in ("frozen", "locked"):
        return f"mode {mode}"
    return f"frozen by {frozen_by}" if frozen_by is not None else None
