"""A commission is kept whole or not at all, whatever kills it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from adapters.baseline.baseline import Commissioning
from adapters.gate.state_machine import Phase, State
from agent.cli.baselines.keeping import keep
from agent.versions.operator_requests import Request, ask, waiting_names
from tests.support import small_line
from tests.support.answering_site import a_version, fill_disk_of_trails, full, killed_at, trail
from tests.support.insides import answers_at_start
from tests.support.mqtt_peers import wait_until

PATIENCE_S = 20.0


@pytest.mark.parametrize("before", ["commissioned", "never"])
def test_a_commission_that_is_killed_leaves_the_old_station_or_the_new_one(
    before: str, tmp_path: Path
) -> None:
    """Before every single step on the disk: what was learned goes with the clean line that it is of."""
    old, new = small_line.clean(), replace(small_line.clean(), made_at="2026-03-03T00:00:00.000Z")
    for step in range(1, 100):
        site = small_line.Site(tmp_path / f"{step}")
        site.folder.mkdir()
        file = site.folder / "commissioning.safetensors"
        if before == "commissioned":
            old.save(file)
            manager = site.manager()
            manager.begin()
            manager.freeze("ada", "ada", "for now")
            site.store(reading=False).write(a_version(0.01))
            manager.go_to(1, "ada", "test", state=State(Phase.HOLD, 7, born=7, trips=1))
        ended = killed_at(step, lambda file=file: keep(new, file, small_line.SmallEngine()))
        found = Commissioning.load(file) if file.exists() else None
        if found is None:
            assert before == "never"
            assert not ended
            continue
        started = small_line.Site(site.folder, clean=found)
        manager = started.manager()
        manager.begin()
        events = [entry["event"] for entry in trail(started)]
        if found.digest == old.digest:
            assert (manager.answering.number, manager.state.born) == (1, 7)
            assert events == ["freeze", "rolled_back"]
        else:
            assert (manager.answering.number, manager.state.born) == (0, None)
            reset = ["reset"] if before == "commissioned" else []
            assert events[-1 - len(reset) :] == [*reset, "commissioned"]
        assert started.store().active().number == manager.answering.number
        assert manager.frozen_by == ("ada" if before == "commissioned" else None)
        if ended:
            assert found.digest == new.digest
            return
    raise AssertionError("it never came to its end")


@pytest.mark.parametrize("fails", ["stage", "swap", "trail"])
def test_a_commission_that_meets_a_full_disk_changes_nothing_or_everything(
    fails: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where only the trail cannot be written, the agent's next start writes it."""
    old, new = small_line.clean(), replace(small_line.clean(), made_at="2026-03-03T00:00:00.000Z")
    file = tmp_path / "commissioning.safetensors"
    old.save(file)
    site = small_line.Site(tmp_path)
    site.store(reading=False).write(a_version(0.01))
    site.manager().go_to(1, "ada", "test", state=State(Phase.HOLD, 7, born=7))
    with monkeypatch.context() as without:
        match fails:
            case "stage":
                without.setattr("adapters.core.active_file.write_durably", full)
            case "swap":
                without.setattr("adapters.baseline.baseline.write_durably", full)
            case "trail":
                fill_disk_of_trails(without)
        if fails == "trail":
            keep(new, file, small_line.SmallEngine())
        else:
            with pytest.raises(OSError, match="No space"):
                keep(new, file, small_line.SmallEngine())
    found = Commissioning.load(file)
    manager = small_line.Site(tmp_path, clean=found).manager()
    manager.begin()
    events = [entry["event"] for entry in trail(site)]
    if fails == "trail":
        assert (found.digest, manager.answering.number) == (new.digest, 0)
        assert events == ["rolled_back", "reset", "commissioned"]
    else:
        assert (found.digest, manager.answering.number) == (old.digest, 1)
        assert events == ["rolled_back"]


def commissioned_again(folder: Path) -> small_line.Site:
    """A station whose version 1 answered, and which was commissioned with another clean line since."""
    site = small_line.Site(folder)
    file = folder / "commissioning.safetensors"
    site.store(reading=False).write(a_version(0.01, 5.0))
    site.clean.save(file)
    site.manager().go_to(1, "ada", "test", state=State(Phase.HOLD, 7, born=7))
    keep(replace(site.clean, made_at="2026-03-03T00:00:00.000Z"), file, small_line.SmallEngine())
    return small_line.Site(folder, clean=Commissioning.load(file))


@pytest.mark.parametrize("kind", ["rollback", "activate"])
def test_what_was_learned_under_another_commissioning_does_not_answer(
    kind: Literal["rollback", "activate"], tmp_path: Path
) -> None:
    """It is refused by name, also after what is learned since; what is learned since is not."""
    site = commissioned_again(tmp_path)
    store = site.store(reading=False)
    store.write(a_version(0.02))
    with site.learning() as one:
        for number in (1, 2):
            ask(site.requests, Request(kind=kind, actor="bob", at="now", number=number))
        wait_until(lambda: one.answering().number == 2, PATIENCE_S)
        ask(site.requests, Request(kind=kind, actor="bob", at="now", number=1))
        wait_until(lambda: site.events().count("request_refused") == 2, PATIENCE_S)
        wait_until(lambda: not waiting_names(site.requests), PATIENCE_S)
        assert one.answering().number == site.store().active().number == 2
    refused = [entry["why"] for entry in trail(site) if entry["event"] == "request_refused"]
    assert all("version 1 is of another commissioning, as all up to 1:" in why for why in refused)
    manager = site.manager()
    assert [version.number for version in manager.versions()] == [2]
    assert manager.recall(1, "met before", State()) is False


def test_a_version_of_another_commissioning_may_be_kept_and_brought_in_again(tmp_path: Path) -> None:
    """Whoever says so has looked at its operating point."""
    site = commissioned_again(tmp_path / "station")
    store = site.store(reading=False)
    store.export(1, tmp_path / "version")
    again = store.add(tmp_path / "version", small_line.WORDS.digest)
    manager = site.manager()
    manager.begin()
    manager.pin(1, "ada", "to be looked at", "0" * 26)
    manager.go_to(again.number, "ada", "it was looked at")
    assert manager.answering.number == 2
    assert site.store().pinned == (1,)


def test_what_was_brought_in_before_the_first_commissioning_may_answer_under_it(tmp_path: Path) -> None:
    """An import asked for at a new station waits for its commissioning."""
    site = small_line.Site(tmp_path)
    site.store(reading=False).write(a_version(0.01))
    keep(site.clean, tmp_path / "commissioning.safetensors", small_line.SmallEngine())
    manager = site.manager()
    manager.begin()
    manager.go_to(1, "ada", "as asked")
    assert manager.answering.number == 1


def test_a_replay_from_what_answers_begins_as_the_agent_would(tmp_path: Path) -> None:
    """Where the commissioning was exchanged, and the agent has not started since: with the source."""
    site = small_line.Site(tmp_path)
    site.store(reading=False).write(a_version(0.01))
    manager = site.manager()
    manager.begin()
    manager.go_to(1, "ada", "test")
    engine, other = small_line.SmallEngine(), replace(site.clean, made_at="2026-03-03T00:00:00.000Z")
    found = answers_at_start(tmp_path, engine, site.clean)
    assert found is not None
    assert found.number == 1
    assert answers_at_start(tmp_path, engine, other) is None
