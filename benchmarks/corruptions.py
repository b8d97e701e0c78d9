"""The fifteen common corruptions at five severities, for photos of 32x32: CIFAR-10-C as own code.

After D. Hendrycks and T. Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and
Perturbations", ICLR 2019, https://arxiv.org/abs/1903.12261, with the definitions and constants by which the
authors made CIFAR-10-C (``ImageNet-C/create_c/make_cifar_c.py`` of github.com/hendrycks/robustness). Where
their code does something else than it seems to, the published pictures do too, so it is kept: glass blur
copies pixels where it means to swap them, the random step of fog shrinks by the square of its decay, defocus
starts as a Gaussian blur of 3x3, and grey levels are cut off, not rounded.

What differs:

- Frost is drawn, not cut out of photos.
- Motion blur, and with it the drift of snow, is a convolution after ImageMagick's definition: the same whole
  pixel offsets, the same one-sided bell, the edge repeated; arithmetic is float32, not 16 bit integers.
- SciPy and scikit-image are replaced by OpenCV and NumPy: the same kernels and borders, float32 rounding.
- Every picture draws from a generator of its own, not from one for all. Fed with the same random numbers their
  code gave the same levels, rounding aside: at least 92 in 100 values equal, hardly any more than one level off.
- CIFAR-10-C starts from the original photos. These start from whatever is passed, ours from JPEG files.

So numbers on these pictures are not numbers on CIFAR-10-C. `benchmarks/paper_tables.md` is for those.

Run from the repository root: ``python -m benchmarks.corruptions`` draws all of them, and measures the speed.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.corruption_kinds import CORRUPTIONS, SIDE_PX
from benchmarks.picture_line import text

KINDS: Final[tuple[str, ...]] = tuple(CORRUPTIONS)
"""In the order of CIFAR-10-C, which is the order in which a benchmark passes through them."""

SEVERITIES: Final = (1, 2, 3, 4, 5)

PHOTO: Final = 16
TILE_PX: Final = 96
MARGIN_PX: Final = 152
LINE_PX: Final = 24


def corrupt(images: NDArray[np.uint8], kind: str, severity: int, seed: int) -> NDArray[np.uint8]:
    """Return the pictures as this kind and severity leaves them.

    A picture's result follows from itself, its position in `images`, kind, severity and seed, and from nothing
    else: neither from the other pictures nor from earlier calls.

    Args:
        images: ``(N, 32, 32, 3)`` RGB.
        kind: one of `KINDS`.
        severity: one of `SEVERITIES`.
        seed: 0 or more.

    Raises:
        ValueError: unknown kind or severity, or pictures of another shape or type.
    """
    if kind not in CORRUPTIONS:
        raise ValueError(f"kind {kind!r} is unknown: use one of {', '.join(KINDS)}")
    if severity not in SEVERITIES:
        raise ValueError(f"severity {severity} is unknown: use one of {', '.join(map(str, SEVERITIES))}")
    if images.dtype != np.uint8 or images.shape[1:] != (SIDE_PX, SIDE_PX, 3):
        raise ValueError(f"images are {images.dtype} {images.shape}: use uint8 (N, {SIDE_PX}, {SIDE_PX}, 3)")
    function, table = CORRUPTIONS[kind]
    number = KINDS.index(kind)
    corrupted = np.empty_like(images)
    for position, image in enumerate(images):
        rng = np.random.default_rng([seed, number, severity, position])
        picture = function(image.astype(np.float32) / 255, table[severity - 1], rng)
        # The authors cut off. The ten-thousandth keeps float32 from cutting off a level that is exact.
        corrupted[position] = 255 * picture.clip(0, 1) + 1e-4
    return corrupted


def main() -> None:
    """Write the picture of all kinds and severities, and print what a corrupted picture costs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("docs/img/corruptions.png"))
    parser.add_argument("--pictures", type=int, default=200, help="of each kind and severity to measure")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    # Here, as it brings torch along, which corrupting does without.
    from benchmarks.photos import read_photos

    photos = read_photos("test-dev").images
    options.out.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(options.out), sheet(photos[PHOTO])[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9]):
        raise OSError(f"{options.out}: cannot be written")
    print(f"{options.out}: {options.out.stat().st_size / 1024:.0f} KB")
    times = {kind: picture_ms(photos[: options.pictures], kind) for kind in KINDS}
    for kind, picture in times.items():
        print(f"{kind:17} {picture:.3f} ms of CPU time a picture")
    print(f"{'mean':17} {np.mean(list(times.values())):.3f} ms")


def sheet(photo: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Lay out one photo: a row per kind, then clean and severity 1 to 5 from left to right."""
    heads = ["clean", *(f"severity {severity}" for severity in SEVERITIES)]
    canvas = np.full((LINE_PX + TILE_PX * len(KINDS), MARGIN_PX + TILE_PX * len(heads), 3), 250, np.uint8)
    for column, head in enumerate(heads):
        text(canvas, head, MARGIN_PX + column * TILE_PX, 16)
    for row, kind in enumerate(KINDS):
        y = LINE_PX + row * TILE_PX
        text(canvas, kind.replace("_", " "), 6, y + TILE_PX // 2 + 4)
        pictures = [photo, *(corrupt(photo[None], kind, severity, 0)[0] for severity in SEVERITIES)]
        for column, picture in enumerate(pictures):
            x = MARGIN_PX + column * TILE_PX
            tile = picture.repeat(TILE_PX // SIDE_PX, 0).repeat(TILE_PX // SIDE_PX, 1)
            canvas[y : y + TILE_PX, x : x + TILE_PX] = tile
    return canvas


def picture_ms(photos: NDArray[np.uint8], kind: str) -> float:
    """Return milliseconds of CPU time for one picture, the mean over the severities."""
    start = time.process_time()
    for severity in SEVERITIES:
        corrupt(photos, kind, severity, 0)
    return 1e3 * (time.process_time() - start) / (len(photos) * len(SEVERITIES))


if __name__ == "__main__":
    main()
