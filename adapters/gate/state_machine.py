"""When to learn, stop, begin again and go back: the states of a station's learner, pure over numbers.

    WATCH  --drift, or a turn-->  LEARN  --no gain, converged, spent-->  HOLD  --worse, a turn-->  LEARN
      ^                         |                                      |
      |                         +--tripped--> TRIPPED --cool-down----> WATCH
      +---------------- conditions back to normal: source again -------+

Nothing but `advance` changes a phase, and each change carries what is to be done and why. Counted in frames,
not in seconds: a line that stands still learns nothing and forgets nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal

Turn = Literal["home", "met", "unknown"]
"""What a glance says of pictures that are others than before: as at commissioning, as a version was made for,
or new."""


class Phase(StrEnum):
    """What the learner is doing."""

    WATCH = "watch"
    LEARN = "learn"
    HOLD = "hold"
    TRIPPED = "tripped"


class Action(StrEnum):
    """What a change of phase asks for."""

    NONE = "none"
    RESET = "reset"
    """Back to the source and its commissioned operating point."""
    SEARCH = "search"
    """Begin again from whatever known adapter fits the new condition best, the source included."""
    RECALL = "recall"
    """The version answers that was made for such pictures; then as `SEARCH`."""
    LEAVE = "leave"
    """The source answers, since nothing is known of such pictures; then as `SEARCH`."""
    ROLLBACK = "rollback"
    """Back to the last adapter that is known to be good, or the source."""


@dataclass(frozen=True, slots=True)
class State:
    """Where a learner stands.

    Attributes:
        since: frame at which the phase began.
        proposals: made in this episode, which began with the last change from WATCH or by an abrupt change.
        idle: proposals in a row that were no gain.
        harmful: proposals in a row that the guard refused as harmful.
        trips: since the last time that conditions were normal; lengthen the cool-down.
        born: frame at which the last source-to-adapted episode began, for the back-stop; None on source.
    """

    phase: Phase = Phase.WATCH
    since: int = 0
    proposals: int = 0
    idle: int = 0
    harmful: int = 0
    trips: int = 0
    born: int | None = None


@dataclass(frozen=True, slots=True)
class Signals:
    """What is known at one frame.

    Attributes:
        frame: its number.
        drifting: drift is confirmed, gradual or abrupt.
        abrupt: the pictures changed abruptly just now.
        normal: the frozen model sees the clean line again.
        turn: a glance at the newest pictures says that they are others; blocks have not seen it yet.
        harmed: labels, or held-out known parts, prove that the answering adapter does harm; says how.
        worse: known parts are told apart worse than when learning stopped.
        converged: known parts are told apart as well as on the clean line.
    """

    frame: int
    drifting: bool = False
    abrupt: bool = False
    normal: bool = False
    turn: Turn | None = None
    harmed: str | None = None
    worse: bool = False
    converged: bool = False


@dataclass(frozen=True, slots=True)
class Patience:
    """How long things may take, in frames and proposals.

    Attributes:
        dwell: frames that a phase lasts before it may begin or end by what the pictures show: no flapping.
            Learning stops at once when there is nothing to gain, and anything ends at once that does harm.
        idle: proposals without gain after which learning stops.
        harmful: refusals in a row after which the guard trips.
        budget: proposals per episode.
        cool_down: frames of the first cool-down; doubles with each trip.
        longest_cool_down: frames.
        back_stop: frames after which an adapted model goes back to source in any case (RDumb,
            https://arxiv.org/abs/2306.05401); a day at one part a second.
    """

    dwell: int = 100
    idle: int = 3
    harmful: int = 3
    budget: int = 60
    cool_down: int = 400
    longest_cool_down: int = 6400
    back_stop: int = 86_400


@dataclass(frozen=True, slots=True)
class Change:
    """What `advance` decided.

    Attributes:
        state: after it.
        action: to be done now.
        why: for the audit record; None where nothing changed.
    """

    state: State
    action: Action = Action.NONE
    why: str | None = None


def advance(state: State, signals: Signals, patience: Patience) -> Change:
    """Return the state after one look at the signals."""
    if state.phase is Phase.TRIPPED:
        return _cool(state, signals.frame, patience)
    if signals.harmed is not None and state.phase is not Phase.WATCH:
        return _trip(state, signals.frame, signals.harmed)
    if signals.turn is not None:
        return _turned(state, signals.frame, signals.turn)
    if state.phase is Phase.WATCH:
        return _watch(state, signals, patience)
    return _adapting(state, signals, patience)


def proposed(state: State, *, kept: bool, harmful: bool) -> State:
    """Return the state after the guard has ruled on a proposal."""
    return replace(
        state,
        proposals=state.proposals + 1,
        idle=0 if kept else state.idle + 1,
        harmful=state.harmful + 1 if harmful else 0,
    )


def _cool(state: State, frame: int, patience: Patience) -> Change:
    pause = min(patience.cool_down * 2 ** max(0, state.trips - 1), patience.longest_cool_down)
    if frame - state.since < pause:
        return Change(state)
    return Change(replace(state, phase=Phase.WATCH, since=frame), why="cool-down over")


def _turned(state: State, frame: int, turn: Turn) -> Change:
    """Without dwell: what was learned for other pictures is not to answer one part longer than it must."""
    if turn == "home" and state.phase is Phase.WATCH:
        return Change(state)
    if turn == "home":
        home = State(since=frame, trips=state.trips)  # blocks say when all is well
        return Change(home, Action.RESET, "the pictures are as at commissioning again")
    again = State(
        Phase.LEARN, frame, trips=state.trips, born=frame if state.phase is Phase.WATCH else state.born
    )
    if turn == "met":
        return Change(again, Action.RECALL, "such pictures are known from before")
    return Change(again, Action.LEAVE, "the pictures changed abruptly")


def _watch(state: State, signals: Signals, patience: Patience) -> Change:
    settled = signals.frame - state.since >= patience.dwell
    if signals.drifting and not signals.normal and settled:
        begun = State(Phase.LEARN, signals.frame, trips=state.trips, born=signals.frame)
        return Change(begun, Action.SEARCH, "drift confirmed")
    return Change(replace(state, trips=0) if signals.normal and settled else state)


def _adapting(state: State, signals: Signals, patience: Patience) -> Change:
    frame = signals.frame
    settled = frame - state.since >= patience.dwell
    if signals.normal and settled:
        return Change(State(since=frame), Action.RESET, "conditions are back to normal")
    if state.born is not None and frame - state.born >= patience.back_stop:
        return Change(State(since=frame, trips=state.trips), Action.RESET, "periodic reset")
    if signals.abrupt and settled:
        again = State(Phase.LEARN, frame, trips=state.trips, born=state.born)
        return Change(again, Action.SEARCH, "abrupt change")
    if state.phase is Phase.HOLD:
        if signals.worse and settled:
            again = State(Phase.LEARN, frame, trips=state.trips, born=state.born)
            return Change(again, Action.SEARCH, "known parts are told apart worse than when learning stopped")
        return Change(state)
    if state.harmful >= patience.harmful:
        return _trip(state, frame, f"{state.harmful} harmful proposals in a row")
    return _stop(state, signals, patience)


def _stop(state: State, signals: Signals, patience: Patience) -> Change:
    reasons = (
        (signals.converged, "converged"),
        (state.idle >= patience.idle, f"no gain over {state.idle} proposals"),
        (state.proposals >= patience.budget, f"budget of {patience.budget} proposals spent"),
    )
    for stop, why in reasons:
        if stop:
            return Change(replace(state, phase=Phase.HOLD, since=signals.frame), why=why)
    return Change(state)


def _trip(state: State, frame: int, why: str) -> Change:
    return Change(State(Phase.TRIPPED, frame, trips=state.trips + 1), Action.ROLLBACK, why)
