"""What no single setting can know: that the things a config names exist and do not get in each other's way.

Looks at plain data, which the models may not have accepted yet, so that all problems can be told at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

from pydantic import BaseModel, SecretStr

from agent.base.secret_refs import has_reference
from agent.config import yaml_tree
from agent.config.diagnostics import shown
from agent.config.models import Config
from agent.config.recipes import shipped_names, unknown_recipe
from agent.config.yaml_tree import Data, Node, Problem
from camera.core.address import AddressError, check_source, shown_name
from camera.core.settings import OpenCVCamera

_Named = Literal["file", "folder", "new folder", "bundle"]

_PATHS: dict[tuple[str, ...], _Named] = {
    ("agent", "data_dir"): "new folder",
    ("model", "bundle"): "bundle",
    ("model", "checkpoint"): "file",
    ("recipes", "*", "reference", "features"): "bundle",
    ("mqtt", "tls", "ca"): "file",
    ("mqtt", "tls", "cert"): "file",
    ("mqtt", "tls", "key"): "file",
    ("stations", "*", "camera", "path"): "folder",
}
"""Settings that name something in the file system; ``*`` is any name."""


def problems(data: Data, tree: Node) -> list[Problem]:
    """Return what is wrong between the settings.

    Args:
        data: the config with its references resolved; of any shape.
        tree: the same as it is written, for lines and messages.
    """
    return [*_unknown_recipes(data, tree), *_unpinned_references(data, tree), *_shared_devices(data, tree)]


def anchored(config: Config, folder: Path) -> Config:
    """Return `config` with every relative path made absolute, starting at `folder`."""
    changed: object = config
    for pattern, named in _PATHS.items():
        changed = _changed(changed, pattern, partial(_absolute, named=named, folder=folder))
    changed = _changed(changed, ("stations", "*", "camera"), partial(_absolute_clip, folder=folder))
    return cast(Config, changed)


def missing(data: Data, tree: Node, folder: Path) -> Iterator[tuple[yaml_tree.Path, Problem]]:
    """Yield what the settings name in the file system and is not there: which setting, and in words.

    Args:
        data: the config with its references resolved; of any shape.
        tree: the same as it is written, for lines and messages.
        folder: where relative paths start.
    """
    for path, value, named in _named_files(data):
        if has_reference(value):  # one that leads nowhere, which is told elsewhere
            continue
        what = _missing(folder / value, named)
        if what:
            node = tree.get(path)
            written = _written(node, path)
            absolute = Path(value).is_absolute()
            hint = "name another" if absolute else f"relative paths start at {str(folder)!r}"
            yield path, tree.problem(path, f"{what} {written}: {hint}")


def _named_files(data: Data) -> Iterator[tuple[yaml_tree.Path, str, _Named]]:
    for pattern, named in _PATHS.items():
        for path, value in _matching(data, pattern):
            if isinstance(value, str) and _is_path(value, named):
                yield path, value, named
    for path, camera in _matching(data, ("stations", "*", "camera")):
        source = camera.get("source") if isinstance(camera, dict) else None
        if isinstance(camera, dict) and isinstance(source, str):
            written: dict[str, Any] = {"source": SecretStr(source), "backend": camera.get("backend", "auto")}
            if OpenCVCamera.model_construct(**written).medium == "clip" and _is_name(source):
                yield (*path, "source"), source, "file"


def _is_name(source: str) -> bool:
    """Whether a source may be a file; what is meant as an address has its problem already."""
    try:
        check_source(source)
    except AddressError:
        return False
    return True


def _written(node: Node | None, path: yaml_tree.Path) -> str:
    if node is None:
        return ""
    # It may be an address without its beginning.
    named = isinstance(node.value, str) and path[-1:] == ("source",)
    return shown(shown_name(str(node.value)) if named else node.value)


def _missing(path: Path, named: _Named) -> str | None:
    try:
        if named == "new folder":
            there = next(place for place in (path, *path.parents) if place.exists())
            return None if there.is_dir() else "is a file, not a folder:"
        if named in ("folder", "bundle"):
            return None if path.is_dir() else "no such folder:"
        return None if path.is_file() else "no such file:"
    except OSError as error:  # a name that is too long, a folder that must not be entered
        return f"cannot be looked at ({error.strerror}):"


def _unknown_recipes(data: Data, tree: Node) -> Iterator[Problem]:
    own = data.get("recipes") if isinstance(data, dict) else None
    known = own if isinstance(own, dict) else {}
    for path, name in _named_recipes(data):
        if (
            isinstance(name, str)
            and name not in known
            and name not in shipped_names()
            and not has_reference(name)
        ):
            node = tree.get(path)
            written = str(node.value) if node else name
            yield tree.problem(path, unknown_recipe(written, known))


def _named_recipes(data: Data) -> Iterator[tuple[yaml_tree.Path, Data]]:
    """Yield every place where a station names a recipe, and what stands there."""
    yield from _matching(data, ("stations", "*", "recipe"))
    for path, products in _matching(data, ("stations", "*", "products")):
        for number, one in enumerate(products if isinstance(products, list) else []):
            if isinstance(one, dict) and "recipe" in one:
                yield (*path, number, "recipe"), one["recipe"]


def _shared_devices(data: Data, tree: Node) -> Iterator[Problem]:
    users: dict[str, str] = {}
    for path, source in _matching(data, ("stations", "*", "camera", "source")):
        device = _device(source)
        if device and device in users:
            what = f"the same device as in stations.{users[device]}: use another"
            yield tree.problem(path, what)
        elif device:
            users[device] = str(path[1])


def _unpinned_references(data: Data, tree: Node) -> Iterator[Problem]:
    """Yield locked stations whose reference may change: golden samples are added while the agent runs."""
    for path, mode in _matching(data, ("stations", "*", "adaptation", "mode")):
        if mode != "locked":
            continue
        station, adaptation = path[:2], path[:3]
        recipes = (str(name) for _, name in _matching(data, (*map(str, station), "recipe")))
        compared = any(
            settings is not None
            for name in recipes
            for _, settings in _matching(data, ("recipes", name, "reference"))
        )
        pins = _matching(data, (*map(str, adaptation), "pins", "reference"))
        if compared and not any(pinned for _, pinned in pins):
            what = "mode: locked needs pins for reference: its recipe compares parts"
            yield tree.problem(adaptation, what)


def _device(source: Data) -> str | None:
    """Return the V4L2 device that `source` means, None where it is something else."""
    text = str(source)
    if text.isdecimal() and text.isascii() and len(text) < 6:
        return f"/dev/video{int(text)}"
    return text if text.startswith("/dev/") else None


def _matching(
    data: Data, pattern: tuple[str, ...], at: yaml_tree.Path = ()
) -> Iterator[tuple[yaml_tree.Path, Data]]:
    """Yield path and value of everything in `data` that `pattern` matches."""
    if not pattern:
        yield at, data
    elif isinstance(data, dict):
        for key in data if pattern[0] == "*" else pattern[:1]:
            if key in data:
                yield from _matching(data[key], pattern[1:], (*at, key))


def _changed(value: object, pattern: tuple[str, ...], change: Callable[[object], object]) -> object:
    """Return `value` with `change` made to what `pattern` matches in it."""
    if not pattern:
        return change(value)
    if isinstance(value, dict):
        return {key: _changed(item, pattern[1:], change) for key, item in value.items()}
    if isinstance(value, BaseModel) and pattern[0] in type(value).model_fields:
        changed = _changed(getattr(value, pattern[0]), pattern[1:], change)
        return value.model_copy(update={pattern[0]: changed})
    return value


def _absolute(value: object, named: _Named, folder: Path) -> object:
    return str(folder / value) if isinstance(value, str) and _is_path(value, named) else value


def _absolute_clip(camera: object, folder: Path) -> object:
    if not isinstance(camera, OpenCVCamera) or camera.medium != "clip":
        return camera
    return camera.model_copy(update={"source": SecretStr(str(folder / camera.source.get_secret_value()))})


def _is_path(text: str, named: _Named) -> bool:
    return named != "bundle" or "/" in text  # otherwise the name of a shipped one
