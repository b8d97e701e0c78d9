"""`mekiki golden add`, `remove`, `restore`, `import`, `build`, `purge`: what changes a golden set."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from adapters.core.adapter import AdapterError
from agent.base.data_dir import require_owner
from agent.base.errors import EXIT_CHECK_FAILED, EXIT_OK, UsageError
from agent.base.text import visible
from agent.cli.golden.target import GoldenTarget, target_of
from agent.cli.output import as_json, put, say
from agent.config.diagnostics import shown
from agent.golden import changes, transfer
from agent.golden.index import GoldenIndex
from agent.golden.pictures import named_files
from agent.golden.reference_build import BuiltReference, build_reference
from agent.golden.store import GoldenChange
from agent.versions.operator_requests import requester

_LONGEST = {"why": 500, "by": 100}


def add(arguments: argparse.Namespace) -> int:
    """Add pictures; see `mekiki golden add --help`."""
    place = _owned(arguments)
    files = named_files(arguments.paths, arguments.label)
    labels = list(dict.fromkeys(one.label for one in files))
    for label in labels:
        place.require_class(label)
    notes = [note for label in labels if (note := place.note_on(label)) is not None]
    by = _text("by", arguments.by) if arguments.by is not None else requester()
    with _progress("reading", len(files)) as tell:
        added = changes.add(
            place.store,
            place.station,
            files,
            _change(arguments, "add"),
            by=by,
            skip=arguments.skip,
            note=lambda text: say(f"note: {text}"),
            progress=lambda done: tell(done, len(files)),
        )
    for line in added.refused:
        say(f"left out: {line}")
    for note in notes:
        say(f"note: {note}")
    if added.there:
        say(f"{len(added.there)} pictures are there already, such as {added.there[0]}: they count once")
    facts = {"added": len(added.new), "there": len(added.there), "left_out": list(added.refused)}
    return _built(arguments, place, added.index, f"{len(added.new)} samples added", facts)


def remove(arguments: argparse.Namespace) -> int:
    """Take samples out; see `mekiki golden remove --help`."""
    place = _owned(arguments)
    index, gone = changes.remove(place.store, arguments.samples, _change(arguments, "remove"))
    return _built(arguments, place, index, f"{len(gone)} samples removed", {"removed": gone})


def restore(arguments: argparse.Namespace) -> int:
    """Go back to an older version; see `mekiki golden restore --help`."""
    place = _owned(arguments)
    index = changes.restore(place.store, arguments.number, _change(arguments, "restore"))
    said = f"as in version {arguments.number} again"
    return _built(arguments, place, index, said, {"restored": arguments.number})


def take_in(arguments: argparse.Namespace) -> int:
    """Add an exported set; see `mekiki golden import --help`."""
    place = _owned(arguments)
    for label in transfer.labels_of(arguments.folder):
        place.require_class(label)
    change = _change(arguments, "import")
    index, count = transfer.take_in(place.store, place.station, arguments.folder, change)
    if not count:
        say(f"all samples of {arguments.folder} are there already: the set is as it was")
    return _built(arguments, place, index, f"{count} samples imported", {"added": count})


def build(arguments: argparse.Namespace) -> int:
    """Build the reference again; see `mekiki golden build --help`."""
    place = _owned(arguments)
    if place.rules.reference is None:
        raise UsageError(_no_reference(place))
    return _built(arguments, place, place.store.index(), "", {})


def purge(arguments: argparse.Namespace) -> int:
    """Forget older versions; see `mekiki golden purge --help`."""
    store = _owned(arguments).store
    with store.writing() as index:
        kept = store.purge(index, arguments.keep)
        gone = store.tidy(kept)
    put(f"{len(kept.versions)} versions kept, {gone} pictures removed")
    return EXIT_OK


def _built(
    arguments: argparse.Namespace, place: GoldenTarget, index: GoldenIndex, said: str, facts: dict[str, Any]
) -> int:
    """Build the reference of the set as it is now, and say what came of it all."""
    classes = index.classes()
    if said and not arguments.json:
        put(f"{said}: version {index.number}, {len(classes)} samples")
    facts = {"version": index.number, "samples": len(classes), **facts}
    code, built, why = EXIT_OK, None, None
    if place.rules.reference is None:
        why = _no_reference(place)
    else:
        try:
            built = _build(place)
        except (AdapterError, UsageError) as error:
            code, why = EXIT_CHECK_FAILED, f"the reference was not built: {error}"
    if arguments.json:
        put(as_json({**facts, "reference": None if built is None else reference_facts(built), "why": why}))
    elif built is not None:
        for line in (*built.sentences(), f"{built.file}: a running agent takes it at once"):
            put(line)
    if why is not None:
        say(why)
    return code


def _build(place: GoldenTarget) -> BuiltReference:
    from agent.cli.golden.features import open_features

    extractor = open_features(place.config, place.rules)
    with _progress("comparing", None) as tell:
        return build_reference(
            place.config, place.name, place.recipe, extractor, actor=requester(), progress=tell
        )


def reference_facts(built: BuiltReference) -> dict[str, Any]:
    """Return what is said of a reference, for programs."""
    reference = built.reference
    return {
        "good": built.good,
        "used": built.used,
        "threshold": round(reference.threshold, 6),
        "basis": reference.basis,
        "claim": None if reference.claim is None else reference.claim.facts(),
        "digest": reference.digest,
        "file": str(built.file),
    }


def _no_reference(place: GoldenTarget) -> str:
    return (
        f"recipe {place.recipe} has no reference, so that nothing is built: add reference: {{}} to it, then"
        f" mekiki golden build --station {place.name}"
    )


def _owned(arguments: argparse.Namespace) -> GoldenTarget:
    place = target_of(arguments)
    require_owner(place.data, "golden")
    return place


def _change(arguments: argparse.Namespace, what: str) -> GoldenChange:
    return GoldenChange(requester(), what, _text("why", arguments.why) if arguments.why else "")


def _text(name: str, given: str) -> str:
    try:
        text = visible(given)
    except ValueError as error:
        raise UsageError(f"--{name} {shown(given)} {error}") from None
    if len(text) > _LONGEST[name]:
        raise UsageError(f"--{name}: more than {_LONGEST[name]} letters")
    return text


@contextmanager
def _progress(what: str, total: int | None) -> Iterator[Any]:
    """Yield what shows how many of how many are done, where standard error is a terminal."""
    with Progress(
        TextColumn(what),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
    ) as progress:
        task = progress.add_task(what, total=total)
        yield lambda done, all_: progress.update(task, completed=done, total=all_)
