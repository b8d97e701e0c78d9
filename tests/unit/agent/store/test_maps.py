"""The map beside a kept picture: drawn, counted, found by the check, exported, and gone with its picture."""

from __future__ import annotations

import csv
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np

from agent.domain.comparison import Comparison, DifferenceMap
from agent.domain.verdict import Verdict
from agent.store.export import ExportOptions, export
from agent.store.image_files import Written
from agent.store.image_writer import ImageWriter
from agent.store.integrity import check
from agent.store.purge import Purge, purge
from agent.store.store import Store
from camera.pictures.images import read_image
from camera.sources.folder import picture_files
from tests.support.evidence_site import ALL, a_frame, judged, pictures_in, tidy_up
from tests.support.verdicts import a_store, beside

SHA = "sha256:" + "7" * 64


def differing(**options: float) -> Verdict:
    """Return a failed part that was compared."""
    maps = np.zeros((1, 8, 8), np.float32)
    maps[0, 2, 5] = 3.0
    return replace(
        judged("fail", **options),  # type: ignore[arg-type]
        compared=Comparison(2.0, 1.0, (0.6, 0.2, 0.8, 0.4), SHA, 12),
        difference=DifferenceMap(maps, ((0.0, 0.0, 1.0, 1.0),), "fill"),
    )


def keep(store: Store, *verdicts: Verdict) -> list[Written]:
    """Commit verdicts, draw and record their pictures as the threads of the agent do."""
    writer = ImageWriter(store.files, ALL)
    thread = threading.Thread(target=writer.run)
    rows = store.commit(list(verdicts))
    for verdict in verdicts:
        writer.offer(a_frame(verdict), verdict)
    writer.end()
    thread.start()
    thread.join(30)
    written = writer.take()
    assert store.file(written) == []
    store.commit([], [row.id for row in rows])
    return written


def maps_in(folder: Path) -> set[str]:
    return {path.name.removesuffix(".map.png") for path in (folder / "evidence").rglob("*.map.png")}


def test_a_map_is_drawn_where_a_part_was_compared_and_counts_with_its_picture(tmp_path: Path) -> None:
    """Its bytes are those of the picture; the place that differs has another colour, the rest its own."""
    store = a_store(tmp_path)
    compared, plain = differing(), judged("fail")
    written = keep(store, compared, plain)
    assert maps_in(tmp_path) == {compared.event_id}
    assert pictures_in(tmp_path) == {compared.event_id, plain.event_id}
    files = sorted((tmp_path / "evidence").rglob(f"{compared.event_id}.*"))
    assert [file.suffix for file in files] == [".jpg", ".png"]
    assert written[0].bytes == sum(file.stat().st_size for file in files)
    assert beside(store, "SELECT SUM(bytes) FROM image") == [(sum(one.bytes for one in written),)]
    drawn, image = read_image(files[1]), a_frame(compared).image
    assert image is not None
    changed = np.abs(drawn.astype(int) - image.astype(int)).max(axis=2) > 2
    assert changed[12:18, 40:48].any()
    assert not changed[30:].any()
    assert check(tmp_path).problems == ()


def test_a_map_goes_with_its_picture(tmp_path: Path) -> None:
    """By age, and because a person says so."""
    store = a_store(tmp_path, keep_days=10)
    old, young = differing(age_days=11), differing(age_days=9)
    keep(store, old, young)
    tidy_up(store)
    assert maps_in(tmp_path) == pictures_in(tmp_path) == {young.event_id}
    store.close()
    purge(tmp_path, Purge(None, None, images_only=True), lambda line: None)
    assert maps_in(tmp_path) == pictures_in(tmp_path) == set()
    assert check(tmp_path).problems == ()


def test_the_check_finds_a_map_that_is_gone_and_one_that_is_alone(tmp_path: Path) -> None:
    store = a_store(tmp_path)
    first, second = differing(), differing()
    keep(store, first, second)
    (lost,) = (tmp_path / "evidence").rglob(f"{first.event_id}.map.png")
    lost.unlink()
    (picture,) = (tmp_path / "evidence").rglob(f"{second.event_id}.jpg")
    picture.unlink()
    problems = check(tmp_path).problems
    assert any(f"{first.event_id}.jpg: has" in line for line in problems)
    assert any(line.endswith(f"{second.event_id}.map.png: its picture is not there") for line in problems)


def test_a_crash_between_map_and_picture_leaves_nothing(tmp_path: Path) -> None:
    """Staged without its picture it goes at the next start; settled before it, the start does both again."""
    store = a_store(tmp_path)
    kept = differing()
    keep(store, kept)
    folder = tmp_path / "evidence" / ".new"
    (folder / f"{differing().event_id}.map.png").write_bytes(b"half")
    (picture,) = (tmp_path / "evidence").rglob(f"{kept.event_id}.jpg")
    picture.rename(folder / picture.name)
    store.close()
    store = a_store(tmp_path)
    assert maps_in(tmp_path) == pictures_in(tmp_path) == {kept.event_id}
    assert not [*folder.iterdir()]
    assert check(tmp_path).problems == ()


def test_the_export_names_the_map_and_says_what_the_reference_said(tmp_path: Path) -> None:
    store = a_store(tmp_path)
    compared = differing()
    keep(store, compared, judged("fail"))
    store.close()
    out = tmp_path / "out.csv"
    assert export(tmp_path, out, "csv", ExportOptions()) == 2
    with out.open(newline="") as file:
        first, second = csv.DictReader(file)
    assert (tmp_path / first["map"]).is_file()
    assert Path(first["map"]).name == f"{compared.event_id}.map.png"
    said = [first[f"reference_{name}"] for name in ("score", "threshold", "box", "digest", "samples")]
    assert said == ["2.0", "1.0", "[0.6, 0.2, 0.8, 0.4]", SHA, "12"]
    assert (second["map"], second["reference_score"]) == ("", "")


def test_a_map_is_no_picture_of_a_part(tmp_path: Path) -> None:
    """Whoever inspects the folder of kept pictures again gets the pictures; what else is a PNG stays one."""
    store = a_store(tmp_path)
    compared = differing()
    keep(store, compared)
    (folder,) = (tmp_path / "evidence" / "top").iterdir()
    own = folder / "own.map.png"
    own.write_bytes((folder / f"{compared.event_id}.map.png").read_bytes())
    assert picture_files(folder) == (folder / f"{compared.event_id}.jpg", own)
