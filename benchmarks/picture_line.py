"""Show the simulated line: contact sheets for docs/img, and how many pictures a second one core makes.

Run from the repository root: ``python -m benchmarks.picture_line``.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import cv2
import numpy as np

from camera.core.frame import Image
from camera.core.settings import SimulatedCamera, SimulatedCondition
from camera.simulation.degradations import KINDS, degrade
from camera.simulation.part import LABELS, render_part
from camera.simulation.source import SimulatedLine

TILE_PX = 176
MARGIN_PX = 112
LINE_PX = 22


def main() -> None:
    """Write both sheets and print the speed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/img"), help="folder of the sheets")
    parser.add_argument(
        "--pictures", type=int, default=400, help="pictures per condition to measure, 0: none"
    )
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    write(options.out / "line-parts.jpg", parts_sheet(columns=7))
    write(options.out / "line-degradations.jpg", degradations_sheet())
    if options.pictures:
        cv2.setNumThreads(1)
        for kind in (None, *KINDS):
            wall, cpu = speed(kind, options.pictures)
            print(f"{kind or 'clean':10} {wall:6.0f} pictures/s, {cpu:6.0f} per second of CPU time")


def parts_sheet(columns: int) -> Image:
    """One row per label, each part another one."""
    rows = {}
    for row, label in enumerate(LABELS):
        rngs = (np.random.default_rng([row, column]) for column in range(columns))
        rows[label] = [render_part(label, rng)[0] for rng in rngs]
    return sheet(rows, [""] * columns)


def degradations_sheet() -> Image:
    """One row per kind, severity 0 to 5 from left to right."""
    image, _ = render_part("scratch", np.random.default_rng(11))
    rows = {kind: [degrade(image, kind, severity, seed=11) for severity in range(6)] for kind in KINDS}
    return sheet(rows, [f"severity {severity}" for severity in range(6)])


def speed(kind: str | None, pictures: int) -> tuple[float, float]:
    """Return pictures of a line with one degradation of severity 3, per second and per CPU second."""
    conditions = (SimulatedCondition.model_validate({"kind": kind, "severity": 3.0}),) if kind else ()
    line = SimulatedLine(SimulatedCamera(conditions=conditions))
    line.picture(1)
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    for number in range(1, pictures + 1):
        line.picture(number)
    return pictures / (time.perf_counter() - wall_s), pictures / (time.process_time() - cpu_s)


def sheet(rows: dict[str, list[Image]], heads: list[str]) -> Image:
    """Lay pictures out in rows with their names on the left."""
    top = LINE_PX if any(heads) else 0
    canvas = np.full((top + TILE_PX * len(rows), MARGIN_PX + TILE_PX * len(heads), 3), 250, np.uint8)
    for column, head in enumerate(heads):
        text(canvas, head, MARGIN_PX + column * TILE_PX + 8, 16)
    for row, (name, pictures) in enumerate(rows.items()):
        y = top + row * TILE_PX
        text(canvas, name.replace("_", " "), 8, y + TILE_PX // 2 + 4)
        for column, picture in enumerate(pictures):
            x = MARGIN_PX + column * TILE_PX
            tile = cv2.resize(picture, (TILE_PX - 2, TILE_PX - 2), interpolation=cv2.INTER_AREA)
            canvas[y : y + TILE_PX - 2, x : x + TILE_PX - 2] = tile
    return canvas


def text(canvas: Image, words: str, x: int, y: int) -> None:
    """Write in small dark letters."""
    cv2.putText(canvas, words, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (40, 40, 40), 1, cv2.LINE_AA)


def write(path: Path, image: Image) -> None:
    """Save as JPEG and say how large it is."""
    if not cv2.imwrite(str(path), image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85]):
        raise OSError(f"{path}: cannot be written")
    print(f"{path}: {path.stat().st_size / 1024:.0f} KB")


if __name__ == "__main__":
    main()
