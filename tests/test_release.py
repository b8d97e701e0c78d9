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
from releases import at_site, mekiki, mekiki_well, results

FRAMES = 8


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Return a folder with the config of a station that nobody has commissioned yet."""
    folder = tmp_path / "site"
    folder.mkdir()
    station = {"recipe": "line", "camera": {"kind": "simulated", "seed": 5}}
    config = {
        "version": 1,
        "agent": {"id": "agent", "data_dir": "data"},
        "model": {"threads": 1},
        "mqtt": {"enabled": False},
        "stations": {"line": station},
        "storage": {"min_free_mb": 0},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    return folder


def inspect(release: Path, site: Path) -> list[dict]:
    """Let a release inspect, and return what it has added."""
    before = len(results(site)) if (site / "data" / "mekiki.db").exists() else 0
    done = mekiki(release, site, "run", "--frames", str(FRAMES), "--strict")
    assert done.returncode == 0, done.stderr
    found = results(site)
    assert len(found) == before + FRAMES, done.stderr
    return found[before:]


def answers(found: list[dict]) -> set[tuple]:
    """Return what the results of a run were decided with: there must be one such thing."""
    names = ("adapter", "adapter_digest", "offset", "commissioning", "recipe_digest")
    return {tuple(result["provenance"].get(name) for name in names) for result in found}


def require_whole(release: Path, site: Path) -> None:
    """Let a release look at everything that is stored."""
    mekiki_well(release, site, ["check"], ["store", "check"], ["adapter", "verify"], ["audit", "verify"])
    assert [result["seq"] for result in results(site)] == list(range(1, len(results(site)) + 1))
    assert list((site / "data").glob("mekiki.db.damaged-*")) == []


def upgrade_and_return(old: Path, new: Path, site: Path) -> None:
    """Inspect with the old one, the new one and the old one again, on one data folder."""
    at_site(old, site, "commission")
    at_site(old, site, "promote")
    first = answers(inspect(old, site))
    assert len(first) == 1

    assert answers(inspect(new, site)) == first
    at_site(new, site, "rewrite")
    at_site(new, site, "promote")
    second = answers(inspect(new, site))
    assert len(second) == 1
    assert second != first
    require_whole(new, site)

    back = inspect(old, site)
    assert answers(back) == second
    require_whole(old, site)
    at_site(old, site, "promote")
    third = answers(inspect(old, site))
    assert third != second

    assert answers(inspect(new, site)) == third
    require_whole(new, site)


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
    at_site(new, site, "commission")
    at_site(new, site, "promote")
    first = answers(inspect(new, site))
    before = contents(site / "data")

    done = mekiki(old, site, "run", "--frames", str(FRAMES))

    assert done.returncode not in (0, 78)  # the config is good
    assert "mekiki.db: written by a newer version of the agent (release 9.2.0, schema 4)" in done.stderr
    assert "install that version again" in done.stderr
    assert "Traceback" not in done.stderr
    done = mekiki(old, site, "store", "check")
    assert "written by a newer version of the agent (release 9.2.0" in done.stderr
    done = mekiki(old, site, "adapter", "list")
    assert "active.json: format 'mekiki.active.v2'" in done.stderr
    assert "(release 9.2.0): install that version again" in done.stderr
    assert contents(site / "data") == before
    assert answers(inspect(new, site)) == first
    require_whole(new, site)


def contents(folder: Path) -> dict[str, str]:
    """Return the hash of every file, without SQLite's own memory."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith(("-shm", "-wal"))
    }
