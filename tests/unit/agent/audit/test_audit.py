"""The audit trail and the requests: nothing changes unseen, nothing asked is lost or done twice."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.audit.hash_chain import GENESIS, Audit, Report, verify
from agent.base.data_dir import lock_folder
from agent.versions.operator_requests import Kind, Request, agent_runs, ask, finish, take

AT = "2026-01-01T00:00:00.000Z"


def fill(audit: Audit, count: int = 5) -> Audit:
    for number in range(audit.n + 1, audit.n + 1 + count):
        audit.append(
            AT,
            "promoted",
            actor="guard",
            why=f"gain {number} 良い",
            before={"number": number - 1},
            after={"number": number},
            numbers={"gain": number / 3, "loss": 1e-12 / number, "n": number},
        )
    return audit


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def test_a_trail_goes_on_after_a_restart(tmp_path: Path) -> None:
    """One chain from the first line to the last, whoever wrote them."""
    path = tmp_path / "stations" / "top" / "audit.jsonl"
    head = fill(Audit("top", path)).head
    again = Audit("top", path)
    assert (again.n, again.head, again.found) == (5, head, ())
    fill(again)
    report = verify(path, again.head)
    assert (report.lines, report.last, report.head, report.ok) == (10, 10, again.head, True)
    first = json.loads(lines_of(path)[0])
    assert list(first) == [
        "n", "at", "station", "actor", "event", "before", "after", "numbers", "why", "prev_hash", "hash",
    ]  # fmt: skip
    assert (first["n"], first["station"], first["prev_hash"]) == (1, "top", GENESIS)


def test_any_tool_can_check_the_hashes(tmp_path: Path) -> None:
    """As the module says: the hash is that of the line without its last field."""
    path = tmp_path / "audit.jsonl"
    fill(Audit("top", path))
    command = (
        """sed 's/,"hash":"[0-9a-f]*"}$/}/' audit.jsonl"""
        """ | while read -r line; do printf %s "$line" | sha256sum; done"""
    )
    run = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert [line.split()[0] for line in run.stdout.splitlines()] == [
        json.loads(line)["hash"] for line in lines_of(path)
    ]


def test_in_memory_the_lines_are_the_same(tmp_path: Path) -> None:
    """A replay makes the very trail that the line made."""
    memory, file = fill(Audit("top")), fill(Audit("top", tmp_path / "audit.jsonl"))
    assert memory.head == file.head
    assert [f"{line}\n".encode() for line in memory.lines] == lines_of(tmp_path / "audit.jsonl")


def test_lines_are_strict_json_whatever_the_numbers(tmp_path: Path) -> None:
    """Floats of 9 digits; nan and inf as text; numpy's numbers and broken text do not stop the trail."""
    path = tmp_path / "audit.jsonl"
    audit = Audit("top", path)
    numbers = {
        "third": 1 / 3, "nan": float("nan"), "inf": np.float32("-inf"), "int": np.int64(7),
        "flag": np.bool_(True), "list": (0.1 + 0.2, None), "single": np.float32(0.1),
    }  # fmt: skip
    audit.append(AT, "refused", actor="guard", why="half \ud800 a pair\nand a line", numbers=numbers)

    def refuse(name: str) -> None:
        raise AssertionError(name)

    entry = json.loads(path.read_bytes(), parse_constant=refuse)
    assert entry["numbers"] == {
        "third": 0.333333333, "nan": "nan", "inf": "-inf", "int": 7,
        "flag": True, "list": [0.3, None], "single": 0.100000001,
    }  # fmt: skip
    assert entry["why"] == "half ? a pair\nand a line"
    assert verify(path, audit.head).ok


def changed(lines: list[bytes]) -> list[bytes]:
    return [*lines[:2], lines[2].replace(b'"guard"', b'"nobody"'), *lines[3:]]


def rehashed(lines: list[bytes]) -> list[bytes]:
    """Line 3 says something else and its hash fits."""
    body = lines[2].replace(b'"guard"', b'"nobody"')[: lines[2].index(b',"hash"') + 1] + b"}"
    digest = hashlib.sha256(body).hexdigest().encode()
    return [*lines[:2], body[:-1] + b',"hash":"' + digest + b'"}\n', *lines[3:]]


@pytest.mark.parametrize(
    ("tamper", "where", "what"),
    [
        (changed, 3, "hash does not fit"),
        (rehashed, 4, "does not continue the line before it"),
        (lambda lines: [*lines[:2], *lines[3:]], 3, "line 4 stands where 3 should"),
        (lambda lines: lines[1:], 1, "line 2 stands where 1 should"),
        (lambda lines: [lines[0], lines[2], lines[1], *lines[3:]], 2, "line 3 stands where 2 should"),
        (lambda lines: [*lines[:2], lines[1], *lines[2:]], 3, "line 2 stands where 3 should"),
        (lambda lines: [*lines[:2], b"\n", *lines[2:]], 3, "changed or torn"),
        (lambda lines: [*lines[:4], lines[4][:-9]], 5, "changed or torn"),
        (lambda lines: lines[:4], 5, "lines are missing"),
        (lambda lines: [lines[0].replace(b'{"n":1', b'{"n":1,"n":1'), *lines[1:]], 1, "not written as"),
        (lambda lines: [lines[0].replace(b'"numbers":{', b'"numbers":{"x":NaN,'), *lines[1:]], 1, "NaN"),
    ],
)
def test_tampering_is_found_at_its_line(
    tmp_path: Path, tamper: Callable[[list[bytes]], list[bytes]], where: int, what: str
) -> None:
    """Changed, exchanged, missing, moved, doubled, torn, cut off: each named with its line."""
    path = tmp_path / "audit.jsonl"
    head = fill(Audit("top", path)).head
    path.write_bytes(b"".join(tamper(lines_of(path))))
    problems = verify(path, head).problems
    assert problems
    assert problems[0].startswith(f"{path}:{where}: ")
    assert what in problems[0]


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_no_change_of_bytes_or_lines_passes(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Any altered byte, any removal but at the end, any other order of lines."""
    path = tmp_path_factory.mktemp("trail") / "audit.jsonl"
    fill(Audit("top", path), 6)
    lines = lines_of(path)
    kind = data.draw(st.sampled_from(["byte", "insert", "remove", "order"]))
    if kind in ("byte", "insert"):
        content = bytearray(b"".join(lines))
        place = data.draw(st.integers(0, len(content) - 1))
        byte = data.draw(st.integers(0, 255).filter(lambda value: value != content[place]))
        content[place : place + (kind == "byte")] = bytes([byte])
        altered = bytes(content)
    elif kind == "remove":
        gone = data.draw(st.sets(st.integers(0, 5), min_size=1, max_size=5))
        kept = [line for number, line in enumerate(lines) if number not in gone]
        altered = b"".join(kept)
        if altered == b"".join(lines[: len(kept)]):
            assert verify_bytes(path, altered).ok
            assert not verify_bytes(path, altered, json.loads(lines[-1])["hash"]).ok
            return
    else:
        order = data.draw(st.permutations(range(6)).filter(lambda order: order != list(range(6))))
        altered = b"".join(lines[number] for number in order)
    assert not verify_bytes(path, altered).ok


def verify_bytes(path: Path, content: bytes, head: str | None = None) -> Report:
    path.write_bytes(content)
    return verify(path, head)


def test_a_torn_last_line_is_cut_off_and_told(tmp_path: Path) -> None:
    """After a power cut at any byte of the last line the trail is whole again and goes on."""
    path = tmp_path / "audit.jsonl"
    fill(Audit("top", path), 2)
    intact, first = path.read_bytes(), len(lines_of(path)[0])
    for length in (*range(first + 1, len(intact), 37), len(intact) - 1):
        path.write_bytes(intact[:length])
        audit = Audit("top", path)
        assert audit.n == 1
        assert f"cut {length - first} bytes" in audit.found[0]
        fill(audit, 1)
        assert path.read_bytes() == intact
    path.write_bytes(intact + b"\0" * 100)  # what a file system may leave of a line that it had made room for
    assert Audit("top", path).n == 2
    assert path.read_bytes() == intact


def test_a_trail_that_was_tampered_with_goes_on_and_still_shows_it(tmp_path: Path) -> None:
    """Opening tells; new lines are good; the old fault is found for ever, and nothing else."""
    path = tmp_path / "audit.jsonl"
    fill(Audit("top", path))
    path.write_bytes(b"".join(changed(lines_of(path))))
    audit = Audit("top", path)
    assert len(audit.found) == 1
    fill(audit)
    assert verify(path).problems == audit.found


def test_a_full_disk_leaves_the_trail_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same event can be appended later."""
    path = tmp_path / "audit.jsonl"
    audit = fill(Audit("top", path), 2)
    intact, head, sync = path.read_bytes(), audit.head, os.fsync

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        fill(audit, 1)
    monkeypatch.setattr(os, "fsync", sync)
    assert (path.read_bytes(), audit.head, audit.n) == (intact, head, 2)
    fill(audit, 1)
    assert verify(path, audit.head).ok


def a_request(kind: Kind = "freeze", number: int | None = None) -> Request:
    return Request(kind=kind, actor="yamada", at=AT, number=number)


def test_requests_are_taken_in_order_and_exactly_once(tmp_path: Path) -> None:
    """They wait through a crash until they are finished, and then never come again."""
    folder = tmp_path / "requests"
    assert take(folder).requests == ()
    asked = [a_request("rollback", 3), a_request(), a_request("resume"), a_request("activate", 4)]
    for request in asked:
        ask(folder, request)
    assert take(folder).requests == tuple(asked)
    finish(folder, asked[0])
    finish(folder, asked[0])
    assert take(folder).requests == tuple(asked[1:])
    # Killed between the effect, which keeps the id, and `finish`.
    assert take(folder, done=(asked[1].id,)).requests == tuple(asked[2:])
    assert take(folder).requests == tuple(asked[2:])


def test_files_that_are_no_request_are_moved_aside_and_told(tmp_path: Path) -> None:
    """Each by name, and what is good is taken all the same."""
    folder = tmp_path / "requests"
    good = a_request("reset")
    path = ask(folder, good)
    text = path.read_text()
    stem = path.name[:21]

    def write(id_: str, content: str) -> None:
        (folder / f"{stem}{id_}.json").write_text(content.replace(good.id, id_))

    write("0" * 26, text[:-5])
    write("1" * 26, text.replace('"reset"', '"delete"'))
    write("2" * 26, text.replace('"number":null', '"number":3'))
    write("3" * 26, text.replace('"yamada"', r'"a\nb"'))
    write("4" * 26, text + " " * 20_000)
    write("5" * 26, "[" * 9000)
    (folder / f"{stem}{'6' * 26}.json").write_text(text)
    (folder / "notes.txt").write_text("buy milk")
    (folder / f"{stem}{'7' * 26}.json").symlink_to(path)
    (folder / ".half").mkdir()

    taken = take(folder)

    assert taken.requests == (good,)
    assert len(taken.refused) == 9
    assert len(list((folder / "refused").iterdir())) == 9
    assert take(folder).refused == ()
    assert (folder / ".half").exists()


@pytest.mark.parametrize(("kind", "number"), [("rollback", None), ("freeze", 3), ("activate", -1)])
def test_a_request_that_makes_no_sense_cannot_be_made(kind: Kind, number: int | None) -> None:
    """Only rollback and activate name a version."""
    with pytest.raises(ValueError, match=r"number|name a version"):
        a_request(kind, number)


def test_whether_an_agent_runs_is_seen_without_disturbing_it(tmp_path: Path) -> None:
    """The data folder's lock tells; asking leaves it as it was."""
    assert not agent_runs(tmp_path / "nowhere")
    lock = lock_folder(tmp_path)
    assert agent_runs(tmp_path)
    lock.close()
    assert not agent_runs(tmp_path)
    lock_folder(tmp_path).close()
