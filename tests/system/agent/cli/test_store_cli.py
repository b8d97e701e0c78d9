"""`mekiki store`: check, purge and export, as a person meets them."""

from __future__ import annotations

import csv
import json
import sqlite3
import sys
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.audit.hash_chain import verify
from agent.base.event_id import ulid
from agent.cli.main import main
from agent.domain.claim import Claim
from agent.domain.production import Production
from agent.store import export as store_export
from agent.store.database import NAME
from agent.store.integrity import check
from agent.store.store import Store
from tests.support.evidence_site import judged, pictures_in, with_pictures
from tests.support.verdicts import PROVENANCE, a_store, a_verdict, close_stores


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    close_stores()


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A config whose data folder holds five results of two stations, three with pictures, one labelled."""
    (tmp_path / "config.yaml").write_text(
        "version: 1\nstations:\n  top:\n    camera: {kind: simulated}\n    recipe: line\n"
    )
    store = filled(tmp_path)
    store.close()
    return tmp_path


def filled(folder: Path) -> Store:
    store = a_store(folder / "data")
    parts = [judged("fail", age_days=9), judged("unsure", age_days=5), judged("fail", age_days=1)]
    with_pictures(store, parts)
    store.commit([judged("pass", "side", 9), judged("pass", "side", 1)])
    store.label(parts[0].event_id, "=cmd()", "yamada", "2026-01-01T00:00:00.000Z")
    return store


def run(site: Path, *words: str) -> int:
    return main(["store", words[0], "-c", str(site / "config.yaml"), *words[1:]])


def left(site: Path) -> list[tuple[str, int]]:
    with sqlite3.connect(site / "data" / NAME) as db:
        return db.execute("SELECT station, seq FROM verdict ORDER BY station, seq").fetchall()


def test_check_says_what_is_there_and_what_is_wrong(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 0 while all is well, also beside an agent; 1 with each problem named."""
    assert run(site, "check") == 0
    said = capsys.readouterr().out
    assert "top: 3 results, 1 to 3" in said
    assert "3 pictures, 0.0 MB; 1 labels; 2 wait for delivery" in said
    store = a_store(site / "data")
    store.commit([a_verdict()])
    assert run(site, "check") == 0
    assert "an agent is at work" in capsys.readouterr().err
    store.close()
    next((site / "data" / "evidence").glob("*/*/*.jpg")).unlink()
    assert run(site, "check") == 1
    assert "is not there" in capsys.readouterr().out
    (site / "data" / NAME).write_bytes(b"noise" * 5000)
    assert run(site, "check") == 1
    assert "the agent puts it aside" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "gone", "pictures"),
    [
        (("--before", "2026-05-26"), {("top", 1), ("side", 1)}, 2),
        (("--before", "2026-05-28T12:00:00Z", "--station", "top"), {("top", 1), ("top", 2)}, 1),
        (("--station", "side"), {("side", 1), ("side", 2)}, 3),
        (("--keep-days", "0"), {("top", 1), ("top", 2), ("top", 3), ("side", 1), ("side", 2)}, 0),
        (("--station", "top", "--images-only"), set(), 0),
    ],
)
def test_purge_deletes_what_was_said_and_nothing_else(
    site: Path, words: tuple[str, ...], gone: set[tuple[str, int]], pictures: int
) -> None:
    """Results with pictures, labels and places in the outbox; a line in the audit trail; numbers go on."""
    before = set(left(site))

    assert run(site, "purge", *words, "--dry-run") == 0
    assert set(left(site)) == before
    assert run(site, "purge", *words, "--yes") == 0

    assert set(left(site)) == before - gone
    assert len(pictures_in(site / "data")) == pictures
    assert check(site / "data").problems == ()
    (line,) = (site / "data" / "audit.jsonl").read_text().splitlines()
    assert json.loads(line)["event"] == "purge"
    assert verify(site / "data" / "audit.jsonl").ok
    store = a_store(site / "data")
    assert [row.seq for row in store.commit([a_verdict("top"), a_verdict("side")])] == [4, 3]


def test_what_was_purged_is_not_in_the_file(site: Path) -> None:
    """Who is asked to delete a part's data can: not even its bytes are left."""
    event_id = next(iter(sorted(pictures_in(site / "data"))))
    assert event_id.encode() in (site / "data" / NAME).read_bytes()
    assert run(site, "purge", "--station", "top", "--yes") == 0
    everything = b"".join(path.read_bytes() for path in (site / "data").glob(f"{NAME}*"))
    assert event_id.encode() not in everything


def test_purge_asks_and_keeps_away_from_a_running_agent(
    site: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody to ask: nothing goes. An agent at work: nothing goes, with what to do instead."""
    everything = left(site)
    assert run(site, "purge") == 64
    assert run(site, "purge", "--keep-days", "0") == 64
    assert "--yes" in capsys.readouterr().err
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    for answer in ("\n", "n\n"):
        monkeypatch.setattr(sys.stdin, "readline", lambda answer=answer: answer)
        assert run(site, "purge", "--keep-days", "0") == 1
    store = a_store(site / "data")
    assert run(site, "purge", "--keep-days", "0", "--yes") == 75
    assert "stop it for the time, or set storage.keep_days" in capsys.readouterr().err
    store.close()
    assert left(site) == everything
    assert not (site / "data" / "audit.jsonl").exists()


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_export_has_one_flat_row_per_result(site: Path, form: str) -> None:
    """Both formats say the same as the payloads; filters choose; a file that is there is not replaced."""
    out = site / f"out.{form}"
    assert run(site, "export", "--format", form, "--out", str(out)) == 0
    rows = read(out, form)
    with sqlite3.connect(site / "data" / NAME) as db:
        payloads = [json.loads(p) for (p,) in db.execute("SELECT payload FROM verdict ORDER BY station, seq")]
    assert [row["event_id"] for row in rows] == [p["event_id"] for p in payloads]
    assert [float(row["score"]) for row in rows] == [p["score"] for p in payloads]
    assert [int(row["seq"]) for row in rows] == [1, 2, 1, 2, 3]
    assert (site / "data" / rows[2]["image"]).is_file()
    assert json.loads(rows[2]["labels"]) == {"yamada": "=cmd()"}
    assert list(rows[0]) == list(store_export.COLUMNS)

    assert run(site, "export", "--format", form, "--out", str(out)) == 64
    words = ("--station", "top", "--from", "2026-05-25", "--to", "2026-06-01", "--verdict", "fail", "--force")
    assert run(site, "export", "--format", form, "--out", str(out), *words) == 0
    assert [(row["station"], int(row["seq"])) for row in read(out, form)] == [("top", 3)]
    assert [path.name for path in site.iterdir() if path.name.startswith(".")] == []


def test_a_station_without_results_that_the_config_does_not_know_is_told(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not where it has results: it may have gone from the config since."""
    assert run(site, "export", "--out", str(site / "a.csv"), "--station", "tpo") == 0
    assert "has no station called 'tpo': did you mean top?" in capsys.readouterr().err
    assert run(site, "purge", "--station", "tpo", "--dry-run") == 0
    assert "has no station called 'tpo': did you mean top?" in capsys.readouterr().err
    assert run(site, "export", "--out", str(site / "b.csv"), "--station", "side") == 0
    assert "note:" not in capsys.readouterr().err


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_export_has_what_version_2_added_and_nothing_there_for_version_1(site: Path, form: str) -> None:
    """Rows of either version stand in one table; free texts are no formulas."""
    store = a_store(site / "data")
    verdict = replace(
        a_verdict("new"),
        view="fit",
        tile=(0.0, 0.0, 0.5, 1.0),
        production=Production("=4711", "L", None),
        provenance=replace(PROVENANCE, claim=Claim(0.02, 0.95, 149)),
    )
    store.version = 1
    store.commit([verdict])
    store.version = 2
    store.commit([replace(verdict, event_id=ulid())])
    store.close()
    out = site / f"out.{form}"
    assert run(site, "export", "--format", form, "--out", str(out), "--station", "new") == 0
    old, new = read(out, form)
    added = list(old)[list(old).index("view") :]
    assert {old[name] for name in added} <= {"", None}
    assert new["order"].lstrip("'") == "=4711"
    assert form == "parquet" or new["order"].startswith("'")
    assert (new["lot"], new["shift"] or None, new["view"]) == ("L", None, "fit")
    assert json.loads(new["tile"]) == [0.0, 0.0, 0.5, 1.0]
    claim = [float(new[f"claim_{name}"]) for name in ("false_rejects_at_most", "confidence", "good_parts")]
    assert claim == [0.02, 0.95, 149]


def read(path: Path, form: str) -> list[dict[str, str]]:
    if form == "csv":
        with path.open(newline="") as file:
            return list(csv.DictReader(file))
    parquet = pytest.importorskip("pyarrow.parquet")
    return parquet.read_table(path).to_pylist()


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_a_cell_is_no_formula(tmp_path: Path, text: str) -> None:
    """What a plant calls a part is shown by a spreadsheet, not computed; numbers stay numbers."""
    store = a_store(tmp_path)
    store.commit([replace(a_verdict(), part_id=text)])
    store_export.export(tmp_path, tmp_path / "out.csv", "csv", store_export.ExportOptions())
    (row,) = read(tmp_path / "out.csv", "csv")
    assert row["part_id"] == f"'{text}"
    assert store_export.cell(-1.5) == -1.5


def test_parquet_without_its_library_says_what_to_do(
    site: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line with the remedy, exit code 78, and no half file."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert run(site, "export", "--format", "parquet", "--out", str(site / "x.parquet")) == 78
    assert "pip install 'mekiki[export]'" in capsys.readouterr().err
    assert not list(site.glob("*x.parquet*"))


def test_export_takes_no_more_memory_for_more_results(tmp_path: Path) -> None:
    """Sixteen thousand results take less than twice the memory of two thousand."""
    peaks = []
    store = a_store(tmp_path, outbox=False)
    for count in (2000, 14_000):
        store.commit([a_verdict() for _ in range(count)])
        tracemalloc.start()
        store_export.export(tmp_path, tmp_path / f"{count}.csv", "csv", store_export.ExportOptions())
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 2 * peaks[0]
