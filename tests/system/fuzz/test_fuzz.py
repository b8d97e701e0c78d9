"""The short form of ``make fuzz``, and that it would find what it looks for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.audit_dependencies import judge
from tests.fuzz.campaign import fuzz
from tests.fuzz.targets import TARGETS, Target


@pytest.mark.parametrize("name", TARGETS)
def test_what_others_wrote_is_read_or_refused_as_promised(name: str) -> None:
    faults, refused, _ = fuzz(TARGETS[name], 400, seed=1)
    assert [(fault.data[:200], fault.what) for fault in faults] == []
    assert refused > 0 or name == "last_run"


def test_a_reader_that_raises_something_else_is_found() -> None:
    def make(folder: Path) -> object:
        def take(data: bytes) -> bool:
            data.decode()
            return True

        return take

    faults, _, _ = fuzz(Target("naive", (b"text, only text",), make), 300, seed=1)
    assert faults
    assert all("UnicodeDecodeError" in fault.what for fault in faults)


def test_known_weaknesses_fail_the_audit_and_silence_does_not_pass_for_one() -> None:
    sound = {"name": "a", "version": "1", "vulns": []}
    weak = {"name": "b", "version": "2", "vulns": [{"id": "CVE-1", "fix_versions": ["3"]}]}
    unknown = {"name": "c", "skip_reason": "not found"}
    assert judge([sound]) == (0, ["dependencies: 1 audited, 0 with known weaknesses"])
    code, lines = judge([sound, weak, unknown])
    assert (code, lines[0]) == (1, "dependencies: b 2: CVE-1: mended in 3")
    assert lines[-1] == "dependencies: not audited: c"
    code, lines = judge([unknown])
    assert code == 0
    assert "NOT AUDITED" in lines[0]
