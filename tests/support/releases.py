"""Other releases, as copies of the package, and what they leave in a data folder.

`at_line` does at once what takes a line hours; as a program this module does it, and runs commands, with the
code of the release that comes first on the path.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tests.support.places import ROOT

if TYPE_CHECKING:
    from adapters.baseline.baseline import Commissioning
    from adapters.core.protocol import ModelInfo
    from agent.config.recipes import Recipe

PACKAGES = ("agent", "camera", "adapters")
FIRST = "5df279e"
"""The commit of release 0.1.0."""

# What a release of tomorrow may do: more tables, columns, fields and lines, which it also writes.
_ADDS = {
    "agent/store/store.py": """
_commit = Store.commit


def _with_shift(self, verdicts, delivered=()):
    done = _commit(self, verdicts, delivered)
    self._db.execute("INSERT INTO shift (began_at, results) VALUES ('now', ?)", (len(verdicts),))
    return done


Store.commit = _with_shift
""",
    "agent/app/run_record.py": """
_write = RunRecord._write
RunRecord._write = lambda self, fields: _write(self, {**fields, "lamp_hours": 7})
""",
    "agent/audit/hash_chain.py": """
_append = Audit._append
Audit._append = lambda self, facts: _append(self, {**facts, "shift": "early"})
""",
    "adapters/core/active_file.py": """
from dataclasses import replace  # noqa: E402

_save = Pointer.save
Pointer.save = lambda self, path: _save(replace(self, more={**self.more, "lamp_hours": 7}), path)
""",
    "adapters/core/version.py": """
from dataclasses import replace  # noqa: E402

_save_version = save_version


def save_version(version, path, weights):
    _save_version(replace(version, more={**version.more, "lamp_hours": 7}), path, weights)
""",
    "adapters/baseline/baseline.py": """
_save = Commissioning.save
Commissioning.save = lambda self, path: _save(replace(self, more={**self.more, "precision": "fp32"}), path)
""",
}
_STEP = """    MigrationStep(
        "CREATE TABLE shift (began_at TEXT NOT NULL, results INTEGER NOT NULL);"
        "CREATE INDEX shift_began_at ON shift (began_at);"
        "ALTER TABLE verdict ADD COLUMN shift TEXT; ALTER TABLE label ADD COLUMN sure REAL DEFAULT 1.0;"
    ),
"""
_BREAKING_STEP = """    MigrationStep("ALTER TABLE label RENAME COLUMN sure TO certainty;", breaking=True),
"""
_BREAKS = {
    "adapters/core/adapter.py": ("mekiki.adapter.v1", "mekiki.adapter.v2"),
    "adapters/core/active_file.py": ("mekiki.active.v1", "mekiki.active.v2"),
    "adapters/baseline/baseline.py": ("mekiki.commissioning.v1", "mekiki.commissioning.v2"),
}

_BEFORE = {
    "adapters.baseline.baseline": "adapters.commissioning",
    "adapters.core.adapter": "adapters.adapter",
    "adapters.core.version": "adapters.version",
    "adapters.core.version_store": "adapters.adapter_store",
    "adapters.engines.factory": "adapters.open",
    "adapters.monitoring.block_statistics": "adapters.drift_block",
    "adapters.monitoring.degradation_fit": "adapters.condition_fit",
    "adapters.monitoring.drift_baseline": "adapters.drift_reference",
    "agent.audit.hash_chain": "agent.audit",
    "agent.cli.main": "agent.cli",
    "agent.config.loader": "agent.configfile",
    "agent.config.recipes": "agent.recipes",
    "agent.versions.station_plans": "agent.plans",
}
"""Where release 0.1.0 has what is used of it here."""


def present(folder: Path, version: str = "9.0.0") -> Path:
    """Return a copy of what is in this checkout, as another release."""
    folder.mkdir(parents=True)
    for name in PACKAGES:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    module = folder / "agent" / "__init__.py"
    text = re.sub('^__version__ = ".*"', f'__version__ = "{version}"', module.read_text(), flags=re.MULTILINE)
    module.write_text(text)
    return folder


def additive(folder: Path) -> Path:
    """Make a copy the next release, 9.1.0: it adds to everything that is stored."""
    for name, code in _ADDS.items():
        with (folder / name).open("a") as file:
            file.write(code)
    _exchange(folder / "agent/store/schema.py", ')\n"""Step n', f'{_STEP})\n"""Step n')
    return folder


def breaking(folder: Path) -> Path:
    """Make a copy a release after that, 9.2.0, whose data no release before it can read."""
    additive(folder)
    _exchange(folder / "agent/store/schema.py", ')\n"""Step n', f'{_BREAKING_STEP})\n"""Step n')
    for name, (before, after) in _BREAKS.items():
        _exchange(folder / name, before, after)
    _exchange(folder / "adapters/core/active_file.py", '"lamp_hours": 7', '"release": "9.2.0"')
    return folder


def archived(folder: Path, commit: str = FIRST) -> Path | None:
    """Return a copy of what was in a commit; None where this checkout does not have it."""
    command = ["git", "-C", str(ROOT), "archive", commit]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode != 0:
        return None
    with tarfile.open(fileobj=BytesIO(done.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder


def mekiki(release: Path, site: Path, *commands: Sequence[str]) -> tuple[list[int], str]:
    """Run commands of a release in the folder of a config.yaml, one after the other in one process.

    Args:
        commands: of `mekiki`; or ``line``, a config and what `at_line` is to do.

    Returns:
        Their exit codes, and what they say.
    """
    # The release comes first; of this checkout only `tests` and `benchmarks` are taken.
    paths = os.pathsep.join(map(str, (release, ROOT)))
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.releases", json.dumps(commands)],
        cwd=site, capture_output=True, text=True, timeout=1200, check=False,
        env=os.environ | {"PYTHONPATH": paths, "PYTHONSAFEPATH": "1", "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), done.stdout + done.stderr


def results(site: Path) -> list[dict]:
    """Return what is stored of station `line`, in its order."""
    with sqlite3.connect(site / "data" / "mekiki.db") as db:
        return [json.loads(row[0]) for row in db.execute("SELECT payload FROM verdict ORDER BY seq")]


def _exchange(file: Path, before: str, after: str) -> None:
    text = file.read_text()
    assert text.count(before) == 1, f"{file}: {before!r} stands there {text.count(before)} times"
    file.write_text(text.replace(before, after))


def at_line(config: Path, *verbs: str) -> None:
    """Do at once what takes a line hours.

    Args:
        verbs: ``commission``: write a baseline; ``rewrite``: write it once more, as this release writes it;
            ``promote``: let one more version answer, as a learner does.
    """
    import agent
    from adapters.baseline.baseline import Commissioning
    from adapters.core.adapter import Adapter
    from adapters.core.version import Version, Window
    from adapters.core.version_store import AdapterStore
    from adapters.engines.factory import open_plain
    from agent.audit.hash_chain import Audit
    from agent.config.loader import load
    from agent.config.recipes import find_recipe

    loaded = load(config).config
    (station,) = loaded.stations
    recipe = find_recipe(loaded.stations[station].recipe, loaded.recipes)
    engine = open_plain(loaded.model)
    folder = Path(loaded.agent.data_dir) / "stations" / station
    file = folder / "commissioning.safetensors"
    if "commission" in verbs:
        folder.mkdir(parents=True, exist_ok=True)
        _baseline(station, recipe, engine.info).save(file)
    if "rewrite" in verbs:
        replace(Commissioning.load(file), release=agent.__version__).save(file)
    if "promote" in verbs:
        store = AdapterStore(folder / "adapters", engine.source, engine.info.weights)
        tensors = {name: tensor + 0.001 * (store.last + 1) for name, tensor in engine.source.tensors.items()}
        at = "2026-01-02T00:00:00.000Z"
        learned = Version(
            Adapter(tensors), store.active().number, "learned", at, Window(1, 50, 50), 0.5 + store.last,
            recipe.words, {}, {},
        )  # fmt: skip
        release = {"release": agent.__version__} if hasattr(learned, "release") else {}
        store.promote(replace(learned, **release), at, {"frozen_by": None, "frame": 500})
        Audit(station, folder / "audit.jsonl").append(at, "promoted", actor="guard", why="it is better")


def _baseline(station: str, recipe: Recipe, info: ModelInfo) -> Commissioning:
    """Return what a line is like that nobody has looked at: it is written and read, and not learned from."""
    from adapters.baseline.baseline import Commissioning, ReferenceSamples
    from adapters.monitoring.block_statistics import SCALARS
    from adapters.monitoring.degradation_fit import PictureStatistics
    from adapters.monitoring.drift_baseline import DriftReference
    from agent.versions.station_plans import failing

    rng = np.random.default_rng(0)
    classes, side = len(recipe.classes), info.preprocess.size
    pictures = rng.integers(60, 180, (6 * classes, side, side, 3), dtype=np.uint8)
    rows = rng.standard_normal((1000, len(SCALARS) + info.embed_dim))
    samples = ReferenceSamples(pictures, np.repeat(np.arange(classes), 6))
    return Commissioning(
        station, info.weights, recipe.words, tuple(recipe.classes), failing(recipe),
        "2026-01-01T00:00:00.000Z", "golden", samples, pictures[:5],
        PictureStatistics.of(pictures), DriftReference.from_rows(rows), 1.25, {"parts": 1000.0},
    )  # fmt: skip


def _command(command: Sequence[str]) -> int:
    from agent.cli.main import main

    if command[0] == "line":
        at_line(Path(command[1]), *command[2:])
        return 0
    return main(command)


def _find_old_names() -> None:
    """Let modules be found that release 0.1.0 has under other names."""
    for name, before in _BEFORE.items():
        try:
            import_module(name)
        except ModuleNotFoundError:
            sys.modules[name] = import_module(before)
    baseline = sys.modules["adapters.baseline.baseline"]
    baseline.__dict__.setdefault("ReferenceSamples", getattr(baseline, "Known", None))


if __name__ == "__main__":
    _find_old_names()
    print([_command(command) for command in json.loads(sys.argv[1])])  # noqa: T201 - for `mekiki`
