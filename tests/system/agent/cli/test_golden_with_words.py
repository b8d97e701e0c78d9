"""Golden samples of a recipe with words: evaluated with it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent.base.errors import EXIT_OK
from agent.cli.main import main
from tests.support.running_agent import RECIPE, write_config
from tests.support.tiny_patches import write_parts


@pytest.mark.parametrize("reference", [None, {}])
def test_words_alone_and_with_a_reference_judge_a_folder(
    tiny_bundle: Path, tmp_path: Path, reference: dict[str, str] | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Words alone draw nothing; with a reference either may fail a part."""
    recipe = RECIPE if reference is None else {**RECIPE, "reference": reference}
    stations = {"line": {"camera": {"kind": "simulated"}}}
    config = write_config(tmp_path, tiny_bundle, stations, recipes={"tiny": recipe})
    write_parts(tmp_path / "set" / "ok", range(8))
    write_parts(tmp_path / "set" / "bad", range(20, 24), spot=True)
    arguments = ["evaluate", str(tmp_path / "set"), "-c", str(config), "--recipe", "tiny"]
    assert main([*arguments, "--samples", "3", "--draws", "2", "--json"]) == EXIT_OK
    found = json.loads(capsys.readouterr().out)
    if reference is None:
        assert (found["samples"], found["draws"], found["good"]) == (0, 1, 8)
        assert found["claim"] is None
    else:
        assert (found["samples"], found["draws"], found["good"]) == (3, 2, 5)
        assert sum(found["confusion"]["bad"].values()) == 4
