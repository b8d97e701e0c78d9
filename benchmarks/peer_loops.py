"""The frame loop of Roboflow's supervision around our engine, beside our own camera loop: a part of `peers`."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import SecretStr

from adapters.core.protocol import Engine
from adapters.engines.factory import ModelSettings, open_engine
from benchmarks.machine import in_turn
from camera.core.settings import OpenCVCamera, SimulatedCamera
from camera.feed.mailbox import Mailbox
from camera.feed.thread import Feed
from camera.pictures.preprocess import InputSpec, prepare
from camera.simulation.source import SimulatedLine
from camera.sources.factory import open_source
from camera.sources.opencv_reader import rgb

WIDTH, HEIGHT = 1280, 720
OURS = "Mekiki, camera thread and mailbox"
NO_MODEL = "no model"

Look = Callable[[NDArray[np.float32]], Any]
"""Takes the model's input of one frame."""


def loops(frames: int, rounds: int) -> dict[str, dict[str, dict[str, Any]]]:
    """Return wall and CPU ms a frame of each loop, by model: with `mekiki-line` on one thread, and with none.

    And of each round the wall time in that of ours. Threads overlap only where a second core is free: a busy
    machine shows in the range of these.

    A loop whose package is absent is left out, saying so.
    """
    engine = open_engine(ModelSettings(threads=1, device="cpu"))
    spec = InputSpec(**asdict(engine.info.preprocess))
    looks: dict[str, Look] = {engine.info.name: partial(_look, engine), NO_MODEL: lambda pixels: None}
    found: dict[str, dict[str, dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as name:
        clip = _write_clip(Path(name) / "clip.mp4", frames)
        for model, look in looks.items():
            ways: dict[str, Callable[[], Any]] = {
                OURS: partial(_ours, clip, spec, look, frames),
                **_supervision(clip, spec, look),
            }
            wall, cpu = in_turn(ways, rounds, lambda: None), in_turn(ways, rounds)
            found[model] = {
                way: {
                    "wall_ms": round(1e3 * float(np.median(wall[way])) / frames, 2),
                    "cpu_ms": round(1e3 * float(np.median(cpu[way])) / frames, 2),
                    "wall of ours": [
                        round(one / ours, 3) for one, ours in zip(wall[way], wall[OURS], strict=True)
                    ],
                }
                for way in ways
            }
    return found


def _look(engine: Engine, pixels: NDArray[np.float32]) -> None:
    engine.encode_image(pixels[np.newaxis], [engine.source])


def _ours(clip: Path, spec: InputSpec, look: Look, frames: int) -> None:
    mailbox, crashes = Mailbox(), list[BaseException]()
    feed = Feed(
        "clip",
        open_source(OpenCVCamera(source=SecretStr(str(clip)), pace="full")),
        mailbox,
        spec,
        on_crash=crashes.append,
    )
    feed.start()
    seen = 0
    while not mailbox.ended:
        for frame in mailbox.take(1, 0.5):
            assert frame.pixels is not None, frame.quality
            look(frame.pixels[0])
            seen += 1
    assert feed.join(5)
    assert (seen, crashes) == (frames, []), (seen, crashes)


def _supervision(clip: Path, spec: InputSpec, look: Look) -> dict[str, Callable[[], Any]]:
    try:
        import supervision
    except ImportError as error:
        print(f"supervision is left out: {error}", flush=True)
        return {}

    def callback(frame: NDArray[np.uint8], _index: int) -> NDArray[np.uint8]:
        look(prepare(rgb(frame), spec))
        return frame

    def generated() -> None:
        # As many frames ahead as process_video reads.
        for number, frame in enumerate(supervision.get_video_frames_generator(str(clip), prefetch=32)):
            callback(frame, number)

    target = str(clip.with_name("out.mp4"))
    return {
        "supervision, process_video (writes a clip)": lambda: supervision.process_video(
            source_path=str(clip), target_path=target, callback=callback
        ),
        "supervision, its frame generator alone": generated,
    }


def _write_clip(file: Path, frames: int) -> Path:
    line = SimulatedLine(SimulatedCamera(seed=3, defect_rate=0.2))
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter.fourcc(*"mp4v"), 25, (WIDTH, HEIGHT))
    for number in range(1, frames + 1):
        picture = Image.fromarray(line.picture(number)).resize((WIDTH, HEIGHT))
        writer.write(np.ascontiguousarray(np.asarray(picture)[:, :, ::-1]))
    writer.release()
    return file
