"""Pictures and results without a camera; and a store with evidence that can be killed."""

from __future__ import annotations

import sys
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from agent.base.event_id import ulid_of
from agent.config.models import EvidenceSettings
from agent.domain.verdict import Outcome, Verdict
from agent.store.image_files import Written
from agent.store.image_writer import ImageWriter
from agent.store.store import Store
from camera.core.frame import Frame, Image, Quality
from tests.support.verdicts import a_publisher, a_store, a_verdict

ALL = EvidenceSettings(enabled=True, sampled_passes=1.0)
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
_drawn = iter(range(1, 1 << 60))


def judged(verdict: str = "pass", station: str = "top", age_days: float = 0.0) -> Verdict:
    """Return a verdict of some time before NOON; later calls have later ids within a millisecond."""
    at = NOON - timedelta(days=age_days)
    one = a_verdict(station)
    event_id = ulid_of(int(at.timestamp() * 1000), next(_drawn))
    return replace(
        one, event_id=event_id, decided_at=at, decision=replace(one.decision, verdict=Outcome(verdict))
    )


def a_frame(verdict: Verdict, image: Image | None = None) -> Frame:
    if image is None:
        image = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    return Frame(verdict.station, 1, verdict.captured_at, 0, image, None, Quality())


def with_pictures(store: Store, verdicts: list[Verdict], size: int = 1000, *, deliver: bool = True) -> None:
    """Commit verdicts, each with a picture of so many bytes, and deliver them."""
    rows = store.commit(verdicts)
    written = []
    for verdict in verdicts:
        store.files.stage(verdict.event_id, b"\xff\xd8" + bytes(size - 2))
        written.append(Written(verdict.event_id, size))
    assert store.file(written) == []
    if deliver:
        store.commit([], [row.id for row in rows])


def tidy_up(store: Store, now: datetime = NOON) -> int:
    """Tidy until nothing is left to do; return how many steps that took."""
    steps = 1
    while store.collect_garbage(now):
        steps += 1
        assert steps < 10_000
    return steps


def pictures_in(folder: Path) -> set[str]:
    return {path.stem for path in (folder / "evidence").glob("*/*/*.jpg")}


def main() -> None:
    """Keep results and pictures, and delete old ones, until killed; argument: data folder."""
    store = a_store(Path(sys.argv[1]), keep_results=60, image_bytes=100_000, ballast_bytes=100_000)
    evidence = ImageWriter(store.files, ALL)
    publisher = a_publisher(store, None, evidence=evidence)
    threading.Thread(target=evidence.run, daemon=True).start()
    threading.Thread(target=publisher.run, daemon=True).start()
    number = 0
    while True:
        number += 1
        verdict = a_verdict("top", number)
        publisher.put([verdict])
        evidence.offer(a_frame(verdict), verdict)
        publisher.keep(store.retention, 2)  # which it goes by at once
        if number % 10 == 0:
            sys.stdout.write(f"{number}\n")
            sys.stdout.flush()
        threading.Event().wait(0.002)


if __name__ == "__main__":
    main()
