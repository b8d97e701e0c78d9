"""The learner and its rivals on streams as a line makes them: ``python -m benchmarks.bench_streams``.

For each model, stream and seed the frames are drawn once and answered once by the frozen model; each method then
meets them from first to last. All of that lies in ``--out`` under names made of everything it follows from, so a
run that was stopped goes on, runs with other streams, seeds or methods add to it, and the report says of every
cell over how many seeds it is. ``--report`` makes the report from what is there.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from adapters.methods.method import Texts
from adapters.torch_model.clip import Clip
from benchmarks import stream_ours, stream_plot
from benchmarks.machine import describe, write
from benchmarks.stream_frames import REFERENCE, Frames, cell_name, commissioning, stream_frames
from benchmarks.stream_methods import RIVALS, Contender, Setting
from benchmarks.stream_metrics import Truth, judge
from benchmarks.stream_oracle import Oracle
from benchmarks.stream_report import OURS, Judged, figures, markdown
from benchmarks.stream_run import DAY_FRAMES, Run, load_run, run, run_file, save_run
from benchmarks.stream_site import MODELS, build_site, open_model
from benchmarks.stream_worlds import World, world_of
from benchmarks.streams import Stream, schedules

PLOTS = Path(__file__).parents[1] / "docs" / "img"

LEAST_REFERENCE = 1 / 3
"""Of the commissioning, for a quick look: a learner that watches for drift needs 1000 frames to begin with."""

METHODS: dict[str, Callable[[Setting], Contender]] = {**RIVALS, "oracle": Oracle, **stream_ours.OURS}
"""Every contender by name; names of the learner's variants begin with `ours`."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One stream with one model and one seed, and where its runs lie."""

    model: str
    stream: Stream
    seed: int
    args: argparse.Namespace

    @property
    def name(self) -> str:
        """What its files begin with."""
        return cell_name(self.model, self.stream, self.seed)

    def run_file(self, method: str, world: World, weights: str) -> Path:
        """Return where a method's run lies or will lie."""
        contender = METHODS[method](Setting(self.model, world, self.stream, self.seed))
        basis = f"{weights} {self.args.share}"
        return run_file(self.args.out, self.name, self.model, basis, method, contender, self.args.day_frames)


def main() -> None:
    """Run what is missing, then write the report of each model."""
    args = _arguments()
    for model in args.models:
        streams = _streams(model, args)
        cells = [
            Cell(model, streams[name], seed, args) for seed in range(args.seeds) for name in args.streams
        ]
        if not args.report:
            for line in _in_processes(args.processes, cells):
                print(line, file=sys.stderr, flush=True)
        _report(model, streams, cells, args)


def meet(cell: Cell) -> str:
    """Let every method that has not yet met this stream meet it."""
    torch.set_num_threads(1)
    args = cell.args
    world = world_of(cell.model, cell.seed)
    opened = open_model(cell.model, world)
    files = {method: cell.run_file(method, world, opened[0].info.weights) for method in args.methods}
    missing = [method for method, file in files.items() if not file.exists()]
    said = f"{cell.model} {cell.stream.name} seed {cell.seed}"
    if not missing:
        return f"{said}: all there"
    frames, truth, contestants = _prepare(cell, world, opened)
    for method in missing:
        made = contestants(method)
        save_run(files[method], made)
        failed = made.scores >= 0
        wrong = (failed != truth.defective)[truth.counted].mean()
        print(f"{said}: {method}, {100 * wrong:.1f} % wrong, {made.cpu_ms:.1f} ms a frame", file=sys.stderr)
    return f"{said}: {len(missing)} methods over {len(frames.pictures)} frames"


def _prepare(
    cell: Cell, world: World, opened: tuple[Clip, Texts]
) -> tuple[Frames, Truth, Callable[[str], Run]]:
    """Return the stream, its truth, and what makes a run of a method by name."""
    args, spec = cell.args, opened[0].info.preprocess
    reference = REFERENCE.shortened(max(args.share, LEAST_REFERENCE)) if args.share < 1 else REFERENCE
    start = commissioning(args.out, cell.model, world, spec, reference, cell.seed)
    frames = stream_frames(args.out, cell.model, world, spec, cell.stream, cell.seed)
    site = build_site(
        args.out,
        cell.model,
        world,
        opened,
        (cell_name(cell.model, reference, cell.seed), start),
        (cell.name, frames.pictures),
        cell.seed,
    )
    setting = Setting(cell.model, world, cell.stream, cell.seed)
    frozen = RIVALS["frozen"](setting)
    frozen.start(site)
    baseline = frozen.see(0, frames.pictures, frames.usable).scores

    def contest(method: str) -> Run:
        return run(METHODS[method](setting), site, frames, baseline, args.day_frames)

    return frames, Truth.of(cell.stream, frames, world.fails), contest


def _report(
    model: str, streams: Mapping[str, Stream], cells: Sequence[Cell], args: argparse.Namespace
) -> None:
    """Write tables and plots of all that is there."""
    judged: dict[tuple[str, str, int], Mapping[str, Any]] = {}
    plotted: set[str] = set()
    info = open_model(model, world_of(model, 0))[0].info
    for cell in cells:
        world = world_of(model, cell.seed)
        files = {method: cell.run_file(method, world, info.weights) for method in args.methods}
        runs = {method: load_run(file) for method, file in files.items() if file.exists()}
        if "frozen" not in runs:
            print(f"{cell.name}: the frozen model has not run, left out", file=sys.stderr)
            continue
        frames = stream_frames(args.out, model, world, info.preprocess, cell.stream, cell.seed)
        truth = Truth.of(cell.stream, frames, world.fails)
        for method, made in runs.items():
            judged[cell.stream.name, method, cell.seed] = judge(
                made, runs["frozen"], runs.get("oracle"), truth
            )
        if cell.stream.name not in plotted and not args.json:
            plotted.add(cell.stream.name)
            _plot(cell, truth, runs)
    _write(model, streams, judged, args)


def _write(model: str, streams: Mapping[str, Stream], judged: Judged, args: argparse.Namespace) -> None:
    if not judged:
        print(f"{model}: nothing to report", file=sys.stderr)
        return
    machine = describe("torch", "open_clip_torch", "numpy")
    found = figures(model, judged, machine, args.share)
    if args.json:
        print(json.dumps(found, indent=1))
    else:
        write(f"streams-{model}{args.suffix}", found, markdown(found, streams, _notes(model, args)))


def _plot(cell: Cell, truth: Truth, runs: Mapping[str, Run]) -> None:
    learner = next((method for method in runs if method.startswith(OURS) and "golden" in method), None)
    learner = learner or next((method for method in runs if method.startswith(OURS)), None)
    shown = [method for method in ("frozen", learner, "oracle") if method in runs]
    if learner is None:
        shown += [method for method in runs if method not in shown]
    file = PLOTS / f"streams-{cell.stream.name}-{cell.model}{cell.args.suffix}.png"
    title = f"{cell.stream.name}, {cell.model}, seed {cell.seed}: {cell.stream.title}"
    stream_plot.draw(file, title, truth, {method: runs[method] for method in shown if method}, learner)


def _notes(model: str, args: argparse.Namespace) -> str:
    day = f" Labels a day are counted by days of {args.day_frames} frames." if args.day_frames else ""
    if model == "line":
        return "Flanges of the simulated line, each shown once." + day
    if model == "steel":
        kept = (
            "S8: photos of NEU-CLS's test split; patches, pitted surface and rolled-in scale are called ok."
        )
        return f"{kept} There are 30 photos of a class, 15 of them in the stream: each is shown many times, flipped, shifted and encoded again.{day}"
    kept = "S8: photos of CIFAR-10's `test-dev`; automobile, ship and frog are called ok, truck, airplane and bird defects."
    return f"{kept} Half of a class's photos are in the stream, each shown several times, flipped and shifted.{day}"


def _streams(model: str, args: argparse.Namespace) -> dict[str, Stream]:
    found = schedules("photos" if model in ("clip", "diffclip") else model)
    return {
        name: found[name].shortened(args.share) if args.share != 1 else found[name] for name in args.streams
    }


def _in_processes(processes: int, cells: Sequence[Cell]) -> Iterator[str]:
    if processes == 1:
        yield from map(meet, cells)
        return
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        for done in as_completed([pool.submit(meet, cell) for cell in cells]):
            yield done.result()


def _arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    names = list(schedules("line"))
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=["line"])
    parser.add_argument("--streams", nargs="+", choices=names, default=names)
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--seeds", type=int, default=5, help="seeds 0 to this, less one")
    parser.add_argument(
        "--share", type=float, default=1.0, help="of every segment's frames, for a quick look"
    )
    parser.add_argument(
        "--day-frames", type=int, default=DAY_FRAMES, help="length of a day, for labels a day"
    )
    parser.add_argument("--out", type=Path, default=Path("out/streams"), help="folder for frames and runs")
    parser.add_argument("--suffix", default="", help="of the report's and the plots' names")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--report", action="store_true", help="run nothing, report what is there")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON instead of writing")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
