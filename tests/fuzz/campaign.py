"""Inputs that nobody would send, to everything that reads what others wrote: ``python -m tests.fuzz``.

A target takes bytes and may refuse them in the way that its docstring promises; anything else is a fault, and
so is an input that takes longer than `SLOW_S`. Inputs are mutations of good ones. With atheris, where it is
installed, they are chosen by what code they reach (``--guided TARGET``).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import random
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz import metadata
from tests.fuzz.targets import TARGETS, Target

SLOW_S = 5.0
_SPLICES = (
    b"", b"\0", b"\n", b"\r\n", b"\xff", b"\xed\xa0\x80", b"\xe2\x80\xa8", b"\x1b[2J", b"../../../etc/passwd",
    b"${env:HOME}", b"${file:/etc/shadow}", b"!!python/object/apply:os.system [id]", b"&a [*a]",
    b"*a", b"{" * 64,
    b"[" * 512, b'"' * 3, b"NaN", b"-Infinity", b"1e999", b"9" * 400, b"-0", b"null", b"true", b"\\u0000",
    b"\xef\xbb\xbf", b"PK\x03\x04", b"\x80\x04\x95", b"#", b"+", b"$SYS/", b"<script>", b"' OR 1=1 --",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Fault:
    """An input that was not refused as it should be."""

    target: str
    data: bytes
    what: str


def main() -> int:
    """Fuzz, report, and return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--inputs", type=int, default=100_000, help="altogether")
    parser.add_argument("--metadata", type=int, default=20_000, help="pictures with odd metadata, altogether")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--report", action="store_true", help="write benchmarks/results/fuzz.md")
    parser.add_argument("--guided", choices=sorted(TARGETS), help="one target, by the code that is reached")
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)
    if arguments.guided:
        _guided(TARGETS[arguments.guided], arguments.inputs, arguments.seed)
        return 0
    each = -(-arguments.inputs // len(TARGETS))
    faults: list[Fault] = []
    rows = []
    for name, target in TARGETS.items():
        began = time.monotonic()
        found, refused, slowest_s = fuzz(target, each, arguments.seed)
        faults += found
        rows.append([name, str(each), str(refused), f"{1e3 * slowest_s:.0f}", str(len(found))])
        print(" ".join(rows[-1]), f"{time.monotonic() - began:.0f} s", flush=True)
    pictures = [_metadata(kind, -(-arguments.metadata // 4), arguments.seed) for kind in metadata.KINDS]
    for kind, result in pictures:
        faults += [Fault(f"metadata of {kind}", data, what) for data, what in result.faults]
    guided = [_guided_run(name, each // 4, arguments.seed) for name in TARGETS] if _has_atheris() else []
    for fault in faults[:10]:
        print(f"{fault.target}: {fault.data[:200]!r}\n{fault.what}", file=sys.stderr)
    bad = [name for name, code, _ in guided if code]
    if arguments.report:
        _write(rows, pictures, guided, arguments.seed)
    files = sum(result.files for _, result in pictures)
    print(
        json.dumps(
            {"inputs": each * len(TARGETS), "pictures": files, "faults": len(faults), "guided_faults": bad}
        )
    )
    return 1 if faults or bad else 0


def fuzz(target: Target, inputs: int, seed: int) -> tuple[list[Fault], int, float]:
    """Give a target mutated inputs; returns faults, how many inputs were refused, and the slowest in s."""
    rng = random.Random(f"{target.name} {seed}")
    faults, refused, slowest_s = [], 0, 0.0
    with tempfile.TemporaryDirectory() as folder:
        take = target.make(Path(folder))
        for number in range(inputs):
            data = mutated(target.corpus, rng) if number >= len(target.corpus) else target.corpus[number]
            began = time.monotonic()
            try:
                with contextlib.redirect_stdout(None):
                    refused += not take(data)
            except Exception:  # noqa: BLE001 - what it is, is the finding
                faults.append(Fault(target.name, data, traceback.format_exc(limit=-6)))
            took = time.monotonic() - began
            slowest_s = max(slowest_s, took)
            if took > SLOW_S:
                faults.append(Fault(target.name, data, f"took {took:.1f} s"))
    return faults, refused, slowest_s


def mutated(corpus: Sequence[bytes], rng: random.Random) -> bytes:
    """Return one good input, made worse in one to six places."""
    data = bytearray(rng.choice(corpus))
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        place = rng.randrange(len(data) + 1)
        match rng.randrange(7):
            case 0 if data:
                data[place % len(data)] ^= 1 << rng.randrange(8)
            case 1:
                data[place:place] = rng.choice(_SPLICES)
            case 2:
                del data[place : place + rng.choice((1, 2, 8, 64, 100_000))]
            case 3:
                start = rng.randrange(len(data) + 1)
                data[place:place] = data[start : start + rng.randrange(1, 64)]
            case 4:
                data[place : place + 4] = rng.randbytes(4)
            case 5:
                other = rng.choice(corpus)
                data[place:] = other[rng.randrange(len(other) + 1) :]
            case _:
                data[place : place + 1] = str(rng.choice((-1, 0, 2**31, 2**63, 2**64, 1e308))).encode()
    return bytes(data)


def _metadata(kind: str, files: int, seed: int) -> tuple[str, metadata.Result]:
    """Read pictures of one kind whose metadata is odd by its structure."""
    began = time.monotonic()
    result = metadata.fuzz(kind, files, seed)
    print("metadata", kind, files, len(result.faults), f"{time.monotonic() - began:.0f} s", flush=True)
    return kind, result


def _has_atheris() -> bool:
    try:
        import atheris  # noqa: F401
    except ImportError:
        print("atheris is not installed here: inputs are not guided by the code that they reach")
        return False
    return True


def _guided_run(name: str, inputs: int, seed: int) -> tuple[str, int, str]:
    """Run one target guided, in a process of its own; returns its name, exit code and last words."""
    command = [
        sys.executable,
        "-m",
        "tests.fuzz",
        "--guided",
        name,
        "--inputs",
        str(inputs),
        "--seed",
        str(seed),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    last = [line for line in done.stderr.splitlines() if "cov:" in line or "Done" in line]
    print("guided", name, done.returncode, last[-1] if last else done.stderr[-300:], flush=True)
    return name, done.returncode, last[-1] if last else ""


def _guided(target: Target, inputs: int, seed: int) -> None:
    import atheris

    with tempfile.TemporaryDirectory() as folder:
        corpus, work = Path(folder) / "corpus", Path(folder) / "work"
        corpus.mkdir()
        work.mkdir()
        for number, data in enumerate(target.corpus):
            (corpus / str(number)).write_bytes(data)
        take: Callable[[bytes], bool] = target.make(work)
        atheris.instrument_all()
        options = [f"-runs={inputs}", f"-seed={seed + 1}", "-max_len=4096", f"-timeout={SLOW_S:.0f}"]
        atheris.Setup([sys.argv[0], *options, str(corpus)], lambda data: take(data) and None)
        atheris.Fuzz()


def _write(
    rows: list[list[str]],
    pictures: list[tuple[str, metadata.Result]],
    guided: list[tuple[str, int, str]],
    seed: int,
) -> None:
    from benchmarks.machine import describe, in_words, table, write

    machine = describe("hypothesis")
    text = (
        f"# Fuzzing\n\nWritten by `make fuzz`, seed {seed}. Refused as promised is no fault; a fault is any"
        f" other exception, or more than {SLOW_S:.0f} s. Machine: {in_words(machine)}.\n\n"
        + table(["reads", "inputs", "refused", "slowest, ms", "faults"], rows)
    )
    files = sum(result.files for _, result in pictures)
    odd = [
        [kind, str(result.files), f"{1e3 * result.slowest_s:.0f}", str(len(result.faults))]
        for kind, result in pictures
    ]
    text += (
        f"\n\n{files} pictures with sound pixels and odd metadata, built by structure"
        " (`tests/fuzz/metadata.py`): directories, segments and chunks with wrong types, counts and offsets."
        " A fault is a picture that is refused, or is not its pixels turned as its orientation says,"
        " or any other exception.\n\n" + table(["format", "files", "slowest, ms of CPU", "faults"], odd)
    )
    if guided:
        text += "\n\nBy the code that is reached (atheris):\n\n" + table(
            ["reads", "exit code", "libFuzzer"],
            [[name, str(code), f"`{last}`"] for name, code, last in guided],
        )
    found = {"machine": machine, "rows": rows, "metadata": odd, "guided": guided}
    write("fuzz", found, text + "\n")
