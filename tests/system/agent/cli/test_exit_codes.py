"""Exit codes belong to the moment: what may pass is tried again, what broke later is unexpected."""

from __future__ import annotations

import configparser
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from agent.base.data_dir import lock_folder
from agent.base.errors import EXIT_CONFIG, EXIT_OK, EXIT_TRY_AGAIN, EXIT_UNEXPECTED
from agent.cli.main import main
from agent.reload import last_known_good
from agent.store.database import Damaged
from agent.store.store import Store
from tests.support.places import ROOT
from tests.support.running_agent import write_config

LINE = {"line": {"camera": {"kind": "simulated"}}}


def run(path: Path, *options: str) -> int:
    return main(["run", "-c", str(path), "--frames", "3", *options])


@contextmanager
def locked(data: Path) -> Iterator[None]:
    """Another program has the database, as a backup or a person with sqlite3 may."""
    data.mkdir(exist_ok=True)
    with closing(sqlite3.connect(data / "mekiki.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield


@contextmanager
def full_disk(folder: Path) -> Iterator[None]:
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        (folder / "filler").write_bytes(bytes(256 * 1024))
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_busy_database_at_the_start_is_tried_again(
    tiny_bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Exit code 75 and one line; the config is not to blame, and the last good one is no remedy.

    One that has its tables already can be read meanwhile: the line inspects, and what is lost at the end is
    counted (`test_ending.py`).
    """
    path = write_config(tmp_path, tiny_bundle, LINE)
    with locked(tmp_path / "data"):
        assert run(path) == EXIT_TRY_AGAIN
    err = capfd.readouterr().err
    assert "mekiki.db: database is locked" in err
    assert "Traceback" not in err
    assert "in force last" not in err
    assert run(path) == EXIT_OK


def test_a_data_folder_in_use_is_tried_again(
    tiny_bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = write_config(tmp_path, tiny_bundle, LINE)
    with lock_folder(tmp_path / "data"):
        assert run(path) == EXIT_TRY_AGAIN
        assert main(["commission", "-c", str(path), "--station", "line"]) == EXIT_TRY_AGAIN
    err = capfd.readouterr().err
    assert err.count("another agent uses this data folder") == 2
    assert "Traceback" not in err


def test_a_full_disk_at_the_start_is_tried_again(
    tiny_bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Whatever comes first on it: the lock, the database, the record of the run."""
    path = write_config(tmp_path, tiny_bundle, LINE)
    with full_disk(tmp_path / "data"):
        assert run(path) == EXIT_TRY_AGAIN
        (tmp_path / "data" / "filler").unlink()
        assert run(path) == EXIT_OK
    assert "Traceback" not in capfd.readouterr().err


def test_a_damaged_database_at_the_start_is_no_reason_to_end(tiny_bundle: Path, tmp_path: Path) -> None:
    path = write_config(tmp_path, tiny_bundle, LINE)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mekiki.db").write_bytes(b"no database" * 1000)
    assert run(path) == EXIT_OK


def test_a_file_in_the_place_of_the_data_folder_is_a_bad_config(
    tiny_bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Of the folder itself or of one above it."""
    (tmp_path / "data").write_text("")
    for data_dir in ("data", "data/below"):
        path = write_config(tmp_path, tiny_bundle, LINE, agent={"id": "agent", "data_dir": data_dir})
        assert run(path) == EXIT_CONFIG
        assert "agent.data_dir: is a file, not a folder" in capfd.readouterr().err


def test_a_store_that_fails_at_work_is_unexpected(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A disk that damages the database twice in a minute: 70 with its traceback; the next start goes on."""
    path = write_config(tmp_path, tiny_bundle, LINE)
    assert run(path) == EXIT_OK

    def damaged(*_: object) -> None:
        raise Damaged("mekiki.db: database disk image is malformed")

    with monkeypatch.context() as patched:
        patched.setattr(Store, "commit", damaged)
        assert run(path) == EXIT_UNEXPECTED
    said = capfd.readouterr().err
    assert "Damaged: mekiki.db: database disk image is malformed" in said
    assert run(path) == EXIT_OK


def test_a_model_that_was_good_and_is_gone_is_tried_again(
    tiny_bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A disk that is not mounted yet: the same config was in force before, nobody has to edit it."""
    bundle = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    path = write_config(tmp_path, bundle, LINE)
    bundle.rename(tmp_path / "away")
    assert run(path) == EXIT_CONFIG  # it was never there
    (tmp_path / "away").rename(bundle)
    assert run(path) == EXIT_OK
    bundle.rename(tmp_path / "away")
    assert run(path) == EXIT_TRY_AGAIN
    path.write_text(path.read_text() + "oops: 1\n")
    assert run(path) == EXIT_TRY_AGAIN  # with the one that was in force last it is the same
    (tmp_path / "away").rename(bundle)
    assert run(path) == EXIT_OK
    assert run(path, "--strict") == EXIT_CONFIG
    said = capfd.readouterr().err
    assert "model.bundle: no such folder" in said
    assert "Traceback" not in said


def test_a_disk_with_data_and_model_that_is_not_mounted_is_tried_again(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What says that a config was in force must not lie on that disk alone, or nobody tries again."""
    disk, state, away = tmp_path / "disk", tmp_path / "state", tmp_path / "away"
    state.mkdir()
    monkeypatch.setenv("STATE_DIRECTORY", str(state))
    bundle = shutil.copytree(tiny_bundle, disk / "bundle")
    agent = {"id": "agent", "data_dir": str(disk / "data")}
    path = write_config(tmp_path, bundle, LINE, agent=agent)
    disk.rename(away)
    disk.mkdir()
    assert run(path) == EXIT_CONFIG  # it was never in force
    disk.rmdir()
    away.rename(disk)
    assert run(path) == EXIT_OK
    disk.rename(away)
    disk.mkdir()
    assert run(path) == EXIT_TRY_AGAIN
    disk.rmdir()
    away.rename(disk)
    assert run(path) == EXIT_OK
    (tmp_path / "elsewhere").mkdir()
    (disk / "data").rename(tmp_path / "elsewhere" / "data")
    assert last_known_good.find(path) is not None  # with pictures on that disk it is the same
    (kept,) = (state / "last_good").iterdir()
    assert kept.stat().st_mode & 0o777 == 0o600


def test_another_data_folder_that_cannot_be_had_is_refused_for_the_last_good_config(
    tiny_bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """An edit is no reason for the line to stand; with the same folder it is, and it may pass."""
    path = write_config(tmp_path, tiny_bundle, LINE)
    assert run(path) == EXIT_OK
    write_config(tmp_path, tiny_bundle, LINE, agent={"id": "agent", "data_dir": "other"})
    with lock_folder(tmp_path / "other"):
        assert run(path) == EXIT_OK
        assert run(path, "--strict") == EXIT_TRY_AGAIN
        said = capfd.readouterr().err
        assert "config refused: " in said
        assert "agent.data_dir: " in said
        with lock_folder(tmp_path / "data"):
            assert run(path) == EXIT_TRY_AGAIN
    assert "Traceback" not in capfd.readouterr().err


def test_a_disk_that_refuses_is_one_line_wherever_it_shows(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """What no command expects of a file is named, with a remedy; what may be a bug keeps its traceback."""
    path = str(write_config(tmp_path, tiny_bundle, LINE))
    errors = [
        PermissionError(13, "Permission denied", "/data/x"),
        OSError(5, "Input/output error", "/data/x"),
    ]
    for error, code in [*((e, EXIT_TRY_AGAIN) for e in errors), (FileNotFoundError(2, "x", "/x"), 70)]:

        def fail(_: object, error: OSError = error) -> int:
            raise error

        monkeypatch.setattr("agent.cli.checks.doctor.examine", fail)
        assert main(["doctor", "-c", path]) == code
    assert capfd.readouterr().err.count("/data/x: ") == 2


def test_store_commands_say_when_the_database_is_busy(
    tiny_bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Not that it is damaged."""
    path = write_config(tmp_path, tiny_bundle, LINE)
    assert run(path) == EXIT_OK
    out = str(tmp_path / "x.csv")
    with closing(sqlite3.connect(tmp_path / "data" / "mekiki.db", isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("PRAGMA journal_mode = DELETE")
        other.execute("BEGIN EXCLUSIVE")
        for command in (["check"], ["export", "--out", out], ["purge", "--keep-days", "0", "--yes"]):
            assert main(["store", *command, "-c", str(path)]) == EXIT_TRY_AGAIN
    assert "puts it aside" not in capfd.readouterr().out
    (tmp_path / "data" / "mekiki.db").write_bytes(b"no database" * 1000)
    assert main(["store", "check", "-c", str(path)]) == 1
    assert main(["store", "export", "--out", out, "-c", str(path)]) == EXIT_TRY_AGAIN


def test_the_service_is_started_again_after_all_but_a_bad_config() -> None:
    """For ever, however often: after ten minutes of a busy disk it has to come back."""
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[method-assign,assignment]
    unit.read(ROOT / "deploy" / "mekiki.service")
    assert unit["Service"]["Restart"] == "always"
    assert unit["Service"]["RestartPreventExitStatus"] == str(EXIT_CONFIG)
    assert unit["Unit"]["StartLimitIntervalSec"] == "0"
    assert "SuccessExitStatus" not in unit["Service"]


def test_the_codes_of_a_process_are_those_of_the_command(tiny_bundle: Path, tmp_path: Path) -> None:
    """What systemd sees."""
    path = write_config(tmp_path, tiny_bundle, LINE)
    with lock_folder(tmp_path / "data"):
        command = [sys.executable, "-m", "agent", "run", "-c", str(path)]
        assert subprocess.run(command, capture_output=True).returncode == EXIT_TRY_AGAIN
