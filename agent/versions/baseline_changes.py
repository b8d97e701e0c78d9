"""What another config means for the baselines of the stations, before it is in force; nothing is opened."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from adapters.baseline.head import BaselineHead, read_head
from adapters.bundle.manifest import BundleManifest, read_manifest
from adapters.bundle.reader import bundle_path
from adapters.core.adapter import AdapterError
from adapters.core.measured_picture import AUTO, MeasuredPicture
from agent.config.loader import Loaded
from agent.config.models import Config, Station
from agent.config.recipes import find_recipe, recipe_names
from agent.versions.file_plan import in_force
from agent.versions.product_plans import other_recipes
from agent.versions.products import Product, commissioned_products, product
from agent.versions.station_picture import known_of, picture_of


@dataclass(frozen=True, slots=True)
class _Fit:
    """A station's product by a config.

    Attributes:
        there: it has a baseline, be it usable or not.
        why: the baseline cannot be used; empty where it can.
    """

    product: Product
    there: bool
    why: tuple[str, ...]

    @property
    def usable(self) -> bool:
        return self.there and not self.why


def baseline_changes(old: Loaded, new: Loaded) -> list[str]:
    """Return what becomes of the stations' baselines, a sentence for each that something changes for.

    What only a start can find out is left out: what an engine that is chosen by itself runs in.

    Args:
        old: what is in force.
        new: what is to be.

    Raises:
        StoreError: what was set over the file cannot be read by this release.
    """
    return list(_changes(in_force(old).config, in_force(new).config))


def _changes(old: Config, new: Config) -> Iterator[str]:
    for name, station in new.stations.items():
        before = old.stations.get(name)
        if not station.enabled or before is None:
            continue
        then, now = _fit(old, name, before, old), _fit(new, name, before, old)
        again = f"mekiki commission --station {name}"
        recipe = now.product.recipe
        if then.product.folder != now.product.folder and not now.there:
            if then.there:
                yield f"station {name} has no baseline for recipe {recipe}: {again} --recipe {recipe}"
        elif now.there and now.why and (then.usable or then.why != now.why):
            what = "; ".join(now.why)
            yield f"voids the baseline of station {name}: {what}: commission again ({again} --replace)"
        elif now.usable and then.why:
            yield f"the baseline of station {name} can be used again"
        elif now.usable and then.product.folder != now.product.folder:
            yield f"station {name} goes on with the baseline of recipe {recipe}"
        yield from _of_others(old, new, name, before)


def _of_others(old: Config, new: Config, name: str, before: Station) -> Iterator[str]:
    """Yield the same of a station's products that are told by their part ids."""
    made = {before.recipe, *(one.recipe for one in before.products)}
    for recipe in other_recipes(new, name):
        now = _fit(new, name, before, old, recipe)
        then = _fit(old, name, before, old, recipe) if recipe in recipe_names(old.recipes) else None
        again = f"mekiki commission --station {name} --recipe {recipe}"
        if not now.there:
            if recipe not in made and commissioned_products(new, name):
                yield f"station {name} has no baseline for recipe {recipe}: {again}"
        elif now.why and (then is None or recipe not in made or then.usable or then.why != now.why):
            what = "; ".join(now.why)
            yield f"voids the baseline of station {name} for recipe {recipe}: {what}: run {again} --replace"
        elif now.usable and then is not None and then.why:
            yield f"the baseline of station {name} for recipe {recipe} can be used again"


def _fit(config: Config, name: str, before: Station, old: Config, recipe: str | None = None) -> _Fit:
    """Say whether a station's baseline fits a config.

    Args:
        config: the config.
        name: of the station.
        before: the station as it is now.
        old: the config that is in force now: what a baseline does not say, it has been used with.
        recipe: of the product; None: the one in force.
    """
    found, station = product(config, name, recipe), config.stations[name]
    head = read_head(found.baseline)
    if head is None:
        return _Fit(found, found.baseline.exists(), ())
    why: list[str] = []
    judged_by = recipe or station.recipe
    if head.recipe != find_recipe(judged_by, config.recipes).words:
        why.append(f"the words of recipe {judged_by} change")
    manifest, digest = _manifest(config)
    if manifest is not None:
        why += _of_model(config, head, manifest, digest)
    why += (what for _, what in _known(head, found, before, old).differs_from(_picture(station, manifest)))
    return _Fit(found, True, tuple(why))


def _of_model(config: Config, head: BaselineHead, manifest: BundleManifest, digest: str) -> Iterator[str]:
    measured, model = head.measured, config.model
    if head.weights != manifest.weights:
        yield f"model: was {head.weights[:19]}..., is {manifest.weights[:19]}..."
    elif measured is not None and measured.name != manifest.name:
        yield f"model: was {measured.name}, is {manifest.name}"
    if measured is None or model.engine == "auto":  # that one stays with the precision of the baselines
        return
    if measured.precision != (model.precision or "fp32"):
        yield f"precision: was {measured.precision}, is {model.precision or 'fp32'}"
    elif measured.precision == "int8" and measured.bundle != digest:
        yield "model: int8 of another bundle"


def _known(head: BaselineHead, found: Product, before: Station, old: Config) -> MeasuredPicture:
    """Return what a baseline holds for; what nobody has said of it is as it is now."""
    manifest, _ = _manifest(old)
    mode = "squash" if manifest is None else manifest.preprocess.resize_mode
    known = known_of(head.digest, head.measured, found.folder, mode)
    if head.measured is not None and head.measured.picture is not None:
        return known
    now = _picture(before, manifest)
    return replace(
        known,
        view=known.view if manifest is not None else now.view,
        region=known.region or now.region,
        masks=now.masks if known.masks is None else known.masks,
        camera=now.camera if known.camera is None else known.camera,
    )


def _picture(station: Station, manifest: BundleManifest | None) -> MeasuredPicture:
    if manifest is not None:
        return picture_of(station, manifest.preprocess.resize_mode)
    seen = picture_of(station, "squash")
    return replace(seen, view=None) if station.view == AUTO else seen


def _manifest(config: Config) -> tuple[BundleManifest | None, str]:
    """Return the manifest of the model; None where there is none, or none to be read, as the start says."""
    if config.model.engine == "torch":
        return None, ""
    try:
        return read_manifest(bundle_path(config.model.bundle))
    except AdapterError:
        return None, ""
