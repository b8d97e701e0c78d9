"""What the guard of a station can see: it judges by parts of which a person said what they are."""

from __future__ import annotations

from dataclasses import dataclass

LEAST_DEFECTS = 6
"""Confirmed defects without which nobody can say whether a proposal still finds them."""
LEAST_GOOD = 59
"""Good parts that are vouched for, without which false rejects are not seen: where none of them is rejected,
at most 5 % of all are, with 95 % confidence."""


@dataclass(frozen=True, slots=True)
class GuardSight:
    """How many parts of a baseline the guard may judge by.

    Attributes:
        defects: confirmed by a person, one half of which judges.
        good: vouched for by a person, and judged by.
        guesses: defects that only the model named; nothing is judged by them.
        unknown: defects of which an older release did not write down who named them; as guesses.
    """

    defects: int
    good: int
    guesses: int = 0
    unknown: int = 0

    @property
    def misses(self) -> bool:
        """Whether it would see that defects are missed."""
        return self.defects >= LEAST_DEFECTS

    @property
    def false_rejects(self) -> bool:
        """Whether it would see that good parts are rejected which the model takes for defects."""
        return self.good >= LEAST_GOOD

    @property
    def learns(self) -> bool:
        """Whether LayerNorms may be learned; the threshold follows the pictures in any case.

        What has no confirmed defect to learn from has two classes less than it seems: a model that calls
        every part good has no false reject at all. So LayerNorms need defects, whatever else is seen.
        """
        return self.misses

    @property
    def unwatched(self) -> tuple[str, ...]:
        """Say what it cannot see, and what helps; one sentence each."""
        said = []
        if not self.misses:
            others = [f"{self.guesses} guessed by the model"] * (self.guesses > 0)
            others += [f"{self.unknown} of which it is not known who named them"] * (self.unknown > 0)
            beside = f" ({' and '.join(others)} do not count)" if others else ""
            said.append(
                f"missed defects: {self.defects} defects confirmed by a person{beside}, {LEAST_DEFECTS} are"
                " needed; the threshold follows the pictures, LayerNorms are not learned: confirm samples"
                " (mekiki baseline export) and commission again with --golden"
            )
        if not self.false_rejects:
            said.append(
                f"false rejects of good parts that the model takes for defects: {self.good} good parts"
                f" vouched for by a person, {LEAST_GOOD} are needed: commission with --all-good, or with good"
                " pictures in --golden"
            )
        return tuple(said)
