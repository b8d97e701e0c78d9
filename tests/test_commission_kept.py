"""A commission is kept whole or not at all, whatever kills it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import small_line
from test_answering import a_version, full, killed_at, trail

from adapters.commissioning import Commissioning
from adapters.lifecycle import Phase, State
from agent.audit import Audit
from agent.commission_cli import _keep


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
            ledger = site.ledger()
            ledger.begin()
            ledger.freeze("ada", "ada", "for now")
            site.store(reading=False).write(a_version(0.01))
            ledger.go_to(1, "ada", "test", state=State(Phase.HOLD, 7, born=7, trips=1))
        ended = killed_at(step, lambda file=file: _keep(new, file, small_line.SmallEngine()))
        found = Commissioning.load(file) if file.exists() else None
        if found is None:
            assert before == "never"
            assert not ended
            continue
        started = small_line.Site(site.folder, clean=found)
        ledger = started.ledger()
        ledger.begin()
        events = [entry["event"] for entry in trail(started)]
        if found.digest == old.digest:
            assert (ledger.answering.number, ledger.state.born) == (1, 7)
            assert events == ["freeze", "rolled_back"]
        else:
            assert (ledger.answering.number, ledger.state.born) == (0, None)
            reset = ["reset"] if before == "commissioned" else []
            assert events[-1 - len(reset) :] == [*reset, "commissioned"]
        assert started.store().active().number == ledger.answering.number
        assert ledger.frozen_by == ("ada" if before == "commissioned" else None)
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
    site.ledger().go_to(1, "ada", "test", state=State(Phase.HOLD, 7, born=7))
    with monkeypatch.context() as without:
        match fails:
            case "stage":
                without.setattr("adapters.active_pointer.write_durably", full)
            case "swap":
                without.setattr("adapters.commissioning.write_durably", full)
            case "trail":
                without.setattr(Audit, "_write", full)
        if fails == "trail":
            _keep(new, file, small_line.SmallEngine())
        else:
            with pytest.raises(OSError, match="No space"):
                _keep(new, file, small_line.SmallEngine())
    found = Commissioning.load(file)
    ledger = small_line.Site(tmp_path, clean=found).ledger()
    ledger.begin()
    events = [entry["event"] for entry in trail(site)]
    if fails == "trail":
        assert (found.digest, ledger.answering.number) == (new.digest, 0)
        assert events == ["rolled_back", "reset", "commissioned"]
    else:
        assert (found.digest, ledger.answering.number) == (old.digest, 1)
        assert events == ["rolled_back"]
