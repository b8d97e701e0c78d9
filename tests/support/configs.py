"""What the tests of the config share: small texts, and what comes of loading them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from agent.base.errors import ConfigError
from agent.config.loader import Loaded, load
from tests.support.places import ROOT

SHIPPED = ROOT / "config.yaml"

MINIMAL = """\
version: 1
stations:
  top:
    camera: {kind: simulated}
    recipe: line
"""


def load_text(folder: Path, text: str | bytes) -> Loaded:
    """Load a config that is written into `folder`."""
    path = folder / "config.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load(path)


def problems_in(folder: Path, text: str | bytes) -> list[str]:
    """Return the problems of a text; the folder it stands in is left out, or called FOLDER."""
    with pytest.raises(ConfigError) as caught:
        load_text(folder, text)
    named = repr(str(folder))
    return [problem.replace(f"{folder}/", "").replace(named, "FOLDER") for problem in caught.value.problems]


def station(text: str) -> str:
    """Return a config with one more station, `b`, whose text stands in line 7."""
    return f"{MINIMAL}  b:\n    {text}\n"


def uncommented() -> str:
    """Return the shipped config with everything in use that stands behind a # without a space."""
    return re.sub(r"^( *)#(?=[a-z-])", r"\1", SHIPPED.read_text(), flags=re.MULTILINE)
