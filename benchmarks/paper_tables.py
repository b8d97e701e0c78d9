"""The paper's own tables, for who has data and weights: ``python -m benchmarks.paper_tables --set cifar10-c ...``.

CIFAR-10-C, CIFAR-100-C and ImageNet-C as they are published, the published protocol, and the means that Maharana
et al. (ICCV 2025, https://arxiv.org/abs/2412.02837) give for ViT-B/16 beside ours. `paper_tables.md` says where
data and weights come from, which command makes which table, and what may differ.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from adapters.core.adapter import AdapterError
from adapters.methods.method import Method, Texts
from adapters.torch_model.clip import Clip
from adapters.torch_model.loader import load_clip
from benchmarks.bootstrap import RESAMPLES, interval
from benchmarks.corruptions import KINDS, SEVERITIES
from benchmarks.machine import describe, in_words, table, write
from benchmarks.published_sets import SETS, DataError, Pictures, Published, open_pictures
from camera.core.frame import CameraError
from camera.pictures.preprocess import InputSpec, prepare

MODEL = "ViT-B-16-quickgelu"
"""The architecture of openai's weights: they were trained with QuickGELU, which open_clip's ViT-B-16 lacks."""

SEED = 1
"""Of the order of pictures; with the authors' seed and Python's own shuffle it is their order."""


@dataclass(frozen=True, eq=False)
class Answers:
    """What one method answered.

    Attributes:
        right: ``(K, N)`` by kind and picture.
        step_s: of each step, data not included.
    """

    right: NDArray[np.bool_]
    step_s: list[float]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the methods over the kinds and write the table; 2 if something that was named is not usable."""
    args = arguments(argv)
    published = SETS[args.set]
    try:
        pictures = open_pictures(args.set, args.data, args.kinds, args.severity, args.list)
        clip = load_clip(
            args.model, checkpoint=args.checkpoint, pretrained=args.pretrained, device=args.device
        )
        methods = {name: published.methods[name] for name in args.methods}
        answers = run(clip, pictures, published, methods, args.kinds, args.limit)
    except (DataError, CameraError, AdapterError) as error:
        print(f"paper_tables: {error}", file=sys.stderr)
        return 2
    figures = summary(args, clip, answers)
    write(f"paper_tables-{args.set}", figures, report(figures))
    return 0


def run(
    clip: Clip,
    pictures: Pictures,
    published: Published,
    methods: Mapping[str, Method[Any]],
    kinds: Sequence[str],
    limit: int | None = None,
) -> dict[str, Answers]:
    """Let every method meet every kind, reset before each; one batch of pictures is in memory at a time.

    Args:
        clip: the model.
        pictures: in the order of the disk; they are shuffled here, for all kinds and methods alike.
        published: prompts and batch.
        methods: by name.
        kinds: in their order.
        limit: of pictures per kind.

    Raises:
        CameraError: a file is no picture.
    """
    texts = Texts.of(clip, published.prompts)
    spec = InputSpec(**asdict(clip.info.preprocess))
    order = list(range(len(pictures.labels)))
    # ImageNet-C comes class by class: unshuffled, every batch would hold two classes.
    random.Random(SEED).shuffle(order)
    rows = np.asarray(order[:limit])
    answers = {name: Answers(np.zeros((len(kinds), len(rows)), np.bool_), []) for name in methods}
    with ThreadPoolExecutor() as pool:
        for number, kind in enumerate(kinds):
            states = {name: method.start(clip, texts) for name, method in methods.items()}
            for start in range(0, len(rows), published.batch):
                batch = rows[start : start + published.batch]
                inputs = pool.map(lambda row, of=kind: prepare(pictures.read(of, row), spec), batch)
                images = torch.from_numpy(np.stack(list(inputs))).to(clip.device)  # (B, 3, S, S)
                for name, method in methods.items():
                    began = time.perf_counter()
                    states[name], answer = method.step(clip, states[name], images, texts)
                    guesses = answer.logits.argmax(1).cpu().numpy()
                    answers[name].step_s.append(time.perf_counter() - began)
                    answers[name].right[number, start : start + len(batch)] = (
                        guesses == pictures.labels[batch]
                    )
            found = ", ".join(f"{name} {100 * of.right[number].mean():.2f} %" for name, of in answers.items())
            print(f"{kind} ({number + 1} of {len(kinds)}): {found}", flush=True)
    return answers


def summary(args: argparse.Namespace, clip: Clip, answers: Mapping[str, Answers]) -> dict[str, Any]:
    """Return the figures of a run, in percent; the paper's where the run is one that the paper reports."""
    comparable = (
        args.model == MODEL
        and args.pretrained == "openai"
        and args.severity == 5
        and len(args.kinds) == len(KINDS)
        and args.limit is None
        and (args.list is not None) == (args.set == "imagenet-c")
    )
    results = {}
    for name, of in answers.items():
        mean = interval(of.right.mean(0))
        paper = SETS[args.set].means[name] if comparable else None
        results[name] = {
            "mean": mean,
            "paper": paper,
            "difference": None if paper is None else round(mean[0] - paper, 2),
            "of_kind": {
                kind: round(100 * float(row.mean()), 2)
                for kind, row in zip(args.kinds, of.right, strict=True)
            },
            "step_ms": round(1e3 * statistics.median(of.step_s), 1),
        }
    return {
        "machine": describe("torch", "open_clip_torch", "timm", "pillow"),
        "set": args.set,
        "severity": args.severity,
        "pictures": next(iter(answers.values())).right.shape[1],
        "batch": SETS[args.set].batch,
        "model": {"name": clip.info.name, "weights": clip.info.weights, "provider": clip.info.provider},
        "results": results,
    }


def report(figures: Mapping[str, Any]) -> str:
    """Return the figures as Markdown: methods across, kinds down, ours above the paper's."""
    results = figures["results"]
    model = figures["model"]
    kinds = list(next(iter(results.values()))["of_kind"])
    rows = [[kind, *(f"{of['of_kind'][kind]:.2f}" for of in results.values())] for kind in kinds]
    rows.append(["**mean**", *("{:.2f} ({:.2f}-{:.2f})".format(*of["mean"]) for of in results.values())])
    if all(of["paper"] is not None for of in results.values()):
        rows.append(["mean in the paper", *(f"{of['paper']:.2f}" for of in results.values())])
        rows.append(["difference, points", *(f"{of['difference']:+.2f}" for of in results.values())])
        note = "The paper's means are Maharana et al.'s (ICCV 2025), for ViT-B/16 of openai"
    else:
        note = f"The paper's means stand only beside all 15 kinds at severity 5 and {MODEL} of openai"
    rows.append(["ms a step", *(f"{of['step_ms']:.0f}" for of in results.values())])
    machine = in_words(figures["machine"])
    return (
        f"# {figures['set']}, severity {figures['severity']}\n\n"
        f"Written by `python -m benchmarks.paper_tables`. Model: {model['name']}, {model['weights']}, {model['provider']}."
        f" {figures['pictures']} pictures of each kind in batches of {figures['batch']}, reset before each kind;"
        f" accuracy in percent of the answers before the update. Intervals: 95 %, bootstrap over pictures,"
        f" {RESAMPLES} resamples. {note}. Machine: {machine}.\n\n" + table(["kind", *results], rows)
    )


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the options that a run and its summary go by."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the set as published")
    parser.add_argument("--set", choices=list(SETS), required=True)
    parser.add_argument("--model", default=MODEL, help=f"open_clip's name of the model, by default {MODEL}")
    weights = parser.add_mutually_exclusive_group(required=True)
    weights.add_argument(
        "--pretrained", help="tag of weights in the hub's cache on this disk, such as openai"
    )
    weights.add_argument("--checkpoint", type=Path, help="file of weights")
    parser.add_argument("--severity", type=int, choices=SEVERITIES, default=5)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), metavar="KIND")
    names = list(SETS["cifar10-c"].means)
    parser.add_argument(
        "--methods", nargs="+", choices=names, default=names, metavar="METHOD", help=", ".join(names)
    )
    parser.add_argument("--limit", type=_count, help="pictures per kind; all without it")
    parser.add_argument("--list", type=Path, help="imagenet-c: file of the pictures to take, one a line")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    args = parser.parse_args(argv)
    if args.list and args.set != "imagenet-c":
        parser.error("--list is for imagenet-c: the other sets are arrays, not files")
    args.kinds = list(dict.fromkeys(args.kinds))
    return args


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


if __name__ == "__main__":
    sys.exit(main())
