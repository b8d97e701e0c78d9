"""`mekiki status`: what the agent on this machine says of itself, without broker and port."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import pytest
from jsonschema import Draft202012Validator

from agent.base.data_dir import lock_folder
from agent.base.errors import EXIT_CHECK_FAILED, EXIT_CONFIG, EXIT_OK, EXIT_TRY_AGAIN, NoAnswer
from agent.cli.main import main
from agent.config.loader import load
from agent.domain.conditions import Code
from agent.telemetry.status_socket import SOCKET, ask, status_server
from tests.support.mqtt_peers import wait_until
from tests.support.places import ROOT
from tests.support.running_agent import running, write_config

SCHEMAS = ROOT / "docs" / "schemas"
LINE = {"line": {"camera": {"kind": "simulated", "fps": 50}}}
AWAY = {"line": {"camera": {"kind": "opencv", "source": "rtsp://127.0.0.1:9/none"}}}
PATIENCE_S = 60.0


def schema(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((SCHEMAS / f"mekiki.{name}.v1.schema.json").read_text())
    return found


def status(path: Path, *options: str) -> int:
    return main(["status", "-c", str(path), *options])


def answers(path: Path) -> bool:
    try:
        ask(path.parent / "data")
    except NoAnswer:
        return False
    return True


@contextmanager
def process(path: Path) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-m", "agent", "run", "-c", str(path)]) as agent:
        try:
            wait_until(lambda: answers(path) or agent.poll() is not None, PATIENCE_S)
            yield agent
        finally:
            agent.kill()


def test_status_says_phase_version_health_and_rates(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 0, a few lines for people, and one object whose parts are those that MQTT has."""
    path = write_config(tmp_path, tiny_bundle, LINE)
    with running(load(path)):
        wait_until(
            lambda: answers(path) and ask(tmp_path / "data")["stats"]["results"]["stored"] > 20, PATIENCE_S
        )
        assert status(path, "--json") == EXIT_OK
        found = json.loads(capsys.readouterr().out)
        assert status(path) == EXIT_OK
        told = capsys.readouterr().out
    for name, one in (("status", found), ("health", found["health"]), ("stats", found["stats"])):
        Draft202012Validator(schema(name)).validate(one)
    Draft202012Validator(schema("adapter")).validate(found["adapters"]["line"])
    lines = told.splitlines()
    assert lines[0].startswith("agent    agent, mekiki ")
    assert "health   ok, since " in told
    columns, row = lines[-2].split(), lines[-1].split()
    shown = dict(zip(columns, row, strict=False))
    assert (shown["station"], shown["camera"], shown["version"]) == ("line", "ok", "0")
    assert float(shown["pictures/s"]) > 0
    assert "off: " in lines[-1]


def test_what_is_wrong_is_said_and_the_exit_code_is_1(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_config(tmp_path, tiny_bundle, AWAY)
    with running(load(path)):
        wait_until(lambda: answers(path) and ask(tmp_path / "data")["health"]["health"] == "down", PATIENCE_S)
        assert status(path) == EXIT_CHECK_FAILED
    told = capsys.readouterr().out
    assert "camera_offline: line: " in told
    assert "offline" in told.splitlines()[-1]


def test_without_an_agent_there_is_one_line(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_config(tmp_path, tiny_bundle, LINE)
    assert status(path) == EXIT_TRY_AGAIN
    assert "no agent runs with this data folder" in capsys.readouterr().err
    with lock_folder(tmp_path / "data"):
        assert status(path) == EXIT_TRY_AGAIN
    err = capsys.readouterr().err
    assert "just starting or ending" in err
    assert err.count("\n") == 1
    assert status(tmp_path / "other.yaml") == EXIT_CONFIG


def test_a_killed_agent_is_told_from_one_that_runs(tiny_bundle: Path, tmp_path: Path) -> None:
    """What it left of its socket neither answers nor keeps the next one from answering."""
    path = write_config(tmp_path, tiny_bundle, LINE)
    with process(path) as agent:
        agent.send_signal(signal.SIGKILL)
        agent.wait(PATIENCE_S)
    assert (tmp_path / "data" / SOCKET).exists()
    assert status(path) == EXIT_TRY_AGAIN
    with process(path) as agent:
        assert status(path) == EXIT_OK
        agent.send_signal(signal.SIGTERM)
        assert agent.wait(PATIENCE_S) == EXIT_OK
    assert not (tmp_path / "data" / SOCKET).exists()


def test_a_broken_config_hides_no_agent(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It runs on with what was good; that is when somebody wants to know how it is doing."""
    path = write_config(tmp_path, tiny_bundle, LINE)
    with running(load(path)):
        wait_until(lambda: answers(path), PATIENCE_S)
        path.write_text(path.read_text().replace("version: 1", "version: [1"))
        wait_until(lambda: ask(tmp_path / "data")["health"]["health"] == "degraded", PATIENCE_S)
        assert status(path) == EXIT_CHECK_FAILED
    assert "refused: " in capsys.readouterr().out


def test_who_asks_and_does_not_read_keeps_nobody_waiting(tmp_path: Path) -> None:
    """Nor does a folder whose name is longer than the address of a socket may be."""
    data = tmp_path / ("d" * 120)
    data.mkdir()
    large = {"text": "x" * 4_000_000}
    with status_server(data, lambda: large), socket.socket(socket.AF_UNIX) as silent:
        folder = tmp_path / "short"
        folder.symlink_to(data)
        silent.connect(str(folder / SOCKET))
        assert ask(data) == large


def test_an_answer_that_cannot_be_composed_is_in_the_journal_and_the_next_one_comes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A bug in what is shown costs neither the agent nor whoever asks later."""
    snapshots = iter([{"bad": float("nan")}, {"good": 1}])
    with status_server(tmp_path, lambda: next(snapshots)):
        with pytest.raises(NoAnswer, match="journal"):
            ask(tmp_path)
        assert ask(tmp_path) == {"good": 1}
    assert [record.exc_info is not None for record in caplog.records] == [True]


def test_every_condition_is_in_the_schema_and_in_the_table() -> None:
    """`broker` is told on this machine only: whoever reads it over MQTT has one."""
    condition = schema("health")["properties"]["conditions"]["items"]["properties"]["code"]["enum"]
    assert {*condition, "broker"} == set(get_args(Code))
    operations = (SCHEMAS.parent / "operations.md").read_text()
    told = operations.split("## Health and what to do")[1].split("\n## ")[0]
    assert [code for code in get_args(Code) if f"`{code}`" not in told] == []
