"""An alarm when more parts are rejected than at commissioning, however correlated defects come.

It does not ask why: a process that got worse and a lamp that makes good parts look defective both raise it.
Learning cannot silence the first, because the operating point follows pictures and known parts, never the
share of rejects.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

BLOCK = 50
"""Parts per bet; a burst of defects is one piece of bad luck, not twenty."""

_STAKES = (0.25, 0.5, 0.9)


@dataclass(frozen=True, slots=True)
class RejectRateMonitor:
    """A gambler bets block by block that the share of rejects is above `tolerated` times the usual one.

    The bet is fair while the expected share of a block, whatever came before, is not above that; then alarms
    are at least `patience` blocks apart on average (the Shiryaev-Roberts e-detector of Shin, Ramdas and
    Rinaldo, https://arxiv.org/abs/2203.03532).

    Attributes:
        usual: share of rejects at commissioning, 0..1.
        tolerated: factor on it that is no alarm.
        patience: blocks between false alarms; 7200 are 100 hours at one part a second.
        evidence: the detector's statistic, per stake.
        parts, rejects: of the block that is being filled.
        raised: there are too many rejects. When it ends, nothing of the evidence is left: one burst more is
            not one alarm more.
    """

    usual: float
    tolerated: float = 2.0
    patience: float = 7200.0
    evidence: tuple[float, ...] = (0.0,) * len(_STAKES)
    parts: int = 0
    rejects: int = 0
    raised: bool = False

    @property
    def limit(self) -> float:
        """Share of rejects that is tolerated; at least one part in a hundred."""
        return min(0.5, max(0.01, self.tolerated * self.usual))

    def judged(self, *, rejected: bool) -> RejectRateMonitor:
        """Return the alarm after one more part."""
        parts, rejects = self.parts + 1, self.rejects + rejected
        if parts < BLOCK:
            return replace(self, parts=parts, rejects=rejects)
        won = rejects / BLOCK / self.limit - 1
        # What is far above the threshold would take as long to come down again.
        evidence = tuple(
            min((1 + before) * (1 + stake * won), 20 * self.patience)
            for before, stake in zip(self.evidence, _STAKES, strict=True)
        )
        raised = sum(evidence) / len(_STAKES) >= self.patience
        if self.raised and not raised:
            evidence = (0.0,) * len(_STAKES)
        return replace(self, evidence=evidence, parts=0, rejects=0, raised=raised)
