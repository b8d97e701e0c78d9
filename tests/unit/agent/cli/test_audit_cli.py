"""`mekiki audit`: all trails of an agent, offline, and what an auditor takes home."""

from __future__ import annotations

import csv
import json
import shutil
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.audit.hash_chain import Audit, verify
from agent.cli.main import main


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A config whose agent has a trail of its own and those of two stations, in turn."""
    (tmp_path / "config.yaml").write_text(
        "version: 1\nstations:\n  top:\n    camera: {kind: simulated}\n    recipe: line\n"
    )
    write_trails(tmp_path / "data")
    return tmp_path


def write_trails(data: Path) -> None:
    trails = [Audit(name, path) for name, path in paths(data).items()]
    for minute in range(30):
        trails[minute % 3].append(
            f"2026-06-01T00:{minute:02}:00.000Z",
            "changed",
            actor="=yamada",
            why=f"{minute}",
            after={"n": minute},
        )


def paths(data: Path) -> dict[str, Path]:
    stations = {name: data / "stations" / name / "audit.jsonl" for name in ("side", "top")}
    return {"": data / "audit.jsonl", **stations}


def run(site: Path, *words: str) -> int:
    return main(["audit", words[0], "-c", str(site / "config.yaml"), *words[1:]])


def head(path: Path) -> str:
    return verify(path).head


def test_all_trails_are_verified(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each with its lines and its head; nothing of an agent, a model or a broker is needed."""
    assert run(site, "verify") == 0
    said = capsys.readouterr().out.splitlines()
    assert said == [
        f"{name or 'agent'}: 10 lines, head {head(path)}" for name, path in paths(site / "data").items()
    ]


def test_copies_are_verified_without_a_config(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file, a station's folder, a folder of folders: what an auditor was handed."""
    shutil.copytree(site / "data", site / "copy")
    for path, count in (("copy", 3), ("copy/stations", 2), ("copy/stations/top/audit.jsonl", 1)):
        assert main(["audit", "verify", str(site / path)]) == 0
        assert len(capsys.readouterr().out.splitlines()) == count
    assert main(["audit", "verify", str(site / "nowhere")]) == 64


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_single_change_is_found(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    """In any trail: a changed, removed, doubled or exchanged line has exit code 1 and is named."""
    folder = tmp_path_factory.mktemp("trails")
    write_trails(folder)
    name, path = data.draw(st.sampled_from(sorted(paths(folder).items())))
    heads = [f"{trail or 'agent'}={head(file)}" for trail, file in paths(folder).items()]
    lines = path.read_bytes().splitlines(keepends=True)
    place = data.draw(st.integers(0, len(lines) - 1))
    kind = data.draw(st.sampled_from(["byte", "remove", "double", "swap"]))
    if kind == "byte":
        at = data.draw(st.integers(0, len(lines[place]) - 1))
        byte = data.draw(st.integers(0, 255).filter(lambda value: value != lines[place][at]))
        lines[place] = lines[place][:at] + bytes([byte]) + lines[place][at + 1 :]
    elif kind == "remove":
        del lines[place]
    elif kind == "double":
        lines.insert(place, lines[place])
    else:
        other = data.draw(st.integers(0, len(lines) - 1).filter(lambda number: number != place))
        lines[place], lines[other] = lines[other], lines[place]
    path.write_bytes(b"".join(lines))

    words = [word for one in heads for word in ("--head", one)]
    assert main(["audit", "verify", str(folder), *words]) == 1
    said = capsys.readouterr().out
    assert f"{path}:" in said
    assert f"{name or 'agent'}: " in said
    assert said.count("NOT WHOLE") == 1


def test_a_head_belongs_to_a_trail(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Lines cut off at the end are found by it; one without a trail is refused where there are several."""
    path = paths(site / "data")["top"]
    kept = head(path)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-2]))
    assert run(site, "verify") == 0
    assert run(site, "verify", "--head", f"top={kept}") == 1
    assert f"{path}:9: " in capsys.readouterr().out
    assert run(site, "verify", "--head", kept) == 64
    assert run(site, "verify", "--head", f"nobody={kept}") == 64


@pytest.mark.parametrize("form", ["csv", "json"])
def test_export_merges_the_trails_by_time(site: Path, form: str) -> None:
    """One row per line with its trail, number and hash, to be found again; formulas are text."""
    out = site / f"out.{form}"
    words = ("export", "--format", form, "--out", str(out))
    assert run(site, *words) == 0
    if form == "csv":
        with out.open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert rows[0]["actor"] == "'=yamada"
    else:
        rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["why"] for row in rows] == [str(minute) for minute in range(30)]
    for row in rows:
        name = "" if row["trail"] == "agent" else row["trail"]
        line = paths(site / "data")[name].read_text().splitlines()[int(row["line"]) - 1]
        assert json.loads(line)["hash"] == row["hash"]
    assert run(site, *words) == 64
    assert run(site, *words, "--force", "--from", "2026-06-01T00:10:00Z", "--to", "2026-06-01T00:12:00Z") == 0
    assert len(out.read_text().splitlines()) == 2 + (form == "csv")


def test_threads_append_one_after_the_other(tmp_path: Path) -> None:
    """Labels, commands and config changes come from different threads; the chain stays one."""
    path = tmp_path / "audit.jsonl"
    audit = Audit("", path)

    def append() -> None:
        for _ in range(20):
            audit.append("2026-06-01T00:00:00.000Z", "label", actor="yamada", why="")

    threads = [threading.Thread(target=append) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    report = verify(path, audit.head)
    assert (report.lines, report.problems) == (80, ())
