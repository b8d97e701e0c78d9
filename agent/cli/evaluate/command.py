"""What `mekiki evaluate` does: opens what judges, judges, prints figures."""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from adapters.backbone.factory import open_backbone
from adapters.engines.factory import ModelSettings, open_engine
from adapters.reference.reference import UnusableReference
from agent.app.factories import open_model
from agent.base.errors import EXIT_OK, UsageError
from agent.cli.golden.features import open_features
from agent.cli.output import as_json, put, say
from agent.config.absent import whatever_it_is
from agent.config.loader import load
from agent.config.recipes import Recipe, ReferenceSettings, find_recipe
from agent.evaluation.judging import DegradedView, PictureJudge, RecipeWords
from agent.evaluation.picture_set import good_class, scan
from agent.evaluation.run import EvaluationOptions, evaluate
from agent.evaluation.summary import facts, sentences, summary
from agent.versions.file_plan import of_recipe
from camera.simulation.degradations import KINDS

_MOST_SEVERE: Final = 5.0
_EVERY: Final = 500
"""Pictures between two lines of progress where nobody watches a bar."""


def run(arguments: argparse.Namespace) -> int:
    """Judge a folder and print what came of it, JSON on the last line; see `mekiki evaluate --help`.

    Raises:
        UsageError: the folder, the class or the degradation is none, or too few pictures can be used.
        ConfigError: of the config that is named.
        ModelError: model or backbone cannot be opened.
    """
    degradation = None if arguments.degrade is None else _degradation(arguments.degrade, arguments.seed)
    pictures = scan(arguments.folder)
    good = good_class(pictures, arguments.good, arguments.folder)
    for note in pictures.notes:
        say(note)
    judge = _judge(arguments.recipe, arguments.config, arguments.default_config, degradation)
    options = EvaluationOptions(good, arguments.samples, arguments.draws, arguments.seed)
    with _progress(pictures.count) as tell:
        try:
            found = evaluate(pictures, judge, options, say, tell)
        except UnusableReference as error:
            raise UsageError(f"{arguments.folder}: {error}") from error
    made = summary(found)
    if not arguments.json:
        if degradation is not None:
            put(f"judged under {arguments.degrade}; golden samples, and what is claimed, are as they were")
        for line in sentences(found, made):
            put(line)
    asked = {"folder": str(arguments.folder), "recipe": arguments.recipe, "degrade": arguments.degrade}
    features = None if judge.extractor is None else judge.extractor.info.name
    put(as_json({**facts(found, made), **asked, "features": features}))
    return EXIT_OK


def _judge(
    recipe: str | None, config: str | None, default: str, degradation: DegradedView | None
) -> PictureJudge:
    if recipe is None:
        alone = Recipe(reference=ReferenceSettings())
        if config is not None:
            raise UsageError("--config without --recipe: name the recipe that is to judge")
        return PictureJudge(alone, None, open_backbone("backbone", _cache()), degradation)
    path = Path(config or default)
    loaded = load(path, whatever_it_is) if config is not None or path.exists() else None
    rules = find_recipe(recipe, {} if loaded is None else loaded.config.recipes)
    words = None
    if rules.has_words:
        engine = open_engine(ModelSettings()) if loaded is None else open_model(loaded.config)
        words = RecipeWords(engine, of_recipe(rules, engine).predictor)
    extractor = None
    if rules.reference is not None:
        assert loaded is not None  # no shipped recipe has one
        extractor = open_features(loaded.config, rules)
    return PictureJudge(rules, words, extractor, degradation)


def _cache() -> Path:
    """Return where graphs are kept that are made once, for a user without a data folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "mekiki" / "backbones"


def _degradation(text: str, seed: int) -> DegradedView:
    kind, colon, number = text.partition(":")
    if kind not in KINDS:
        raise UsageError(f"--degrade {text}: no kind is called {kind!r}: there is {', '.join(KINDS)}")
    try:
        severity = float(number)
    except ValueError:
        severity = math.nan
    if not colon or not 0 <= severity <= _MOST_SEVERE:
        raise UsageError(f"--degrade {text}: give a severity from 0 to 5, such as {kind}:3")
    return DegradedView(kind, severity, seed)


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int, int], None]]:
    """Yield what shows how far it is: a bar on a terminal, else a line now and then."""
    if not sys.stderr.isatty():
        yield lambda done, all_: say(f"judged {done} of {all_}") if done % _EVERY == 0 else None
        return
    with Progress(
        TextColumn("judging"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    ) as progress:
        task = progress.add_task("judging", total=total)
        yield lambda done, all_: progress.update(task, completed=done, total=all_)
