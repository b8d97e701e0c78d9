"""What a run has done, and what its end did not keep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agent.domain.publisher_stats import Unsaved


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run has done, for its last line.

    Attributes:
        waiting: results on disk that the broker does not have yet.
        lost: results that never reached the disk.
        unsaved: why the end was not in order, in one sentence: results or pictures that were decided and are
            not on disk, or a thread that did not end; None where all was kept.
    """

    inspected: int
    stored: int
    published: int
    waiting: int
    lost: int
    unsaved: str | None = None


def not_kept(unsaved: Unsaved, dropped: int, left: Sequence[str]) -> list[str]:
    """Return what an end did not keep, one sentence each.

    Args:
        unsaved: what is not on disk.
        dropped: pictures that were given up while the agent ended.
        left: threads that did not end.
    """
    facts = []
    if unsaved.results:
        why = "" if unsaved.problem is None else f" ({unsaved.problem})"
        facts.append(f"{unsaved.results} results were decided and are not stored, they are lost{why}")
    if pictures := unsaved.pictures + dropped:
        facts.append(f"{pictures} pictures that were to be kept are lost")
    if left:
        facts.append(f"left behind: {', '.join(left)}")
    return facts
