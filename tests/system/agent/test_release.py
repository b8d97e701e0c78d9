"""Upgrade and return: an older release goes on with what a newer one has written, and loses nothing of it."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import yaml

from tests.support import releases
from tests.support.releases import mekiki, results

FRAMES = 8


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Return a folder with the config of a station that nobody has commissioned yet."""
    folder = tmp_path / "site"
    folder.mkdir()
    camera = {"kind": "simulated", "seed": 5}
    station = {"recipe": "line", "camera": camera, "adaptation": {"mode": "frozen"}}
    config = {
        "version": 1,
        "agent": {"id": "agent", "data_dir": "data"},
        "model": {"engine": "onnx", "threads": 1},
        "mqtt": {"enabled": False},
        "stations": {"line": station},
        "storage": {"min_free_mb": 0},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    return folder


RUN = ["run", "--frames", str(FRAMES), "--strict"]
LOOK = (["store", "check"], ["adapter", "verify"], ["audit", "verify"])


def inspect(release: Path, site: Path, *commands: list[str]) -> list[tuple]:
    """Let a release run commands, inspect and look at what is stored; return what decided each result."""
    names = ("adapter", "adapter_digest", "offset", "commissioning", "recipe_digest")
    codes, said = mekiki(release, site, *commands, RUN, *LOOK)
    assert set(codes) == {0}, said
    found = results(site)
    assert [result["seq"] for result in found] == list(range(1, len(found) + 1))
    assert list((site / "data").glob("mekiki.db.damaged-*")) == []
    return [tuple(result["provenance"].get(name) for name in names) for result in found]


def line(*verbs: str) -> list[str]:
    return ["line", "config.yaml", *verbs]


def upgrade_and_return(old: Path, new: Path, site: Path) -> None:
    """Inspect with the old one, the new one, the old one and the new one again, on one data folder."""
    found = inspect(old, site, line("commission", "promote"))
    first = found[0]
    assert first[0] == 1
    assert found == [first] * FRAMES

    found = inspect(new, site, RUN, line("rewrite", "promote"))
    second = found[-1]
    assert second[0] == 2
    assert second[3] == first[3]  # the baseline
    assert found == [first] * 2 * FRAMES + [second] * FRAMES

    assert inspect(old, site) == [*found, *[second] * FRAMES]
    assert inspect(new, site) == [*found, *[second] * 2 * FRAMES]


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_an_older_release_goes_on_with_what_a_newer_one_has_added(tmp_path: Path, site: Path) -> None:
    """Results are numbered on, version and baseline answer, nothing that was added is lost."""
    old = releases.present(tmp_path / "9.0.0")
    new = releases.additive(releases.present(tmp_path / "9.1.0", "9.1.0"))

    upgrade_and_return(old, new, site)

    with closing(sqlite3.connect(site / "data" / "mekiki.db")) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (2,)
        assert dict(db.execute("SELECT key, value FROM about")) == {"schema": 3, "release": "9.1.0"}
        (shifts,) = db.execute("SELECT SUM(results) FROM shift").fetchone()
    assert shifts == 3 * FRAMES  # of the newer one's runs
    active = json.loads((site / "data/stations/line/adapters/active.json").read_text())
    assert active["lamp_hours"] == 7  # also behind what the older one wrote


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_one_can_return_to_release_0_1_0(tmp_path: Path, site: Path) -> None:
    """It knows nothing of all this, and does with what is in this checkout."""
    old = releases.archived(tmp_path / "0.1.0")
    if old is None:
        pytest.skip(f"the history of this checkout does not go back to {releases.FIRST}")

    upgrade_and_return(old, releases.present(tmp_path / "9.0.0"), site)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_data_that_an_older_release_cannot_use_is_refused_and_left_as_it_is(
    tmp_path: Path, site: Path
) -> None:
    """It says which file, who wrote it and what to do; the newer release then goes on with all of it."""
    old = releases.present(tmp_path / "9.0.0")
    new = releases.breaking(releases.present(tmp_path / "9.2.0", "9.2.0"))
    found = inspect(new, site, line("commission", "promote"))
    before = contents(site / "data")

    codes, said = mekiki(old, site, ["run", "--frames", "1"], ["store", "check"], ["adapter", "list"])

    assert 0 not in codes
    database = "mekiki.db: written by a newer version of the agent (release 9.2.0, schema 4)"
    assert said.count(database) == 2
    assert "active.json: format 'mekiki.active.v2', this version reads mekiki.active.v1" in said
    assert "newer version of the agent (release 9.2.0): install that version again" in said
    assert "Traceback" not in said
    assert contents(site / "data") == before
    assert inspect(new, site) == found * 2


def contents(folder: Path) -> dict[str, str]:
    """Return the hash of every file, without SQLite's own memory."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith(("-shm", "-wal"))
    }


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_baseline_of_an_older_release_is_kept_and_from_then_on_held_to_its_pictures(
    tmp_path: Path, site: Path
) -> None:
    """What it does not say, the config of the first start says; another crop voids it."""
    old = releases.archived(tmp_path / "0.1.0")
    if old is None:
        pytest.skip(f"the history of this checkout does not go back to {releases.FIRST}")
    new = releases.present(tmp_path / "9.0.0")
    first = inspect(old, site, line("commission", "promote"))[0]
    assert inspect(new, site)[-1] == first
    file = site / "config.yaml"
    config = yaml.safe_load(file.read_text())
    config["stations"]["line"]["roi"] = {"crop": [0.0, 0.0, 0.5, 1.0]}
    cropped = site / "cropped.yaml"
    cropped.write_text(yaml.safe_dump(config))

    codes, said = mekiki(new, site, ["check", "--diff"], ["run", "-c", "cropped.yaml", "--frames", "2"])

    assert codes == [0, 0], said
    assert "region of interest: was [0, 0, 1, 1], is [0, 0, 0.5, 1]" in said
    assert results(site)[-1]["provenance"]["commissioning"] is None
    assert results(site)[-1]["provenance"]["offset"] == 0
    assert inspect(new, site)[-1] == first
