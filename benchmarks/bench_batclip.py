"""BATCLIP against its rivals on corrupted photos: ``python -m benchmarks.bench_batclip [--severity 5] [--json]``.

Every method meets every one of the 15 corruptions, with the small CLIP and the small DiffCLIP of `train_clip`,
on CIFAR-10's `test-dev` photos in batches of 200: first with a reset before each corruption, as in the paper,
then without, in two orders. What a method answered is kept in ``--out``, so that a run which was stopped goes on.

The pictures are corrupted by our own code: the numbers compare methods with each other and are not CIFAR-10-C's.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray

from adapters.core.prompts import Prompts
from adapters.methods.batclip import Batclip
from adapters.methods.method import Method, Texts
from adapters.torch_model.clip import Clip
from adapters.torch_model.loader import load_clip
from benchmarks import bench_tables, photo_model
from benchmarks.bench_rates import MAKERS, RATES
from benchmarks.corruptions import KINDS, corrupt
from benchmarks.photos import read_photos
from benchmarks.rivals.frozen import Frozen
from benchmarks.rivals.tda import Tda

METHODS: dict[str, Method[Any]] = {
    "frozen": Frozen(),
    "BATCLIP exact": MAKERS["BATCLIP exact"](RATES["BATCLIP exact"]),
    "TENT": MAKERS["TENT"](RATES["TENT"]),
    "TDA": Tda(),
    "BATCLIP line": MAKERS["BATCLIP line"](RATES["BATCLIP line"]),
    "RDumb": MAKERS["RDumb"](RATES["RDumb"]),
    "SAR": MAKERS["SAR"](RATES["SAR"]),
    "BATCLIP exact, rate 0.01": MAKERS["BATCLIP exact"](1e-2),
    "BATCLIP exact, paper's rate": Batclip(),
}
OTHER_RATES = ("BATCLIP exact, rate 0.01", "BATCLIP exact, paper's rate")
"""What shows how much the rate matters, with resets only."""

MODES = ("reset", "continual", "continual, reversed")
BATCH = 200
SEED = 0

Answers = NDArray[np.int64]
"""Predicted classes."""


def main() -> None:
    """Run what is missing, then write tables and plot."""
    args = arguments()
    args.out.mkdir(parents=True, exist_ok=True)
    make_pictures(args)
    jobs = [
        (kind, mode, method)
        for mode in args.modes
        for method in args.methods
        for kind in args.kinds
        if mode == "reset" or method not in OTHER_RATES
    ]
    missing = [job for job in jobs if not _file(args, *job).exists()]
    for line in _in_processes(args, _run, [(args, *job) for job in missing]):
        print(line, file=sys.stderr, flush=True)
    bench_tables.write_tables(args, {job: np.load(_file(args, *job)) for job in jobs})


def make_pictures(args: argparse.Namespace) -> None:
    """Corrupt the photos with every kind, once."""
    missing = [kind for kind in KINDS if not _pictures(args, kind).exists()]
    if not missing:
        return
    photos = read_photos("test-dev")
    np.save(args.out / "labels.npy", photos.labels)
    for _ in _in_processes(args, _corrupt, [(photos.images, kind, args) for kind in missing]):
        pass


def _in_processes(args: argparse.Namespace, work: Callable[[Any], Any], jobs: Sequence[Any]) -> Iterator[Any]:
    """Yield what `work` returns for each job, as it comes; a process that is killed ends the run."""
    if not jobs:
        return
    with ProcessPoolExecutor(args.processes, get_context("spawn")) as pool:
        for done in as_completed([pool.submit(work, job) for job in jobs]):
            yield done.result()


def _corrupt(job: tuple[NDArray[np.uint8], str, argparse.Namespace]) -> None:
    images, kind, args = job
    _save(_pictures(args, kind), lambda file: np.save(file, corrupt(images, kind, args.severity, SEED)))


def _save(path: Path, write: Callable[[BinaryIO], None]) -> None:
    """Make a file that is complete or not there."""
    with path.with_suffix(".tmp").open("wb") as unfinished:
        write(unfinished)
    path.with_suffix(".tmp").rename(path)


def _run(job: tuple[argparse.Namespace, str, str, str]) -> str:
    """Let one method meet all corruptions with one model; keep its answers and the time of its steps."""
    args, kind, mode, name = job
    torch.set_num_threads(args.threads)
    clip, texts = load(kind, args.seed)
    method = METHODS[name]
    photos = args.photos if mode == "reset" else args.continual_photos
    order = KINDS[::-1] if mode == "continual, reversed" else KINDS
    answers = np.full((len(KINDS), photos), -1, np.int64)
    step_s: list[float] = []
    state = method.start(clip, texts)
    for corruption in order:
        if mode == "reset":
            state = method.start(clip, texts)
        pictures = np.load(_pictures(args, corruption), mmap_mode="r")[:photos]
        state, answers[KINDS.index(corruption)], seconds = adapt(method, clip, state, pictures, texts)
        step_s += seconds
    _save(
        _file(args, kind, mode, name),
        lambda file: np.savez_compressed(file, answers=answers, step_s=np.asarray(step_s)),
    )
    right = (answers == np.load(args.out / "labels.npy")[:photos]).mean()
    return f"{kind}, {mode}, {name}: {100 * right:.2f} %, {1e3 * np.median(step_s):.0f} ms a step"


def adapt(
    method: Method[Any], clip: Clip, state: Any, pictures: NDArray[np.uint8], texts: Texts
) -> tuple[Any, Answers, list[float]]:
    """Let a method meet ``(N, 32, 32, 3)`` pictures batch by batch; return state, answers, CPU seconds per step."""
    answers, step_s = [], []
    for start in range(0, len(pictures), BATCH):
        images = prepare(pictures[start : start + BATCH], clip)
        began = time.process_time()
        state, answer = method.step(clip, state, images, texts)
        answers.append(answer.logits.argmax(1).cpu().numpy())
        step_s.append(time.process_time() - began)
    return state, np.concatenate(answers), step_s


def load(kind: str, seed: int) -> tuple[Clip, Texts]:
    """Return one of the small models and the ten classes in its words."""
    photo_model.register()
    clip = load_clip(photo_model.NAME, checkpoint=photo_model.weights(kind, seed), device="auto")
    prompts = Prompts(tuple((label, (label,)) for label in photo_model.CLASSES), photo_model.TEMPLATES)
    return clip, Texts.of(clip, prompts)


def prepare(images: NDArray[np.uint8], clip: Clip) -> torch.Tensor:
    """Return ``(B, 3, 32, 32)`` normalised as the model wants it; the photos have its size already."""
    config = clip.info.preprocess
    x = torch.from_numpy(np.ascontiguousarray(images)).to(clip.device).permute(0, 3, 1, 2) / 255
    mean = torch.tensor(config.mean, device=clip.device).view(3, 1, 1)
    std = torch.tensor(config.std, device=clip.device).view(3, 1, 1)
    return (x - mean) / std


def _pictures(args: argparse.Namespace, kind: str) -> Path:
    return Path(args.out / f"{kind}-{args.severity}.npy")


def _file(args: argparse.Namespace, kind: str, mode: str, method: str) -> Path:
    """Name answers by all that they follow from, so that none outlives a change of method or weights."""
    photos = args.photos if mode == "reset" else args.continual_photos
    weights = hashlib.sha256(photo_model.weights(kind, args.seed).read_bytes()).hexdigest()
    made_of = hashlib.sha256(f"{METHODS[method]!r} {weights} {BATCH}".encode()).hexdigest()[:12]
    name = f"{kind}-{args.seed}-{mode}-{method}-{args.severity}-{photos}-{made_of}.npz"
    return Path(args.out / name.replace(", ", "-").replace(" ", "-"))


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options that a benchmark and its tables go by."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--severity", type=int, choices=range(1, 6), default=5)
    parser.add_argument("--photos", type=int, default=3000, help="of each corruption, with resets")
    parser.add_argument(
        "--continual-photos", type=int, default=600, help="of each corruption, without resets"
    )
    parser.add_argument(
        "--kinds", nargs="+", choices=list(photo_model.KINDS), default=list(photo_model.KINDS)
    )
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--seed", type=int, default=0, help="of the model's training")
    parser.add_argument(
        "--out", type=Path, default=Path("out/bench_batclip"), help="folder for pictures and answers"
    )
    parser.add_argument("--name", help="of the files in results; default: bench_batclip and the severity")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1, help="of torch, per process")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON instead of the tables")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
