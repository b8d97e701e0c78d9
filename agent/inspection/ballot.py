"""The ballot of one station: the last pictures that may decide together, where the recipe has votes."""

from __future__ import annotations

from collections import deque

from agent.config.recipes import Votes
from agent.domain.verdict import Decision, vote


class Ballot:
    """When `votes.n` pictures are there, the oldest goes.

    Pictures of two triggers never decide together: a trigger announces a part, and the part before it has
    nothing to say about it. Owns the decisions of one station; the inspector's thread alone uses it.

    Args:
        votes: of the recipe; None where every picture decides alone.
    """

    def __init__(self, votes: Votes | None) -> None:
        self._votes = votes
        self._decisions: deque[Decision] = deque(maxlen=1 if votes is None else votes.n)
        self._trigger: str | None = None

    def cast(self, decision: Decision, trigger: str | None) -> Decision:
        """Return what is decided, now that a picture has its own decision.

        Args:
            decision: of the picture alone.
            trigger: id of the trigger that the picture was taken for, or None.
        """
        if self._votes is None:
            return decision
        if trigger != self._trigger:
            self._decisions.clear()
            self._trigger = trigger
        self._decisions.append(decision)
        return vote(list(self._decisions), self._votes)
