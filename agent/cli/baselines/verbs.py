"""`mekiki baseline show`, `compare` and `export`: they only read, so the agent may run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from adapters.baseline.baseline import Commissioning, CommissioningError
from agent.base.errors import EXIT_CHECK_FAILED, EXIT_OK, StoreError, UsageError
from agent.baseline import contact_sheet, report
from agent.baseline.comparison import differences
from agent.cli.output import as_json as to_json
from agent.cli.output import put
from agent.config.absent import whatever_it_is
from agent.config.diagnostics import did_you_mean
from agent.config.loader import load
from agent.versions.commissioned import commissioning_file, not_commissioned
from agent.versions.file_plan import in_force, with_recipe
from agent.versions.station_picture import prepared_as
from camera.core.kept_region import KeptRegion
from camera.core.settings import RegionOfInterest


def show(config: str, which: str | Path, recipe: str | None = None, *, as_json: bool) -> int:
    """Print what a baseline says of itself.

    Raises:
        UsageError: no such station, or it is not commissioned.
        StoreError: the baseline cannot be read.
    """
    clean = _read(config, which, recipe)
    if as_json:
        put(to_json(report.facts(clean)))
    else:
        for line in (*report.lines(clean), clean.digest):
            put(line)
    return EXIT_OK


def compare(config: str, named: Sequence[str], *, as_json: bool) -> int:
    """Print what differs between two baselines; return 1 where anything does. Raises as `show`."""
    if len(named) != 2:
        raise UsageError(f"compare takes two: stations or files; {len(named)} given")
    one, other = (report.facts(_read(config, which)) for which in named)
    found = list(differences(one, other))
    if as_json:
        each = [{"name": each.name, "one": each.one, "other": each.other} for each in found]
        put(to_json({"one": named[0], "other": named[1], "differences": each}))
    else:
        for line in [str(each) for each in found] or ["no difference"]:
            put(line)
    return EXIT_CHECK_FAILED if found else EXIT_OK


def export(config: str, station: str, out: Path, recipe: str | None = None) -> int:
    """Write the samples and a page to look at; raises as `show`, and where the folder is no good."""
    clean = _read(config, station, recipe)
    roi = load(Path(config), whatever_it_is).config.stations[station].roi
    measured = None if clean.measured is None else clean.measured.picture
    region = KeptRegion.of(station, roi)  # of an older release, whose samples are those of the config then
    if measured is not None and measured.region is not None and measured.masks is not None:
        masks = {str(number): polygon for number, polygon in enumerate(measured.masks)}
        then = RegionOfInterest(crop=measured.region, masks=masks)
        region = KeptRegion.of(station, then, prepared_as(measured))
    page = contact_sheet.write(clean, out, region)
    put(f"{page}: {len(clean.known.classes)} samples, {len(clean.good)} good parts")
    if clean.sight.guesses or clean.sight.unknown:
        folders = (out / name for name in contact_sheet.FOLDERS.values())
        written = [folder for folder in folders if folder.is_dir()]
        product = "" if recipe is None else f" --recipe {recipe}"
        put(
            "look at the guessed ones, move what is in the wrong folder, take out what is none, and confirm"
            f" with mekiki commission --station {station}{product} --replace"
            + "".join(f" --golden {folder}" for folder in written)
        )
    return EXIT_OK


def _read(config: str, which: str | Path, recipe: str | None = None) -> Commissioning:
    """Return the baseline of a station's product, by default the one in force; or of a file."""
    path = Path(which)
    if isinstance(which, Path) or path.is_file():
        return _load(path)
    loaded = in_force(load(Path(config), whatever_it_is))
    if which not in loaded.config.stations:
        known = did_you_mean(which, list(loaded.config.stations))
        raise UsageError(f"{which!r} is neither a station of {config} nor a file: {known}")
    now = with_recipe(loaded, which, recipe).config
    file = commissioning_file(now, which)
    if not file.exists():
        raise UsageError(f"station {which}: {not_commissioned(now, which)}")
    return _load(file)


def _load(file: Path) -> Commissioning:
    try:
        return Commissioning.load(file)
    except CommissioningError as error:
        raise StoreError(str(error)) from error
