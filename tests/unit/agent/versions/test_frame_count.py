"""A station's frames are one count, whatever restarts: nothing gets older or younger by a restart."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from adapters.core.observation import Observation
from adapters.gate.state_machine import Phase, State
from agent.inspection.frame_count import FrameCount, InForce
from agent.versions.execute import execute
from agent.versions.learner_memory import Memory
from agent.versions.operator_requests import Request
from agent.versions.station_state import SAVE_FRAMES
from agent.versions.version_manager import VersionManager
from tests.support.answering_site import a_version
from tests.support.insides import newest_frame
from tests.support.line_site import FEW
from tests.support.mqtt_peers import wait_until
from tests.support.small_line import Site, SmallEngine, hand_over, stream

BACK_STOP = 86_400
PATIENCE_S = 150.0


@dataclass
class Plant:
    """A station through restarts of all kinds; `truth` is what it should know."""

    folder: Path
    truth: int = 0
    run: int = 0
    number: int = 0
    clock: float = 0.0
    lost: int = 0
    anew: bool = False
    manager: VersionManager = field(init=False)

    def __post_init__(self) -> None:
        site = Site(self.folder)
        site.store(reading=False).write(a_version(0.01))
        self.begin()
        back = Request(kind="rollback", actor="ada", at="now", number=1)
        execute(self.manager, back)

    def begin(self) -> None:
        self.manager = Site(self.folder, run=f"run {self.run}").manager()
        self.manager.begin()

    def frames(self, count: int) -> None:
        """Some frames, of which the learner sees the last."""
        self.number, self.clock, self.truth = self.number + count, self.clock + count, self.truth + count
        self.manager.kept.count(self.number, self.clock)
        self.manager.kept.save_in_time()

    def late_frame(self) -> None:
        """One that was on its way while newer ones were seen."""
        if self.number > 3:
            self.manager.kept.count(self.number - 3, self.clock - 3)

    def learner_killed(self) -> None:
        self.begin()

    def learner_ends(self) -> None:
        self.manager.kept.save()
        self.begin()

    def agent_killed(self) -> None:
        self.run, self.number = self.run + 1, 0
        self.begin()
        lost, self.lost = self.lost, self.truth - self.age
        # Where the learner was away while a camera began anew, nobody knows how many frames that were.
        assert 0 <= self.lost - lost < SAVE_FRAMES or self.anew

    def agent_ends(self) -> None:
        self.manager.kept.save()
        self.agent_killed()

    def camera_numbers_anew(self) -> None:
        self.number, self.clock, self.anew = 0, self.clock + 1, True

    @property
    def age(self) -> int:
        assert self.manager.state.born is not None
        return self.manager.frame - self.manager.state.born


HAPPENS = st.one_of(
    st.integers(1, 3 * SAVE_FRAMES),
    st.sampled_from(
        ["late_frame", "learner_killed", "learner_ends", "agent_killed", "agent_ends", "camera_numbers_anew"]
    ),
)


@FEW
@given(st.lists(HAPPENS, max_size=25))
def test_the_age_of_a_version_is_the_frames_since_its_birth(history: list[int | str]) -> None:
    """Never negative, never more than there were; only a kill of the agent costs any, and few."""
    with tempfile.TemporaryDirectory() as folder:
        plant, before = Plant(Path(folder)), 0
        for what in history:
            if isinstance(what, int):
                plant.frames(what)
            else:
                getattr(plant, what)()
            assert 0 <= plant.age <= plant.truth
            if isinstance(what, int):
                # What a kill of the learner has hidden shows with the next frame of the run.
                assert plant.age == plant.truth - plant.lost or plant.anew
                assert before < plant.age <= plant.truth - plant.lost
            before = plant.age


def test_a_frame_that_is_late_is_not_counted_and_a_camera_may_number_anew() -> None:
    """By the time of the picture: a lower number of an older one is late, of a newer one a new beginning."""
    count = FrameCount("a", 100, 50, 10.0)
    assert count.seen(49, 9.9) is None
    assert count.seen(50, 10.0) is None
    again = count.seen(1, 10.5)
    assert again is not None
    assert (again.frame, again.base) == (151, 150)
    assert count.in_run(InForce("a")) is count
    assert count.in_run(InForce("b")).frame == 150


def test_what_an_older_release_kept_is_understood(tmp_path: Path) -> None:
    """Its frame goes on, its last request is not carried out again, and it can read ours."""
    old = {"frozen_by": "ada", "frame": 500, "request": "01" * 13}
    memory = Memory.read(old)
    assert (memory.count.frame, memory.frozen_by, memory.requests) == (500, "ada", ("01" * 13,))
    blob = memory.blob()
    assert {name: blob[name] for name in old} == old
    newer = blob | {"state": blob["state"] | {"mood": 3}, "count": blob["count"] | {"line": 2}}
    assert Memory.read(newer) == Memory.read(blob)


def numbered(numbers: list[int]) -> list[Observation]:
    """Parts whose camera has given them these numbers."""
    return [
        Observation(number, float(number), one.picture, one.feature, one.score, one.label, one.entropy)
        for number, one in zip(numbers, stream(len(numbers), defects=0), strict=True)
    ]


def answers_from(site: Site, number: int) -> None:
    """Let a version answer from a camera's frame on."""
    site.store(reading=False).write(a_version(0.001))
    manager = site.manager()
    manager.kept.count(number, float(number))
    manager.go_to(1, "ada", "test", state=State(Phase.HOLD, number, born=number))


def test_a_version_stays_when_the_learner_restarts_late_in_a_long_run(tmp_path: Path) -> None:
    """Frames count from the agent's start, and a learner that begins again counts none of them twice."""
    site = Site(tmp_path)
    answers_from(site, BACK_STOP + 5000)
    for first in (BACK_STOP + 5001, BACK_STOP + 5101):
        with site.learning() as one:
            hand_over(one, numbered(list(range(first, first + 7))))
            wait_until(lambda one=one, first=first: newest_frame(one) == first + 6, PATIENCE_S)
            assert one.answering().number == 1
    assert site.store().active().number == 1
    assert "reset" not in site.events()
    kept = Memory.read(site.store().active().learner)
    assert kept.count.frame == BACK_STOP + 5107


def test_a_version_is_left_after_a_day_of_frames_also_where_the_agent_restarts_every_night(
    tmp_path: Path,
) -> None:
    """Numbers that begin at 1 again do not make it young."""
    site = Site(tmp_path)
    answers_from(site, 1)
    answered = []
    for night in range(3):
        site.run = f"night {night}"
        with site.learning() as one:
            hand_over(one, numbered([1, 15_000, 29_000]))
            wait_until(lambda one=one, night=night: newest_frame(one) >= 29_000 * (night + 1), PATIENCE_S)
        answered.append(site.store().active().number)
    assert answered == [1, 1, 0]
    assert "periodic reset" in [payload.get("why") for _, payload in site.told]


def test_a_cool_down_goes_on_over_a_restart(tmp_path: Path) -> None:
    """Who restarts an agent does not get learning back sooner."""
    site = Site(tmp_path)
    manager = site.manager()
    manager.kept.remember(State(Phase.TRIPPED, 0, trips=2), None)
    manager.kept.save()
    again = Site(tmp_path, run="another").manager()
    assert again.state == State(Phase.TRIPPED, 0, trips=2)
    assert SmallEngine.source.digest == again.answering.adapter.digest


def test_frames_of_another_product_are_not_counted() -> None:
    """A product that comes back goes on where it was; a picture that was taken before that is late."""
    count = FrameCount("a", 0, 120, 10.0)
    back = count.in_run(InForce("b", 1_000_000, 500.0))
    assert back.frame == 120
    assert back.seen(1_000_000, 499.9) is None
    one = back.seen(1_000_001, 500.1)
    assert one is not None
    assert one.frame == 121
    assert one.in_run(InForce("b", 1_000_000, 500.0)) is one
