"""What people ask for and what labels prove takes effect at once, whatever a learner is computing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from adapters.gate.promotion_gate import Ruling
from adapters.gate.state_machine import Phase, State
from agent.config.models_adaptation import Adaptation
from agent.learning import station_desk
from agent.learning.adaptation_context import AdaptationContext
from agent.learning.ipc import Label
from agent.learning.worker import Learning
from agent.versions.operator_requests import Kind, Request, ask, waiting_names
from tests.support.answering_site import a_version, full
from tests.support.insides import is_computing, limit
from tests.support.mqtt_peers import wait_until
from tests.support.small_line import Site, hand_over, stream

PATIENCE_S = 150.0
DIM = 100.0
"""Light under which the pictures are none of the commissioned ones: at home the source would answer."""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A station that learns, whose every proposal the guard would keep; version 1 answers."""
    monkeypatch.setattr("agent.learning.episode.judge", lambda evidence, limits: Ruling(True, "kept"))
    monkeypatch.setattr(AdaptationContext, "is_sound", lambda self, now: False)
    made = Site(tmp_path)
    made.store(reading=False).write(a_version(0.001))
    manager = made.manager()
    manager.go_to(1, "ada", "test", state=State(Phase.LEARN, 0, born=0))
    return made


@contextmanager
def proposing(site: Site) -> Iterator[Learning]:
    """Run the learner, and hold it in the middle of a proposal."""
    with site.learning() as one:
        hand_over(one, stream(80, light=DIM))
        assert site.model.entered.wait(PATIENCE_S)
        yield one


def released(site: Site, one: Learning) -> None:
    """Let the proposal come to its end, and the learner take notice of it."""
    site.model.go_on.set()
    wait_until(lambda: not is_computing(one), PATIENCE_S)


def trail(site: Site) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (site.folder / "audit.jsonl").read_text().splitlines()]


def test_a_proposal_that_nobody_objects_to_answers_once_it_is_on_record(site: Site) -> None:
    """What the tests below hold up would be promoted; its record is not older than its effect."""
    with proposing(site) as one:
        assert one.answering().number == 1
        released(site, one)
        wait_until(lambda: one.answering().number > 1, PATIENCE_S)
        wait_until(lambda: "promoted" in site.events(), PATIENCE_S)
    assert "discarded" not in site.events()


ASKED: dict[str, tuple[Kind, int | None, str, Callable[[Site, Learning], bool]]] = {
    "freeze": ("freeze", None, "freeze", lambda site, one: site.last("adapter").get("frozen_by") == "ada"),
    "reset": ("reset", None, "reset", lambda site, one: one.answering().number == 0),
    "back to the source": ("rollback", 0, "reset", lambda site, one: one.answering().number == 0),
    "back to a version": ("rollback", 2, "rolled_back", lambda site, one: one.answering().number == 2),
}


@pytest.mark.parametrize("what", list(ASKED))
def test_what_a_person_asks_takes_effect_while_a_proposal_is_computed_and_the_proposal_does_not(
    what: str, site: Site
) -> None:
    """Done, on record and told before the model comes back; that what it brings is discarded is on record."""
    kind, number, event, done = ASKED[what]
    site.store(reading=False).write(a_version(0.002))
    with proposing(site) as one:
        ask(site.requests, Request(kind=kind, actor="ada", at="now", number=number))
        wait_until(lambda: done(site, one), PATIENCE_S)
        wait_until(lambda: site.events()[-2:] == [event, "discarded"], PATIENCE_S)
        wait_until(lambda: not list(site.requests.iterdir()), PATIENCE_S)
        assert site.model.proposals == 0
        answers = one.answering().number
        released(site, one)
        assert site.model.proposals == 1
        assert one.answering().number == answers
        assert site.store().active().number == answers
    assert "promoted" not in site.events()
    assert [entry["event"] for entry in trail(site)[-2:]] == [event, "discarded"]


def test_to_freeze_and_resume_does_not_bring_a_discarded_proposal_back(site: Site) -> None:
    with proposing(site) as one:
        for kind in ("freeze", "resume"):
            ask(site.requests, Request(kind=kind, actor="ada", at="now"))
        wait_until(lambda: "resume" in site.events() and "discarded" in site.events(), PATIENCE_S)
        released(site, one)
        assert one.answering().number == 1
    assert "promoted" not in site.events()


def test_labels_prove_harm_while_a_proposal_is_computed_and_what_answers_is_left(site: Site) -> None:
    """Every label is on record as it comes, and the last one that it takes leaves the version."""
    with proposing(site) as one:
        hand_over(one, stream(15, first=81, light=DIM), missed=True)
        for number in range(81, 96):
            one.label(Label("line", number, defect=True, actor="eve", recipe="tiny"))
        wait_until(lambda: one.answering().number == 0, PATIENCE_S)
        wait_until(lambda: "discarded" in site.events(), PATIENCE_S)
        assert site.model.proposals == 0
        released(site, one)
        assert one.answering().number == 0
    events = site.events()
    assert events.index("label") < events.index("reset") < events.index("learn->tripped")
    assert "promoted" not in events
    (reset,) = [entry for entry in trail(site) if entry["event"] == "reset"]
    assert "labels prove harm" in reset["why"]


def test_what_was_proven_before_a_restart_counts(site: Site) -> None:
    """Six labels are no proof, and neither are the next six; together they are."""
    for first in (81, 91):
        site.model.entered.clear()
        with site.learning() as one:
            hand_over(one, stream(10, first=first, light=DIM), missed=True)
            for number in range(first, first + 6):
                one.label(Label("line", number, defect=True, actor="eve", recipe="tiny"))
            wait_until(lambda: site.events().count("label") >= 6, PATIENCE_S)
            if first == 81:
                assert one.answering().number == 1
            else:
                wait_until(lambda one=one: one.answering().number == 0, PATIENCE_S)
        if first == 81:
            assert site.manager().test.labels == 6
    assert "learn->tripped" in site.events()


def test_a_learner_that_ends_discards_what_it_computes_and_says_so(site: Site) -> None:
    """As where the config is saved with another mode: the next one begins with what answered."""
    with proposing(site):
        pass
    assert site.events()[-1] == "discarded"
    site.settings = Adaptation(mode="frozen")
    with site.learning() as one:
        wait_until(lambda: site.last("adapter").get("why_off") == "mode frozen", PATIENCE_S)
        assert one.answering().number == 1


def test_a_version_that_cannot_be_gone_back_to_does_not_discard_what_is_computed(site: Site) -> None:
    with proposing(site) as one:
        ask(site.requests, Request(kind="rollback", actor="ada", at="now", number=77))
        wait_until(lambda: "request_refused" in site.events(), PATIENCE_S)
        released(site, one)
        wait_until(lambda: one.answering().number > 1, PATIENCE_S)
    assert "discarded" not in site.events()


@contextmanager
def full_disk(site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Learning, pytest.MonkeyPatch]]:
    """Run the learner while nothing can be written of what answers, and what is remembered."""
    with site.learning() as one, monkeypatch.context() as without:
        without.setattr("adapters.core.active_file.write_durably", full)
        yield one, without


def asked(site: Site, kind: Kind, actor: str = "ada", number: int | None = None) -> None:
    ask(site.requests, Request(kind=kind, actor=actor, at="now", number=number))


@pytest.mark.parametrize("waits", ["rollback", "activate", "pin", "unpin"])
def test_freezing_waits_for_nobody_whom_the_disk_keeps_waiting(
    waits: Kind, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does resuming; what needs the disk is done once there is room, by itself."""
    limit(monkeypatch, "a full disk is left alone", 0.2)
    site.store(reading=False).write(a_version(0.002))
    if waits == "unpin":
        site.store(reading=False).pin(2)
    with full_disk(site, monkeypatch) as (one, without):
        asked(site, waits, "bob", 2)
        wait_until(lambda: one.stats().disk is not None, PATIENCE_S)
        for actor in ("eve", None, "ada"):
            asked(site, "freeze" if actor else "resume", actor or "ada")
        wait_until(lambda: site.last("adapter").get("frozen_by") == "ada", PATIENCE_S)
        assert (one.answering().number, waiting_names(site.requests) != frozenset()) == (1, True)
        without.undo()
        wait_until(lambda: not waiting_names(site.requests), PATIENCE_S)
        wait_until(lambda: one.stats().disk is None, PATIENCE_S)
        assert one.answering().number == (2 if waits in ("rollback", "activate") else 1)
    assert site.store().pinned == ((2,) if waits == "pin" else ())
    events = [entry["event"] for entry in trail(site)]
    assert events.count("freeze") == 2
    done = {"pin": "pinned", "unpin": "unpinned"}.get(waits, "rolled_back")
    assert events.index("resume") < len(events) - 1 - events[::-1].index(done)


def test_who_goes_back_to_the_source_overtakes_who_waits_for_the_disk(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The earlier wish is over, on record, and not done afterwards; a later one is."""
    limit(monkeypatch, "a full disk is left alone", 0.2)
    for shift in (0.002, 0.003):
        site.store(reading=False).write(a_version(shift))
    with full_disk(site, monkeypatch) as (one, without):
        asked(site, "rollback", "bob", 2)
        asked(site, "pin", "bob", 2)
        wait_until(lambda: one.stats().disk is not None, PATIENCE_S)
        asked(site, "reset")
        wait_until(lambda: one.answering().number == 0, PATIENCE_S)
        asked(site, "activate", "eve", 3)
        without.undo()
        wait_until(lambda: not waiting_names(site.requests), PATIENCE_S)
        assert one.answering().number == site.store().active().number == 3
    assert site.store().pinned == (2,)
    lines = [(entry["event"], entry["actor"]) for entry in trail(site)]
    assert ("request_refused", "bob") in lines
    assert [actor for event, actor in lines if event == "rolled_back"] == ["ada", "eve"]
    assert lines.index(("request_refused", "bob")) < lines.index(("reset", "ada"))


def test_what_is_refused_while_the_disk_is_full_is_refused_once(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what is obeyed is obeyed once, however much was asked since."""
    limit(monkeypatch, "requests are looked for", 0.0)
    looked: list[int] = []
    real = station_desk.take

    def take(folder: Path, done: Any) -> Any:
        looked.append(1)
        return real(folder, done)

    monkeypatch.setattr(station_desk, "take", take)
    with full_disk(site, monkeypatch) as (_, without):
        asked(site, "freeze", "first")
        for number in range(60):
            asked(site, "rollback", "bob", 70 + number)
        asked(site, "resume", "last")
        wait_until(lambda: "resume" in site.events(), PATIENCE_S)
        for _ in range(3):
            turned = len(looked)
            wait_until(lambda turned=turned: len(looked) > turned, PATIENCE_S)
        assert len(waiting_names(site.requests)) == 62
        without.undo()
        wait_until(lambda: not waiting_names(site.requests), PATIENCE_S)
    events = [entry["event"] for entry in trail(site)]
    assert events.count("request_refused") == 60
    assert (events.count("freeze"), events.count("resume")) == (1, 1)


def test_a_version_that_the_model_fails_with_is_refused_and_what_follows_is_done(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The learner's process does not end of it, again and again."""

    def fails(*arguments: object) -> None:
        raise RuntimeError("out of memory in native code")

    monkeypatch.setattr("agent.learning.station_desk.require_finite", fails)
    with site.learning():
        asked(site, "rollback", "bob", 1)
        asked(site, "freeze")
        wait_until(lambda: site.last("adapter").get("frozen_by") == "ada", PATIENCE_S)
        wait_until(lambda: not waiting_names(site.requests), PATIENCE_S)
    (refused,) = [entry for entry in trail(site) if entry["event"] == "request_refused"]
    assert "RuntimeError: out of memory in native code" in refused["why"]


def test_a_file_that_cannot_be_moved_aside_keeps_nobody_waiting(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.requests.mkdir()
    (site.requests / "0.json").write_text("no request")
    real = Path.replace

    def stays(self: Path, target: Path) -> Path:
        if self.name == "0.json":
            full()
        return real(self, target)

    monkeypatch.setattr(Path, "replace", stays)
    with site.learning() as one:
        asked(site, "freeze")
        wait_until(lambda: site.last("adapter").get("frozen_by") == "ada", PATIENCE_S)
        wait_until(lambda: waiting_names(site.requests) == {"0.json"}, PATIENCE_S)
        assert one.stats().disk is not None
