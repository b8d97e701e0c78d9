"""A clip's own time: what its time stamps say, which may stand still, jump or go back."""

from __future__ import annotations

import math

MAX_WAIT_S = 10.0
"""Longest wait for one picture at the recorded pace; twice the nominal period where that is longer."""
_BACK_S = 1.0
_UNTOLD = 2.5
"""Periods without a picture that are not told: cameras drop one now and then."""
_REGULAR = 0.9
"""Share of the pictures that follow at the nominal rate where a gap is an exception that is told."""


class ClipTime:
    """Counts the time of a clip, picture by picture; one for each time that it is played.

    Where time stamps stand still or go back, the nominal rate counts until they rise again.

    Args:
        rate: of the header, pictures a second; 25 where it says nothing sensible.

    Attributes:
        period_s: from one picture to the next, at the nominal rate.
        at_s: time of the picture in the clip, the first 0.
        play_s: the same with every wait limited, to play it by.
        step_s: since the picture before.
        pictures: how many there were so far.
        skipped_s: by how much the wait for the last picture was shortened.
    """

    def __init__(self, rate: float) -> None:
        self.period_s = 1 / rate if 1e-6 <= rate <= 1e6 else 1 / 25.0
        self.at_s = self.play_s = self.step_s = self.skipped_s = 0.0
        self.pictures = 0
        self._shift_s = 0.0
        self._longest_s = 0.0
        self._irregular = 0
        self._gaps: list[tuple[int, float]] = []

    def next(self, stamp_s: float) -> None:
        """Go on to the next picture, which has this time stamp."""
        self.pictures += 1
        if self.pictures == 1:
            self._shift_s = -stamp_s if math.isfinite(stamp_s) else 0.0
            return
        step_s = stamp_s + self._shift_s - self.at_s
        if not (math.isfinite(step_s) and step_s > 0):
            if math.isfinite(step_s) and step_s < -_BACK_S:
                self._shift_s += self.period_s - step_s
            step_s = self.period_s
        longest_s = max(MAX_WAIT_S, 2 * self.period_s)
        self.skipped_s = max(0.0, step_s - longest_s)
        self.step_s = step_s
        self.at_s += step_s
        self.play_s += step_s - self.skipped_s
        self._remember(step_s)

    def missing(self, promised: float) -> str:
        """Say what is missing at the end against what the header promises; empty where it is all there.

        Args:
            promised: how many pictures, which where no header counts them is a duration times the rate.
        """
        promised_s, end_s = promised * self.period_s, self.at_s + self.period_s
        # A picture may be shown longer than the nominal period, the last one too, and sound may last longer.
        slack_s = max(self.period_s / 2, self._longest_s - self.period_s)
        if not self.pictures < promised < 1e12 or promised_s - end_s <= slack_s:
            return ""
        return (
            f"ends after {self.pictures:,} of {promised:,.0f} pictures ({end_s:,.1f} of {promised_s:,.1f} s):"
            " it was cut off, or its header is wrong"
        )

    def gaps(self) -> str:
        """Say where pictures are missing within a clip that is regular otherwise; empty where none are."""
        if not self._gaps or self._irregular > (1 - _REGULAR) * (self.pictures - 1):
            return ""
        index, step_s = self._gaps[0]
        others = f", and in {len(self._gaps) - 1:,} more places" if len(self._gaps) > 1 else ""
        return (
            f"its time stamps jump by {step_s:,.1f} s before picture {index}{others}:"
            " pictures are missing there, or it was not recorded in one go"
        )

    def _remember(self, step_s: float) -> None:
        self._longest_s = max(self._longest_s, step_s)
        if step_s > 1.5 * self.period_s:
            self._irregular += 1
            if step_s > _UNTOLD * self.period_s and len(self._gaps) < 10_000:
                self._gaps.append((self.pictures - 1, step_s))
