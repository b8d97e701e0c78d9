"""Order, lot and shift: who says them, what comes before what, and what outlives a restart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agent.audit.agent_log import FILE as TRAIL
from agent.audit.agent_log import Trail
from agent.audit.hash_chain import verify
from agent.base.errors import StoreError
from agent.config.models import Config
from agent.domain.production import Production
from agent.reload.production_book import FILE, ProductionBook, read
from agent.reload.production_requests import FOLDER, REFUSED, ProductionRequest, ask, waiting
from agent.reload.production_values import ProductionError


def config(data: Path, top: dict[str, str] | None = None, **everywhere: str) -> Config:
    station = {"camera": {"kind": "simulated"}, "recipe": "line"}
    return Config.model_validate(
        {
            "version": 1,
            "agent": {"data_dir": str(data)},
            "production": everywhere,
            "stations": {"top": {**station, "production": top or {}}, "side": station},
        }
    )


def book(data: Path, top: dict[str, str] | None = None, **everywhere: str) -> ProductionBook:
    return ProductionBook(config(data, top, **everywhere), Trail(data))


def rows(data: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (data / TRAIL).read_text().splitlines()]


def test_a_stations_own_text_comes_before_that_of_all(tmp_path: Path) -> None:
    """As the config says, as it was set, and again when the own one is cleared."""
    one = book(tmp_path, {"lot": "L1"}, order="A", lot="L0")
    assert (one.of("top"), one.of("side")) == (Production("A", "L1"), Production("A", "L0"))
    one.set(None, {"order": "B", "lot": "L2"}, "mqtt:mes")
    assert (one.of("top"), one.of("side")) == (Production("B", "L1"), Production("B", "L2"))
    one.set("top", {"lot": None, "shift": "late"}, "mqtt:mes")
    assert one.of("top") == Production("B", "L2", "late")
    change = one.set(None, {"lot": None}, "mqtt:mes")
    assert one.of("top") == Production("B", None, "late")
    assert change.before["side"] == Production("B", "L2")
    assert change.after["side"] == Production("B")
    assert one.of("nowhere") == Production()


def test_it_outlives_a_restart_and_the_file_has_the_last_word(tmp_path: Path) -> None:
    """What was set counts until somebody edits that text in the file; another text stays set."""
    book(tmp_path, order="A").set(None, {"order": None, "lot": "L"}, "anna")
    assert book(tmp_path, order="A").of("top") == Production(None, "L")
    again = book(tmp_path, order="A")
    again.use(config(tmp_path, order="C"))
    assert again.of("top") == Production("C", "L")
    assert [one.name for one in read(tmp_path)] == ["lot"]
    again.use(config(tmp_path, order="A"))
    assert again.of("top") == Production("A", "L")


def test_what_the_file_says_itself_is_not_kept(tmp_path: Path) -> None:
    """Set back to what stands there, it is as if nobody had set it."""
    one = book(tmp_path, order="A")
    one.set(None, {"order": "B"}, "anna")
    one.set(None, {"order": "A"}, "anna")
    assert read(tmp_path) == ()


def test_an_unknown_station_changes_nothing(tmp_path: Path) -> None:
    """It is said which there are."""
    one = book(tmp_path)
    with pytest.raises(ProductionError, match=r"there is no station 'tpo': name one of top, side"):
        one.set("tpo", {"order": "A"}, "anna")
    assert one.of("top") == Production()
    assert not (tmp_path / FILE).exists()


def test_each_change_is_a_row_of_the_trail_with_before_and_after(tmp_path: Path) -> None:
    """Who, where, from what to what; and the chain holds."""
    book(tmp_path).set("top", {"order": "A"}, "mqtt:mes", "order 7 begins")
    (row,) = [row for row in rows(tmp_path) if row["event"] == "production"]
    assert (row["actor"], row["why"]) == ("mqtt:mes", "order 7 begins")
    assert row["before"]["top"]["order"] is None
    assert row["after"]["top"]["order"] == "A"
    assert row["after"]["set"] == {"top": {"order": "A"}}
    assert verify(tmp_path / TRAIL).problems == ()


def test_a_request_is_taken_while_the_agent_runs_and_when_it_starts(tmp_path: Path) -> None:
    """In the order of asking, each once; what was asked before the start is in force from the first part."""
    for order in ("A", "B"):
        ask(tmp_path, ProductionRequest(values={"order": order}, actor="anna"))
    one = book(tmp_path)
    assert one.of("side") == Production("B")
    ask(tmp_path, ProductionRequest(station="side", values={"order": "C", "lot": None}, actor="anna"))
    ask(tmp_path, ProductionRequest(station="gone", values={"order": "D"}, actor="eve"))
    one.serve()
    assert (one.of("top"), one.of("side")) == (Production("B"), Production("C"))
    assert waiting(tmp_path) == []
    refused = [row for row in rows(tmp_path) if row["event"] == "production_refused"]
    assert [(row["actor"], "no station 'gone'" in row["why"]) for row in refused] == [("eve", True)]


def test_a_request_that_cannot_be_removed_is_obeyed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise it would undo every later one, four times a second."""
    one = book(tmp_path)
    ask(tmp_path, ProductionRequest(values={"order": "A"}, actor="anna"))

    def stuck(path: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", stuck)
        one.serve()
        one.set(None, {"order": "B"}, "mqtt:mes")
        one.serve()
    assert one.of("top") == Production("B")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"values": {}, "actor": "a"}', b"x" * 20_000])
def test_what_is_no_request_is_put_aside(tmp_path: Path, content: bytes) -> None:
    """The agent goes on, and the trail says so."""
    folder = tmp_path / FOLDER
    folder.mkdir(parents=True)
    (folder / f"{1:020d}-{'0' * 26}.json").write_bytes(content)
    (folder / "note.txt").write_bytes(content)
    one = book(tmp_path)
    assert one.of("top") == Production()
    assert waiting(tmp_path) == []
    assert len([*(folder / REFUSED).iterdir()]) == 2
    assert [row["event"] for row in rows(tmp_path)].count("production_refused") == 2


@pytest.mark.parametrize(
    "text",
    [
        "[" * 200_000, "[]", "{}", '{"set": 5}', '{"set": [5]}', '{"set": [1e999]}', "\x00",
        '{"set": [{"station": 5, "name": "order", "value": "A", "file": null}]}',
        '{"set": [{"station": null, "name": "order", "value": 5, "file": null}]}',
        '{"set": [{"station": null, "name": "order", "value": "a\\nb", "file": null}]}',
        '{"set": [{"station": null, "name": "order"}]}',
    ],
)  # fmt: skip
def test_a_damaged_file_is_told_and_the_config_counts(
    tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The start does not fail by it, and what is set next is kept."""
    (tmp_path / FILE).write_text(text)
    one = book(tmp_path, order="A")
    assert one.of("top") == Production("A")
    assert "cannot be read" in caplog.text
    one.set(None, {"lot": "L"}, "anna")
    assert book(tmp_path, order="A").of("top") == Production("A", "L")


def test_a_newer_release_keeps_what_it_has_added_or_is_asked_for(tmp_path: Path) -> None:
    """Names and fields that are not known stay in the file; a higher number is refused, unchanged."""
    foreign = {"station": None, "name": "tool", "value": "T1", "file": None}
    (tmp_path / FILE).write_text(json.dumps({"version": 1, "set": [foreign], "by": "x"}))
    book(tmp_path).set(None, {"order": "A"}, "anna")
    kept = json.loads((tmp_path / FILE).read_text())
    assert kept["by"] == "x"
    assert foreign in kept["set"]
    (tmp_path / FILE).write_text('{"version": 2, "set": []}')
    with pytest.raises(StoreError, match=r"production\.json: version 2.*install that version again"):
        book(tmp_path)
    assert (tmp_path / FILE).read_text() == '{"version": 2, "set": []}'
