"""Which view of its pictures a station's baseline was measured with; the station goes on with it."""

from __future__ import annotations

from typing import cast, get_args

from adapters.baseline.baseline import Commissioning
from adapters.core.adapter import AdapterError
from adapters.core.measured_picture import MeasuredPicture
from adapters.core.protocol import Preprocess
from agent.config.loader import Loaded
from agent.config.recipes import find_recipe
from agent.versions.commissioned import Commissioned, Uncommissioned, commissioning_file
from agent.versions.station_picture import known_of, picture_of
from camera.pictures.view import ViewSetting, native


def measured_view(found: Commissioned | Uncommissioned, spec: Preprocess) -> ViewSetting | None:
    """Return the view that a station's baseline was measured with; None where it has none that is used.

    One whose file does not say it was measured with the model's own: older releases knew no other.

    Args:
        found: what is there of the station's learning.
        spec: of the model.
    """
    return None if isinstance(found, Uncommissioned) else _view_of(found.pictures, spec)


def stored_view(loaded: Loaded, station: str, weights: str, spec: Preprocess) -> ViewSetting | None:
    """Return the same of what lies in the data folder, without opening the model.

    Args:
        loaded: the config.
        station: its name.
        weights: digest of the model's.
        spec: of the model.
    """
    recipe = find_recipe(loaded.config.stations[station].recipe, loaded.config.recipes)
    file, mode = commissioning_file(loaded.config, station), spec.resize_mode
    try:
        clean = Commissioning.load(file)
        clean.require(weights, recipe.words)
    except AdapterError:
        return None  # there is none, or none that is used; whoever opens the station says what is wrong
    known = known_of(clean.digest, clean.measured, file.parent, mode)
    if known.differs_from(picture_of(loaded.config.stations[station], mode)):
        return None
    return _view_of(known, spec)


def _view_of(pictures: MeasuredPicture | None, spec: Preprocess) -> ViewSetting:
    said = None if pictures is None else pictures.view
    return cast(ViewSetting, said) if said in get_args(ViewSetting) else native(spec.resize_mode)
