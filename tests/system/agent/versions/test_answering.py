"""What answers, what is remembered of it and the audit trail: one after every fault and after every kill."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from adapters.core.version_store import AdapterStore
from adapters.encoders.cancellation import Cancelled
from adapters.gate.state_machine import Phase, State
from agent.audit.hash_chain import Audit, verify
from agent.domain.active_version import ActiveVersion
from agent.versions.execute import execute
from agent.versions.learner_memory import Memory
from agent.versions.operator_requests import Request
from agent.versions.version_manager import VersionManager
from tests.support.answering_site import a_version, fill_disk_of_trails, full, killed_at, trail
from tests.support.small_line import Site, clean, stream


@dataclass(frozen=True)
class _Point:
    offset: float = 0.25
    at_bound: bool = False


@dataclass(frozen=True)
class _Found:
    """As much of an assessment as a promotion writes down."""

    point: _Point = _Point()
    error: float = 0.1
    missed: float = 0.0
    rejected: float = 0.0
    usual: float = 0.0


class _Trial:
    class condition:  # noqa: N801 - stands for a value
        @staticmethod
        def numbers() -> dict[str, float]:
            return {}


def promote(manager: VersionManager) -> None:
    manager.promote(a_version(0.01).adapter, _Found(), _Trial(), stream(3), {}, "gain")  # type: ignore[arg-type]


def last_answer(site: Site) -> int:
    """Which version answers, by the audit trail alone."""
    return ([0] + [entry["after"]["number"] for entry in trail(site) if "number" in (entry["after"] or {})])[
        -1
    ]


FAULTS: dict[str, tuple[object, str]] = {
    "version": ("adapters.core.version_store.save_version", "nothing"),
    "pointer": ("adapters.core.active_file.write_durably", "nothing"),
    "audit": (Audit, "_write"),
    "prune": (AdapterStore, "prune"),
}


@pytest.mark.parametrize("step", list(FAULTS))
@pytest.mark.parametrize("ends", [False, True], ids=["room again", "power cut"])
def test_a_promotion_is_in_the_trail_whatever_the_disk_does_not_take(
    step: str, ends: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers and is on record, or neither; at once, once there is room, or after the next start."""
    site = Site(tmp_path)
    manager = site.manager()
    manager.begin()
    target, name = FAULTS[step]
    with monkeypatch.context() as without:
        if isinstance(target, str):
            without.setattr(target, full)
        else:
            without.setattr(target, name, full)
        if step in ("version", "pointer"):
            with pytest.raises(OSError, match="No space"):
                promote(manager)
        else:
            promote(manager)
            assert manager.kept.trouble is not None
    assert manager.answering.number == (0 if step in ("version", "pointer") else 1)
    if ends:
        manager = site.manager()
        manager.begin()
    elif manager.kept.trouble is not None:
        manager.retry()
    assert manager.answering.number == site.store().active().number == last_answer(site)
    assert verify(site.folder / "audit.jsonl").problems == () if trail(site) else True
    events = [entry["event"] for entry in trail(site)]
    assert events.count("promoted") == manager.answering.number


LEADS: dict[str, Callable[[VersionManager], object]] = {
    "promoted": promote,
    "rolled_back": lambda manager: manager.go_to(1, "ada", "as before"),
    "recalled": lambda manager: manager.recall(1, "met before", State(Phase.HOLD, 0, born=0)),
    "reset": lambda manager: manager.go_to(0, "ada", "as it was trained"),
}


@pytest.mark.parametrize("event", list(LEADS))
@pytest.mark.parametrize("error", [Cancelled, MemoryError], ids=["stopped", "fault"])
def test_what_answers_is_in_the_trail_also_where_telling_the_inspector_fails(
    event: str, error: type[Exception], tmp_path: Path
) -> None:
    """And stays there with whatever is written next, and over a restart."""
    site = Site(tmp_path)
    site.store(reading=False).write(a_version(0.001))
    first = _begun(site)
    if event == "reset":
        first.go_to(1, "ada", "first")
    manager, before = site.manager(), len(trail(site))

    def changed() -> None:
        raise error

    manager.begin(changed)
    with pytest.raises(error):
        LEADS[event](manager)
    manager.kept.save()
    for answers in (manager, _begun(site)):
        assert [entry["event"] for entry in trail(site)][before:] == [event]
        assert answers.answering.number == site.store().active().number == last_answer(site)


@pytest.mark.parametrize("event", ["promoted", "rolled_back", "recalled"])
def test_a_version_whose_texts_cannot_be_made_does_not_answer(event: str, tmp_path: Path) -> None:
    """Neither here nor on the disk; and where they can be made, the time on record is after that."""
    site = Site(tmp_path)
    site.store(reading=False).write(a_version(0.001))
    course: list[str] = []
    manager = site.manager(now=lambda: f"time {len(course)}")

    def ready(answering: ActiveVersion) -> None:
        course.append("made")
        if len(course) == 1:
            raise MemoryError

    manager.begin(lambda: course.append("answers"), ready)
    with pytest.raises(MemoryError):
        LEADS[event](manager)
    assert manager.answering.number == site.store().active().number == 0
    assert trail(site) == []
    LEADS[event](manager)
    assert course == ["made", "made", "answers"]
    assert [entry["at"] for entry in trail(site)] == ["time 2"]


@pytest.mark.parametrize("fails", ["pointer", "audit", "both"])
def test_a_version_that_is_to_be_left_is_left_at_once_and_written_when_the_disk_takes_it(
    fails: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What answers is the inspector's first; a reset asked for and a trip of the guard alike."""
    site = Site(tmp_path)
    manager = site.manager()
    manager.begin()
    promote(manager)
    answered: list[int] = []
    manager = site.manager()
    manager.begin(lambda: answered.append(manager.answering.number))
    request = Request(kind="reset", actor="ada", at="now")
    with monkeypatch.context() as without:
        if fails != "audit":
            without.setattr("adapters.core.active_file.write_durably", full)
        if fails != "pointer":
            fill_disk_of_trails(without)
        execute(manager, request)
        assert answered == [0]
        assert manager.kept.saved is (fails == "audit")
        assert request.id in manager.kept.memory.requests
    manager.retry()
    assert manager.kept.saved
    assert manager.kept.trouble is None
    assert [entry["event"] for entry in trail(site)] == ["promoted", "reset", "disk_trouble_over"]
    assert (site.store().active().number, last_answer(site)) == (0, 0)


def changes(folder: Path) -> dict[str, Callable[[VersionManager], object]]:
    return {
        "promote": promote,
        "rollback": lambda manager: execute(
            manager, Request(kind="rollback", actor="ada", at="now", number=1, id="0" * 26)
        ),
        "reset": lambda manager: execute(manager, Request(kind="reset", actor="ada", at="now", id="0" * 26)),
        "freeze": lambda manager: execute(
            manager, Request(kind="freeze", actor="ada", at="now", id="0" * 26)
        ),
        "pin": lambda manager: execute(
            manager, Request(kind="pin", actor="ada", at="now", number=1, id="0" * 26)
        ),
    }


@pytest.mark.parametrize("change", ["promote", "rollback", "reset", "freeze", "pin"])
def test_a_kill_between_any_two_steps_leaves_what_answers_and_the_trail_as_one(
    change: str, tmp_path: Path
) -> None:
    """Before the first step, after the last, and before every one that touches the disk."""
    for step in range(1, 100):
        site = Site(tmp_path / f"{step}")
        site.folder.mkdir()
        first = site.manager()
        first.begin()
        promote(first)
        promote(first)
        before = len(trail(site))
        ended = killed_at(step, lambda site=site: changes(site.folder)[change](_begun(site)))
        manager = _begun(site)
        events = [entry["event"] for entry in trail(site)][before:]
        done = "0" * 26 in manager.kept.memory.requests or (change, manager.answering.number) == (
            "promote",
            3,
        )
        assert verify(site.folder / "audit.jsonl").problems == ()
        assert last_answer(site) == manager.answering.number == site.store().active().number
        assert len(events) == int(done), f"step {step}: {events}"
        if change == "freeze":
            assert (manager.frozen_by is not None) == done
        if change == "pin":
            assert site.store().pinned == ((1,) if done else ())
        if ended:
            assert done
            return
    raise AssertionError("the change never came to its end")


def _begun(site: Site) -> VersionManager:
    manager = site.manager()
    manager.begin()
    return manager


def test_lines_that_the_disk_does_not_take_wait_in_order_and_those_that_are_lost_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site(tmp_path)
    manager = _begun(site)
    with monkeypatch.context() as without:
        fill_disk_of_trails(without)
        for number in range(203):
            manager.record("refused", "guard", str(number))
    manager.retry()
    lines = [(entry["event"], entry["why"]) for entry in trail(site)]
    assert lines[0] == ("lines_lost", "3 lines were lost while the disk did not take them")
    assert lines[1:201] == [("refused", str(number)) for number in range(3, 203)]
    assert lines[201][0] == "disk_trouble_over"


def test_a_pointer_that_is_damaged_is_put_aside(tmp_path: Path) -> None:
    """Nobody knows what answered: the source does, that is said, and what was there can be looked at."""
    site = Site(tmp_path)
    promote(_begun(site))
    file = site.folder / "adapters" / "active.json"
    damaged = file.read_bytes()[:-30]
    file.write_bytes(damaged)
    looking = site.store()
    assert file.read_bytes() == damaged
    store = site.store(reading=False)
    assert store.active().number == looking.active().number == 0
    assert "active.json.damaged" in store.found[0]
    assert file.with_name("active.json.damaged").read_bytes() == damaged
    assert site.store().found == (), "it is said once"


def test_under_another_commissioning_the_source_answers_and_the_learner_begins_anew(tmp_path: Path) -> None:
    """Also where somebody has put its file there by hand; that nobody may learn stays."""
    site = Site(tmp_path)
    manager = _begun(site)
    promote(manager)
    manager.freeze("ada", "ada", "for now")
    manager.kept.remember(State(Phase.HOLD, 5, born=3, trips=2), None)
    manager.kept.save()
    from dataclasses import replace

    again = Site(tmp_path, clean=replace(clean(), made_at="2026-02-02")).manager()
    assert (again.answering.number, again.frozen_by, again.state.phase) == (0, "ada", Phase.WATCH)
    again.begin()
    assert [entry["event"] for entry in trail(site)][-1] == "reset"
    assert Memory.read(site.store().active().learner).commissioning != clean().digest
    assert site.store().active().number == 0
