"""`mekiki doctor`: is everything there that `mekiki run` needs? One line per question."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from adapters.backbone.wordless_engine import WordlessEngine
from adapters.core.adapter import AdapterError
from adapters.core.protocol import Engine
from adapters.encoders.installed_runtimes import installed_runtimes, openvino_version, runtime_problem
from agent.app.factories import extractor_of, open_inspection
from agent.base.data_dir import in_use
from agent.base.errors import AgentError, ConfigError, StoreError
from agent.baseline import report
from agent.cli.checks.finding import Finding
from agent.cli.checks.references import compared
from agent.cli.checks.services import broker, disk, embedded, metrics
from agent.cli.checks.station_sight import ModelFile, seen
from agent.config import overrides
from agent.config.loader import Loaded
from agent.config.models import Config, Station
from agent.domain.learner_stats import LearnerStats
from agent.inspection.backbones import Backbones
from agent.sparkplug.payload import require_protobuf
from agent.telemetry.health import of_learner
from agent.versions.commissioned import Uncommissioned, open_station
from agent.versions.product_plans import OtherProduct, open_others
from agent.versions.station_picture import unsaid_by
from agent.versions.station_plans import check_prompts, predictors, used_recipes
from camera.core.frame import CameraError
from camera.core.settings import FolderCamera, Watch
from camera.pictures.quality import assess, too_small
from camera.pictures.region import Region
from camera.pictures.sight import Size
from camera.pictures.view import parse_tiles
from camera.sources.factory import open_source
from camera.watched_folder.presence import Presence

_SLACK_S = 2.0


def examine(loaded: Loaded) -> Iterator[Finding]:
    """Ask one question after the other; a bad answer does not keep the next from being asked.

    Every answer is that of the function which the agent itself asks at its start, about the same config: what
    was set over the file counts.
    """
    data, now = Path(loaded.config.agent.data_dir), loaded
    try:
        now, _ = overrides.applied(loaded, overrides.read(data))
    except StoreError as error:
        yield Finding(False, "settings", str(error))
    config, runs = now.config, in_use(data)
    yield from (Finding(False, "config", one.what) for one in now.absent)
    yield _runtime(config)
    engine = None
    try:
        backbones = Backbones(config)
        engine = open_inspection(config, backbones)
        check_prompts(now, engine)
        yield from _model(config, engine)
    except (AdapterError, ConfigError) as error:
        yield Finding(False, "model", str(error))
    for name, station in config.stations.items():
        if station.enabled:
            yield from _station(now, name, station, engine, backbones)
    if config.mqtt.enabled and not _blank(now, "mqtt"):
        yield embedded(config, runs) if config.mqtt.embedded_broker else broker(config)
    if config.sparkplug.enabled:
        yield _sparkplug()
    if config.metrics.enabled and not _blank(now, "metrics"):
        yield metrics(config, runs)
    yield disk(config)


def _station(
    now: Loaded, name: str, station: Station, engine: Engine | None, backbones: Backbones
) -> Iterator[Finding]:
    if not _blank(now, "stations", name, "camera"):
        finding, size = _camera(name, station)
        yield finding
        if size is not None and engine is not None:
            yield from _sight(now, name, engine, backbones, size)
    yield from _learning(now, name, engine)
    if engine is not None:
        yield from compared(now, name, partial(extractor_of, engine=engine, backbones=backbones))


def _blank(loaded: Loaded, *path: str) -> bool:
    """Whether a secret is missing there, which has been said: nobody is asked with half of an address."""
    absent = loaded.lacking(*path)
    return absent is not None and absent.reference


def _runtime(config: Config) -> Finding:
    if config.model.engine == "torch":
        return Finding(True, "runtime", "engine: torch")
    problem = runtime_problem()
    found = [f"{name} {version}" for name, version in installed_runtimes()]
    if (openvino := openvino_version()) is not None:
        found.append(f"openvino {openvino}")
    return Finding(problem is None, "runtime", problem or ", ".join(found))


def _sparkplug() -> Finding:
    try:
        require_protobuf()
    except ConfigError as error:
        return Finding(False, "sparkplug", str(error))
    return Finding(True, "sparkplug", "protobuf is installed")


def _model(config: Config, engine: Engine) -> Iterator[Finding]:
    weights = f"weights {engine.info.weights[:19]}..."
    if isinstance(engine, WordlessEngine):
        said = "no station has words, so that none is loaded; parts are compared by"
        yield Finding(True, "model", f"{said} {engine.info.name}, {engine.info.weights[:19]}...")
        return
    yield Finding(True, "model", f"{engine.info.name}, {weights}, every file verified")
    yield _device(config, engine)


def _device(config: Config, engine: Engine) -> Finding:
    on_gpu = "cuda" in engine.info.provider.lower()
    if config.model.device == "cuda" and not on_gpu:
        return Finding(False, "gpu", f"asked for, but the model runs on {engine.info.provider}")
    return Finding(
        True, "gpu", f"the model runs on {engine.info.provider}{'' if on_gpu else ': no GPU is used'}"
    )


def _camera(name: str, station: Station) -> tuple[Finding, Size | None]:
    """Return whether a camera gives a picture, and how large it is where there was one."""
    subject, settings = f"camera {name}", station.camera
    stop, sizes = threading.Event(), list[Size]()

    def grab() -> Finding:
        if isinstance(settings, FolderCamera) and settings.watch is not None:
            return _watched(subject, settings, settings.watch)
        try:
            capture = next(iter(open_source(settings).captures(stop)), None)
        except CameraError as error:
            return Finding(False, subject, str(error))
        if capture is None:
            return Finding(False, subject, "ends before its first picture")
        if capture.image is None:
            return Finding(False, subject, f"{capture.fault}: {capture.detail}")
        height, width = capture.image.shape[:2]
        sizes.append((width, height))
        cut, unmasked = Region(station.roi).cut(capture.image)
        if small := too_small(cut, parse_tiles(station.tiles)):
            return Finding(False, subject, f"a picture of {width} x {height}: {small}")
        fault = assess(cut, station.quality, unmasked).fault
        if fault is not None:
            return Finding(False, subject, f"a picture of {width} x {height} that is {fault}: not inspected")
        return Finding(True, subject, f"a picture of {width} x {height}")

    limit_s = _SLACK_S + getattr(settings, "open_timeout_s", 5.0) + getattr(settings, "read_timeout_s", 5.0)
    finding = _within(limit_s, grab)
    stop.set()
    none = Finding(False, subject, f"no picture within {limit_s:.0f} s")
    return finding or none, sizes[0] if finding is not None and sizes else None


def _sight(
    loaded: Loaded, name: str, engine: Engine, backbones: Backbones, picture: Size
) -> Iterator[Finding]:
    recipe = used_recipes(loaded.config)[loaded.config.stations[name].recipe]
    model = ModelFile(engine.info.preprocess, engine.info.weights)
    if recipe.reference is not None and not recipe.needs_model:
        try:
            one = backbones.of(recipe.reference.features).info
        except AdapterError:
            return  # which is said where parts are compared
        model = ModelFile(one.preprocess, one.digest)
    sentence, warnings = seen(loaded, name, model, picture)
    yield Finding(True, f"view {name}", sentence)
    yield from (Finding(True, f"view {name}", warning, warns=True) for warning in warnings)


def _watched(subject: str, settings: FolderCamera, watch: Watch) -> Finding:
    """Say of a watched folder whether it can be used; that nothing waits in it is no trouble."""
    problem = Presence(Path(settings.path)).problem()
    if problem is None and watch.when_done != "mark" and not os.access(settings.path, os.W_OK | os.X_OK):
        problem = (
            f"{settings.path}: this user may not write there: let the agent's user, or set"
            " camera.watch.when_done: mark"
        )
    return Finding(problem is None, subject, problem or f"{settings.path} is watched")


def _learning(loaded: Loaded, name: str, engine: Engine | None) -> Iterator[Finding]:
    """Say of a station's learning what health would."""
    subject = f"learning {name}"
    if engine is None:
        yield Finding(False, subject, "not known without the model")
        return
    recipe = used_recipes(loaded.config)[loaded.config.stations[name].recipe]
    try:
        found = open_station(loaded, name, recipe, engine, reading=True)
        predictors(engine, recipe, found)
        others = open_others(loaded, name, engine, found)
    except (AgentError, AdapterError) as error:
        lines = error.problems if isinstance(error, AgentError) else (str(error),)
        yield from (Finding(False, subject, line) for line in lines)
        return
    for one in others.values():
        yield _product(name, one)
    if isinstance(found, Uncommissioned):
        wrong = of_learner(LearnerStats(name, unusable=found.why if found.unusable else None))
        yield Finding(not wrong, subject, wrong[0].message if wrong else found.why)
        return
    yield from (Finding(False, subject, line) for line in found.store.found)
    clean, answering, mode = found.clean, found.answering, found.settings.mode
    off = "" if mode == "adaptive" else f"; mode {mode}"
    made = f"commissioned {clean.made_at[:10]}, {clean.digest[:19]}..., version {answering.number} answers"
    if unknown := unsaid_by(clean):
        made += f"; does not know {', '.join(unknown)}: holds for the config of this release's first start"
    yield Finding(True, subject, f"{made}{off}")
    yield Finding(True, f"baseline {name}", report.short(clean))
    yield from (Finding(True, f"baseline {name}", f"not watched are {one}") for one in clean.sight.unwatched)


def _product(station: str, one: OtherProduct) -> Finding:
    """Say of a product that is not in force, and whose parts are known by their ids, what judges them."""
    subject = f"product {station} {one.recipe_name}"
    if isinstance(one.found, Uncommissioned):
        return Finding(not one.found.unusable, subject, one.found.why)
    clean, number = one.found.clean, one.answering().number
    made = f"commissioned {clean.made_at[:10]}, {clean.digest[:19]}..., version {number} answers"
    return Finding(True, subject, f"{made} for parts with its ids; nothing is learned of them")


def _within(limit_s: float, question: Callable[[], Finding]) -> Finding | None:
    """Ask in a thread, because a camera that hangs in its driver cannot be interrupted."""
    answers: list[Finding] = []
    crashes: list[BaseException] = []

    def ask() -> None:
        try:
            answers.append(question())
        except BaseException as error:  # noqa: BLE001 - raised again below, in the thread that can end the command
            crashes.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(limit_s)
    if crashes:
        raise crashes[0]
    return answers[0] if answers else None
