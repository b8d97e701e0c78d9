"""Build the bundle that ships with the agent from the trained weights: the same bytes every time."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from adapters.build.bundle import build
from adapters.bundle.reader import SHIPPED
from adapters.core.adapter import AdapterError
from adapters.engines.open_bundle import open_bundle

NAME = "mekiki-line"
WEIGHTS = Path(__file__).parent / "weights" / f"{NAME}.safetensors"
REPEATS = 200


def main() -> int:
    """Build beside the shipped bundle, replace it, and print what it is and how fast it is on one thread."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--out", type=Path, default=SHIPPED / NAME)
    arguments = parser.parse_args()
    out: Path = arguments.out
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{NAME}.") as folder:
        try:
            built = build(str(arguments.weights), Path(folder) / NAME, name=NAME, patches=True)
        except AdapterError as error:
            print(error, file=sys.stderr)
            return 1
        if out.exists():
            shutil.rmtree(out)
        shutil.move(built.folder, out)
    print(f"{out}: {built.size / 1e6:.1f} MB, {built.digest}, {built.error:.1e} from torch")
    print(f"{image_ms(out):.1f} ms a picture on one thread")
    return 0


def image_ms(folder: Path) -> float:
    """Return CPU milliseconds for one picture on one thread, the median of many."""
    engine = open_bundle(folder, device="cpu", threads=1)
    side = engine.info.preprocess.size
    image = np.zeros((1, 3, side, side), np.float32)
    times = []
    for _ in range(REPEATS):
        start = time.process_time()
        engine.encode_image(image, [engine.source])
        times.append(time.process_time() - start)
    return 1e3 * float(np.median(times))


if __name__ == "__main__":
    sys.exit(main())
