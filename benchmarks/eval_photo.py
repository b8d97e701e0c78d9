"""What the shipped models of the photo benchmark know, uncorrupted: ``python -m benchmarks.eval_photo``."""

from __future__ import annotations

import json

import torch

from benchmarks import photo_model
from benchmarks.bench_batclip import adapt, load
from benchmarks.bootstrap import RESAMPLES, interval
from benchmarks.machine import describe, in_words, table, write
from benchmarks.photos import read_photos
from benchmarks.rivals.frozen import Frozen


def main() -> None:
    """Measure zero-shot accuracy on `test-dev` and write ``results/photo_models``."""
    torch.set_num_threads(1)
    photos = read_photos("test-dev")
    right, rows = {}, []
    for kind in photo_model.KINDS:
        clip, texts = load(kind, 0)
        _, answers, _ = adapt(Frozen(), clip, Frozen().start(clip, texts), photos.images, texts)
        right[kind] = answers == photos.labels
        facts = json.loads(photo_model.weights(kind).with_suffix(".json").read_text())
        numbers = sum(array.size for array in clip.source.tensors.values())
        size_mb = photo_model.weights(kind).stat().st_size / 1e6
        trained = f"{facts['epochs']} epochs, {facts['minutes']:.0f} min on one core"
        accuracy = "{:.1f} ({:.1f}-{:.1f})".format(*interval(right[kind]))
        rows.append([kind, accuracy, f"{facts['parameters']}", f"{numbers}", f"{size_mb:.1f}", trained])
    difference = interval(1.0 * right["diffclip"] - right["clip"])
    figures = {
        "machine": describe("torch", "open_clip_torch", "timm"),
        "accuracy": {kind: interval(of) for kind, of in right.items()},
        "diffclip - clip": difference,
    }
    machine = in_words(figures["machine"])
    write(
        "photo_models",
        figures,
        "# The small CLIP and the small DiffCLIP\n\nWritten by `python -m benchmarks.eval_photo`. Zero-shot accuracy of the shipped"
        f" files on the {len(photos.labels)} photos of `test-dev`, template {photo_model.TEMPLATES[0]!r}, in percent with a 95 %"
        f" interval (bootstrap, {RESAMPLES} resamples); one training run each (seed 0). Machine: {machine}.\n\n"
        + table(["model", "zero-shot", "parameters", "LayerNorm numbers", "MB", "training"], rows)
        + "\nDiffCLIP above CLIP, paired: {:+.1f} ({:+.1f}..{:+.1f}) points.\n".format(*difference),
    )


if __name__ == "__main__":
    main()
