"""What a view and tiles cost and gain: ``python -m benchmarks.views``.

Each way goes the agent's own way from a region to the model (`camera.pictures.framing`) and from the tiles to
what decides (`agent.inspection.judging`); writes ``results/views.json`` and ``.md``.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from adapters.bundle.reader import bundle_path
from adapters.core.prompts import Prompts, TextCache
from adapters.core.protocol import Engine
from adapters.core.version import SOURCE
from adapters.engines.open_bundle import open_bundle
from agent.config.recipes import prompts, shipped
from agent.inspection.feed_factory import input_spec
from agent.inspection.judging import decided_by, encode
from agent.inspection.predictor import Predictor
from agent.versions.station_plans import failing
from benchmarks.eval_line import auroc, bootstrap
from benchmarks.line_data import SHARED_DATA, STEEL, read_split
from benchmarks.line_zero_shot import balanced_accuracy
from benchmarks.machine import describe, in_turn, in_words, table, write
from camera.core.frame import Image
from camera.core.settings import RegionOfInterest
from camera.pictures.framing import Framing
from camera.pictures.images import read_image
from camera.pictures.region import Region
from camera.pictures.sight import PictureSight
from camera.simulation.part import LABELS, render_part

SEED = 4_000_000
"""Of parts that neither training (0, 1 000 000) nor calibration (2 000 000) nor `eval_line` has rendered."""
ACROSS = 3
"""Parts, or photos, side by side in a wide picture."""
BAND = RegionOfInterest(crop=(0.0, 0.25, 1.0, 0.75))
TIMED, ROUNDS = 4, 9
"""Parts in each round of timing, and rounds."""


READING = """
## What it says

* Tiles gain where each holds what the model was trained on. Three tiles hold one flange, or one photo, each. Two
  tiles hold one and a half: of flanges `mekiki-line` then says no more than of three squashed into one square,
  where one model pixel stands for six picture pixels and no flange looks like one.
* Tiles of whole steel photos lose. The model was trained on whole photos squashed to a square, and a narrow tile
  squashed is stretched; padded it is a strip of steel, which it has never seen. Of the 2:1 band two tiles are
  nearly square: on NEU they gain, on X-SDD, whose bands have no more pixels than the model, there is nothing to.
* A pad keeps the shape and gives pixels away. For `mekiki-line`, which was trained on squashed pictures, a squash
  is better; black padding, which it takes for part of the picture, is far worse than its mean colour on steel.
* A cut is no worse by itself: of a texture the middle is as good as the rest, and it is seen more finely. Of
  parts side by side it sees one in three: what lies at the sides is not found, whatever the threshold. For
  photo-clip, whose square has 32 pixels, three photos in one square are too small to be told apart, so that its
  cut finds more than a pad does, in the third that it sees. `auto` pads all the same: nobody can make up for what
  is never seen, and tiles find the rest.
* A part costs nearly as many times as it has tiles; small models less, since the rest of a part costs the same.
"""


@dataclass(frozen=True, slots=True)
class Way:
    """A view, tiles, and the padding where it is not that of `camera.pictures.framing`."""

    name: str
    view: Any
    tiles: tuple[int, int] = (1, 1)
    black: bool = False

    def framing(self, engine: Engine) -> Framing:
        """Return it for a model."""
        spec = input_spec(engine.info.preprocess)
        if self.black:  # as `fit` would be if the model's own fill were taken: black
            spec = replace(spec, resize_mode="longest", fill=0)
        return Framing(spec, self.view, self.tiles)


WAYS = (
    Way("squash (fill)", "fill"),
    Way("pad (fit)", "fit"),
    Way("pad, black", "fit", black=True),
    Way("crop", "crop"),
    Way("2x1, squash", "fill", (2, 1)),
    Way("3x1, squash", "fill", (3, 1)),
    Way("2x1, pad", "fit", (2, 1)),
    Way("3x1, pad", "fit", (3, 1)),
)


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """Pictures with what is right about them.

    Attributes:
        regions: what is looked at, in an order that mixes the classes.
        labels: ``(N,)`` classes in the predictor's order; with `sides` 1 for a defective part, 0 for a good one.
        sides: only good or defective counts, at a threshold found on every other part of each kind.
    """

    title: str
    engine: Engine
    predictor: Predictor
    regions: Sequence[Image]
    labels: NDArray[np.int64]
    sides: bool


def main() -> None:
    """Measure all of it in one run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--parts", type=int, default=600, help="wide simulated parts, half of them defective")
    parser.add_argument("--strips", type=int, default=1000, help="of photos, half of them with an animal")
    args = parser.parse_args()
    line = open_bundle(bundle_path("mekiki-line"), device="cpu", threads=1)
    tasks = [
        _wide_parts(line, args.parts),
        *(_steel(line, short, band) for short in STEEL for band in (False, True)),
    ]
    if (photos := _photo_strips(args.strips)) is not None:
        tasks.append(photos)
    figures: dict[str, Any] = {
        "machine": describe("onnxruntime", "numpy", "pillow"),
        "seed": SEED,
        "tasks": {task.title: _measured(task) for task in tasks},
    }
    write("views", figures, _markdown(figures))


def _measured(task: Task) -> dict[str, Any]:
    """Return accuracy and cost of every way on one task."""
    height, width = task.regions[0].shape[:2]
    ways = {way.name: way.framing(task.engine) for way in WAYS}
    times = in_turn({name: _timed(task, framing) for name, framing in ways.items()}, ROUNDS)
    base = np.array(times[WAYS[0].name])
    found: dict[str, Any] = {}
    for name, framing in ways.items():
        scores = np.stack([_scores(task, framing, region) for region in task.regions])  # (N, C)
        ratios = np.array(times[name]) / base
        found[name] = {
            **_accuracy(task, scores),
            "ms": round(1e3 * float(np.median(times[name])) / TIMED, 2),
            "times squash": [round(float(x), 2) for x in (np.median(ratios), ratios.min(), ratios.max())],
            "seen": PictureSight.of((width, height), (width, height), framing).sentence(),
        }
        print(task.title, name, found[name], flush=True)
    return {"pictures": len(task.labels), "size": [width, height], "ways": found}


def _scores(task: Task, framing: Framing, region: Image) -> NDArray[np.float64]:
    shown = framing.inputs(region)
    (features,) = encode(task.engine, [shown.pixels], [task.predictor.adapter])
    return decided_by(task.predictor, features, task.engine.info.logit_scale)[1].astype(np.float64)


def _timed(task: Task, framing: Framing) -> Callable[[], object]:
    return lambda: [_scores(task, framing, region) for region in task.regions[:TIMED]]


def _accuracy(task: Task, scores: NDArray[np.float64]) -> dict[str, Any]:
    if not task.sides:
        guesses, labels = scores.argmax(1), task.labels
        more = {}
    else:
        bad, good = (scores[:, side].sum(1) for side in (task.predictor.fails, ~task.predictor.fails))
        odds = np.log(np.maximum(bad, 1e-12)) - np.log(np.maximum(good, 1e-12))
        place = np.zeros(len(odds), np.int64)
        for kind in (0, 1):
            place[task.labels == kind] = np.arange((task.labels == kind).sum())
        found = place % 2 == 0  # where the threshold is found; the others judge it
        threshold = _threshold(odds[found], task.labels[found])
        labels = task.labels[~found]
        guesses = (odds[~found] >= threshold).astype(np.int64)
        plain = (odds[~found] >= 0).astype(np.int64)
        more = {
            "auroc": round(auroc(odds[~found], labels == 1), 4),
            "at offset 0": round(balanced_accuracy(plain, labels), 4),
            "threshold": round(threshold, 2),
        }
    return {
        "judged": len(labels),
        "balanced_accuracy": round(balanced_accuracy(guesses, labels), 4),
        "interval": [round(end, 4) for end in bootstrap(guesses, labels)],
        **more,
    }


def _threshold(odds: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Return where balanced accuracy is best; in the middle of the gap there."""
    ordered = np.sort(odds)
    cuts = np.concatenate([[ordered[0] - 1], (ordered[1:] + ordered[:-1]) / 2, [ordered[-1] + 1]])
    return float(max(cuts, key=lambda cut: balanced_accuracy((odds >= cut).astype(np.int64), labels)))


def _wide_parts(engine: Engine, count: int) -> Task:
    """Three flanges on a carrier, 768x256; in every other picture one of them has a defect."""
    regions, labels = [], []
    for number in range(count):
        rng = np.random.default_rng((SEED, number))
        names = ["ok"] * ACROSS
        if number % 2:
            names[int(rng.integers(ACROSS))] = LABELS[1 + (number // 2) % (len(LABELS) - 1)]
        regions.append(np.hstack([render_part(name, rng)[0] for name in names]))
        labels.append(number % 2)
    title = "a wide simulated part: three flanges side by side, at most one with a defect"
    return Task(title, engine, _predictor(engine, "line"), regions, np.array(labels), sides=True)


def _steel(engine: Engine, short: str, band: bool) -> Task:
    """Test photos of steel, encoded anew so that the file's format tells nothing; whole or their middle band."""
    recipe, region = shipped(f"steel-{short}"), Region(BAND if band else RegionOfInterest())
    names = list(recipe.classes)
    rows = [row for row in read_split(short) if row[2] == "test"]
    regions = [region.cut(_again(read_image(SHARED_DATA / STEEL[short] / file)))[0] for file, _, _ in rows]
    labels = np.array([names.index(label) for _, label, _ in rows])
    title = f"{'NEU' if short == 'neu' else 'X-SDD'} steel, {'the middle band of each photo' if band else 'whole photos'}"
    return Task(title, engine, _predictor(engine, f"steel-{short}"), regions, labels, sides=False)


def _photo_strips(count: int) -> Task | None:
    """Three CIFAR photos of vehicles side by side; in every other strip one is of an animal, which fails it."""
    from benchmarks import photo_model
    from benchmarks.photos import FOLDER, read_photos

    if not photo_model.weights("clip").is_file() or not (FOLDER / "test-dev.zip").is_file():
        print("photo-clip or CIFAR-10 is not there: left out", flush=True)
        return None
    from adapters.engines.torch_engine import TorchEngine
    from benchmarks.bench_batclip import load

    engine = TorchEngine(load("clip", 0)[0], threads=1)
    words = Prompts(tuple((label, (label,)) for label in photo_model.CLASSES), photo_model.TEMPLATES)
    vehicles = np.array([name in ("airplane", "automobile", "ship", "truck") for name in photo_model.CLASSES])
    photos, rng = read_photos("test-dev"), np.random.default_rng(SEED)
    of_kind = [np.flatnonzero(vehicles[photos.labels] == kind) for kind in (True, False)]
    regions, labels = [], []
    for number in range(count):
        rows = rng.choice(of_kind[0], ACROSS, replace=False)
        if number % 2:
            rows[rng.integers(ACROSS)] = rng.choice(of_kind[1])
        regions.append(np.hstack(photos.images[rows]))
        labels.append(number % 2)
    texts = TextCache(engine).features(words, engine.source)
    predictor = Predictor(SOURCE, engine.source, texts, ~vehicles)
    title = "strips of three CIFAR photos of vehicles, at most one of an animal, with photo-clip (a cut by training)"
    return Task(title, engine, predictor, regions, np.array(labels), sides=True)


def _predictor(engine: Engine, name: str) -> Predictor:
    recipe = shipped(name)
    return Predictor(
        SOURCE, engine.source, TextCache(engine).features(prompts(recipe), engine.source), failing(recipe)
    )


def _again(image: Image) -> Image:
    """Encode a picture as JPEG once more: in X-SDD one class is mostly PNG, which a model may notice."""
    buffer = io.BytesIO()
    Pillow.fromarray(image).save(buffer, "JPEG", quality=85)
    return np.asarray(Pillow.open(buffer).convert("RGB"))


def _markdown(figures: dict[str, Any]) -> str:
    text = (
        "# What view and tiles cost and gain\n\n"
        "Written by `python -m benchmarks.views`."
        f" Machine: {in_words(figures['machine'])}; one thread. Seed {figures['seed']} of what is simulated; steel:"
        " the test files of `benchmarks/splits`, encoded again as JPEG 85; CIFAR: `test-dev`.\n\n"
        "Balanced accuracy with its 95 % interval (bootstrap within each class). Of good against defective parts the"
        " threshold is found on one half of the parts of each kind and judged on the other; `at offset 0` is what an"
        " uncommissioned station does. Steel is sorted by class; of its tiles the one decides that the model is"
        " surest of. Cost: CPU time of a part from the region to its scores, as the ratio to squash in the same"
        f" round (median of {ROUNDS} rounds, least and most).\n"
    )
    text += READING
    for title, task in figures["tasks"].items():
        rows = [
            [
                name,
                "{:.1f} %".format(100 * way["balanced_accuracy"]),
                "{:.1f} to {:.1f} %".format(*(100 * end for end in way["interval"])),
                *(
                    ["{:.3f}".format(way["auroc"]), "{:.1f} %".format(100 * way["at offset 0"])]
                    if "auroc" in way
                    else []
                ),
                "{:.2f}".format(way["ms"]),
                "{:.2f} ({:.2f} to {:.2f})".format(*way["times squash"]),
            ]
            for name, way in task["ways"].items()
        ]
        sides = "auroc" in next(iter(task["ways"].values()))
        judged = next(iter(task["ways"].values()))["judged"]
        heads = [
            "way",
            "balanced accuracy",
            "95 % interval",
            *(["AUROC", "at offset 0"] if sides else []),
            "ms",
            "times squash",
        ]
        size = "x".join(map(str, task["size"]))
        text += f"\n## {title[0].upper()}{title[1:]}\n\n{task['pictures']} pictures of {size}, {judged} judged.\n\n"
        text += table(heads, rows)
    return text


if __name__ == "__main__":
    main()
