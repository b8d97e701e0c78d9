"""The time by which results grow old, over all that a clock can do to it."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.base.codec import timestamp
from agent.base.event_id import moment_of, ulid_of
from agent.clock.time_book import TimeBook
from agent.clock.trusted_time import (
    FIRST,
    SLACK,
    ClockReading,
    Doubt,
    TrustedTime,
    counted,
    read_clocks,
    step,
)
from agent.domain.verdict import Verdict
from agent.store.garbage_collector import no_doubts
from agent.store.purge import Purge, purge, would_go
from tests.support.evidence_site import NOON, judged, pictures_in, with_pictures
from tests.support.insides import timesyncd
from tests.support.verdicts import a_store, close_stores

TRUTH = datetime(2026, 6, 1, 12, tzinfo=UTC)
KEEP = timedelta(days=10)
HOUR_S = 3600.0


class Machine:
    """A line PC with a clock that can be wrong, and a store of when its results were decided in truth."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.truth, self.up_s, self.synchronised = TRUTH, 0.0, False
        self.wrong = timedelta()
        self.decided: list[datetime] = []  # in truth, number 1 first
        self.said: list[datetime] = []
        self.gone = 0
        self.book = self._book()

    def _book(self) -> TimeBook:
        newest = next((at for at in reversed(self.said[self.gone :]) if at >= FIRST), None)
        return TimeBook(self.folder, {"top": len(self.said)}, newest, self.clocks)

    def clocks(self) -> ClockReading:
        return ClockReading(self.truth + self.wrong, self.up_s, self.synchronised)

    def runs(self, hours: float, results: int = 1) -> None:
        """Decide results and look at the clock, as an agent does while it runs."""
        minutes = max(1, round(hours * 60 / results))
        for _ in range(results):
            self.truth += timedelta(minutes=minutes)
            self.up_s += 60.0 * minutes
            self.decided.append(self.truth)
            self.said.append(self.truth + self.wrong)
            self.tidies()

    def restarts(self, off_hours: float = 0.0, *, machine: bool = False) -> None:
        self.book.write()
        self.truth += timedelta(hours=off_hours)
        self.up_s = 0.0 if machine else self.up_s + off_hours * HOUR_S
        self.synchronised = self.synchronised and not machine
        self.book = self._book()

    def tidies(self) -> None:
        now = self.book.look({"top": len(self.said)})
        rows = [(number, at) for number, at in enumerate(self.said, 1) if number > self.gone]
        for (number, _), at in zip(rows, counted(rows, self.book.doubts("top"), now), strict=True):
            if at >= now - KEEP:
                break
            self.gone = number

    def youngest_gone(self) -> timedelta:
        """Return how old the youngest of the deleted results is in truth."""
        return self.truth - self.decided[self.gone - 1] if self.gone else timedelta.max


WRONG = st.one_of(
    st.just(timedelta()),
    st.builds(timedelta, hours=st.floats(-24 * 365 * 60, 24 * 365 * 60)),
    st.builds(timedelta, hours=st.floats(-48, 48)),
)
EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("runs"), st.floats(0.1, 20.0), st.integers(1, 5)),
        st.tuples(st.just("set"), WRONG),
        st.tuples(st.just("right"), st.booleans()),
        st.tuples(st.just("restart"), st.floats(0.0, 24 * 40)),
        st.tuples(st.just("reboot"), st.floats(0.0, 24 * 40), WRONG),
    ),
    max_size=25,
)


@given(events=EVENTS)
@settings(max_examples=40, deadline=None)
def test_no_history_of_a_clock_deletes_a_result_early(
    events: list[tuple], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """However it was set, boots and restarts in between: as long as no wrong clock goes on for a day.

    The first look at an agent's clock is a right one; a clock that NTP keeps is right.
    """
    machine = Machine(tmp_path_factory.mktemp("clock"))
    machine.runs(1.0)
    wrong_h = 0.0
    for event in events:
        match event:
            case ("runs", hours, results):
                # A wrong clock that goes on for a day is believed: it is set right before that.
                wrong_h += hours
                if machine.wrong and wrong_h > 20.0:
                    machine.wrong, wrong_h = timedelta(), 0.0
                machine.runs(hours, results)
            case ("set", wrong) if not machine.synchronised:
                machine.wrong = wrong
            case ("right", synchronised):
                machine.wrong, machine.synchronised, wrong_h = timedelta(), synchronised, 0.0
            case ("restart", hours):
                machine.restarts(hours)
                wrong_h += 1.0  # which is all that counts of it
            case ("reboot", hours, wrong):
                machine.restarts(hours, machine=True)
                machine.wrong, wrong_h = wrong, wrong_h + 1.0
        machine.tidies()
        assert machine.youngest_gone() >= KEEP - 2 * SLACK - timedelta(minutes=1)


@given(events=EVENTS)
@settings(max_examples=15, deadline=None)
def test_whatever_a_clock_did_all_that_is_old_goes_in_the_end(
    events: list[tuple], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Once the clock is right for as long as results are kept, and a day: nothing is kept for ever."""
    machine = Machine(tmp_path_factory.mktemp("clock"))
    machine.runs(1.0)
    for event in events:
        match event:
            case ("runs", hours, results):
                machine.runs(hours, results)
            case ("set", wrong):
                machine.wrong = wrong
            case ("restart", hours):
                machine.restarts(hours)
            case ("reboot", hours, wrong):
                machine.restarts(hours, machine=True)
                machine.wrong = wrong
    before = len(machine.said)
    machine.wrong = timedelta()
    machine.runs(24.0 * 14, 24 * 14)
    assert machine.gone >= before


def test_a_boot_in_1970_that_ntp_ends_deletes_nothing(tmp_path: Path) -> None:
    """Nothing of what was decided before the clock was set is old then, also on a machine that is new."""
    for number, hours in enumerate((0.0, 5.0)):
        (tmp_path / str(number)).mkdir()
        machine = Machine(tmp_path / str(number))
        if hours:
            machine.runs(hours, 5)
            machine.restarts(100 * 24.0, machine=True)
        machine.wrong = datetime(1970, 1, 1, tzinfo=UTC) - machine.truth
        machine.runs(0.5, 10)
        old = len(machine.said) - 10
        machine.wrong, machine.synchronised = timedelta(), True
        machine.runs(0.5, 10)
        assert machine.gone == old  # those of a hundred days before, and no other
        machine.runs(24.0 * 11, 200)
        assert machine.gone >= old + 20


def test_a_leap_into_a_far_future_and_back_deletes_nothing(tmp_path: Path) -> None:
    """A day of grace: what comes back within it has done no harm."""
    machine = Machine(tmp_path)
    machine.runs(24.0, 24)
    for wrong in (timedelta(days=3650), timedelta(days=40), timedelta()):
        machine.wrong = wrong
        machine.runs(5.0, 5)
    machine.restarts(1.0)
    machine.tidies()
    assert machine.gone == 0


def test_a_clock_that_stays_is_believed_after_a_day(tmp_path: Path) -> None:
    """Without NTP somebody has to set it: then it counts, and what was decided before is as old as that."""
    machine = Machine(tmp_path)
    machine.wrong = timedelta(days=-300)
    machine.runs(24.0, 24)
    machine.wrong = timedelta()
    machine.runs(20.0, 20)
    assert machine.gone == 0
    machine.runs(24.0 * 8, 8 * 24)
    assert machine.gone == 0
    machine.runs(24.0 * 5, 5 * 24)
    assert machine.gone >= 40


def test_a_machine_that_was_off_for_a_month_goes_on(tmp_path: Path) -> None:
    """Without NTP its clock counts after a day; with it at once."""
    for synchronised in (True, False):
        folder = tmp_path / str(synchronised)
        folder.mkdir()
        machine = Machine(folder)
        machine.runs(10.0, 10)
        machine.restarts(24.0 * 30, machine=True)
        machine.synchronised = synchronised
        machine.runs(1.0)
        assert machine.gone == (10 if synchronised else 0)
        machine.runs(24.0, 24)
        assert machine.gone == 10


ODD = [
    b'{"at":"%s","up_s":%s,"off_s":%s,"trusted":true,"began":{},"open":null,"doubts":[]}' % odd
    for odd in [
        *(
            (b"2026-06-01T00:00:00Z", up, off)
            for up, off in [(b"NaN", b"0"), (b"1e300", b"0"), (b"1", b"-1e300")]
        ),
        (b"9999-12-31T23:59:59Z", b"1", b"0"),
        (b"0001-01-01T00:00:00+14:00", b"1", b"0"),
    ]
]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"at": 3}', b"\xff", b"[" * 100_000, None, *ODD])
def test_a_lost_book_believes_the_newest_result(content: bytes | None, tmp_path: Path) -> None:
    """What time it was at least is in the store."""
    if content is not None:
        (tmp_path / "clock.json").write_bytes(content)
    clock = ClockReading(TRUTH + timedelta(days=4000), 10.0, False)
    book = TimeBook(tmp_path, {"top": 7}, TRUTH, lambda: clock)
    assert book.look({"top": 7}) == TRUTH
    assert json.loads((tmp_path / "clock.json").read_text())["trusted"] is False


def test_what_is_known_outlives_a_restart(tmp_path: Path) -> None:
    """Doubts too, open and settled."""
    clock = [ClockReading(TRUTH, 10.0, False)]
    book = TimeBook(tmp_path, {"top": 7}, None, lambda: clock[0])
    book.look({"top": 7})
    clock[0] = ClockReading(TRUTH - timedelta(days=99), 20.0, False)
    book.look({"top": 8})
    clock[0] = ClockReading(TRUTH, 30.0, False)
    book.look({"top": 9})
    clock[0] = ClockReading(FIRST, 40.0, False)
    book.look({"top": 9, "side": 2})
    again = TimeBook(tmp_path, {"top": 9, "side": 2}, None, lambda: clock[0])
    for station in ("top", "side"):
        assert again.doubts(station) == book.doubts(station) != []
    assert again.doubts("top")[1] == Doubt("top", 8, 9, TRUTH)


def test_a_time_that_cannot_be_is_that_of_the_next_one() -> None:
    now = TRUTH + timedelta(days=50)
    days = [None, FIRST - timedelta(1), TRUTH, now + timedelta(9), TRUTH - timedelta(days=3), None]
    rows = list(enumerate(days, 1))
    assert counted(rows, (), now) == [TRUTH, TRUTH, TRUTH, TRUTH, TRUTH, now]
    settled = [Doubt("top", 1, 3, now - timedelta(1)), Doubt("top", 5, 5, None)]
    assert counted(rows, settled, now)[:3] == [now - timedelta(1)] * 3
    assert counted(rows[:1], (), now, TRUTH) == [TRUTH]
    assert counted([], (), now) == []


def test_the_clocks_of_this_machine_are_read() -> None:
    first, second = read_clocks(), read_clocks()
    assert second.up_s >= first.up_s > 0
    known, believed = step(TrustedTime(), first)
    assert (known.trusted, believed) == (first.wall >= FIRST, first.wall >= FIRST)


@given(st.integers(0, 2**48 - 1), st.integers(0, 2**80 - 1))
def test_an_event_id_tells_its_time(milliseconds: int, chance: int) -> None:
    found = moment_of(ulid_of(milliseconds, chance))
    if found is not None:
        assert abs(found.timestamp() * 1000 - milliseconds) < 2
    assert moment_of("") is None
    assert moment_of("not an event id") is None


def test_results_and_pictures_of_a_wrong_clock_stay_until_they_are_old(tmp_path: Path) -> None:
    """In the store itself: of 1970, of a past year behind newer ones, and in doubt; with what is old gone."""
    store = a_store(tmp_path, keep_days=10, image_days=10)
    ages = [12, 11, 20_000, 1, 400, 0.5]
    parts = [judged("fail", age_days=days) for days in ages]
    with_pictures(store, parts)
    now = parts[0].decided_at + timedelta(days=12)
    try:
        while store.collect_garbage(now, no_doubts):
            pass
        assert [row.seq for row in store.between("top", 1, 9, 9)] == [3, 4, 5, 6]
        assert pictures_in(tmp_path) == {part.event_id for part in parts[2:]}
        doubt = [Doubt("top", 3, 5, now)]
        while store.collect_garbage(now + timedelta(days=9.3), lambda _: doubt):
            pass
        assert [row.seq for row in store.between("top", 1, 9, 9)] == [3, 4, 5, 6]
        while store.collect_garbage(now + timedelta(days=9.3), no_doubts):
            pass
        assert [row.seq for row in store.between("top", 1, 9, 9)] == [6]
        assert pictures_in(tmp_path) == {parts[5].event_id}
    finally:
        close_stores()


def test_many_results_of_a_wrong_clock_block_nothing(tmp_path: Path) -> None:
    """More than one look takes in: they go with the first one behind them whose time can be."""
    store = a_store(tmp_path, keep_days=10, outbox=False)
    parts = [judged(age_days=20_000) for _ in range(450)] + [judged(age_days=11), judged(age_days=1)]
    store.commit(parts)
    try:
        while store.collect_garbage(parts[-1].decided_at + timedelta(days=1)):
            pass
        assert [row.seq for row in store.between("top", 1, 999, 999)] == [452]
    finally:
        close_stores()


def boot_in_1970(count: int) -> list[Verdict]:
    at = datetime(1970, 1, 1, 0, 1, tzinfo=UTC)
    return [
        replace(judged("fail"), event_id=ulid_of(int(at.timestamp() * 1000) + i, i), decided_at=at)
        for i in range(count)
    ]


@pytest.mark.parametrize("full_disk", [False, True])
@pytest.mark.parametrize("year", [1970, 2025])
def test_where_space_is_needed_a_wrong_clock_makes_no_picture_older(
    year: int, full_disk: bool, tmp_path: Path
) -> None:
    """Of this morning, with a clock of 1970 or of a past year: those of last week go first."""
    size = 150_000
    store = a_store(tmp_path, image_bytes=10 * size)
    week = [judged("fail", age_days=5 - i / 10) for i in range(10)]
    with_pictures(store, week, size)
    new = boot_in_1970(3) if year == 1970 else [judged("fail", age_days=300) for _ in range(3)]
    with_pictures(store, new, size)
    now = week[-1].decided_at + timedelta(days=1)
    doubts = [] if year == 1970 else [Doubt("top", 11, 13, now)]
    try:
        if full_disk:
            assert store.make_room(now, lambda _: doubts) == 7 * size
        else:
            while store.collect_garbage(now, lambda _: doubts):
                pass
        gone = 7 if full_disk else 3
        assert pictures_in(tmp_path) == {part.event_id for part in [*week[gone:], *new]}
    finally:
        close_stores()


def test_pictures_of_a_wrong_clock_go_in_their_turn(tmp_path: Path) -> None:
    """More of them than one look takes in, also from the future: before what came behind them."""
    store = a_store(tmp_path, image_bytes=10**9)
    now = NOON
    odd = [*boot_in_1970(250), *(judged("fail", age_days=-500) for _ in range(250))]
    with_pictures(store, odd, 10)
    with_pictures(store, [judged("fail", age_days=200 - i / 2) for i in range(250)], 10)
    doubts = [Doubt("top", 1, 500, now - timedelta(days=300))]
    store.retention = replace(store.retention, image_bytes=2500)
    try:
        while store.collect_garbage(now, lambda _: doubts):
            pass
        assert not pictures_in(tmp_path) & {part.event_id for part in odd}
        assert len(pictures_in(tmp_path)) == 250
    finally:
        close_stores()


def test_purging_by_hand_leaves_what_is_in_doubt(tmp_path: Path) -> None:
    """Of 1970 and of a past year: by their number, a station or once their time is known they can go."""
    store = a_store(tmp_path)
    store.commit([judged(age_days=90), *boot_in_1970(1), judged(age_days=90), judged(age_days=1)])
    store.close()
    book = TimeBook(tmp_path, {"top": 1}, None, lambda: ClockReading(TRUTH, 10.0, False))
    book.look({"top": 2})
    book.write()
    say_of_time(tmp_path, open={"top": 2})
    wish = Purge(TRUTH - timedelta(days=30), None)
    assert would_go(tmp_path, wish).results == 1
    purge(tmp_path, wish, lambda _: None)
    store = a_store(tmp_path)
    try:
        assert [row.seq for row in store.between("top", 1, 9, 9)] == [2, 3, 4]
    finally:
        close_stores()
    say_of_time(tmp_path, open=None, doubts=[["top", 2, 3, timestamp(TRUTH - timedelta(days=31))]])
    assert would_go(tmp_path, wish).results == 2
    assert would_go(tmp_path, Purge(None, "top")).results == 3


def say_of_time(folder: Path, **known: Any) -> None:
    """Let the file say something else of which results are in doubt."""
    file = folder / "clock.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **known}))


def test_a_mark_of_ntp_counts_while_the_clock_goes_on_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Timesyncd leaves it when NTP is gone; a clock that somebody sets then is not kept by it."""
    mark = tmp_path / "synchronized"
    marked = timesyncd(monkeypatch, mark)
    assert not marked(1.8e9)
    mark.touch()
    os.utime(mark, (1.8e9, 1.8e9))
    assert marked(1.8e9 + 2100)
    for wrong_s in (-400 * 86_400, -4 * 3600, 4 * 3600, 400 * 86_400):
        assert not marked(1.8e9 + wrong_s)
