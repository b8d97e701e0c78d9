"""The alarm about rejects: quiet at the usual rate however defects come, loud at ten times as many."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from adapters.monitoring.reject_rate import BLOCK, RejectRateMonitor

USUAL = 0.03


def line(rng: np.random.Generator, parts: int, share: float, bursts: bool = True) -> NDArray[np.bool_]:
    """Return which parts are rejected: half of them alone, half in bursts of 12 in 25 parts."""
    rejected = rng.random(parts) < (share / 2 if bursts else share)
    if bursts:
        for first in range(0, parts - 25, 25):
            if rng.random() < share / 2 * 25 / 12:
                rejected[first + rng.permutation(25)[:12]] = True
    return rejected


def raised_at(rejected: NDArray[np.bool_], alarm: RejectRateMonitor) -> int | None:
    """Return after how many parts the alarm was raised."""
    for number, one in enumerate(rejected):
        alarm = alarm.judged(rejected=bool(one))
        if alarm.raised:
            return number + 1
    return None


def test_it_stays_quiet_for_a_hundred_hours_of_bursts_at_the_usual_rate() -> None:
    rejected = line(np.random.default_rng(0), 360_000, USUAL)
    assert 0.02 < rejected.mean() < 0.04
    assert raised_at(rejected, RejectRateMonitor(USUAL)) is None


def test_a_rate_just_tolerated_raises_it_no_more_often_than_promised() -> None:
    alarms = 0
    for seed in range(20):  # ten hours each
        rejected = np.random.default_rng(seed).random(36_000) < 2 * USUAL
        alarms += raised_at(rejected, RejectRateMonitor(USUAL)) is not None
    assert alarms <= 5, f"{alarms} in 200 hours; one in 100 hours is promised on average"


def test_ten_times_the_defects_raise_it_within_500_parts_in_every_one_of_50_lines() -> None:
    for seed in range(50):
        rng = np.random.default_rng(seed)
        before = line(rng, 5000, USUAL)
        alarm = RejectRateMonitor(USUAL)
        for one in before:
            alarm = alarm.judged(rejected=bool(one))
        assert not alarm.raised
        after = raised_at(line(rng, 1000, 10 * USUAL), alarm)
        assert after is not None
        assert after <= 500


def test_it_comes_down_again_when_the_rate_does() -> None:
    alarm = RejectRateMonitor(USUAL)
    for one in np.random.default_rng(1).random(3000) < 0.5:
        alarm = alarm.judged(rejected=bool(one))
    assert alarm.raised
    for _ in range(40 * BLOCK):
        alarm = alarm.judged(rejected=False)
    assert not alarm.raised


def test_a_line_that_never_rejects_tolerates_one_in_a_hundred() -> None:
    assert RejectRateMonitor(0.0).limit == 0.01
    assert RejectRateMonitor(0.9).limit == 0.5


def test_one_burst_after_an_alarm_has_ended_is_not_one_alarm_more() -> None:
    """Half of a block rejected, right after the end: enough if the evidence of before still counted."""
    alarm = RejectRateMonitor(USUAL)
    while not alarm.raised:
        alarm = alarm.judged(rejected=True)
    while alarm.raised:
        alarm = alarm.judged(rejected=False)
    for part in range(BLOCK):
        alarm = alarm.judged(rejected=part < BLOCK // 2)
    assert not alarm.raised
    for _ in range(6 * BLOCK):
        alarm = alarm.judged(rejected=True)
    assert alarm.raised
