"""`mekiki record`: what the camera of one station sees, into a folder, to be played and replayed later."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from rich.console import Console
from rich.progress import Progress, TextColumn, TimeElapsedColumn

from agent.base.errors import EXIT_CHECK_FAILED, EXIT_OK, ConfigError, StoreError, UsageError
from agent.cli.output import put
from agent.config.loader import Loaded, load
from camera.core.frame import CameraError, Capture
from camera.core.settings import OpenCVCamera
from camera.core.source import Source
from camera.recording.reader import Ended
from camera.recording.writer import Recorder, RecordingLimits
from camera.sources.factory import open_source

_WHY: dict[Ended, str] = {
    "frames": "as many as asked for",
    "seconds": "as long as asked for",
    "size": "no more fits into --max-mb",
    "disk": "no more fits on the disk (storage.min_free_mb)",
    "source": "the source has come to its end",
    "stopped": "stopped",
}


def record(
    config: str, station: str, out: str, *, frames: int | None, seconds: float | None, max_mb: int
) -> int:
    """Record until the first limit, the end of the source, SIGTERM or Ctrl-C; return the exit code.

    Raises:
        UsageError: no such station, or the folder is in use.
        ConfigError: the config, or the camera that it names, is no good.
        StoreError: the disk does not take it; what was written before is readable.
    """
    loaded = load(Path(config))
    known = loaded.config.stations
    if station not in known:
        raise UsageError(f"no station is called {station!r}: {config} has {', '.join(known)}")
    try:
        source = open_source(known[station].camera)
    except CameraError as error:
        raise ConfigError([loaded.problem(("stations", station, "camera"), str(error))]) from error
    try:
        recorder = _recorder(loaded, station, Path(out), max_mb)
    except CameraError as error:
        raise UsageError(str(error)) from error
    with closing(recorder), _until(seconds) as (stop, interrupted):
        try:
            ended = _write(source, recorder, stop, frames, _shareable(loaded, station))
            if ended is None:
                ended = "stopped" if interrupted.is_set() else "seconds" if stop.is_set() else "source"
            manifest = recorder.finish(ended, dropped=source.stats.dropped)
        except CameraError as error:
            raise StoreError(str(error)) from error
    dropped = f", {manifest.dropped} dropped" if source.live else ""
    put(
        f"{out}: {recorder.pictures} frames, {recorder.faults} faults{dropped}, "
        f"{recorder.size_bytes / 1e6:.1f} MB, {recorder.seconds:.1f} s: {_WHY[ended]}"
    )
    return EXIT_OK if recorder.pictures else EXIT_CHECK_FAILED


def _recorder(loaded: Loaded, station: str, folder: Path, max_mb: int) -> Recorder:
    settings = loaded.config.stations[station]
    return Recorder(
        folder,
        station=station,
        camera=_camera(loaded, station),
        roi=settings.roi,
        quality=settings.quality,
        limits=RecordingLimits(max_mb * 1_000_000, loaded.config.storage.min_free_mb * 1_000_000),
    )


def _write(
    source: Source,
    recorder: Recorder,
    stop: threading.Event,
    frames: int | None,
    shareable: Callable[[str], str],
) -> Ended | None:
    """Write what the source gives; return the limit that ended it, None where the source or `stop` did."""
    console = Console(stderr=True)
    with Progress(
        TextColumn("recording {task.description}"),
        TimeElapsedColumn(),
        console=console,
        disable=not sys.stderr.isatty(),
    ) as progress:
        task = progress.add_task("", total=None)
        for capture in source.captures(stop):
            if stop.is_set():
                return None
            capture = replace(capture, detail=shareable(capture.detail))
            _tell(capture, console)
            limit = recorder.add(capture)
            if limit is not None:
                return limit
            progress.update(
                task,
                description=f"{recorder.pictures} frames, {recorder.faults} faults, "
                f"{recorder.size_bytes / 1e6:.1f} MB",
            )
            if recorder.pictures == frames:
                return "frames"
    return None


def _tell(capture: Capture, console: Console) -> None:
    if capture.image is None:
        console.print(
            f"no picture: {capture.fault}: {capture.detail}", markup=False, highlight=False, soft_wrap=True
        )


@contextmanager
def _until(seconds: float | None) -> Iterator[tuple[threading.Event, threading.Event]]:
    """Give an event that is set after `seconds` or by a signal, and one that is set by a signal only.

    A second signal ends the process at once: a camera may hang in its driver.
    """
    stop, interrupted = threading.Event(), threading.Event()

    def end(number: int, _frame: object) -> None:
        signal.signal(number, before[signal.Signals(number)])
        # In a thread of its own: this one may hold the event's lock just now, waiting for its next picture.
        interrupted.set()
        threading.Thread(target=stop.set, daemon=True).start()

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    timer = threading.Timer(seconds, stop.set) if seconds is not None else None
    if timer is not None:
        timer.daemon = True
        timer.start()
    try:
        yield stop, interrupted
    finally:
        if timer is not None:
            timer.cancel()
        for number, handler in before.items():
            signal.signal(number, handler)


def _camera(loaded: Loaded, station: str) -> dict[str, Any]:
    """Return the camera's settings as they are in force, without secrets."""
    effective = cast(dict[str, Any], loaded.effective)
    return cast(dict[str, Any], effective["stations"][station]["camera"])


def _shareable(loaded: Loaded, station: str) -> Callable[[str], str]:
    """Return what makes the text of a fault fit to be kept.

    A recording travels further than the journal, and some cameras take the password within the path.
    """
    camera = loaded.config.stations[station].camera
    if not isinstance(camera, OpenCVCamera):
        return str
    label, written = camera.label, str(_camera(loaded, station)["source"])
    return lambda text: text.replace(label, written)
