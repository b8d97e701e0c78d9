"""What was learned for some pictures answers for their like, at once, and for no others."""

from __future__ import annotations

from contextlib import suppress
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from adapters.baseline.baseline import Commissioning, ReferenceSamples
from adapters.core.adapter import Adapter
from adapters.core.observation import Bytes
from adapters.core.scorer import Scorer, Scores
from adapters.core.version_store import AdapterStore
from adapters.gate.state_machine import Patience, Phase, State, Turn
from adapters.monitoring.block_statistics import SCALARS, looks, measure
from adapters.monitoring.change_point import LEAST_LEVEL, LEVEL, NEWEST, WINDOW, ChangePointDetector
from adapters.monitoring.drift_baseline import DriftReference
from agent.audit.hash_chain import Audit
from agent.learning.episode import Episode
from agent.learning.known_domains import KnownDomains
from agent.learning.station_learner import StationLearner
from agent.versions.learner_settings import LearnerSettings
from agent.versions.operator_requests import Request
from agent.versions.version_manager import VersionManager
from tests.support.drift_lines import COMMISSIONING, DIM, line
from tests.support.learning_site import clean, engine, failing, prompts, shipped, stream

FEW_LOOKS = LearnerSettings(
    level="operating_point", recheck=10**6, patience=Patience(idle=1, cool_down=2 * WINDOW)
)
"""One look at each new condition, and none at what is held."""
BLURRED = "defocus"
"""A condition under which the operating point is elsewhere, so that a version is made without torch."""
HOME = "the pictures are as at commissioning again"
ENOUGH = 60
"""Pictures of a new condition after which it has been looked at, and the version for it answers."""
AWAY = LEAST_LEVEL + 2 * WINDOW
"""Pictures of a condition after which a turn from it shows; too few to look at it."""
SOON = NEWEST + WINDOW
"""Pictures after a turn until it is known where they belong."""

LOST, WORSE = 4.0, 7.0
"""Two lamps, in tenths of their light that are gone."""

Said = tuple[Turn, int, int]
"""A turn, the version for it, and after how many pictures."""


class Counting(Scorer):
    """Counts the pictures that it is shown."""

    shown = 0

    def look(self, pictures: Bytes, adapter: Adapter) -> Scores:
        self.shown += len(pictures)
        return super().look(pictures, adapter)


def small() -> Commissioning:
    """The line's commissioning with a third of its parts: a look takes a third of the time."""
    known = clean().known
    return replace(
        clean(), known=ReferenceSamples(known.pictures[::3], known.classes[::3]), good=clean().good[::2]
    )


class Line:
    """A station in lockstep: after each picture the learner may work."""

    def __init__(self, folder: Path) -> None:
        recipe = shipped("line")
        self.events: list[dict] = []
        self.scorer = Counting(engine(), prompts(recipe), failing(recipe))
        self.store = AdapterStore(folder, self.scorer.source, engine().info.weights)
        audit, now = Audit("line"), "2026-01-01T00:00:00Z"
        self.manager = VersionManager(
            small(), self.scorer.source, self.store, audit, lambda: now, self.events.append
        )
        self.learner = StationLearner(small(), self.scorer, None, self.manager, FEW_LOOKS)
        self.frames = 0

    def show(
        self, count: int, worse: str | None = None, *, severity: float = 4.0, working: bool = True
    ) -> list[int]:
        """Which version answered after each of some more pictures."""
        answered = []
        for seen in stream(count, worse, self.frames + 1, severity=severity):
            self.learner.observe(seen)
            if working:
                self.learner.work()
            answered.append(self.learner.answering.number)
        self.frames += count
        return answered

    def opened(self) -> AdapterStore:
        """What a start would find on the disk now."""
        return AdapterStore(self.store.folder, self.scorer.source, engine().info.weights, reading=True)

    def named(self, event: str) -> list[str]:
        """Why, of each event of a name."""
        return [one["why"] for one in self.events if one["event"] == event]


@pytest.fixture
def learned(tmp_path: Path) -> Line:
    """A line whose lens slipped, and for which version 1 answers."""
    made = Line(tmp_path)
    made.show(ENOUGH)
    made.show(ENOUGH, BLURRED)
    assert (made.learner.answering.number, made.learner.state.phase) == (1, Phase.HOLD)
    return made


@pytest.mark.slow
def test_a_version_answers_for_the_like_of_its_pictures_and_for_no_others(tmp_path: Path) -> None:
    """Looked at and learned once; then left and gone back to within a dozen pictures."""
    one = Line(tmp_path)
    assert set(one.show(ENOUGH)) == {0}
    assert one.events == []

    answered = one.show(ENOUGH, BLURRED)
    assert one.named("watch->learn") == ["the pictures changed abruptly"]
    assert answered[:SOON] == [0] * SOON
    assert answered[-1] == 1
    assert (one.learner.state.phase, len(one.named("promoted"))) == (Phase.HOLD, 1)
    assert one.store.load(1).window.first > ENOUGH
    offset, shown = one.learner.answering.offset, one.scorer.shown

    assert set(one.show(AWAY)[NEWEST - 1 :]) == {0}
    assert one.learner.state.phase is Phase.WATCH
    assert set(one.show(2 * WINDOW, BLURRED)[SOON - 1 :]) == {1}
    assert (one.learner.state.phase, one.learner.answering.offset) == (Phase.HOLD, offset)

    # Back before there is enough to turn from: the pictures are known for what they are.
    assert set(one.show(2 * WINDOW)[WINDOW - 1 :]) == {0}
    assert one.named("hold->watch") == one.named("learn->watch") == [HOME]
    assert set(one.show(ENOUGH, BLURRED)[WINDOW - 1 :]) == {1}

    assert one.named("recalled") == ["such pictures are known from before"] * 2
    assert one.scorer.shown == shown
    assert one.store.numbers() == [1]


def test_a_held_version_is_looked_at_again_when_the_pictures_creep_away(learned: Line) -> None:
    """Without a turn, and long before its next look is due; while they stay as they were, never."""
    shown = learned.scorer.shown
    learned.show(ENOUGH, BLURRED)
    assert learned.scorer.shown == shown
    learned.show(ENOUGH, BLURRED, severity=4.6)
    assert learned.scorer.shown > shown
    assert learned.named("hold->learn") == []


@pytest.mark.parametrize("late", [0, 2 * WINDOW])
def test_what_labels_prove_harmful_is_not_recalled(learned: Line, late: int) -> None:
    """Also where the pictures have turned when the learner comes to see the proof."""
    learned.show(late, working=False)
    for part in range(ENOUGH):
        learned.learner.said(part, adapted_fails=False, frozen_fails=True)
        learned.learner.told(part, defect=True)
    learned.learner.work()
    assert (learned.learner.state.phase, learned.learner.answering.number) == (Phase.TRIPPED, 0)
    learned.show(AWAY)
    assert learned.learner.state.phase is Phase.WATCH
    assert set(learned.show(2 * WINDOW, BLURRED)) == {0}
    assert learned.named("recalled") == []


def test_a_full_disk_keeps_no_version_that_is_to_be_left(
    learned: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The source answers at once; that it does is on the disk and in the trail as soon as there is room."""

    def full(*args: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    learned.show(AWAY, working=False)
    records = len(learned.events)
    with monkeypatch.context() as without:
        without.setattr("adapters.core.active_file.write_durably", full)
        without.setattr(Audit, "append", full)
        learned.learner.decide()
        assert (learned.learner.answering.number, learned.learner.state.phase) == (0, Phase.LEARN)
        assert learned.manager.kept.trouble is not None
        assert len(learned.events) == records
        assert learned.opened().active().number == 1
    learned.manager.retry()
    assert learned.opened().active().number == 0
    named = [one["event"] for one in learned.events[records:]]
    assert named == ["reset", "hold->learn", "disk_trouble_over"]


def test_what_a_person_went_away_from_is_not_recalled(learned: Line) -> None:
    """A reset is of all that was learned, whatever the pictures do next."""
    learned.learner.obey(Request(kind="reset", actor="ada", at="now"))
    assert set(learned.show(AWAY) + learned.show(2 * WINDOW, BLURRED)) == {0}
    assert learned.named("recalled") == []


@pytest.mark.parametrize(("damage", "said"), [("pruned", "no version 1"), ("damaged", "not a readable")])
def test_a_version_whose_file_is_gone_is_not_recalled_and_the_source_answers(
    learned: Line, damage: str, said: str
) -> None:
    """Why is on record, once; then the pictures are new ones, to be looked at."""
    file = next(learned.store.folder.glob("*1.safetensors"))
    if damage == "pruned":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-20])
    for _ in range(2):
        assert set(learned.show(AWAY)[NEWEST - 1 :]) == {0}
        assert set(learned.show(AWAY, BLURRED)) == {0}
        assert learned.learner.state.phase is Phase.LEARN
    assert learned.named("recalled") == []
    (why,) = [why for why in learned.named("refused") if "recalled" in why]
    assert why.startswith("version 1 cannot be recalled")
    assert said in why


@pytest.fixture(scope="module")
def glance() -> ChangePointDetector:
    good = list(line(60, seed=3, defects=0.0, bursts=0.0))
    pictures, features = (np.stack([getattr(one, name) for one in good]) for name in ("picture", "feature"))
    return ChangePointDetector(
        DriftReference.calibrate(list(line(COMMISSIONING, seed=1))), looks(pictures), features
    )


class Walk:
    """A line that nobody rendered, and a learner that goes where it is told to."""

    def __init__(self, glance: ChangePointDetector) -> None:
        self.places = KnownDomains(deepcopy(glance))
        self.here = 0
        self.seed = 100

    def go(
        self,
        lamp: NDArray[np.float64] | float,
        count: int = LEAST_LEVEL + NEWEST,
        marked: NDArray[np.float64] | float = 0.0,
    ) -> list[Said]:
        """Show some pictures, of parts whose features are marked; what was said, after how many of them."""
        self.seed += 1
        said: list[Said] = []
        for after, seen in enumerate(line(count, self.seed, lamp=lamp), 1):
            row = measure(seen)
            row[len(SCALARS) :] += marked
            self.places.add(row)
            turn, number = self.places.turn(self.here)
            if turn is not None:
                self.here = 0 if turn == "unknown" else number
                said.append((turn, number, after))
        return said

    def learn(self, number: int, lamp: float) -> None:
        """Make a version under a lamp."""
        self.go(lamp)
        self.here = number
        self.keep(number)

    def keep(self, number: int) -> None:
        self.places.remember(number, State(), Episode(None, 0, 0), 0, range(10))

    def kept(self) -> set[int]:
        """Of which of the versions 0 to 9 something is known."""
        found = set()
        for number in range(10):
            with suppress(KeyError):
                self.places.find(number)
                found.add(number)
        return found


@pytest.fixture
def walk(glance: ChangePointDetector) -> Walk:
    return Walk(glance)


def test_nothing_is_said_or_kept_before_a_window_is_full(walk: Walk) -> None:
    """Whatever answers, and whatever there is to be seen."""
    walk.here = 1
    assert walk.go(0.0, WINDOW - 1) == []
    walk.keep(1)
    assert walk.kept() == set()
    assert walk.places.count == WINDOW - 1


def test_the_source_is_left_when_the_next_pictures_are_none_of_its_own(walk: Walk) -> None:
    """Once, after a window of them; what is new does not stay so."""
    assert walk.go(0.0) == []
    ((turn, _, after),) = walk.go(WORSE, 3 * LEVEL)
    assert (turn, walk.here) == ("unknown", 0)
    assert WINDOW < after <= NEWEST + WINDOW


def test_a_hand_in_the_picture_is_no_new_condition(walk: Walk) -> None:
    """Pictures that are others for a moment make nothing of the source."""
    walk.go(0.0)
    assert {turn for turn, _, _ in walk.go(WORSE, NEWEST) + walk.go(0.0)} <= {"home"}


def test_a_version_is_left_at_the_first_sign(walk: Walk) -> None:
    """Nothing is known of the pictures yet: what was learned for others is not to answer them."""
    walk.learn(1, LOST)
    (turn, _, after), *_ = walk.go(WORSE)
    assert turn == "unknown"
    assert after <= NEWEST


def test_a_ramp_is_no_turn_but_is_seen_to_creep_away(walk: Walk) -> None:
    """A version that follows it is not to be left at every picture. Of no other version anything is said."""
    walk.learn(1, LOST)
    walk.go(LOST, LEVEL)
    assert [walk.places.drifted(number) for number in (0, 1, 2)] == [False] * 3
    assert walk.go(np.linspace(LOST, WORSE, 800), 800) == []
    assert [walk.places.drifted(number) for number in (0, 1, 2)] == [False, True, False]


def test_a_burst_of_defects_at_home_is_no_place_to_go_to(walk: Walk) -> None:
    """Also where a version was made under home's light while as many parts had the same defect."""
    scratched = 3 * np.eye(1, DIM, 5)[0]
    walk.go(0.0)
    assert walk.go(0.0, LEVEL, marked=scratched) == []
    walk.keep(1)
    walk.go(0.0)
    assert walk.go(0.0, LEVEL, marked=scratched) == []


def test_at_home_the_source_answers(walk: Walk) -> None:
    """Where the pictures slip back without a sign, and after a restart, of which no place is left."""
    walk.here = 7
    assert walk.go(0.0, WINDOW) == [("home", 0, WINDOW)]
    assert walk.go(0.0, LEVEL) == []


def test_home_is_known_also_to_a_source_that_answers_meanwhile(walk: Walk) -> None:
    """Once: the version was left at the first sign, and then the pictures prove to be those of before."""
    walk.learn(1, LOST)
    (left, _, _), (turn, number, after) = walk.go(0.0, 3 * LEVEL)
    assert (left, turn, number) == ("unknown", "home", 0)
    assert after <= NEWEST + WINDOW


def test_pictures_as_before_are_met_by_the_number_of_their_version(walk: Walk) -> None:
    """From the source and from another version; where it answers there is no turn."""
    walk.learn(1, LOST)
    walk.learn(2, WORSE)
    assert walk.kept() == {1, 2}
    assert walk.go(WORSE) == []
    for lamp, number in ((LOST, 1), (WORSE, 2)):
        (left, _, _), (turn, met, after) = walk.go(lamp)
        assert (left, turn, met, walk.here) == ("unknown", "met", number, number)
        assert after <= NEWEST + WINDOW
    walk.go(0.0)
    assert walk.here == 0
    assert [(turn, met) for turn, met, _ in walk.go(LOST)] == [("met", 1)]


def test_the_source_has_no_place_but_home(walk: Walk) -> None:
    walk.go(WORSE)
    walk.keep(0)
    assert walk.kept() == set()


def test_of_two_versions_for_like_pictures_the_newer_counts(walk: Walk) -> None:
    """Those that are made one from another under one condition, or when it comes again."""
    walk.learn(1, LOST)
    walk.learn(2, WORSE)
    walk.learn(3, LOST)
    assert walk.kept() == {2, 3}
    walk.go(0.0)
    assert [(turn, met) for turn, met, _ in walk.go(LOST)] == [("met", 3)]


def test_what_is_forgotten_is_not_gone_back_to(walk: Walk) -> None:
    """One, or all; to forget what is not known is no trouble."""
    walk.learn(1, LOST)
    walk.learn(2, WORSE)
    for _ in range(2):
        walk.places.forget(2)
        assert walk.kept() == {1}
    walk.places.clear()
    walk.go(0.0)
    assert [turn for turn, _, _ in walk.go(LOST)] == ["unknown"]
    assert walk.kept() == set()


def test_how_far_the_learner_was_is_kept_when_it_leaves(walk: Walk) -> None:
    """It goes on from there; of what is not known nothing is kept."""
    walk.learn(1, LOST)
    episode = Episode(None, 0, 80)
    walk.places.leave(1, State(Phase.HOLD, 90, proposals=3), episode, 120)
    walk.places.leave(2, State(), episode, 130)
    episode.looked_at = 125
    met = walk.places.find(1)
    assert (met.state, met.left_at) == (State(Phase.HOLD, 90, proposals=3), 120)
    assert met.episode.looked_at == 80
    assert walk.kept() == {1}


def test_of_a_version_that_is_no_longer_stored_no_place_is_kept(walk: Walk) -> None:
    """A place without a version would only be a way to lose the one that answers."""
    walk.learn(1, LOST)
    walk.go(WORSE)
    walk.places.remember(2, State(), Episode(None, 0, 0), 0, [2])
    assert walk.kept() == {2}


def test_a_turn_is_seen_also_by_a_learner_that_is_late(walk: Walk) -> None:
    """It asks once in thirty pictures, while it makes a proposal: what it missed is still a turn."""
    walk.learn(1, LOST)
    walk.go(LOST, 2 * LEVEL)
    for seen in line(30, 7, lamp=WORSE):
        walk.places.add(measure(seen))
    assert walk.places.turn(1) == ("unknown", 1)


def test_what_a_person_chose_is_kept_until_the_pictures_turn(walk: Walk) -> None:
    """Also at home, where nothing but the source would answer; then it is left as any version is."""
    walk.go(0.0)
    walk.here = 5
    walk.places.choose()
    assert walk.go(0.0, 3 * LEVEL) == []
    assert walk.places.chosen
    (turn, _, after), *_ = walk.go(WORSE)
    assert (turn, walk.places.chosen) == ("unknown", False)
    assert after <= NEWEST
