"""`mekiki bench engines`: which engine runs the model fastest here, and why `engine: auto` takes it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from adapters.bundle.reader import bundle_path
from adapters.core.protocol import Precision
from adapters.engines.auto_select import Measured, measure
from adapters.engines.bundle_model import BundleModel
from adapters.engines.factory import ModelSettings, default_threads
from adapters.engines.timing import BATCHES, NEARLY
from agent.app.factories import commissioned_in
from agent.base.data_dir import require_owner
from agent.base.errors import EXIT_OK, UsageError
from agent.cli.output import as_json as to_json
from agent.cli.output import put
from agent.config.loader import load


def bench_engines(config: str, *, as_json: bool) -> int:
    """Measure every engine on the config's bundle, keep the choice for ``engine: auto``, and print why.

    Raises:
        UsageError: the config names a checkpoint, or another user owns the data folder.
        ModelError: the bundle is no good, or nothing here can run it.
    """
    loaded = load(Path(config)).config
    settings, data = loaded.model, Path(loaded.agent.data_dir)
    if settings.engine == "torch":
        raise UsageError(f"{config}: engine: torch runs a checkpoint: a bundle has engines to choose from")
    require_owner(data, "bench engines")
    folder, threads = bundle_path(settings.bundle), settings.threads or default_threads()
    measured = measure(BundleModel(folder, settings.sha256, settings.device, threads), data)
    if as_json:
        put(to_json(_facts(measured)))
    else:
        for line in _sentences(measured, settings, commissioned_in(loaded)):
            put(line)
    return EXIT_OK


def _facts(measured: Measured) -> dict[str, object]:
    choice = measured.choice
    return {
        "chosen": {"engine": choice.engine, "precision": choice.precision},
        "engines": [
            {
                "engine": trial.kind.engine,
                "precision": trial.kind.precision,
                "ms": dict(zip(map(str, BATCHES), (round(ms, 3) for ms in trial.ms), strict=False)),
                "agreement": trial.agreement,
                "problem": trial.problem,
            }
            for trial in measured.trials
        ],
        "circumstances": choice.circumstances.model_dump(),
        "measured_at": choice.measured_at,
        "kept": None if measured.kept is None else str(measured.kept),
    }


def _sentences(measured: Measured, settings: ModelSettings, stay_in: Precision | None) -> Iterator[str]:
    choice = measured.choice
    here = choice.circumstances
    yield f"{settings.bundle} on {here.processor.rpartition(' ')[0]}, {here.threads} of {here.cores} cores"
    heads = [f"{batch} picture{'s' if batch > 1 else ''}" for batch in BATCHES]
    yield f"  {'engine':<15}{heads[0]:>12}{heads[1]:>13}  against torch"
    for trial in measured.trials:
        if trial.problem is not None:
            yield f"  {trial.kind!s:<15}{'-':>12}{'-':>13}  {trial.problem}"
            continue
        times = f"{trial.ms[0]:>9.1f} ms{trial.ms[1]:>10.1f} ms"
        chosen = "; chosen" if trial.kind == choice.kind else ""
        yield f"  {trial.kind!s:<15}{times}  {trial.agreement}{chosen}"
    yield (
        f"{choice.kind} is the fastest for one picture, or within {NEARLY - 1:.0%} of it and the most exact;"
        f" {'kept in ' + str(measured.kept) if measured.kept else 'it could not be kept'}"
    )
    kind = choice.kind_in(stay_in)
    if kind != choice.kind:
        yield (
            f"stations are commissioned in {stay_in}: engine: auto stays with it and takes {kind}; commission"
            f" them again, one after the other, with engine: {choice.engine}, precision: {choice.precision}"
            " to change that"
        )
    if settings.engine != "auto":
        yield f"the config says engine: {settings.engine}; engine: auto would take {kind}"
