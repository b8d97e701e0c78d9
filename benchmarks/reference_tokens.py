"""Patches of CLIPs beside those of the backbone: ``python -m benchmarks.reference_tokens --packages FOLDER``.

The same golden samples, the same pictures and the same `Reference` for all; 5 draws. `mekiki-line` is the shipped
bundle's model, photo-clip the model of the photo benchmark, ViT-B-32 has random weights: what a network's form alone
gives. Writes ``results/reference_tokens.json`` and ``.md``.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from adapters.backbone.factory import open_backbone
from adapters.core.patches import PatchExtractor
from adapters.engines.engine_patches import patches_of
from adapters.engines.torch_engine import TorchEngine
from adapters.reference.reference import Reference
from adapters.torch_model.loader import load_clip
from agent.inspection.feed_factory import input_spec
from benchmarks import photo_model
from benchmarks.eval_line import auroc
from benchmarks.machine import describe, in_words, table, write
from benchmarks.reference_sets import ReferenceSet, reference_sets
from benchmarks.ship_line import WEIGHTS
from camera.pictures.images import read_image
from camera.pictures.preprocess import prepare

SAMPLES, DRAWS = 10, 5
READING = """
## What it says

* The backbone is the one to take. Its places are finer (36x36 where a ViT-B-32 has 7x7), and it has seen photos of
  the world: local defects of textile are found by it alone.
* In int8 the AUROC differs by at most .003 in the mean of the draws.
* The patches of a CLIP that was trained on simulated flanges or on photos of 32 pixels are nearly as good where a
  defect changes a large part of the picture (ball screw, hazelnut, solar cells), and of little use for textile.
* A ViT-B-32 without any training is not far behind on those: there a new brightness, colour or coarse pattern is
  enough to be found. So a high figure on such sets says little for the training of a model.
"""


def main() -> None:
    """Measure all models on all sets."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--packages", type=Path, help="folder with elpv_dataset and conformal_clip_data")
    parser.add_argument("--most", type=int, default=100, help="good and bad parts judged in each draw, each")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if not (sets := reference_sets(args.packages)):
        parser.error("none of the sets is here: see benchmarks/reference_sets.py")
    found: dict[str, Any] = {}
    for name, opened in _models():
        extractor = opened()
        found[name] = {
            "grid": list(extractor.info.grid),
            "layers": list(extractor.info.layers),
            "size": extractor.info.preprocess.size,
            "sets": {one.name: _aurocs(extractor, one, args.most) for one in sets},
        }
        print(name, found[name], flush=True)
    figures = {
        "machine": describe("onnxruntime", "torch", "numpy"),
        "samples": SAMPLES,
        "draws": DRAWS,
        "most": args.most,
        "models": found,
    }
    write("reference_tokens", figures, _markdown(figures, sets))


def _models() -> Iterator[tuple[str, Callable[[], PatchExtractor]]]:
    graphs = Path(tempfile.mkdtemp(prefix="graphs"))
    for precision in ("fp32", "int8"):
        yield (
            f"backbone, {precision}",
            lambda precision=precision: open_backbone(  # type: ignore[misc]
                "backbone", graphs, device="cpu", threads=1, precision=precision
            ),
        )
    yield "mekiki-line", lambda: _clip("mekiki-line", WEIGHTS)
    photo_model.register()
    yield "photo-clip", lambda: _clip(photo_model.NAME, photo_model.weights("clip"))
    yield "ViT-B-32, random", _random


def _clip(name: str, checkpoint: Path) -> PatchExtractor:
    return patches_of(TorchEngine(load_clip(name, checkpoint=checkpoint, device="cpu"), 1))


def _random() -> PatchExtractor:
    """Return a ViT-B-32 of open_clip's own random weights."""
    import open_clip
    from safetensors.torch import save_file

    torch.manual_seed(0)
    model = open_clip.create_model("ViT-B-32", load_weights=False)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "random.safetensors"
        save_file({key: tensor.clone() for key, tensor in model.state_dict().items()}, file)
        return _clip("ViT-B-32", file)


def _aurocs(extractor: PatchExtractor, one: ReferenceSet, most: int) -> list[float]:
    """Return the AUROC of each draw."""
    spec, known = input_spec(extractor.info.preprocess), {}

    def patches(file: Path) -> Any:
        if file not in known:
            known[file] = extractor.patches(prepare(read_image(file), spec)[np.newaxis])
        return known[file]

    found = []
    for seed in range(DRAWS):
        golden, good, bad = one.draw(SAMPLES, seed, most)
        reference = Reference.build(np.stack([patches(file) for file in golden]), extractor.info, seed=seed)
        scores = np.array([reference.judge(patches(file)).score for file in [*good, *bad]])
        labels = np.arange(len(scores)) >= len(good)
        found.append(round(auroc(scores, labels), 4))
    return found


def _markdown(figures: dict[str, Any], sets: list[ReferenceSet]) -> str:
    rows = [
        [
            f"{name}, {model['size']} px, {model['grid'][0]}x{model['grid'][1]}",
            *(
                f"{np.mean(draws):.3f} ({min(draws):.3f} to {max(draws):.3f})"
                for draws in model["sets"].values()
            ),
        ]
        for name, model in figures["models"].items()
    ]
    heads = [f"{one.name} ({len(one.good)} / {len(one.bad)})" for one in sets]
    return (
        "# Patches of CLIPs beside those of the backbone\n\n`python -m benchmarks.reference_tokens`:"
        f" AUROC with {figures['samples']} golden samples, mean of {figures['draws']} draws (range); at most"
        f" {figures['most']} good and bad parts judged in each. {in_words(figures['machine'])}.\n\n"
        f"{table(['patches of', *heads], rows)}{READING}"
    )


if __name__ == "__main__":
    main()
