"""Proof by labels: an anytime-valid sequential test of the adapted model against the frozen one.

Labels are asked for where the two disagree: there exactly one of them is right. A gambler who does not
believe the null hypothesis bets on every label; if it is true, the wealth ever exceeds ``1 / alpha`` with a
probability of at most alpha (Ville's inequality), however often one looks. After I. Waudby-Smith and A.
Ramdas, "Estimating means of bounded random variables by betting", JRSS B 2024,
https://arxiv.org/abs/2010.09686.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

_STAKES = (0.1, 0.25, 0.5, 0.75, 0.95)
"""Shares of the wealth that are bet; the average over gamblers needs no choice and stays a fair game."""

_MOST = 1e30
"""Wealth beyond which nobody goes on counting: far more than any proof needs, and far from infinite."""

Verdict = Literal["open", "harm", "gain"]


@dataclass(frozen=True, slots=True)
class LabelTest:
    """Two gamblers' halls: one bets on harm, one on gain.

    Attributes:
        alpha: probability of ever proving harm that is none; the same for gain.
        false_reject_cost: of rejecting a good part, where missing a defect costs 1.
        harm: wealth per stake of those who bet on harm.
        gain: of those who bet on gain.
        labels: so far, on disagreements.
    """

    alpha: float = 0.01
    false_reject_cost: float = 0.2
    harm: tuple[float, ...] = field(default=(1.0,) * len(_STAKES))
    gain: tuple[float, ...] = field(default=(1.0,) * len(_STAKES))
    labels: int = 0

    def told(self, *, defect: bool, adapted_fails: bool, frozen_fails: bool) -> LabelTest:
        """Return the test after one more label.

        Args:
            defect: what the part really is.
            adapted_fails: what the answering adapter said.
            frozen_fails: what the frozen model said.
        """
        if adapted_fails == frozen_fails:
            return self  # nothing to bet on
        cost = 1.0 if defect else self.false_reject_cost
        loss = cost if adapted_fails != defect else -cost
        return replace(
            self,
            harm=_after(self.harm, loss),
            gain=_after(self.gain, -loss),
            labels=self.labels + 1,
        )

    @property
    def evidence(self) -> tuple[float, float]:
        """Wealth of the betters on harm and on gain, 1 at the start; 1 / alpha is proof."""
        return sum(self.harm) / len(self.harm), sum(self.gain) / len(self.gain)

    @property
    def verdict(self) -> Verdict:
        """What is proven now."""
        harm, gain = self.evidence
        if harm >= 1 / self.alpha:
            return "harm"
        return "gain" if gain >= 1 / self.alpha else "open"


def _after(wealth: tuple[float, ...], won: float) -> tuple[float, ...]:
    """Return the wealth per stake after one more bet."""
    return tuple(
        np.minimum(_MOST, one * (1 + stake * won)) for one, stake in zip(wealth, _STAKES, strict=True)
    )
