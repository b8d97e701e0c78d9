"""Parts of real clips, counted by eye: `benchmarks/splits/presence.csv` says how."""

from __future__ import annotations

import csv
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np
import pytest

from camera.core.frame import Capture
from camera.core.presence_settings import PresenceTrigger
from camera.presence.watch import PresenceWatch

ROOT = Path(__file__).parents[4]
CLIPS = ROOT.parent / "shared" / "data" / "video-open"
_LINES = (ROOT / "benchmarks" / "splits" / "presence.csv").read_text().splitlines()
COUNTED = list(csv.DictReader(line for line in _LINES if not line.startswith("#")))

pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif(not CLIPS.is_dir(), reason=f"the clips are absent: {CLIPS}"),
]


@pytest.mark.parametrize("name", list(dict.fromkeys(row["file"] for row in COUNTED)))
def test_each_part_of_a_clip_is_found_once_and_shown_as_a_whole(name: str) -> None:
    parts = [row for row in COUNTED if row["file"] == name]
    left, top, right, bottom = (float(edge) for edge in parts[0]["region"].split())
    watch = PresenceWatch(PresenceTrigger(region=(left, top, right, bottom)))
    clip = cv2.VideoCapture(str(CLIPS / name))
    fps, number, shown = clip.get(cv2.CAP_PROP_FPS), 0, list[int]()
    while (read := clip.read())[0]:
        image = np.ascontiguousarray(read[1][:, :, ::-1]).astype(np.uint8)
        capture = Capture(image, datetime.now(UTC), int(number / fps * 1e9), str(number))
        shown += [int(one.capture.part_id or 0) for one in watch.look(capture)]
        number += 1
    shown += [int(one.capture.part_id or 0) for one in watch.flush()]
    ranges = [range(int(row["first_frame"]), int(row["last_frame"]) + 1) for row in parts]
    assert len(shown) == len(parts)
    assert all(at in span for at, span in zip(shown, ranges, strict=True))
