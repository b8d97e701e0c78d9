"""Where a station keeps what it knows of each product: a product is a recipe, with a baseline of its own.

The first product of a station lies in the station's folder itself, where releases before this one look for
it; the others below it in ``recipes/<recipe>``. Whose the station's folder is says `MARK` there; where it
does not, the words that its baseline was made with.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from adapters.baseline.head import read_head
from adapters.files.atomic_file import write_durably
from adapters.files.formats import is_newer
from adapters.files.strict_json import loads
from agent.config.models import Config
from agent.config.recipes import find_recipe, recipe_names

log = logging.getLogger(__name__)

MARK: Final = "product.json"
FORMAT: Final = "mekiki.product.v1"
BELOW: Final = "recipes"
"""Folder of the other products of a station."""
BASELINE: Final = "commissioning.safetensors"
REFERENCE: Final = "reference.safetensors"
GOLDEN: Final = "golden"
"""Folder of the golden samples of a product."""


@dataclass(frozen=True, slots=True)
class Product:
    """What a station knows of one product.

    Attributes:
        recipe: name of the recipe that it was commissioned for.
        folder: of its baseline, its versions, its requests and its audit trail.
    """

    recipe: str
    folder: Path

    @property
    def baseline(self) -> Path:
        """Where its baseline lies, or will."""
        return self.folder / BASELINE

    @property
    def reference(self) -> Path:
        """Where its reference lies, or will: what good parts look like."""
        return self.folder / REFERENCE

    @property
    def golden(self) -> Path:
        """Where its golden samples lie, or will."""
        return self.folder / GOLDEN


def home(config: Config, station: str) -> Path:
    """Return the folder of a station, with all its products."""
    return Path(config.agent.data_dir) / "stations" / station


def product(config: Config, station: str, recipe: str | None = None) -> Product:
    """Return the product that a station makes by a recipe, whether or not it is commissioned.

    A recipe that was given another name keeps what was learned by it: its old name is gone from the config,
    and its words are the same.

    Args:
        config: that names the station.
        station: its name.
        recipe: name of the recipe; None: the one that is in force.
    """
    wanted = config.stations[station].recipe if recipe is None else recipe
    found, root = _found(config, station), home(config, station)
    if wanted in found:
        return Product(wanted, found[wanted])
    names, its = set(recipe_names(config.recipes)), find_recipe(wanted, config.recipes)
    for name, folder in found.items():
        if its.has_words and name not in names and _words(folder) == its.words:
            return Product(wanted, folder)
    # A baseline says whose the station's own folder is; samples and a reference may come before it, or alone.
    own = its.reference is None and root not in found.values()
    return Product(wanted, root if own else root / BELOW / wanted)


def products(config: Config, station: str) -> list[Product]:
    """Return every product of a station of which anything is kept, the one in its own folder first."""
    return [Product(name, folder) for name, folder in _found(config, station).items()]


def commissioned_products(config: Config, station: str) -> list[Product]:
    """Return the products of a station that have a baseline, be it usable or not."""
    return [one for one in products(config, station) if _is_there(one.baseline)]


def settle(config: Config, station: str) -> Product:
    """Write down whose the station's folder is, and follow a recipe that has another name now.

    For who may write in the data folder, before anything of the product is opened.

    Returns:
        The product in force, where it lies now.
    """
    here, root = product(config, station), home(config, station)
    try:
        if here.folder.parent == root / BELOW and here.folder.name != here.recipe:
            log.info("station %s: recipe %s is called %s now", station, here.folder.name, here.recipe)
            here.folder.rename(root / BELOW / here.recipe)
            here = Product(here.recipe, root / BELOW / here.recipe)
        _mark(config, station, here)
    except OSError as error:  # it is found by its words all the same
        log.error("station %s: %s: cannot be written: %s", station, root, error)
    return here


def _mark(config: Config, station: str, here: Product) -> None:
    root = home(config, station)
    head = read_head(root / BASELINE)
    owner = here.recipe if here.folder == root else _owner(config, station)
    if head is None or owner is None:
        return
    stored = _stored(root) or {}
    fitting = _fitting(config, head.recipe)
    if not stored and len(fitting) > 1:
        log.warning(
            "station %s: its baseline fits the words of %s and does not say for which it was made: it is"
            " taken for that of %s; commission the others with --recipe", station, ", ".join(fitting), owner,
        )  # fmt: skip
    content = {**stored, "format": FORMAT, "recipe": owner, "commissioning": head.digest}
    if stored != content and not is_newer(stored.get("format"), FORMAT):
        write_durably(root / MARK, json.dumps(content, ensure_ascii=False, allow_nan=False).encode())


def _found(config: Config, station: str) -> dict[str, Path]:
    root = home(config, station)
    owner = _owner(config, station)
    found = {} if owner is None else {owner: root}
    try:
        below = sorted(folder for folder in (root / BELOW).iterdir() if folder.is_dir())
    except OSError:  # there is none, or nothing below it can be used either
        below = []
    return found | {folder.name: folder for folder in below if folder.name not in found}


def _owner(config: Config, station: str) -> str | None:
    """Return the recipe whose product lies in the station's own folder; None where there is none."""
    root, now = home(config, station), config.stations[station].recipe
    mark, head = _read_mark(root), read_head(root / BASELINE)
    # An older release may have commissioned since, and knows nothing of the mark.
    if mark is not None and (head is None or head.digest == mark[1]):
        return mark[0]
    if head is None:
        return now if _is_there(root / BASELINE) else None
    fitting = _fitting(config, head.recipe)
    return now if now in fitting or not fitting else fitting[0]


def _fitting(config: Config, words: str) -> list[str]:
    """Return the names of the recipes that have just these words."""
    names = recipe_names(config.recipes)
    return [name for name in names if find_recipe(name, config.recipes).words == words]


def _words(folder: Path) -> str | None:
    head = read_head(folder / BASELINE)
    return None if head is None else head.recipe


def _read_mark(root: Path) -> tuple[str, str] | None:
    """Return whose the station's folder is, and the digest of its baseline; None where that is not known."""
    content = _stored(root)
    if content is None or content.get("format") != FORMAT:
        return None
    recipe, digest = content.get("recipe"), content.get("commissioning")
    return (recipe, digest) if isinstance(recipe, str) and isinstance(digest, str) else None


def _stored(root: Path) -> dict[str, Any] | None:
    try:
        content = loads((root / MARK).read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        log.error("%s: cannot be read, the words of its baseline say whose it is: %s", root / MARK, error)
        return None
    return content if isinstance(content, dict) else None


def _is_there(file: Path) -> bool:
    """Whether there is a file, or something that cannot be looked at in its place."""
    try:
        return file.exists()
    except OSError:
        return True
