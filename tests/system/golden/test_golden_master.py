"""The golden master tells two recordings apart, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.golden.master import compare


def recording(folder: Path, **texts: str) -> Path:
    folder.mkdir()
    for name, text in texts.items():
        (folder / f"{name}.txt").write_text(text)
    return folder


def test_equal_recordings_are_equal(tmp_path: Path, capsys) -> None:
    """Nothing is printed but the count."""
    a, b = (recording(tmp_path / name, run="well\n") for name in "ab")
    assert compare(a, b) == 0
    assert capsys.readouterr().out == "1 files, 0 differ\n"


def test_a_changed_line_and_a_file_of_one_side_are_shown(tmp_path: Path, capsys) -> None:
    """As a unified diff of each file, in the order of their names."""
    a = recording(tmp_path / "a", run="well\nend\n", gone="x\n")
    b = recording(tmp_path / "b", run="ill\nend\n")
    assert compare(a, b) == 1
    shown = capsys.readouterr().out.splitlines()
    assert [line for line in shown if line[0] in "-+" and line[1] not in "-+"] == ["-x", "-well", "+ill"]
    assert shown[-1] == "2 files, 2 differ"


def test_a_folder_without_a_recording_is_named(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="b: no recording lies there"):
        compare(recording(tmp_path / "a", run="well\n"), recording(tmp_path / "b"))
