"""`mekiki replay`: what the agent would have said and learned, had it stood where a recording was made."""

from __future__ import annotations

import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from adapters.core.protocol import Engine
from agent.app.factories import extractor_of, open_for_station
from agent.app.live_references import LiveReferences
from agent.base.errors import EXIT_OK, ConfigError, UsageError
from agent.cli.output import as_json as to_json
from agent.cli.output import put, safe_json, say
from agent.config.diagnostics import did_you_mean
from agent.config.loader import Loaded, load
from agent.config.recipes import find_recipe
from agent.inspection.backbones import Backbones
from agent.inspection.feed_factory import feed_settings, with_inputs
from agent.inspection.reference_plan import ReferencePlan
from agent.replay.runner import Replay
from agent.replay.source import replayed_frames, simulated_line
from agent.replay.station import Start, open_replayed, replayed_product
from agent.replay.summary import Count, sentences
from agent.versions.commissioned import Commissioned
from agent.versions.measured_view import measured_view
from agent.versions.product_plans import open_others, unusable
from agent.versions.station_plans import check_prompts, station_recipes
from camera.core.frame import CameraError
from camera.recording.reader import Recording


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """What was asked for on the command line.

    Attributes:
        recording: its folder.
        station: None: the one that was recorded, or the only one of the config.
        start: what is to answer first.
        limit: end after so many frames.
        plot: picture to draw.
    """

    recording: Path
    station: str | None = None
    start: Start = "source"
    limit: int | None = None
    plot: Path | None = None


def replay(config: str, options: ReplayOptions, *, as_json: bool) -> int:
    """Replay a recording and return the exit code.

    Raises:
        UsageError: no recording, no such station, or a picture that cannot be drawn.
        ConfigError: the config is no good, or matplotlib is not installed.
    """
    draw = _drawing(options.plot)
    loaded = load(Path(config))
    try:
        recording = Recording(options.recording)
        if not recording.entries:
            raise UsageError(f"{options.recording}: nothing was recorded: record again")
    except CameraError as error:
        raise UsageError(str(error)) from error
    name = _station(loaded, options, recording)
    station = loaded.config.stations[name]
    recipe = find_recipe(station.recipe, loaded.config.recipes)
    backbones = Backbones(loaded.config)
    engine = open_for_station(loaded.config, name, backbones)
    check_prompts(loaded, engine, station_recipes(loaded.config, name))
    compared = _references(loaded, name, engine, backbones)
    line = simulated_line(recording)
    count = Count(
        lambda part: None if line is None or part is None else line.label(line.number(part)),
        loaded.config.mqtt.result_version,
    )
    with tempfile.TemporaryDirectory(prefix="mekiki-replay-") as folder, _stopped() as stop:
        began = recording.entries[0].captured_at
        found = open_replayed(loaded, name, recipe, engine, options.start, Path(folder), began)
        others = open_others(
            loaded,
            name,
            engine,
            found,
            opened=lambda other, its: replayed_product(loaded, name, other, its, engine, options.start),
        )
        run = Replay(loaded, found, recipe, engine, recording.sha256, others, compared)
        if (wrong := unusable(others)) is not None:
            say(wrong)
        why_off = run.why_off if isinstance(found, Commissioned) else found.why
        if why_off is not None:
            say(f"nothing is learned: {why_off}")
        spec = engine.info.preprocess
        settings = with_inputs(feed_settings(station, recipe, measured_view(found, spec)), run.plan)
        frames = replayed_frames(recording, name, settings, spec, options.limit)
        with closing(frames):
            for judged in run.run(frames, stop):
                for _, verdict in judged:
                    text = count.add(verdict)
                    if as_json:
                        put(safe_json(text))
        audit = found.audit if isinstance(found, Commissioned) else None
        if as_json:
            put(to_json(count.summary(run.course, audit, why_off)))
        else:
            for text in sentences(count, run.course, audit, why_off):
                put(text)
    draw(f"{options.recording} at {name}", count, run)
    return EXIT_OK


def _references(
    loaded: Loaded, name: str, engine: Engine, backbones: Backbones
) -> Mapping[str, ReferencePlan]:
    """Return what parts of each recipe are compared with; what cannot be used is said."""
    references = LiveReferences(partial(extractor_of, engine=engine, backbones=backbones))
    live, plans = references.prepare(loaded, [name])
    for one in live.values():
        if (lacking := one.condition()) is not None:
            say(lacking.message)
    return plans[name]


def _station(loaded: Loaded, options: ReplayOptions, recording: Recording) -> str:
    names = list(loaded.config.stations)
    if options.station is not None:
        if options.station not in names:
            raise UsageError(
                f"no station is called {options.station!r}: {did_you_mean(options.station, names)}"
            )
        return options.station
    recorded = recording.manifest.station
    if recorded in names:
        return recorded
    if len(names) > 1:
        raise UsageError(f"{recorded} was recorded, which is none of yours: add -s with {', '.join(names)}")
    return names[0]


def _drawing(plot: Path | None) -> Callable[[str, Count, Replay], None]:
    """Return what draws the picture; what is missing for it is said before the work begins.

    Raises:
        ConfigError: matplotlib is not installed.
        UsageError: there is no folder to draw into.
    """
    if plot is None:
        return lambda title, count, run: None
    if not plot.absolute().parent.is_dir():
        raise UsageError(f"{plot.parent}: no such folder: name one that is there")
    try:
        from agent.replay.plot import draw
    except ModuleNotFoundError as error:
        if error.name != "matplotlib":
            raise
        raise ConfigError(["--plot: matplotlib is not installed here: pip install 'mekiki[plot]'"]) from error

    def drawn(title: str, count: Count, run: Replay) -> None:
        try:
            draw(plot, title, count.rejects, run.course)
        except (OSError, ValueError) as error:
            raise UsageError(f"{plot}: cannot be drawn: {error}") from error

    return drawn


@contextmanager
def _stopped() -> Iterator[threading.Event]:
    """Give an event that SIGTERM sets: the replay ends after the batch, with a summary of what there is.

    A second signal ends the process at once: it may come while this thread has the event's lock.
    """
    stop = threading.Event()

    def end(*_: object) -> None:
        signal.signal(signal.SIGTERM, before)
        stop.set()

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGTERM, before)
