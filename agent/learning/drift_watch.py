"""What is known of drift, without what a glance at the pictures has said before."""

from __future__ import annotations

from dataclasses import replace

from adapters.monitoring.block_statistics import Doubles
from adapters.monitoring.drift_baseline import DriftReference
from adapters.monitoring.drift_detector import DriftMonitor, DriftReport

NEVER = -(10**9)


class DriftWatch:
    """Owns the monitor and its newest report. For the learner's thread.

    Args:
        reference: of the station.
    """

    def __init__(self, reference: DriftReference) -> None:
        self._frames = reference.block_frames
        self._monitor = DriftMonitor(reference)
        self._fresh = DriftReport()
        self._turned_at = NEVER

    @property
    def report(self) -> DriftReport:
        """After the last block."""
        return self._monitor.report

    def add(self, row: Doubles, number: int, at_s: float) -> DriftReport | None:
        """Take one picture; return a report when it completes a block."""
        report = self._monitor.add_row(row, number, at_s)
        if report is not None:
            self._fresh = report
        return report

    def turned(self, frame: int) -> None:
        """Remember that the pictures were known to be others at a frame."""
        self._turned_at = frame

    def news(self) -> DriftReport:
        """Return the last report without what was known by a turn already, or was news before."""
        report = self._fresh
        if report.frame - 3 * self._frames <= self._turned_at:
            report = replace(report, abrupt=False, jump=0.0)
            # Of a block that began before the turn nothing else is true either.
            old = report.frame - self._frames < self._turned_at
            report = replace(report, drifting=False, normal=False) if old else report
        return report

    def told(self) -> None:
        """That the pictures changed abruptly is no news any more."""
        self._fresh = replace(self._fresh, abrupt=False, jump=0.0)
