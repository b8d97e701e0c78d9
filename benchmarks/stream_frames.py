"""The pictures of a stream and of the commissioning before it, at the model's own size, kept on disk.

Rendering costs about 5 ms a frame, so every stream is drawn once per seed and mapped into memory afterwards.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from adapters.core import protocol as engine
from adapters.core.observation import Bytes, as_bytes
from benchmarks.stream_worlds import POOLS, Pool, World, with_object
from benchmarks.streams import UNKNOWN, Segment, Stream
from camera.core.frame import Image
from camera.pictures import preprocess
from camera.simulation.degradations import degrade

VERSION = 1
"""Of how a picture follows from a definition; a new number draws everything again."""

REFERENCE_FRAMES = 3000
REFERENCE = Stream("reference", "commissioning", (Segment("clean", REFERENCE_FRAMES),))
"""Unlabelled parts of the commissioning: 50 minutes of the line as it will be, 97 % ok."""

GOLDEN_PER_CLASS = 20


@dataclass(frozen=True, slots=True, eq=False)
class Frames:
    """A stream as the model's input shows it, and the truth about it.

    Attributes:
        pictures: ``(N, S, S, 3)`` uint8 RGB, mapped from disk.
        labels: ``(N,)`` what the part is; `streams.UNKNOWN` where there is none.
        usable: ``(N,)`` False where the camera's own check refuses the picture: black.
        segments: ``(N,)`` index into the stream's segments.
        origins: ``(N,)`` which part or photo it shows; -1 where there is none.
    """

    pictures: Bytes
    labels: NDArray[np.int64]
    usable: NDArray[np.bool_]
    segments: NDArray[np.int64]
    origins: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Commissioning:
    """What is photographed before the line starts.

    Attributes:
        reference: ``(R, S, S, 3)`` uint8, unlabelled, in order.
        golden: ``(G, S, S, 3)`` uint8, the same number of every class.
        golden_labels: ``(G,)``.
        origins: ``(R + G,)`` which parts or photos these are, the reference first.
    """

    reference: Bytes
    golden: Bytes
    golden_labels: NDArray[np.int64]
    origins: NDArray[np.int64]


def stream_frames(
    out: Path, model: str, world: World, spec: engine.Preprocess, stream: Stream, seed: int
) -> Frames:
    """Return a stream's pictures, drawn now unless they lie in `out`."""
    pictures_file = out / f"{cell_name(model, stream, seed)}-pictures.npy"
    facts_file = out / f"{cell_name(model, stream, seed)}-facts.npz"
    if not facts_file.exists():
        out.mkdir(parents=True, exist_ok=True)
        _draw(pictures_file, facts_file, world, spec, stream, seed)
    facts = np.load(facts_file)
    pictures = np.load(pictures_file, mmap_mode="r")
    return Frames(pictures, facts["labels"], facts["usable"], stream.segment_of, facts["origins"])


def commissioning(
    out: Path, model: str, world: World, spec: engine.Preprocess, stream: Stream, seed: int
) -> Commissioning:
    """Return the pictures of the commissioning, drawn now unless they lie in `out`.

    Args:
        out: folder.
        model: names the files.
        world: what is inspected.
        spec: of the model's input.
        stream: `REFERENCE`, or a shorter one for a quick look.
        seed: of the run.
    """
    file = out / f"{cell_name(model, stream, seed)}.npz"
    if not file.exists():
        out.mkdir(parents=True, exist_ok=True)
        labels = stream.truth(seed, world.fails)
        reference = _pictures(world, spec, "reference", labels, (), seed)
        golden_labels = np.repeat(np.arange(len(world.labels)), GOLDEN_PER_CLASS)
        golden = _pictures(world, spec, "golden", golden_labels, (), seed)
        origins = np.concatenate([reference[1], golden[1]])
        save(
            file,
            lambda unfinished: np.savez(
                unfinished,
                reference=reference[0],
                golden=golden[0],
                golden_labels=golden_labels,
                origins=origins,
            ),
        )
    return Commissioning(**dict(np.load(file)))


def held_out(
    world: World,
    spec: engine.Preprocess,
    labels: NDArray[np.int64],
    severities: Sequence[tuple[str, float]],
    seed: int,
) -> Bytes:
    """Draw labelled pictures under some conditions that no stream shows: what the oracle learns from."""
    return _pictures(world, spec, "held_out", labels, severities, seed)[0]


def cell_name(model: str, stream: Stream, seed: int) -> str:
    """Name files by all that the pictures follow from, so that none outlives a change of definition."""
    made_of = f"{VERSION} {stream!r} {GOLDEN_PER_CLASS}"
    world = "cifar" if model in ("clip", "diffclip") else model
    return f"{world}-{stream.name}-{seed}-{hashlib.sha256(made_of.encode()).hexdigest()[:10]}"


def save(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Make a file that is complete or not there, also when two processes make it at once."""
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with unfinished.open("wb") as file:
        write(file)
    unfinished.rename(path)


def _draw(
    pictures_file: Path, facts_file: Path, world: World, spec: engine.Preprocess, stream: Stream, seed: int
) -> None:
    labels = stream.truth(seed, world.fails)
    origins = np.full(stream.frames, -1, np.int64)
    unfinished = pictures_file.with_name(f"{pictures_file.name}.{os.getpid()}.tmp")
    shape = (stream.frames, spec.size, spec.size, 3)
    # Written as it is drawn: an hour of clean parts is larger than memory ought to be.
    pictures = np.lib.format.open_memmap(unfinished, mode="w+", dtype=np.uint8, shape=shape)
    for number in range(stream.frames):
        image, origins[number] = _frame(world, stream, seed, number, int(labels[number]))
        image = _seen_through(image, stream.severities(number), seed, number)
        pictures[number] = _to_size(image, spec)
    pictures.flush()
    del pictures
    unfinished.rename(pictures_file)
    black = np.array([segment.content == "black" for segment in stream.segments])
    usable = ~black[stream.segment_of]
    # Last: what says that the pictures are all there.
    save(
        facts_file,
        lambda unfinished: np.savez_compressed(unfinished, labels=labels, usable=usable, origins=origins),
    )


def _frame(world: World, stream: Stream, seed: int, number: int, label: int) -> tuple[Image, int]:
    """Return what lies under the camera, and its origin."""
    content = stream.segments[int(stream.segment_of[number])].content
    rng = _rng(seed, "stream", stream.name, number)
    if label != UNKNOWN:
        part = world.part("stream", label, rng)
        return part.image, part.origin
    if content == "wrong":
        return world.stranger(rng), -1
    part = world.part("stream", int(np.flatnonzero(~world.fails)[0]), rng)
    if content == "foreign":
        return with_object(part.image, rng), part.origin
    return np.asarray(rng.integers(0, 4, part.image.shape), dtype=np.uint8), -1


def _pictures(
    world: World,
    spec: engine.Preprocess,
    pool: Pool,
    labels: NDArray[np.int64],
    severities: Sequence[tuple[str, float]],
    seed: int,
) -> tuple[Bytes, NDArray[np.int64]]:
    pictures = np.empty((len(labels), spec.size, spec.size, 3), np.uint8)
    origins = np.empty(len(labels), np.int64)
    for number, label in enumerate(labels):
        part = world.part(pool, int(label), _rng(seed, pool, repr(severities), number))
        pictures[number] = _to_size(_seen_through(part.image, severities, seed, number), spec)
        origins[number] = part.origin
    return pictures, origins


def _seen_through(image: Image, severities: Sequence[tuple[str, float]], seed: int, number: int) -> Image:
    for kind, severity in severities:
        # Lamp and lens stay as they are from part to part; noise is new in each picture.
        image = degrade(image, kind, severity, seed + (number << 32) if kind == "noise" else seed)
    return image


def _to_size(image: Image, spec: engine.Preprocess) -> Bytes:
    """Return ``(S, S, 3)``, exactly the bytes that the agent's own preprocessing makes of the picture."""
    prepared = preprocess.prepare(image, preprocess.InputSpec(**asdict(spec)))
    return np.asarray(as_bytes(prepared[np.newaxis], spec)[0])


def _rng(seed: int, pool: Pool, name: str, number: int) -> np.random.Generator:
    digest = hashlib.sha256(name.encode()).digest()
    return np.random.default_rng([seed, POOLS.index(pool), int.from_bytes(digest[:4], "little"), number])
