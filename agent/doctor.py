"""`mekiki doctor`: is everything there that `mekiki run` needs? One line per question."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from adapters.adapter import AdapterError
from adapters.commissioning import Commissioning
from adapters.engine import Engine
from adapters.runtime import installed_runtimes, openvino_version, runtime_problem
from agent.commissioned import NOT_COMMISSIONED, commissioning_file
from agent.config import Config
from agent.configfile import Loaded
from agent.errors import ConfigError, StoreError
from agent.mqtt import Link, LinkState, Protocol, tls_context
from agent.opening import open_model
from agent.plans import check_prompts
from agent.recipes import find_recipe
from agent.sparkplug_payload import require_protobuf
from agent.store import peek
from camera.frame import CameraError
from camera.settings import CameraSettings
from camera.source import open_source

_SLACK_S = 2.0


@dataclass(frozen=True, slots=True)
class Finding:
    """The answer to one question."""

    ok: bool
    subject: str
    text: str

    def __str__(self) -> str:
        return f"{'ok  ' if self.ok else 'FAIL'} {self.subject}: {self.text}"


def examine(loaded: Loaded) -> Iterator[Finding]:
    """Ask one question after the other; a bad answer does not keep the next from being asked."""
    config = loaded.config
    yield _runtime(config)
    yield from _model(loaded)
    for name, station in config.stations.items():
        if station.enabled:
            yield _camera(name, station.camera)
            yield _commissioning(config, name)
    if config.mqtt.enabled and not config.mqtt.embedded_broker:
        yield _broker(config)
    if config.sparkplug.enabled:
        yield _sparkplug()
    yield _disk(config)


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


def _model(loaded: Loaded) -> Iterator[Finding]:
    config = loaded.config
    try:
        engine = open_model(config)
        check_prompts(loaded, engine)
    except (AdapterError, ConfigError) as error:
        yield Finding(False, "model", str(error))
        return
    yield Finding(
        True, "model", f"{engine.info.name}, weights {engine.info.weights[:19]}..., every file verified"
    )
    yield _device(config, engine)


def _device(config: Config, engine: Engine) -> Finding:
    on_gpu = "cuda" in engine.info.provider.lower()
    if config.model.device == "cuda" and not on_gpu:
        return Finding(False, "gpu", f"asked for, but the model runs on {engine.info.provider}")
    return Finding(
        True, "gpu", f"the model runs on {engine.info.provider}{'' if on_gpu else ': no GPU is used'}"
    )


def _camera(name: str, settings: CameraSettings) -> Finding:
    subject = f"camera {name}"
    stop = threading.Event()

    def grab() -> Finding:
        try:
            capture = next(iter(open_source(settings).captures(stop)), None)
        except CameraError as error:
            return Finding(False, subject, str(error))
        if capture is None:
            return Finding(False, subject, "ends before its first picture")
        if capture.image is None:
            return Finding(False, subject, f"{capture.fault}: {capture.detail}")
        height, width = capture.image.shape[:2]
        return Finding(True, subject, f"a picture of {width} x {height}")

    limit_s = _SLACK_S + getattr(settings, "open_timeout_s", 5.0) + getattr(settings, "read_timeout_s", 5.0)
    finding = _within(limit_s, grab)
    stop.set()
    return finding or Finding(False, subject, f"no picture within {limit_s:.0f} s")


def _commissioning(config: Config, name: str) -> Finding:
    subject, file = f"learning {name}", commissioning_file(config, name)
    if not file.exists():
        return Finding(True, subject, NOT_COMMISSIONED.format(name))
    try:
        clean = Commissioning.load(file)
        station = config.stations[name]
        # Of the model nothing is known here where it could not be opened; its digest is the agent's to check.
        clean.require(clean.weights, find_recipe(station.recipe, config.recipes).digest)
    except AdapterError as error:
        return Finding(False, subject, str(error))
    mode = station.adaptation.mode
    off = clean.missing or ("" if mode == "adaptive" else f"mode {mode}")
    made = f"commissioned {clean.made_at[:10]}, {clean.digest[:19]}..."
    return Finding(True, subject, f"{made}; {off}" if off else made)


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


def _broker(config: Config) -> Finding:
    where = f"{config.mqtt.host}:{config.mqtt.port}"
    protocols: list[Protocol] = [5, 4] if config.mqtt.protocol == 5 else [4]
    reason = ""
    try:
        tls = tls_context(config.mqtt)
    except ConfigError as error:
        return Finding(False, "broker", str(error))
    for protocol in protocols:
        changed = threading.Event()
        # An id of our own: with the agent's, the broker would throw out the agent that runs.
        link = Link(config.mqtt, f"mekiki-{config.agent.id}-doctor", protocol, None, changed.set, tls)
        link.open()
        while link.check() is LinkState.CONNECTING:
            changed.wait(0.1)
        state, reason = link.state, link.reason
        link.close()
        if state is LinkState.UP:
            return Finding(True, "broker", f"{where} takes us, MQTT {'5' if protocol == 5 else '3.1.1'}")
        if not link.speaks_other_protocol:
            break
    return Finding(False, "broker", f"{where}: {reason}")


def _disk(config: Config) -> Finding:
    folder = Path(config.agent.data_dir)
    # Only looked at: a folder made by whoever runs the doctor would not belong to the service's user.
    try:
        existing = next(path for path in (folder, *folder.parents) if path.exists())
    except OSError as error:
        return Finding(False, "disk", f"{folder}: {error.strerror}")
    if not os.access(existing, os.W_OK | os.X_OK):
        return Finding(False, "disk", f"{folder}: {existing} cannot be written by this user")
    free_mb = shutil.disk_usage(existing).free // 1_000_000
    floor_mb = config.storage.min_free_mb
    if free_mb < floor_mb:
        return Finding(False, "disk", f"{folder}: {free_mb} MB free, storage.min_free_mb asks for {floor_mb}")
    store = folder / "mekiki.db"
    try:
        waiting = f", {peek(store)} results wait for the broker" if store.exists() else ""
    except StoreError as error:  # names the file
        return Finding(False, "disk", str(error))
    return Finding(True, "disk", f"{folder}: {free_mb} MB free{waiting}")
