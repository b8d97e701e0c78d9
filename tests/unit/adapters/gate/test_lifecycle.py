"""The learner's phases: few ways from one to another, no flapping, and always a way back."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.gate.state_machine import (
    Action,
    Change,
    Patience,
    Phase,
    Signals,
    State,
    Turn,
    advance,
    proposed,
)
from tests.support.line_site import FEW

WATCH, LEARN, HOLD, TRIPPED = Phase.WATCH, Phase.LEARN, Phase.HOLD, Phase.TRIPPED
TURNS: tuple[Turn, ...] = get_args(Turn)
PATIENCE = Patience(dwell=20, idle=3, harmful=3, budget=8, cool_down=50, longest_cool_down=400, back_stop=600)

AGAIN = {None: Action.SEARCH, "met": Action.RECALL, "unknown": Action.LEAVE}
BACK = {None: Action.RESET, "home": Action.RESET}
EDGES: dict[tuple[Phase, Phase], dict[Turn | None, Action]] = {
    (WATCH, LEARN): AGAIN,  # drift confirmed, or a turn
    (LEARN, HOLD): {None: Action.NONE},  # no gain, converged, spent
    (LEARN, TRIPPED): dict.fromkeys((None, *TURNS), Action.ROLLBACK),
    (HOLD, TRIPPED): dict.fromkeys((None, *TURNS), Action.ROLLBACK),
    (TRIPPED, WATCH): dict.fromkeys((None, *TURNS), Action.NONE),  # cool-down
    (LEARN, WATCH): BACK,  # back to normal, back-stop, home
    (HOLD, WATCH): BACK,
    (HOLD, LEARN): AGAIN,  # worse again, abrupt, or a turn
    (LEARN, LEARN): AGAIN,  # abrupt, or a turn: begins again
}
"""What is to be done, by what a glance said."""

Step = tuple[Signals, tuple[bool, bool] | None]
"""What is known, with the frames since the look before, and how the guard rules on a proposal."""


def life(seed: int) -> list[Step]:
    """200 looks at a line on which everything happens, much of it at once."""
    rng = np.random.default_rng(seed)
    rulings = (None, (True, False), (False, False), (False, True))
    steps: list[Step] = []
    for _ in range(200):
        happens = dict(
            zip(("drifting", "worse", "abrupt", "normal", "converged"), rng.random(5), strict=True)
        )
        often = {"drifting": 0.6, "worse": 0.5, "abrupt": 0.05, "normal": 0.05, "converged": 0.1}
        facts = {name: bool(chance < often[name]) for name, chance in happens.items()}
        harmed = "labels" if rng.random() < 0.03 else None
        turn = TURNS[rng.integers(len(TURNS))] if rng.random() < 0.03 else None
        signals = Signals(int(rng.integers(1, 20)), turn=turn, harmed=harmed, **facts)
        steps.append((signals, rulings[rng.integers(4)]))
    return steps


STEPS = st.integers(0, 10**6).map(life)
FACTS = st.fixed_dictionaries(
    dict.fromkeys(("drifting", "abrupt", "normal", "worse", "converged"), st.booleans())
)
"""What else may be known, but harm and a turn."""


def walk(steps: list[Step]) -> list[tuple[State, Signals, Change]]:
    """Let a learner live: what it was, what it was told, what came of it."""
    state, frame, lived = State(), 0, []
    for signals, ruling in steps:
        frame += signals.frame
        now = replace(signals, frame=frame)
        change = advance(state, now, PATIENCE)
        assert advance(state, now, PATIENCE) == change  # the same again
        lived.append((state, now, change))
        state = change.state
        if state.phase is LEARN and ruling is not None:
            state = proposed(state, kept=ruling[0], harmful=ruling[1])
    return lived


def changes(steps: list[Step]) -> list[tuple[State, Signals, Change]]:
    return [step for step in walk(steps) if step[2].why is not None]


def test_the_walks_take_every_edge() -> None:
    """What follows is about all of the diagram, with and without a turn."""
    taken = {(b.phase, c.state.phase, s.turn) for seed in range(200) for b, s, c in changes(life(seed))}
    assert taken == {(*edge, turn) for edge, actions in EDGES.items() for turn in actions}


@FEW
@given(STEPS)
def test_phases_change_by_the_drawn_edges_only_and_say_why(steps: list[Step]) -> None:
    """No other pair ever occurs; what is to be done belongs to the edge; without a reason nothing changes."""
    for before, signals, change in walk(steps):
        if change.why is None:
            assert (change.state.phase, change.state.since) == (before.phase, before.since)
            assert change.action is Action.NONE
            continue
        assert change.why
        assert change.state.since == signals.frame
        assert change.action is EDGES[before.phase, change.state.phase][signals.turn]


@FEW
@given(STEPS)
def test_no_flapping(steps: list[Step]) -> None:
    """A phase is left at once only by a learner that is done or tripped, by the back-stop or a turn."""
    begun = []
    for before, signals, change in changes(steps):
        stayed = signals.frame - before.since
        turned = signals.turn is not None and before.phase is not TRIPPED
        if change.state.phase is LEARN:
            begun.append((signals.frame, turned))
        at_once = (
            turned
            or change.state.phase is TRIPPED
            or change.why == "periodic reset"
            or (before.phase, change.state.phase) == (LEARN, HOLD)
        )
        least = PATIENCE.cool_down if before.phase is TRIPPED else PATIENCE.dwell
        assert at_once or stayed >= least
    assert all(turned or at - earlier >= PATIENCE.dwell for (earlier, _), (at, turned) in pairwise(begun))


@FEW
@given(STEPS)
def test_a_tripped_learner_learns_nothing_until_it_has_cooled_down(steps: list[Step]) -> None:
    """Whatever is signalled: its only way is to WATCH, and from there the usual one."""
    for before, _, change in walk(steps):
        if before.phase is TRIPPED:
            assert change.state.phase in (TRIPPED, WATCH)
            assert change.action is Action.NONE
            assert (change.state.proposals, change.state.born) == (0, None)


@FEW
@given(STEPS, FACTS)
def test_normal_conditions_bring_back_the_source_from_wherever_it_is(
    steps: list[Step], facts: dict[str, bool]
) -> None:
    """Other signals cannot keep an adapted model: once a phase has lasted, normal means RESET and WATCH.

    But harm and a turn, which have rules of their own.
    """
    for state, signals, _ in walk(steps):
        later = Signals(max(signals.frame, state.since + PATIENCE.dwell), **facts | {"normal": True})
        change = advance(state, later, PATIENCE)
        if state.phase in (LEARN, HOLD):
            assert (change.state.phase, change.action) == (WATCH, Action.RESET)
            assert (change.state.trips, change.state.born) == (0, None)
        elif state.phase is WATCH:
            assert change.state.phase is WATCH


@FEW
@given(STEPS)
def test_harm_ends_every_adapted_phase_at_once(steps: list[Step]) -> None:
    """No dwell time protects an adapter that is proven harmful, nor do normal conditions or a turn."""
    for state, signals, _ in walk(steps):
        if state.phase in (LEARN, HOLD):
            change = advance(state, replace(signals, harmed="labels prove harm"), PATIENCE)
            assert (change.state.phase, change.action) == (TRIPPED, Action.ROLLBACK)
            assert change.why == "labels prove harm"
            assert change.state.trips == state.trips + 1


@FEW
@given(STEPS)
def test_no_adapted_model_outlives_the_back_stop(steps: list[Step]) -> None:
    """Neither an abrupt change, a turn nor learning again makes an episode younger than its beginning.

    A turn on the very frame on which the period ends goes first; the next look ends it.
    """
    begun = None
    for _, signals, change in walk(steps):
        state = change.state
        if state.phase in (WATCH, TRIPPED):
            begun = None
        elif begun is None:
            begun = signals.frame
        turned = signals.turn is not None
        assert begun is None or turned or signals.frame - begun < PATIENCE.back_stop


def test_each_trip_cools_down_twice_as_long_up_to_a_limit() -> None:
    """50, 100, 200, 400, 400 frames; then normal conditions forget the trips."""
    state, frame, pauses = State(), 0, []
    for _ in range(6):
        while state.phase is not LEARN:
            frame += 1
            state = advance(state, Signals(frame, drifting=True), PATIENCE).state
        frame += 1
        state = advance(state, Signals(frame, drifting=True, harmed="labels"), PATIENCE).state
        tripped = frame
        while state.phase is TRIPPED:
            frame += 1
            state = advance(state, Signals(frame, drifting=True), PATIENCE).state
        pauses.append(frame - tripped)
    assert pauses == [50, 100, 200, 400, 400, 400]
    calm = advance(state, Signals(frame + PATIENCE.dwell, normal=True), PATIENCE).state
    assert (state.trips, calm.trips) == (6, 0)


@FEW
@given(st.integers(0, 10_000))
def test_a_cool_down_is_finite_after_any_number_of_trips(trips: int) -> None:
    state = State(TRIPPED, 7, trips=trips)
    assert advance(state, Signals(7 + PATIENCE.longest_cool_down), PATIENCE).state.phase is WATCH


@pytest.mark.parametrize(
    ("rulings", "phase"),
    [
        ([(False, False)] * 3, HOLD),  # no gain
        ([(False, False)] * 2 + [(True, False)] + [(False, False)] * 2, LEARN),
        ([(True, False)] * 8, HOLD),  # budget spent
        ([(False, True)] * 3, TRIPPED),
        ([(False, True), (False, True), (False, False)], HOLD),  # not in a row, but no gain either
        ([(False, True), (False, True), (True, False), (False, True)], LEARN),
    ],
)
def test_learning_ends_without_gain_without_budget_or_with_harm(
    rulings: list[tuple[bool, bool]], phase: Phase
) -> None:
    """Counts run in a row where they are said to, and a kept proposal begins them anew."""
    state = State(LEARN, 100, born=100)
    for number, (kept, harmful) in enumerate(rulings):
        assert advance(state, Signals(101 + number, drifting=True), PATIENCE).state.phase is LEARN
        state = proposed(state, kept=kept, harmful=harmful)
    change = advance(state, Signals(140, drifting=True), PATIENCE)
    assert change.state.phase is phase
    assert change.action is (Action.ROLLBACK if phase is TRIPPED else Action.NONE)


def test_an_abrupt_change_begins_learning_anew() -> None:
    """With a budget of its own and a search among what is stored, but as old as before."""
    for phase in (LEARN, HOLD):
        old = State(phase, 100, proposals=7, idle=2, harmful=1, trips=1, born=80)
        change = advance(old, Signals(130, drifting=True, abrupt=True), PATIENCE)
        assert (change.action, change.state) == (Action.SEARCH, State(LEARN, 130, trips=1, born=80))


def test_what_has_converged_holds_still_until_it_gets_worse() -> None:
    """HOLD does nothing by itself: drift that goes on is what was learned for."""
    held = advance(State(LEARN, 100, born=100), Signals(130, drifting=True, converged=True), PATIENCE).state
    assert held.phase is HOLD
    assert advance(held, Signals(200, drifting=True, converged=True), PATIENCE).why is None
    again = advance(held, Signals(200, drifting=True, worse=True), PATIENCE)
    assert (again.state.phase, again.state.proposals, again.action) == (LEARN, 0, Action.SEARCH)


@FEW
@given(STEPS, FACTS, st.sampled_from(TURNS))
def test_a_turn_goes_before_all_that_blocks_say(
    steps: list[Step], facts: dict[str, bool], turn: Turn
) -> None:
    """What else is signalled was measured on the pictures before it."""
    for state, signals, _ in walk(steps):
        if state.phase is not TRIPPED:
            alone = advance(state, Signals(signals.frame, turn=turn), PATIENCE)
            assert advance(state, Signals(signals.frame, turn=turn, **facts), PATIENCE) == alone


@pytest.mark.parametrize("phase", [LEARN, HOLD])
@pytest.mark.parametrize("after", [0, 1, 500])
def test_home_brings_back_the_source_without_dwell(phase: Phase, after: int) -> None:
    """Also on the frame on which the phase began; trips alone are left, until blocks are normal."""
    old = State(phase, 100, proposals=7, idle=2, harmful=1, trips=1, born=80)
    change = advance(old, Signals(100 + after, turn="home"), PATIENCE)
    assert (change.action, change.state) == (Action.RESET, State(WATCH, 100 + after, trips=1))


@pytest.mark.parametrize(("turn", "action"), [("met", Action.RECALL), ("unknown", Action.LEAVE)])
@pytest.mark.parametrize(("phase", "born"), [(WATCH, 101), (LEARN, 80), (HOLD, 80)])
def test_other_pictures_begin_learning_anew_without_dwell(
    phase: Phase, born: int, turn: Turn, action: Action
) -> None:
    """From WATCH too, where an episode is born with it; what is being learned stays as old as it was."""
    old = State(phase, 100, trips=1, born=None if phase is WATCH else 80)
    old = old if phase is WATCH else replace(old, proposals=7, idle=2, harmful=1)
    change = advance(old, Signals(101, turn=turn), PATIENCE)
    assert (change.action, change.state) == (action, State(LEARN, 101, trips=1, born=born))


@FEW
@given(STEPS, st.sampled_from(TURNS))
def test_a_tripped_learner_ignores_turns(steps: list[Step], turn: Turn) -> None:
    """Neither does one end the cool-down nor does one make it longer."""
    for state, signals, _ in walk(steps):
        if state.phase is TRIPPED:
            without = advance(state, replace(signals, turn=None), PATIENCE)
            assert advance(state, replace(signals, turn=turn), PATIENCE) == without


@pytest.mark.parametrize("turn", TURNS)
def test_harm_goes_before_a_turn(turn: Turn) -> None:
    """Other pictures do not clear an adapter of what labels have proven, and nothing is recalled."""
    for phase in (LEARN, HOLD):
        change = advance(State(phase, 100, born=80), Signals(101, turn=turn, harmed="labels"), PATIENCE)
        assert (change.state.phase, change.action, change.why) == (TRIPPED, Action.ROLLBACK, "labels")


def test_a_watching_learner_is_at_home_already() -> None:
    """Nothing changes, and nothing goes on record."""
    old = State(WATCH, 100, trips=1)
    assert advance(old, Signals(101, turn="home"), PATIENCE) == Change(old)
