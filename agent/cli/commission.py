"""`mekiki commission`: fixes what a station is like while it is known to be well, for it to learn from."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from adapters.baseline.baseline import Commissioning, CommissioningError
from adapters.baseline.build import commission
from adapters.core.adapter import AdapterError
from adapters.core.measured_with import MeasuredWith
from adapters.core.observation import Observation
from adapters.core.protocol import Engine
from adapters.core.scorer import Scorer
from adapters.core.version import SOURCE
from adapters.monitoring.drift_baseline import MIN_BLOCK_FRAMES, MIN_BLOCKS
from agent import __version__
from agent.app.factories import open_model
from agent.base.codec import timestamp
from agent.base.data_dir import lock_folder, require_owner
from agent.base.errors import EXIT_CHECK_FAILED, EXIT_OK, StoreError, UsageError
from agent.baseline import report
from agent.baseline.capture import Takes, require_well, watch
from agent.baseline.golden_check import GoldenFinding, NamedPictures, examine
from agent.baseline.golden_samples import distinct, read_golden, read_named
from agent.cli.baselines.keeping import keep
from agent.cli.golden.commissioning import build_if_wanted, kept_samples, nothing_to_commission
from agent.cli.output import as_json as to_json
from agent.cli.output import put, say
from agent.config.loader import Loaded, load
from agent.config.recipes import Recipe, find_recipe
from agent.domain.active_version import ActiveVersion
from agent.inspection.product_choice import product_parts
from agent.versions.commissioned import Uncommissioned, commissioning_file
from agent.versions.file_plan import in_force, with_recipe
from agent.versions.operator_requests import requester
from agent.versions.products import settle
from agent.versions.station_picture import picture_of
from agent.versions.station_plans import check_prompts, failing, prompts

LEAST_PARTS = MIN_BLOCKS * MIN_BLOCK_FRAMES


@dataclass(frozen=True, slots=True)
class CommissionOptions:
    """What was asked for on the command line.

    Attributes:
        golden: folders of pictures that a person named.
        parts: how many parts to watch.
        false_rejects: at most this share of good parts is to be rejected.
        replace: also where there is a commissioning.
        recipe: that the station is commissioned for; None: the one in force.
        all_good: the person who asks vouches for all parts that are watched.
        trust_golden: also where the golden pictures look wrong.
    """

    station: str
    golden: Sequence[Path]
    parts: int
    false_rejects: float
    replace: bool
    recipe: str | None = None
    all_good: bool = False
    trust_golden: bool = False


def run(config: str, options: CommissionOptions, *, as_json: bool) -> int:
    """Commission a station and return the exit code; 1 where the line or the pictures do not allow it.

    Raises:
        UsageError: no such station, golden pictures that are none, or a commissioning that is there already.
        ConfigError: the config or the camera is no good.
        StoreError: an agent runs, or the data folder cannot be written.
    """
    loaded = load(Path(config))
    stations = loaded.config.stations
    if options.station not in stations:
        raise UsageError(f"no station is called {options.station!r}: {config} has {', '.join(stations)}")
    now = in_force(loaded)
    loaded = with_recipe(now, options.station, options.recipe)
    takes = product_parts(now.config.stations[options.station], options.recipe)
    stations = loaded.config.stations
    recipe = find_recipe(stations[options.station].recipe, loaded.config.recipes)
    if not recipe.has_words:
        raise UsageError(nothing_to_commission(stations[options.station].recipe, options.station))
    fails = failing(recipe)
    if fails.all() or not fails.any():
        raise UsageError(
            f"recipe {stations[options.station].recipe}: needs a class that passes and one that fails:"
            " only then there is an operating point"
        )
    file = commissioning_file(loaded.config, options.station)
    if file.exists() and not options.replace:
        raise UsageError(f"{file}: is there already: --replace makes a new one")
    data = Path(loaded.config.agent.data_dir)
    require_owner(data, "commission")
    with lock_folder(data):
        engine = open_model(loaded.config, owner=True, anew=options.station)
        check_prompts(loaded, engine)
        try:
            made = _commission(loaded, options, recipe, engine, takes)
            require_well(made.clean, made.seen, fails)
            _require_sorted(made, options)
        except AdapterError as error:
            # Of the model itself nothing is wrong any more by now: it is the line, or what was asked for.
            say(f"{error}; nothing was written")
            return EXIT_CHECK_FAILED
        try:
            keep(made.clean, file, engine)
            settle(loaded.config, options.station)
        except OSError as error:
            raise StoreError(f"{file.parent}: cannot be written: {error.strerror or error}") from error
        except AdapterError as error:  # its versions are a newer release's
            raise StoreError(f"{error}; nothing was written") from error
    _show(made, file, as_json=as_json)
    build_if_wanted(loaded.config, options.station, say)
    return EXIT_OK


def _show(made: _Made, file: Path, *, as_json: bool) -> None:
    """Print what came of it."""
    if as_json:
        put(
            to_json(
                {
                    **report.facts(made.clean),
                    "file": str(file),
                    "passed_over": made.passed_over,
                    "warnings": made.warnings,
                }
            )
        )
    else:
        if made.passed_over:
            put(f"passed over {made.passed_over} parts of other products, by their part ids")
        for line in (*report.lines(made.clean), f"{file}", made.clean.digest):
            put(line)


@dataclass(frozen=True, slots=True, eq=False)
class _Made:
    clean: Commissioning
    seen: Sequence[Observation]
    golden: NamedPictures | None
    passed_over: int

    @property
    def findings(self) -> list[GoldenFinding]:
        """What is odd about the golden pictures."""
        clean = self.clean
        return [] if self.golden is None else examine(self.golden, clean.labels, clean.fails, clean.offset)

    @property
    def warnings(self) -> list[str]:
        """All of that, and what speaks against the parts being good, in sentences."""
        said = [one.text for one in self.findings]
        if self.clean.testimony.all_good and (strange := round(self.clean.numbers.get("surely_bad", 0))):
            said.append(
                f"{strange} of {len(self.seen)} parts that you call good look surely defective to the model:"
                " if some are, they raise the threshold, and defects like them are missed"
            )
        return said


def _commission(
    loaded: Loaded, options: CommissionOptions, recipe: Recipe, engine: Engine, takes: Takes
) -> _Made:
    station = loaded.config.stations[options.station]
    golden, view, fails = None, None, failing(recipe)
    scorer = Scorer(engine, prompts(recipe), fails)
    for folder in options.golden:
        some = read_golden(folder, recipe, station, scorer)
        golden = some if golden is None else golden.joined(some)
    if kept := kept_samples(loaded.config, options.station):
        some = read_named(kept, recipe, station, scorer)
        golden = some if golden is None else golden.joined(some)
    if golden is not None:
        golden = distinct(golden, tuple(recipe.classes))
        view = scorer.look(golden.samples.pictures, engine.source)
    source = ActiveVersion(SOURCE, engine.source, 0.0)
    found = Uncommissioned(options.station, station.adaptation, "operating_point", source, "")
    with Progress(
        TextColumn("watching the line"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.description}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
    ) as progress:
        task = progress.add_task("", total=options.parts)

        def show(count: int, fault: str | None) -> None:
            blocks = f"{count // MIN_BLOCK_FRAMES} blocks, {MIN_BLOCKS} are needed"
            progress.update(task, completed=count, description=f"{blocks}{f', {fault}' if fault else ''}")

        watched = watch(loaded, found, recipe, engine, options.parts, show, takes)
    seen = watched.seen
    passed = f", {watched.passed_over} of other products were passed over" if watched.passed_over else ""
    if len(seen) < LEAST_PARTS:
        raise CommissioningError(
            f"station {options.station}: its source ended after {len(seen)} parts that could be judged"
            f"{passed}, {LEAST_PARTS} are needed, better 3000"
        )
    clean = commission(
        seen,
        None if golden is None else golden.samples,
        None if view is None else view.scores,
        independent=None if golden is None else ~golden.exported,
        station=options.station,
        weights=engine.info.weights,
        recipe=recipe.words,
        labels=tuple(recipe.classes),
        fails=fails,
        made_at=timestamp(datetime.now(UTC)),
        false_rejects=options.false_rejects,
        all_good=options.all_good,
        made_by=requester(),
        measured=MeasuredWith.of(engine.info, picture_of(station, engine.info.preprocess.resize_mode)),
    )
    named = None
    if golden is not None and view is not None:
        classes = golden.samples.classes
        named = NamedPictures(golden.files, classes, view.logits.argmax(axis=1), view.scores)
    return _Made(replace(clean, release=__version__), seen, named, watched.passed_over)


def _require_sorted(made: _Made, options: CommissionOptions) -> None:
    """Say what is odd about what a person vouches for; raise CommissioningError where it is hardly right."""
    refused = [one.text for one in made.findings if one.refuses]
    if refused and not options.trust_golden:
        raise CommissioningError(
            f"station {options.station}: {'; '.join(refused)}."
            " Sort the pictures, or insist with --trust-golden"
        )
    for line in made.warnings:
        say(f"warning: {line}")
