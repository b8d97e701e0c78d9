"""Golden samples that a station keeps: `mekiki commission` takes them, and a reference is built of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from adapters.baseline.baseline import Commissioning
from adapters.reference.reference import Reference
from agent.baseline.capture import WatchedParts
from agent.cli.main import main
from agent.config.loader import load
from agent.config.recipes import shipped
from agent.versions.products import product
from tests.support.learning_site import site, stream, write_photos

KINDS = ["ok", "scratch", "dent"]


@pytest.mark.parametrize("compared", [False, True])
def test_what_a_station_keeps_is_what_it_is_commissioned_with(
    compared: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Added before the commissioning, the samples are found by it, and by everybody behind it."""
    site(tmp_path, commissioned=False)
    config = tmp_path / "config.yaml"
    if compared:
        recipe = {**shipped("line").model_dump(mode="json", exclude_none=True), "reference": {}}
        said = yaml.safe_load(config.read_text()) | {"recipes": {"line": recipe}}
        config.write_text(yaml.safe_dump(said, sort_keys=False))
    monkeypatch.setattr("agent.cli.commission.watch", lambda *_: WatchedParts(stream(1000), 0))
    at = ["-s", "line", "-c", str(config)]
    assert main(["golden", "add", *at, str(write_photos(tmp_path / "photos", KINDS, 6))]) == 0
    assert main(["golden", "list", *at, "--json"]) == 0
    before = json.loads(capsys.readouterr().out.splitlines()[-1])

    assert main(["commission", *at, "--parts", "1000", "--json"]) == 0

    told = json.loads(capsys.readouterr().out.splitlines()[0])
    assert told["samples"]["person"] == dict.fromkeys(KINDS, 6)
    here = product(load(config).config, "line")
    assert Commissioning.load(here.baseline).digest == told["digest"]
    assert main(["golden", "list", *at, "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == before
    assert here.reference.exists() == compared
    if compared:
        assert Reference.load(here.reference).samples == 6
