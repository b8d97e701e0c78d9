"""Sources of pictures and feeds, as the config says them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Container
from dataclasses import asdict
from functools import partial
from pathlib import Path

from adapters.core.protocol import Preprocess
from agent.base.errors import ConfigError
from agent.base.thread_priority import SERVING, lower_priority
from agent.config.loader import Loaded
from agent.config.models import Station
from camera.core.frame import CameraError
from camera.core.source import Source
from camera.feed.gate import Gate
from camera.feed.mailbox import Mailbox
from camera.feed.stats import Past
from camera.feed.thread import Feed
from camera.feed.view import FeedSettings
from camera.pictures import preprocess
from camera.sources.factory import open_source
from camera.sources.waiting import Waiting

_NOTHING = Past()

log = logging.getLogger(__name__)


def open_sources(
    loaded: Loaded, running: Container[str] = (), *, starting: bool = False
) -> dict[str, Source]:
    """Open the source of every enabled station.

    Args:
        loaded: the config.
        running: stations that have theirs already.
        starting: a camera that cannot be opened is no mistake of an edit; it waits alone, and the others run.

    Raises:
        ConfigError: what some of them name is no source; all of these at once.
    """
    sources: dict[str, Source] = {}
    problems = []
    enabled = {name: station for name, station in loaded.config.stations.items() if station.enabled}
    for name, station in enabled.items():
        if name in running:
            continue
        absent = loaded.lacking("stations", name, "camera")
        if absent is not None and absent.reference:
            # Not with half of its address: some cameras lock out who comes with a wrong password.
            sources[name] = Waiting(station.camera, absent.what, again=False)
            continue
        keep = Path(loaded.config.agent.data_dir) / "folders" / name
        try:
            sources[name] = open_source(station.camera, keep)
        except (CameraError, OSError) as error:
            if starting or absent is not None:
                log.error("station %s: %s; the others run, it is tried again", name, error)
                sources[name] = Waiting(station.camera, str(error), keep=keep)
            else:
                problems.append(loaded.problem(("stations", name, "camera"), str(error)))
    if not enabled:
        problems.append(loaded.problem(("stations",), "none is enabled: set enabled: true on one"))
    if problems:
        raise ConfigError(problems)
    return sources


def feed_settings(station: Station, gate: Gate | None = None) -> FeedSettings:
    """Return how a station's pictures are looked at.

    Args:
        station: its config.
        gate: of its triggers, where it has any.
    """
    trigger = station.trigger
    return FeedSettings(
        roi=station.roi,
        limits=station.quality,
        every_s=trigger.every_s if trigger.mode == "interval" else None,
        gate=gate,
    )


def open_feed(
    name: str,
    station: Station,
    source: Source,
    mailbox: Mailbox,
    spec: Preprocess,
    on_crash: Callable[[BaseException], None],
    before: Feed | Past = _NOTHING,
    gate: Gate | None = None,
) -> Feed:
    """Return the feed of a station, not started yet.

    Args:
        name: of the station.
        station: region, limits of quality and trigger.
        source: what it gives on.
        mailbox: where to.
        spec: of the model.
        on_crash: told what ended its thread.
        before: the station's feed until now, or what it was.
        gate: of its triggers, where it has any.
    """
    return Feed(
        name,
        source,
        mailbox,
        preprocess.InputSpec(**asdict(spec)),
        feed_settings(station, gate),
        on_crash=on_crash,
        before=before,
        prelude=partial(lower_priority, SERVING),
    )
