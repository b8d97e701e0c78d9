"""`engine: auto`: the fastest engine here, measured once per machine and bundle, and kept in a file.

The file lies in the agent's data folder: a service has no home, but it owns that folder, which outlives a
restart; and whoever measures again with `mekiki bench engines` writes to where the agent reads.
"""

from __future__ import annotations

import hashlib
import logging
import os
import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from adapters.bundle.manifest import read_manifest
from adapters.core.protocol import Engine, ModelError, Precision
from adapters.encoders.installed_runtimes import installed_runtimes, openvino_version
from adapters.engines.bundle_model import KINDS, BundleModel, Kind, open_kind
from adapters.engines.timing import BATCHES, EngineTiming, fastest, fastest_of, run_trials
from adapters.files.atomic_file import write_durably
from adapters.files.strict_json import loads

logger = logging.getLogger(__name__)

FILE = "engine.json"

_FORMAT: Literal["mekiki.engine.v1"] = "mekiki.engine.v1"
_CPUINFO = Path("/proc/cpuinfo")


class Circumstances(BaseModel):
    """What the fastest engine depends on; where any of it is another, the choice is made again."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    processor: str = Field(description="model and a digest of its instruction sets: some machines hide which")
    cores: int
    threads: int
    device: str
    runtimes: dict[str, str] = Field(description="name and version of what can run a bundle")
    bundle: str


class Choice(BaseModel):
    """What stands in the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["mekiki.engine.v1"] = _FORMAT
    measured_at: str
    circumstances: Circumstances
    engine: Literal["onnx", "openvino"]
    precision: Precision
    ms: dict[str, tuple[float, ...]] = Field(description="of one picture and of eight, by engine that works")

    @property
    def kind(self) -> Kind:
        """The engine that was chosen."""
        return Kind(self.engine, self.precision)

    def kind_in(self, precision: Precision | None) -> Kind:
        """Return the fastest engine that computes in a precision; the chosen one where none works in it."""
        times = {kind: self.ms[str(kind)][0] for kind in KINDS if str(kind) in self.ms}
        able = {kind: ms for kind, ms in times.items() if kind.precision == precision}
        if precision is not None and not able:
            logger.warning("engine auto: nothing works in %s on this machine: %s", precision, self.kind)
        return fastest_of(able) if able else self.kind


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """One measurement.

    Attributes:
        trials: of every kind of engine.
        choice: what came of it.
        engine: the one that was chosen, open.
        kept: where the choice stands from now on; None if it could not be kept.
    """

    trials: list[EngineTiming]
    choice: Choice
    engine: Engine
    kept: Path | None


def chosen_engine(model: BundleModel, folder: Path | None, precision: Precision | None = None) -> Engine:
    """Open the engine that was chosen on this machine before, or measure and choose one.

    Args:
        model: the bundle and where it is to run.
        folder: where choices are kept; None keeps none.
        precision: to stay with, where an engine here can; None: whatever is the fastest.

    Raises:
        ModelError: the bundle is no good, or nothing here can run it.
    """
    choice = None if folder is None else _stored(folder / FILE, circumstances(model))
    if choice is not None and choice.kind in KINDS:
        kind = choice.kind_in(precision)
        try:
            engine, _ = open_kind(kind, model)
        except ModelError as error:
            logger.warning("engine auto: %s does not work any more: %s", kind, error)
        else:
            logger.info("engine auto: %s, measured on %s", kind, choice.measured_at[:10])
            return engine
    logger.info("engine auto: measuring what is the fastest here, once, for up to a minute")
    measured = measure(model, folder)
    kind = measured.choice.kind_in(precision)
    return measured.engine if kind == measured.choice.kind else open_kind(kind, model)[0]


def measure(model: BundleModel, folder: Path | None) -> Measured:
    """Try every engine, choose one and keep the choice in `folder`.

    Raises:
        ModelError: the bundle is no good, or nothing here can run it.
    """
    trials, engines = run_trials(model)
    kind = fastest(trials)
    choice = Choice(
        measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
        circumstances=circumstances(model),
        engine=kind.engine,
        precision=kind.precision,
        ms={str(trial.kind): tuple(round(ms, 3) for ms in trial.ms) for trial in trials if trial.ms},
    )
    logger.info("engine auto: %s, %.1f ms a picture", kind, choice.ms[str(kind)][BATCHES.index(1)])
    kept = None
    if folder is not None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_durably(folder / FILE, f"{choice.model_dump_json(indent=1)}\n".encode())
            kept = folder / FILE
        except OSError as error:
            logger.warning("%s: cannot be written: %s: the next start measures again", folder / FILE, error)
    return Measured(trials, choice, engines[kind], kept)


def circumstances(model: BundleModel) -> Circumstances:
    """Return what a choice is valid for.

    Raises:
        ModelError: the bundle has no manifest.
    """
    runtimes = dict(installed_runtimes())
    if (version := openvino_version()) is not None:
        runtimes["openvino"] = version
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Circumstances(
        processor=_processor(),
        cores=cores,
        threads=model.threads,
        device=model.device,
        runtimes=runtimes,
        bundle=read_manifest(model.folder, model.sha256)[1],
    )


def _stored(file: Path, now: Circumstances) -> Choice | None:
    """Return a file's choice; None if there is none, it is damaged, or was made in other circumstances."""
    try:
        choice = Choice.model_validate(loads(file.read_bytes()), extra="ignore")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        problems = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        logger.warning("%s: cannot be used: %s", file, problems)
        return None
    if choice.circumstances != now:
        logger.info("%s: was measured in other circumstances", file)
        return None
    return choice


def _processor() -> str:
    facts: dict[str, str] = {}
    try:
        for line in _CPUINFO.read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            facts.setdefault(key.strip(), value.strip())
    except OSError:
        pass  # not Linux
    name = facts.get("model name") or platform.processor() or platform.machine()
    sets = " ".join(sorted(facts.get("flags", facts.get("Features", "")).split()))
    return f"{name} {hashlib.sha256(sets.encode()).hexdigest()[:12]}"
