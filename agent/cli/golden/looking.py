"""`mekiki golden list`, `check`, `versions`, `export`: what only reads a golden set."""

from __future__ import annotations

import argparse
from collections import Counter

from agent.base.errors import EXIT_CHECK_FAILED, EXIT_OK, UsageError
from agent.cli.golden.target import GoldenTarget, target_of
from agent.cli.output import as_json, put, say
from agent.golden import transfer
from agent.golden.check import check as look_at
from agent.golden.index import GoldenIndex
from agent.golden.reference_build import facts_sentence
from agent.versions.products import product
from agent.versions.station_reference import require_own_picture

_SHORT = 12


def show(arguments: argparse.Namespace) -> int:
    """Print every sample of the set that counts; see `mekiki golden list --help`."""
    place = target_of(arguments)
    index = _some(place)
    classes = index.classes(arguments.version)
    rows = sorted(classes.items(), key=lambda row: (row[1], index.samples[row[0]].file, row[0]))
    for id_, label in rows:
        sample = index.samples[id_]
        if arguments.json:
            put(as_json({"id": id_, "class": label, **sample.model_dump(mode="json")}))
        else:
            size = f"{sample.width}x{sample.height}"
            put(f"{id_[:_SHORT]}  {label}  {sample.file}  {size}  {sample.added_at}  {sample.added_by}")
    counts = dict(sorted(Counter(classes.values()).items()))
    number = index.number if arguments.version is None else arguments.version
    why = _stale(place, index)
    if arguments.json:
        put(as_json({"version": number, "samples": len(classes), "classes": counts, "stale": why}))
        return EXIT_OK
    said = ", ".join(f"{count} {label}" for label, count in counts.items())
    say(f"version {number}: {len(classes)} samples: {said}")
    if why is not None:
        say(why)
    return EXIT_OK


def versions(arguments: argparse.Namespace) -> int:
    """Print every version; see `mekiki golden versions --help`."""
    index = _some(target_of(arguments))
    for version in index.versions:
        added, removed = len(version.added), len(version.removed)
        if arguments.json:
            facts = version.model_dump(mode="json", exclude={"added", "removed"})
            put(as_json({**facts, "added": added, "removed": removed}))
            continue
        mark = "*" if version.number == index.number else " "
        why = f"  {version.why}" if version.why else ""
        put(
            f"{mark} {version.number:>4}  {version.at}  {version.what}  +{added} -{removed}"
            f"  {version.actor}  {version.digest[:19]}{why}"
        )
    return EXIT_OK


def check(arguments: argparse.Namespace) -> int:
    """Print what is odd about the set; see `mekiki golden check --help`."""
    from agent.cli.golden.features import open_features

    place = target_of(arguments)
    index = _some(place)
    reference = place.rules.reference
    extractor = None if reference is None else open_features(place.config, place.rules)
    found = look_at(place.store, index, place.rules, place.station, extractor)
    stale = _stale(place, index)
    if arguments.json:
        rows = [
            {"kind": one.kind, "samples": list(one.samples), "reason": one.reason} for one in found.findings
        ]
        facts = {"version": index.number, "samples": found.samples, "judged": found.judged, "stale": stale}
        put(as_json({**facts, "findings": rows}))
    else:
        for one in found.findings:
            put(f"{one.kind}: {one.reason}")
        if stale is not None:
            put(f"stale: {stale}")
        judged = "" if found.judged else "; not compared with a reference"
        say(f"{found.samples} samples looked at, {len(found.findings)} findings{judged}")
    return EXIT_CHECK_FAILED if found.findings or stale is not None else EXIT_OK


def export(arguments: argparse.Namespace) -> int:
    """Write the set to a folder; see `mekiki golden export --help`."""
    count = transfer.export(target_of(arguments).store, arguments.out)
    say(f"{arguments.out}: {count} samples")
    return EXIT_OK


def _some(place: GoldenTarget) -> GoldenIndex:
    index = place.store.index()
    if not index.versions:
        raise UsageError(
            f"station {place.name}, recipe {place.recipe}: no golden samples yet: add some with mekiki golden"
            f" add --station {place.name} --class good PICTURES"
        )
    return index


def _stale(place: GoldenTarget, index: GoldenIndex) -> str | None:
    """Say where the reference that inspects is not built of the set that counts."""
    from adapters.reference.reference import Reference, UnusableReference

    if place.rules.reference is None:
        return None
    file = product(place.config, place.name, place.recipe).reference
    try:
        found = Reference.load(file)
        require_own_picture(found, place.station, place.name, place.recipe, str(file))
    except UnusableReference as error:
        return str(error)
    return facts_sentence(found.facts, index)
