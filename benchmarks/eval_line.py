"""Judge `mekiki-line` on pictures it has never seen: zero-shot by the prompts of the shipped recipes.

Balanced accuracy with its 95 % bootstrap interval per data set, then what each degradation of the simulated
line costs at each severity. AUROC is ok against defect, by the summed probability of the fail classes.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from PIL import Image

from adapters.torch_model import line_encoder
from benchmarks import machine
from benchmarks.line_data import SHARED_DATA, STEEL, read_recipe, read_split, shrink, steel_pictures
from benchmarks.line_zero_shot import (
    RECIPES,
    Words,
    balanced_accuracy,
    class_texts,
    guess,
    zero_shot_logits,
)
from benchmarks.ship_line import WEIGHTS
from camera.simulation.degradations import KINDS, degrade
from camera.simulation.part import LABELS, render_part

SEED = 3_000_000
"""Of parts that neither training (0, 1 000 000) nor calibration (2 000 000) has rendered."""

SEVERITIES = (1, 2, 3, 4, 5)
RESAMPLES = 2000
TITLES = {"line": "simulated line", "neu": "NEU steel", "xsdd": "X-SDD steel"}


def main() -> None:
    """Evaluate, then write `results/line_model.json` and `.md`."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument(
        "--parts", type=int, default=1200, help="clean simulated parts, evenly of every class"
    )
    parser.add_argument("--degraded-parts", type=int, default=600, help="of them under every degradation")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--name", default="line_model", help="of the files in results/")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    line_encoder.register()
    model = open_clip.create_model(line_encoder.MODEL_NAME, force_preprocess_cfg=line_encoder.PREPROCESS)
    open_clip.load_checkpoint(model, str(args.weights), strict=True)
    model.eval()
    words = Words.of({name: read_recipe(file) for name, file in RECIPES.items()}, torch.device("cpu"))

    parts = [_part(number) for number in range(args.parts)]
    labels = np.arange(args.parts) % len(LABELS)
    texts = class_texts(model, words, "line")
    clean = _probabilities(model, texts, [shrink(part) for part in parts])
    held_out = {"line": _judged(clean.argmax(1), labels)}
    for short in STEEL:
        pictures = steel_pictures(short, "test", 1)
        held_out[short] = _judged(guess(model, words, short, pictures.images[:, 0]), pictures.labels)
        held_out[short]["files_as_they_are"] = _on_disk(model, words, short)
    degraded = []
    few, few_labels = parts[: args.degraded_parts], labels[: args.degraded_parts]
    for kind, severity in ((k, s) for k in KINDS for s in SEVERITIES):
        worse = [shrink(degrade(part, kind, severity, SEED + i)) for i, part in enumerate(few)]
        degraded.append(
            {"kind": kind, "severity": severity} | _figures(_probabilities(model, texts, worse), few_labels)
        )
    figures = {
        "weights": f"sha256:{hashlib.sha256(args.weights.read_bytes()).hexdigest()}",
        "seed": SEED,
        "parts": {"clean": args.parts, "degraded": args.degraded_parts},
        "held_out": held_out,
        "clean": _figures(clean, labels),
        "degraded": degraded,
        "machine": machine.describe("torch", "open_clip_torch"),
    }
    machine.write(args.name, figures, _markdown(figures))


def bootstrap(guesses: NDArray[np.int64], labels: NDArray[np.int64]) -> tuple[float, float]:
    """Return the 95 % interval of balanced accuracy: pictures drawn again within each class, percentiles."""
    rng = np.random.default_rng(0)
    means = np.zeros(RESAMPLES)
    for label in np.unique(labels):
        right = (guesses == labels)[labels == label]
        means += rng.binomial(len(right), right.mean(), RESAMPLES) / len(right)
    low, high = np.percentile(means / len(np.unique(labels)), [2.5, 97.5])
    return float(low), float(high)


def auroc(scores: NDArray[np.floating], positive: NDArray[np.bool_]) -> float:
    """Return the chance that a positive scores above a negative, ties half (Mann-Whitney U)."""
    ordered = np.sort(scores[~positive])
    below = np.searchsorted(ordered, scores[positive], "left") + np.searchsorted(
        ordered, scores[positive], "right"
    )
    return float(below.mean() / 2 / len(ordered))


def _part(number: int) -> NDArray[np.uint8]:
    return render_part(LABELS[number % len(LABELS)], np.random.default_rng((SEED, number)))[0]


def _probabilities(
    model: open_clip.CLIP, texts: torch.Tensor, pictures: list[NDArray[np.uint8]]
) -> NDArray[np.float64]:
    return zero_shot_logits(model, texts, np.stack(pictures)).double().softmax(1).numpy()


def _on_disk(model: open_clip.CLIP, words: Words, short: str) -> float:
    """Return balanced accuracy on the test files without encoding them again: the format may show here."""
    folder = SHARED_DATA / STEEL[short]
    names = read_recipe(RECIPES[short]).labels
    rows = [row for row in read_split(short) if row[2] == "test"]
    images = [shrink(np.asarray(Image.open(folder / row[0]).convert("RGB"))) for row in rows]
    labels = np.array([names.index(row[1]) for row in rows])
    return round(balanced_accuracy(guess(model, words, short, np.stack(images)), labels), 4)


def _judged(guesses: NDArray[np.int64], labels: NDArray[np.int64]) -> dict[str, Any]:
    return {
        "pictures": len(labels),
        "balanced_accuracy": round(balanced_accuracy(guesses, labels), 4),
        "interval": [round(limit, 4) for limit in bootstrap(guesses, labels)],
        "per_class": [round(float((guesses[labels == c] == c).mean()), 4) for c in np.unique(labels)],
    }


def _figures(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> dict[str, float]:
    fails = np.array(read_recipe(RECIPES["line"]).fails)
    scores = probabilities[:, fails].sum(1)
    return {
        "balanced_accuracy": round(balanced_accuracy(probabilities.argmax(1), labels), 4),
        "auroc": round(auroc(scores, fails[labels]), 4),
        "ok_passed": round(float((scores[~fails[labels]] < 0.5).mean()), 4),
        "defects_failed": round(float((scores[fails[labels]] >= 0.5).mean()), 4),
    }


def _markdown(figures: dict[str, Any]) -> str:
    rows = [
        [
            TITLES[name],
            str(seen["pictures"]),
            f"{100 * seen['balanced_accuracy']:.1f} %",
            f"{100 * seen['interval'][0]:.1f} to {100 * seen['interval'][1]:.1f} %",
            f"{100 * seen['files_as_they_are']:.1f} %" if "files_as_they_are" in seen else "",
        ]
        for name, seen in figures["held_out"].items()
    ]
    classes = [
        [label, f"{100 * share:.0f} %"]
        for name, seen in figures["held_out"].items()
        for label, share in zip(read_recipe(RECIPES[name]).labels, seen["per_class"], strict=True)
    ]
    return (
        "# mekiki-line on held-out pictures\n\n"
        f"Written by `python -m benchmarks.eval_line`, weights `{figures['weights'][:19]}...`.\n"
        f"Machine: {figures['machine']['processor']}, {figures['machine']['cores']} cores, "
        f"torch {figures['machine']['torch']}, {figures['machine']['measured_on']}.\n"
        "Zero-shot by the prompts of the shipped recipes.\n"
        "Steel: the test files of `benchmarks/splits`, encoded again as JPEG 70 to 95.\n"
        f"Line: parts of seed {figures['seed']}, evenly of every class.\n\n"
        + machine.table(["data", "pictures", "balanced accuracy", "95 % interval", "files as they are"], rows)
        + "\n"
        + machine.table(["class", "named right"], classes)
        + "\n## Degraded simulated parts\n\n"
        f"{figures['parts']['degraded']} parts each; balanced accuracy / AUROC ok against defect.\n"
        f"Clean: {_pair(figures['clean'])}.\n\n"
        + machine.table(
            ["kind", *(f"severity {s}" for s in SEVERITIES)], list(_degraded_rows(figures["degraded"]))
        )
    )


def _degraded_rows(degraded: list[dict[str, Any]]) -> Iterator[list[str]]:
    for kind in KINDS:
        yield [kind, *(_pair(row) for row in degraded if row["kind"] == kind)]


def _pair(row: dict[str, Any]) -> str:
    return f"{100 * row['balanced_accuracy']:.1f} / {row['auroc']:.3f}"


if __name__ == "__main__":
    main()
