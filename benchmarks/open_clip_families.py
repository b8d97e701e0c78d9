"""Which architectures of open_clip become a bundle: ``python -m benchmarks.open_clip_families --families``.

Each gets random weights in a checkpoint in a temporary folder, and `mekiki model build` makes its bundle in a
process of its own, with limits of memory and time. What came of it is one line of JSON in
``out/open_clip_families.jsonl``; what stands there is not run again, so the run can be interrupted at any
time. ``--families`` takes the smallest architecture of each family instead of all, ``--only NAME ...`` those;
without either it is the whole list. The report is written after each, of all that is there.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import open_clip
import psutil
import torch
from safetensors.torch import save_file

from adapters.architecture import fresh_model, sketch
from adapters.build_memory import BASE_BYTES, BYTES_PER_PARAMETER, available_bytes
from adapters.engine import ModelError
from adapters.open_tokenizer import open_tokenizer
from benchmarks.families_report import report
from benchmarks.model_families import family

OUT = Path("out/open_clip_families.jsonl")
SEED = 0
BUILT = re.compile(r"torch by at most (\S+) of the largest feature, its gradients? by (\S+)")
LOOK_S = 0.2


@dataclass(frozen=True, slots=True)
class Architecture:
    """One of open_clip's.

    Attributes:
        parameters: how many numbers it has, or None if it cannot be built here even without them.
    """

    name: str
    family: str
    parameters: int | None


@dataclass(frozen=True, slots=True)
class Run:
    """How a process ended.

    Attributes:
        code: its exit code, or None if it was ended at a limit.
        words: what it wrote to standard error and output.
        peak: bytes it had in memory at most.
    """

    code: int | None
    words: str
    seconds: float
    peak: int


def main() -> None:
    """Build what is asked for and not there yet, smallest first; then write the report."""
    arguments = _arguments()
    if arguments.checkpoint is not None:
        write_checkpoint(*arguments.checkpoint)
        return
    names = open_clip.list_models()  # before our own are made known to it
    listed = list(architectures(arguments.only or names))
    chosen = smallest(listed) if arguments.families else sorted(listed, key=_size)
    known = {record["name"] for record in read_records(arguments.out)}
    for one in chosen:
        if one.name in known:
            continue
        record = _tried(one, arguments)
        append(arguments.out, record)
        print(record["name"], record["outcome"], record.get("sentence", ""), flush=True)
        report(read_records(arguments.out), len(names), SEED)
    report(read_records(arguments.out), len(names), SEED)


def architectures(names: Sequence[str]) -> Iterator[Architecture]:
    """Yield what is known of each architecture without building it."""
    for name in names:
        yield Architecture(name, family(open_clip.get_model_config(name)), _parameters(name))


def _parameters(name: str) -> int | None:
    """Return how many numbers an architecture has, also if it is one that is refused."""
    try:
        with torch.device("meta"):
            model = open_clip.create_model(name, load_weights=False, pretrained_text=False, device="meta")
    except (RuntimeError, OSError):  # a text tower of Hugging Face that is not here
        return None
    return sum(tensor.numel() for tensor in model.parameters())


def smallest(listed: Sequence[Architecture]) -> list[Architecture]:
    """Return the smallest architecture of each family, the smallest of all first."""
    first: dict[str, Architecture] = {}
    for one in sorted(listed, key=_size):
        first.setdefault(one.family, one)
    return list(first.values())


def read_records(file: Path) -> list[dict[str, Any]]:
    """Return what was found so far; a line that an interruption left half written is passed over."""
    records = []
    for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else []:
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            print(f"{file}: half a line, run again: {line[:60]}", file=sys.stderr)
    return records


def append(file: Path, record: dict[str, Any]) -> None:
    """Write one line to the end, behind whatever an interruption left there."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a+b") as content:
        torn = content.tell() > 0 and _last_byte(content) != b"\n"
        content.write((b"\n" if torn else b"") + json.dumps(record).encode() + b"\n")
        content.flush()
        os.fsync(content.fileno())


def write_checkpoint(name: str, file: str) -> None:
    """Write random weights of an architecture; of one that is refused without them, next to nothing."""
    torch.manual_seed(SEED)
    try:
        sketch(name)
        open_tokenizer(name, trim=True)
    except ModelError:
        save_file({"nothing": torch.zeros(1)}, file)
        return
    model = fresh_model(name)
    for module in model.modules():
        if isinstance(module, torch.nn.LayerNorm):
            for parameter, lowest in ((module.weight, 0.5), (module.bias, -0.5)):
                if parameter is not None:
                    torch.nn.init.uniform_(parameter, lowest, lowest + 1)
    # open_clip leaves what it has no use for as it finds it in memory, such as a projection of CoCa's decoder.
    save_file(
        {key: torch.nan_to_num(tensor, 0, 0, 0).contiguous() for key, tensor in model.state_dict().items()},
        file,
    )


def run(command: Sequence[str], memory: float, seconds: float) -> Run:
    """Run a process that is ended at its limits of memory and time."""
    began, peak, code = time.monotonic(), 0, None
    with tempfile.TemporaryFile() as words:
        process = subprocess.Popen(command, stdout=words, stderr=subprocess.STDOUT)
        try:
            while (code := process.poll()) is None:
                peak = max(peak, _resident(process.pid))
                if peak > memory or time.monotonic() - began > seconds:
                    break
                time.sleep(LOOK_S)
        finally:
            process.kill()
            process.wait()
        words.seek(0)
        return Run(code, words.read().decode(errors="replace"), time.monotonic() - began, peak)


def _tried(one: Architecture, arguments: argparse.Namespace) -> dict[str, Any]:
    record = {**asdict(one), "torch": torch.__version__, "open_clip": open_clip.__version__}
    if one.parameters is not None and one.parameters > arguments.max_parameters:
        return {
            **record,
            "outcome": "not tried",
            "sentence": f"{one.parameters / 1e6:,.0f} million parameters",
        }
    memory = arguments.memory_gb * 1e9
    with tempfile.TemporaryDirectory(prefix="mekiki-families-") as folder:
        checkpoint = str(Path(folder) / "random.safetensors")
        written = run([sys.executable, "-m", __spec__.name, "--checkpoint", one.name, checkpoint], memory, arguments.seconds)  # fmt: skip
        if written.code != 0:
            return {**record, "outcome": "no checkpoint", "sentence": _last_line(written.words)}
        build = [
            "model",
            "build",
            one.name,
            "--checkpoint",
            checkpoint,
            "--out",
            str(Path(folder) / "bundle"),
        ]
        built = run([sys.executable, "-m", "agent", *build], memory, arguments.seconds)
        size = sum(file.stat().st_size for file in Path(folder, "bundle").glob("*"))
    return {**record, **outcome(built), "size": size, "seconds": built.seconds, "peak": built.peak}


def outcome(built: Run) -> dict[str, Any]:
    """Return what a build came to: it works, it was refused with a sentence, or it broke."""
    if built.code is None:
        return {"outcome": "ended", "sentence": "at the limit of memory or time"}
    if built.code == 0 and (figures := BUILT.search(built.words)):
        error, gradient = figures.groups()
        return {"outcome": "works", "error": float(error), "gradient_error": float(gradient)}
    # 78: the configuration is wrong, see agent/errors.py.
    kind = "refused" if built.code == 78 and "Traceback" not in built.words else "broken"
    return {"outcome": kind, "code": built.code, "sentence": _last_line(built.words)}


def _arguments() -> argparse.Namespace:
    free = available_bytes() or 8e9
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--families", action="store_true", help="the smallest of each family")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these architectures")
    parser.add_argument("--out", type=Path, default=OUT, help="default: %(default)s")
    parser.add_argument(
        "--memory-gb", type=float, default=free / 1e9, help="of one process; default: what is free"
    )
    parser.add_argument("--seconds", type=float, default=1800.0, help="of one process; default: %(default)s")
    parser.add_argument(
        "--max-parameters",
        type=float,
        default=(free - BASE_BYTES) / BYTES_PER_PARAMETER,
        help="larger ones are written down as not tried; default: what fits into the free memory",
    )
    parser.add_argument("--checkpoint", nargs=2, metavar=("NAME", "FILE"), help="only write random weights")
    return parser.parse_args()


def _size(one: Architecture) -> tuple[int, str]:
    return one.parameters or 0, one.name


def _resident(pid: int) -> int:
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def _last_byte(content: Any) -> bytes:
    content.seek(-1, os.SEEK_END)
    last: bytes = content.read(1)
    return last


def _last_line(words: str) -> str:
    lines = [line for line in words.splitlines() if line.strip()]
    return lines[-1] if lines else "nothing was written"


if __name__ == "__main__":
    main()
