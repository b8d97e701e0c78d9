"""Do all engines answer alike? ``python -m benchmarks.engine_agreement``.

`mekiki-line` on every engine and precision that runs here, against torch in fp32: parts of the simulated line,
steel photos and random pictures, each picture with the source adapter and with one that moves every LayerNorm,
mixed in one batch as the inspector does. fp16 is for CUDA and is left out where there is none.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapters.build.bundle import other_adapter
from adapters.core.adapter import Adapter
from adapters.core.observation import Bytes, as_pixels
from adapters.core.prompts import Prompts, TextCache, probabilities
from adapters.core.protocol import Engine
from benchmarks.engine_bundles import TORCH, engines_of, line_clip
from benchmarks.line_data import SIZE_PX, line_pictures, read_recipe, steel_pictures
from benchmarks.machine import describe, in_words, table, write

MARGIN = 0.1
"""Of a clear case: by so many logits torch prefers the first class to the second (52.5 to 47.5 %)."""
CHUNK = 8
SPLITS = ("train", "validation", "test")
BLOCKS = 8
CLEAN_PARTS = 600
WIDEST = 7
"""Classes of the largest recipe."""


def main() -> None:
    """Ask every engine for every picture and write ``results/engine_agreement``."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--parts", type=int, default=3000, help="of the simulated line")
    parser.add_argument("--random", type=int, default=4400, help="random pictures")
    args = parser.parse_args()
    sets: dict[str, list[tuple[str, Bytes]]] = {
        "real": [
            ("line", line_pictures(args.parts, seed=77, mild=True).images[:, 0]),
            *((f"steel-{name}", _steel(name)) for name in ("neu", "xsdd")),
        ],
        "random": [("line", _random(args.random))],
    }
    clip = line_clip()
    with engines_of(clip, threads=1) as (engines, _):
        adapters = {"source": clip.source, "other": other_adapter(clip.source)}
        clean = line_pictures(CLEAN_PARTS, seed=78, mild=False).images[:, 0]
        seen = {name: _features(engine, clean) for name, engine in engines.items()}
        answers: dict[str, dict[tuple[str, str], NDArray[np.float64]]] = {}
        for name, engine in engines.items():
            print(name, flush=True)
            answers[name] = _answers(engine, sets, adapters)
    found = [
        {
            "engine": name,
            "pictures": which,
            "adapter": adapter,
            **_compared(mine, answers[TORCH][which, adapter]),
        }
        for name in engines
        if name != TORCH
        for (which, adapter), mine in answers[name].items()
    ]
    figures = {
        "machine": describe("torch", "onnxruntime", "openvino"),
        "model": clip.info.name,
        "margin_logits": MARGIN,
        "results": found,
        "mean_moved_sd": {name: _moved(of, seen[TORCH]) for name, of in seen.items() if name != TORCH},
    }
    moved = ", ".join(f"{name} {of:.1e}" for name, of in figures["mean_moved_sd"].items())
    heads = ["engine", "pictures", "adapter", "cases", "clear", "same class, of clear ones (95 %)", "same class, of all", "difference of a score: 99 %", "largest"]  # fmt: skip
    write(
        "engine_agreement",
        figures,
        "# Do all engines answer alike?\n\nWritten by `python -m benchmarks.engine_agreement`."
        f" {clip.info.name} against torch fp32, one thread. Real: {args.parts} parts of the simulated line (half of them"
        " mildly degraded) and all photos of NEU and X-SDD steel, with their recipes; random: half noise, half coloured"
        " blocks, with the recipe `line`. Each picture goes through the tower with the source adapter and with another"
        f" one in the same batch. Clear: torch prefers the first class to the second by more than {MARGIN} logits."
        " Intervals are Wilson's. A score is the probability of a class; of each picture the class that differs most"
        f" counts. Machine: {in_words(figures['machine'])}.\n\n"
        + table(heads, [_row(of) for of in found])
        + f"\nWhat drift is measured on, the mean feature of {CLEAN_PARTS} clean parts, moves by at most so many standard"
        f" deviations of a part's feature: {moved}. Between blocks of 50 parts it varies by 0.14.\n",
    )


def _answers(
    engine: Engine, sets: dict[str, list[tuple[str, Bytes]]], adapters: dict[str, Adapter]
) -> dict[tuple[str, str], NDArray[np.float64]]:
    """Return ``(N, WIDEST)`` probabilities of the classes by kind of pictures and adapter, filled up with zeros."""
    texts, spec = TextCache(engine), engine.info.preprocess
    both = list(adapters.values())
    rows: dict[tuple[str, str], list[NDArray[np.float64]]] = {}
    for which, parts in sets.items():
        for recipe, pictures in parts:
            words = _prompts(recipe)
            for start in range(0, len(pictures), CHUNK):
                pixels = as_pixels(pictures[start : start + CHUNK], spec).repeat(2, axis=0)
                features = engine.encode_image(pixels, both * (len(pixels) // 2))
                for place, (name, adapter) in enumerate(adapters.items()):
                    classes = texts.features(words, adapter)
                    scores = probabilities(features[place::2], classes, engine.info.logit_scale)
                    wide = np.zeros((len(scores), WIDEST))
                    wide[:, : scores.shape[1]] = scores
                    rows.setdefault((which, name), []).append(wide)
    return {key: np.concatenate(of) for key, of in rows.items()}


def _features(engine: Engine, pictures: Bytes) -> NDArray[np.float64]:
    """Return ``(N, D)`` unit-length features with the source adapter."""
    spec, parts = engine.info.preprocess, []
    for start in range(0, len(pictures), CHUNK):
        pixels = as_pixels(pictures[start : start + CHUNK], spec)
        parts.append(engine.encode_image(pixels, [engine.source] * len(pixels)).astype(np.float64))
    features = np.concatenate(parts)
    return features / np.linalg.norm(features, axis=1, keepdims=True)


def _moved(mine: NDArray[np.float64], torch: NDArray[np.float64]) -> float:
    return float(np.abs((mine - torch).mean(0) / torch.std(0)).max())


def _compared(mine: NDArray[np.float64], torch: NDArray[np.float64]) -> dict[str, Any]:
    best = np.sort(torch, axis=1)[:, ::-1]
    clear = np.log(best[:, 0] / np.maximum(best[:, 1], 1e-300)) > MARGIN
    same = mine.argmax(1) == torch.argmax(1)
    differences = np.abs(mine - torch).max(1)
    right, of = int(same[clear].sum()), int(clear.sum())
    return {
        "cases": len(same),
        "clear": of,
        "same_of_clear": right / of,
        "interval": wilson(right, of),
        "same_of_all": float(same.mean()),
        "score_difference_99": float(np.quantile(differences, 0.99)),
        "score_difference_largest": float(differences.max()),
    }


def wilson(hits: int, of: int, z: float = 1.96) -> tuple[float, float]:
    """Return the interval of a share that Wilson's score test does not refuse."""
    share = hits / of
    middle = (share + z * z / (2 * of)) / (1 + z * z / of)
    half = z / (1 + z * z / of) * float(np.sqrt(share * (1 - share) / of + z * z / (4 * of * of)))
    return max(0.0, middle - half), min(1.0, middle + half)


def _row(of: dict[str, Any]) -> list[str]:
    low, high = of["interval"]
    return [
        of["engine"],
        of["pictures"],
        of["adapter"],
        str(of["cases"]),
        str(of["clear"]),
        f"{of['same_of_clear']:.3%} ({low:.2%}-{high:.2%})",
        f"{of['same_of_all']:.3%}",
        f"{of['score_difference_99']:.1e}",
        f"{of['score_difference_largest']:.1e}",
    ]


def _prompts(recipe: str) -> Prompts:
    of = read_recipe(recipe)
    return Prompts(tuple(zip(of.labels, of.phrases, strict=True)), of.templates)


def _steel(name: str) -> Bytes:
    return np.concatenate([steel_pictures(name, split, 1).images[:, 0] for split in SPLITS])


def _random(count: int) -> Bytes:
    """Return ``(N, S, S, 3)`` pictures, half of them noise, half coloured blocks."""
    random = np.random.default_rng(5)
    noise = random.integers(0, 256, (count // 2, SIZE_PX, SIZE_PX, 3), dtype=np.uint8)
    blocks = random.integers(0, 256, (count - count // 2, BLOCKS, BLOCKS, 3), dtype=np.uint8)
    side = SIZE_PX // BLOCKS
    return np.concatenate([noise, blocks.repeat(side, axis=1).repeat(side, axis=2)])


if __name__ == "__main__":
    main()
