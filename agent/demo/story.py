"""The demo's story: what happens to the line in which chapter, and what it did to the verdicts."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from rich.table import Table

GOOD: Final = "ok"
"""What the simulated line calls a part that is good."""


@dataclass(frozen=True, slots=True)
class Chapter:
    """Parts that are made under one condition of the line.

    Attributes:
        first: number of the first part.
        name: for the table.
        says: told when it begins.
    """

    first: int
    name: str
    says: str


CHAPTERS: Final = (
    Chapter(1, "clean", "the line is as it was commissioned"),
    Chapter(301, "the lamp dies", "the lamp goes dim, within 100 parts"),
    Chapter(1501, "a new lamp", "somebody changes the lamp"),
    Chapter(2001, "a dirty lens", "oil on the lens"),
    Chapter(3001, "cleaned", "somebody wipes the lens"),
)
ROLLBACK_PART: Final = 2801
"""From here on the operator is not content with what was learned and goes back a version."""
PARTS: Final = 3400
"""The story's length: 170 s at 20 parts a second."""


def chapter_of(part: int) -> int:
    """Return the row of the chapter in which a part, counted from 1, is made."""
    return bisect_right([chapter.first for chapter in CHAPTERS], part) - 1


class Score:
    """What was right and wrong in each chapter. Owned by whoever adds; one thread at a time.

    Args:
        verdicts: ``pass`` or ``fail`` of each label.
    """

    def __init__(self, verdicts: Mapping[str, str]) -> None:
        self._verdicts = verdicts
        self._counts = [Counter[str]() for _ in CHAPTERS]

    def add(self, part: int, result: Mapping[str, Any], truth: str) -> int:
        """Take the result of a part and return the row of its chapter."""
        row = chapter_of(part)
        counts = self._counts[row]
        source = result["source"]
        if source is not None:
            counts["good" if truth == GOOD else "defective"] += 1
            for side, verdict in (
                ("frozen", self._verdicts[source["label"]]),
                ("answering", result["verdict"]),
            ):
                counts[f"{side} rejected"] += truth == GOOD and verdict == "fail"
                counts[f"{side} missed"] += truth != GOOD and verdict == "pass"
        return row

    def chapters(self) -> list[dict[str, Any]]:
        """Return what came of the chapters that were reached."""
        return [
            {
                "chapter": chapter.name,
                "good": counts["good"],
                "defective": counts["defective"],
                **{
                    side: {"rejected_good": counts[f"{side} rejected"], "missed": counts[f"{side} missed"]}
                    for side in ("frozen", "answering")
                },
            }
            for chapter, counts in zip(CHAPTERS, self._counts, strict=True)
            if counts["good"] + counts["defective"]
        ]


def table(chapters: Sequence[Mapping[str, Any]]) -> Table:
    """Return the chapters side by side: the model as it was trained, and what answered."""
    made = Table(title="the model as it was trained (frozen) and what answered, against the truth")
    made.add_column("chapter")
    for heading in (
        "good parts", "rejected: frozen", "answering", "defects", "missed: frozen", "answering",
    ):  # fmt: skip
        made.add_column(heading, justify="right")
    for one in chapters:
        frozen, own = one["frozen"], one["answering"]
        made.add_row(
            one["chapter"],
            str(one["good"]), str(frozen["rejected_good"]), str(own["rejected_good"]),
            str(one["defective"]), str(frozen["missed"]), str(own["missed"]),
        )  # fmt: skip
    return made


class Operator:
    """The person of the story: knows which versions there were, and goes back once. One thread.

    Attributes:
        asked: whether that has happened.
    """

    def __init__(self) -> None:
        self.asked = False
        self._promoted: list[int] = []
        self._answers = 0

    def hears(self, event: Mapping[str, Any]) -> None:
        """Take an event of the learner."""
        self._answers = event["after"]["number"] if event["after"] else self._answers
        if event["event"] == "promoted":
            self._promoted.append(self._answers)

    def goes_back_to(self, part: int) -> int | None:
        """Return the version to go back to, once, when its part has come and something learned answers."""
        if self.asked or part < ROLLBACK_PART or not self._answers:
            return None
        self.asked = True
        before = [number for number in self._promoted if number < self._answers]
        return before[-1] if before else 0
