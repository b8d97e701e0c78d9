"""`mekiki production`: what is being made, set and shown from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from agent.audit.agent_log import Trail
from agent.cli.main import main
from agent.config.loader import load
from agent.domain.production import Production
from agent.reload.production_book import ProductionBook
from agent.reload.production_requests import FOLDER, waiting


@pytest.fixture
def site(tmp_path: Path) -> Path:
    station = {"camera": {"kind": "simulated"}, "recipe": "line"}
    content = {
        "version": 1,
        "production": {"shift": "early"},
        "stations": {"top": station, "side": station},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(content))
    return tmp_path


def run(site: Path, *words: str) -> int:
    return main(["production", words[0], "-c", str(site / "config.yaml"), *words[1:]])


def test_what_is_set_is_in_force_as_soon_as_an_agent_runs(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The request waits on disk, is taken at the start, and is shown from then on."""
    assert run(site, "set", "--order", "4711 früh", "--clear", "shift") == 0
    said = capsys.readouterr().err
    assert said == (
        "all stations: order 4711 früh, no shift: asked; no agent runs; it takes it when it starts\n"
    )
    assert run(site, "set", "-s", "top", "--lot", "L1", "--why", "new coil") == 0
    capsys.readouterr()
    assert run(site, "show") == 0
    shown = capsys.readouterr()
    assert shown.out == "side: shift early\ntop: shift early\n"
    assert shown.err.startswith("2 requests wait for the agent")
    config = load(site / "config.yaml").config
    book = ProductionBook(config, Trail(Path(config.agent.data_dir)))
    assert (book.of("top"), book.of("side")) == (Production("4711 früh", "L1"), Production("4711 früh"))
    assert run(site, "show", "--json", "-s", "top") == 0
    row = json.loads(capsys.readouterr().out)
    assert row == {"station": "top", "order": "4711 früh", "lot": "L1", "shift": None}


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("set",), "name what to set: order, lot or shift"),
        (("set", "--order", ""), "order: should not be empty"),
        (("set", "--order", "a\nb"), "order: holds U+000A LINE FEED"),
        (("set", "--lot", "x" * 10_000), "lot: should have at most 100 characters"),
        (("set", "--lot", "x", "--clear", "lot"), "--lot and --clear lot: give one of them"),
        (("set", "-s", "tpo", "--lot", "x"), "no station is called 'tpo'"),
        (("show", "-s", "tpo"), "no station is called 'tpo'"),
    ],
)
def test_a_slip_is_one_message_and_nothing_is_asked(
    site: Path, words: tuple[str, ...], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 64, one line, no request."""
    assert run(site, *words) == 64
    said = capsys.readouterr().err
    assert why in said
    assert said.count("\n") == 1
    assert not (site / "data" / FOLDER).exists() or waiting(site / "data") == []


def test_a_data_folder_that_is_a_file_is_a_wrong_config(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As for every command that writes there."""
    (site / "data").write_text("")
    assert run(site, "set", "--order", "A") == 78
    assert "a file is in the way" in capsys.readouterr().err


def test_check_says_which_version_is_sent_where_the_file_does_not(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who upgrades learns it before a subscriber does; who has decided is left alone."""
    path = site / "config.yaml"
    assert main(["check", "-c", str(path)]) == 0
    assert "mqtt.result_version is left out: results are mekiki.result.v2; set 1" in capsys.readouterr().err
    for written in ({"result_version": 1}, {"result_version": 2}, {"enabled": False}):
        path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "mqtt": written}))
        assert main(["check", "-c", str(path)]) == 0
        assert "result_version" not in capsys.readouterr().err
    for wrong in (3, True, "2", None):
        path.write_text(
            yaml.safe_dump({**yaml.safe_load(path.read_text()), "mqtt": {"result_version": wrong}})
        )
        assert main(["check", "-c", str(path)]) == 78
        assert "mqtt.result_version: should be 2 or 1" in capsys.readouterr().err
