"""What a restart would refuse, found out before: settings that cannot be tried while the line runs.

The same functions say it that the start asks. Nothing is opened: a second model needs as much memory again.
"""

from __future__ import annotations

import os
from pathlib import Path

from adapters.bundle.manifest import read_manifest
from adapters.bundle.reader import bundle_path
from adapters.core.adapter import AdapterError
from adapters.engines.factory import require_possible
from agent.base.errors import ConfigError
from agent.config.loader import Loaded
from agent.mqtt.embedded_broker import require_amqtt
from agent.sparkplug.payload import require_protobuf


def require_startable(now: Loaded, wanted: Loaded) -> None:
    """Make sure that the agent could start with what waits for a restart.

    Args:
        now: what is in force.
        wanted: what is to be, after a restart.

    Raises:
        ConfigError: it could not, with all reasons that can be seen from here.
    """
    before, after, problems = now.config, wanted.config, []
    if after.model != before.model:
        try:
            require_possible(after.model)
        except AdapterError as error:
            problems.append(wanted.problem(("model",), str(error)))
        else:
            problems += _pinned_to_another(wanted)
    if after.agent.data_dir != before.agent.data_dir:
        problem = unwritable(Path(after.agent.data_dir))
        problems += [] if problem is None else [wanted.problem(("agent", "data_dir"), problem)]
    packages = (
        (after.sparkplug.enabled and not before.sparkplug.enabled, require_protobuf),
        (after.mqtt.embedded_broker and not before.mqtt.embedded_broker, require_amqtt),
    )
    for is_new, require in packages:
        try:
            if is_new:
                require()
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)


def _pinned_to_another(wanted: Loaded) -> list[str]:
    """Return the pins that other weights are pinned to than the model's; those of torch are not known yet."""
    model = wanted.config.model
    if model.engine == "torch":
        return []
    weights = read_manifest(bundle_path(model.bundle))[0].weights
    return [
        wanted.problem(
            ("stations", name, "adaptation", "pins", "weights"),
            f"is pinned to {station.adaptation.pins.weights}, the model has {weights}",
        )
        for name, station in wanted.config.stations.items()
        if station.enabled and station.adaptation.pins.weights not in (None, weights)
    ]


def unwritable(folder: Path) -> str | None:
    """Say why a data folder cannot be had by this user; None where it can, or can be made."""
    try:
        existing = nearest(folder)
    except OSError as error:
        return f"{folder}: {error.strerror}"
    if not existing.is_dir():
        return f"{folder}: {existing} is no folder"
    if not os.access(existing, os.W_OK | os.X_OK):
        return f"{folder}: {existing} cannot be written by this user"
    return None


def nearest(folder: Path) -> Path:
    """Return the folder, or what there is of the path to it.

    Raises:
        OSError: that cannot be looked at.
    """
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())
