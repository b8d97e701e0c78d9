"""Upgrade and return: an older release goes on with what a newer one has written, and loses nothing of it."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import releases
import yaml
from releases import at_site, mekiki, results

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


def inspect(release: Path, site: Path, *, look: bool = False) -> list[dict]:
    """Let a release inspect, and look at everything that is stored; return the results that it has added."""
    before = len(results(site)) if (site / "data" / "mekiki.db").exists() else 0
    run = ["run", "--frames", str(FRAMES), "--strict"]
    looks = [["store", "check"], ["adapter", "verify"], ["audit", "verify"]] if look else []
    codes, said = mekiki(release, site, run, *looks)
    assert set(codes) == {0}, said
    found = results(site)
    assert [result["seq"] for result in found] == list(range(1, before + FRAMES + 1))
    assert list((site / "data").glob("mekiki.db.damaged-*")) == []
    return found[before:]


def answers(found: list[dict]) -> tuple:
    """Return what the results of a run were decided with: there must be one such thing."""
    names = ("adapter", "adapter_digest", "offset", "commissioning", "recipe_digest")
    (one,) = {tuple(result["provenance"].get(name) for name in names) for result in found}
    return one


def upgrade_and_return(old: Path, new: Path, site: Path) -> None:
    """Inspect with the old one, the new one, the old one and the new one again, on one data folder."""
    at_site(old, site, "commission", "promote")
    first = answers(inspect(old, site))
    assert first[0] == 1

    assert answers(inspect(new, site)) == first
    at_site(new, site, "rewrite", "promote")
    second = answers(inspect(new, site, look=True))
    assert (second[0], second[3]) == (2, first[3])

    assert answers(inspect(old, site, look=True)) == second
    assert answers(inspect(new, site, look=True)) == second


@pytest.mark.slow
@pytest.mark.timeout(1800)
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
@pytest.mark.timeout(1800)
def test_one_can_return_to_release_0_1_0(tmp_path: Path, site: Path) -> None:
    """It knows nothing of all this, and does with what is in this checkout."""
    old = releases.archived(tmp_path / "0.1.0")
    if old is None:
        pytest.skip(f"the history of this checkout does not go back to {releases.FIRST}")

    upgrade_and_return(old, releases.present(tmp_path / "9.0.0"), site)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_data_that_an_older_release_cannot_use_is_refused_and_left_as_it_is(
    tmp_path: Path, site: Path
) -> None:
    """It says which file, who wrote it and what to do; the newer release then goes on with all of it."""
    old = releases.present(tmp_path / "9.0.0")
    new = releases.breaking(releases.present(tmp_path / "9.2.0", "9.2.0"))
    at_site(new, site, "commission", "promote")
    first = answers(inspect(new, site))
    before = contents(site / "data")

    codes, said = mekiki(old, site, ["run", "--frames", "1"], ["store", "check"], ["adapter", "list"])

    assert 0 not in codes
    database = "mekiki.db: written by a newer version of the agent (release 9.2.0, schema 4)"
    assert said.count(database) == 2
    assert "active.json: format 'mekiki.active.v2', this version reads mekiki.active.v1" in said
    assert "newer version of the agent (release 9.2.0): install that version again" in said
    assert "Traceback" not in said
    assert contents(site / "data") == before
    assert answers(inspect(new, site, look=True)) == first


def contents(folder: Path) -> dict[str, str]:
    """Return the hash of every file, without SQLite's own memory."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith(("-shm", "-wal"))
    }
