"""What a client may ask about results: to have them again, and to say what a part really was."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from datetime import UTC, datetime

import numpy as np

from agent.base.codec import timestamp
from agent.commands.bodies import LabelBody, Range
from agent.commands.dispatcher import Handler
from agent.commands.schema import Command
from agent.config.models import Config
from agent.config.recipes import UNKNOWN, find_recipe, recipe_names
from agent.domain.command_answer import Answer, refused
from agent.domain.verdict import Verdict
from agent.learning.ipc import Label as Told
from agent.learning.labelled_parts import REMEMBERED
from agent.mqtt.publisher import Publisher
from agent.store.database import DiskTrouble
from agent.store.labels import Labelled, UnknownEvent
from agent.store.store import Store

_ID_LENGTH = 26
"""Letters of an event id."""
WORDS = {"good": False, "defective": True}
"""Labels that any recipe takes, and whether they mean a defect."""


class NoLabel(Exception):
    """A part of this recipe cannot be that; says what it can be."""


def is_defect(label: str, recipe: str | None, config: Config, station: str) -> bool:
    """Return whether a label means a defect.

    Args:
        label: a class of the recipe that the part was judged by, or one of `WORDS`; `UNKNOWN` where that
            compares parts with a reference: a defect that no class names.
        recipe: name of that recipe; None: not known.
        config: what is in force now.
        station: where the part was judged: its recipe counts where the part's own is gone.

    Raises:
        NoLabel: it is neither.
    """
    there = recipe is not None and recipe in recipe_names(config.recipes)
    name = recipe if recipe is not None and there else config.stations[station].recipe
    its = find_recipe(name, config.recipes)
    classes = its.classes
    if its.reference is not None and label == UNKNOWN:
        return True
    if label in classes:
        return classes[label].verdict == "fail"
    if label in WORDS:
        return WORDS[label]
    known = [*WORDS, *classes, *([] if its.reference is None else [UNKNOWN])]
    raise NoLabel(f"the label is none of {', '.join(known)}")


class RecentParts:
    """The frame numbers of the last 10 000 results: a learner knows parts by these. The oldest go first.

    Owns the numbers. The inspector's thread adds, any may ask.
    """

    def __init__(self, keep: int = REMEMBERED) -> None:
        self._lock = threading.Lock()
        # Taken at once, so that the process does not grow for as long as it takes to fill them.
        self._ids = np.full(keep, b"", f"S{_ID_LENGTH}")
        self._frames = np.zeros(keep, np.int64)
        self._next = 0

    def add(self, verdicts: Iterable[Verdict]) -> None:
        """Remember what was decided."""
        with self._lock:
            for verdict in verdicts:
                if verdict.frame:
                    self._ids[self._next] = verdict.event_id.encode()
                    self._frames[self._next] = verdict.frame
                    self._next = (self._next + 1) % len(self._ids)

    def frame(self, event_id: str) -> int | None:
        """Return the number of a result's frame; None where it was long ago, or before the start."""
        if len(event_id) != _ID_LENGTH or not event_id.isascii():
            return None
        with self._lock:
            (found,) = np.nonzero(self._ids == event_id.encode())
            return int(self._frames[found[0]]) if len(found) else None


class ResultHandlers:
    """Does `label` and `replay`; the main thread asks, the publisher's answers.

    Args:
        config: what is in force now.
        recent: frames of recent results.
        tell: takes what a part really was to the station's learner; any thread may call it.
    """

    def __init__(
        self,
        config: Callable[[], Config],
        publisher: Publisher,
        recent: RecentParts,
        tell: Callable[[Told], None],
    ) -> None:
        self._config = config
        self._publisher = publisher
        self._recent = recent
        self._tell = tell

    def handlers(self) -> dict[str, Handler]:
        """Return verb -> what does it."""
        return {"replay": self._replay, "label": self._label}

    def _replay(self, command: Command) -> Answer | Future[Answer]:
        assert isinstance(command.body, Range)
        stations, station = self._config().stations, command.station
        if station is None and len(stations) == 1:
            station = next(iter(stations))
        if station is None:
            return refused(f"which station? there is {', '.join(stations)}")
        # A station that is no longer in the config may still have results.
        return self._publisher.repeat(station, command.body.from_seq, command.body.to_seq)

    def _label(self, command: Command) -> Answer | Future[Answer]:
        assert isinstance(command.body, LabelBody)
        assert command.station is not None
        said, config = command.body, self._config()
        if command.station not in config.stations:
            return refused(f"no station is called {command.station!r}: there is {', '.join(config.stations)}")
        station, actor = command.station, command.actor

        def write(store: Store) -> Answer:
            def check(labelled: Labelled) -> None:
                if labelled.station != station:  # raised before it is written
                    raise UnknownEvent(f"{said.event_id}: is a result of another station")
                is_defect(said.label, labelled.recipe, config, station)

            try:
                labelled = store.label(said.event_id, said.label, actor, timestamp(datetime.now(UTC)), check)
            except (UnknownEvent, NoLabel) as error:
                return refused(str(error))
            except DiskTrouble:
                return refused("the store does not take it now: say it again later")
            frame = self._recent.frame(said.event_id)
            if labelled.changed and frame is not None:
                recipe = labelled.recipe or config.stations[station].recipe
                defect = is_defect(said.label, recipe, config, station)
                self._tell(Told(station, frame, defect, actor, recipe))
            data = {"event_id": said.event_id, "seq": labelled.seq, "verdict": labelled.verdict}
            return Answer("done", None, {**data, "label": labelled.label}, labelled.before, labelled.label)

        return self._publisher.label(write)
