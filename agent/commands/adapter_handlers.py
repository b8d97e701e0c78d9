"""What an agent does when it is asked over MQTT: one small function per verb."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from adapters.core.adapter import AdapterError, AdapterFileError
from adapters.core.protocol import Engine
from adapters.core.version import SOURCE
from adapters.core.version_store import AdapterStore, UnknownVersion
from agent import __version__
from agent.base.codec import JSON, timestamp
from agent.commands.bodies import AboutStation, AboutVersion
from agent.commands.dispatcher import Handler
from agent.commands.schema import Command
from agent.domain.command_answer import Answer, refused
from agent.versions.commissioned import Commissioned, Uncommissioned
from agent.versions.learner_memory import Memory
from agent.versions.operator_requests import Kind, Request, ask

log = logging.getLogger(__name__)

_ASKED: tuple[Kind, ...] = ("rollback", "activate", "pin", "unpin", "freeze", "resume", "reset")


class AdapterHandlers:
    """Does what `agent.commands.dispatcher` hands on; the main thread uses it.

    Args:
        stations: asked what there is of each running station's learning.
        engine: whose versions they are.
        stats: what ``P/stats`` says now.
    """

    def __init__(
        self,
        stations: Callable[[], Mapping[str, Commissioned | Uncommissioned]],
        engine: Engine,
        stats: Callable[[], JSON],
    ) -> None:
        self._stations = stations
        self._engine = engine
        self._stats = stats
        self._began = time.monotonic()

    def handlers(self) -> dict[str, Handler]:
        """Return verb -> what does it."""
        found: dict[str, Handler] = {
            "ping": self._ping,
            "stats": lambda command: Answer("done", data=self._stats()),
            "adapter/list": _told(self._list),
            "adapter/show": _told(self._show),
        }
        return found | {f"adapter/{kind}": _told(self._asking(kind)) for kind in _ASKED}

    def _ping(self, command: Command) -> Answer:
        return Answer("done", data={"version": __version__, "up_s": round(time.monotonic() - self._began, 1)})

    def _list(self, command: Command) -> Answer:
        found = self._commissioned(command)
        if isinstance(found, Answer):
            return found
        store = self._store(found)
        answers = store.active()
        active = answers.number
        rows: list[JSON] = [{"number": SOURCE, "active": active == SOURCE, "origin": "source"}]
        for number in store.numbers():
            row = {"number": number, "active": number == active, "pinned": number in store.pinned}
            try:
                rows.append(row | _short(store.load(number).facts()))
            except UnknownVersion:  # the learner removed it a moment ago
                continue
            except AdapterFileError as error:
                rows.append(row | {"damaged": str(error)})
        frozen_by = Memory.read(answers.learner).frozen_by
        return Answer("done", data={"versions": rows, "frozen_by": frozen_by})

    def _show(self, command: Command) -> Answer:
        found = self._commissioned(command)
        if isinstance(found, Answer):
            return found
        assert isinstance(command.body, AboutVersion)
        number, store = command.body.number, self._store(found)
        try:
            facts = {"number": 0, "origin": "source"} if number == SOURCE else store.load(number).facts()
        except AdapterError as error:
            return refused(_known(error, store))
        active = store.active().number == number
        return Answer("done", data={**facts, "active": active, "pinned": number in store.pinned})

    def _asking(self, kind: Kind) -> Callable[[Command], Answer]:
        """Return what leaves a request for the station's learner, as `mekiki adapter` does."""

        def leave(command: Command) -> Answer:
            found = self._commissioned(command)
            if isinstance(found, Answer):
                return found
            assert isinstance(command.body, AboutStation)
            number = command.body.number if isinstance(command.body, AboutVersion) else None
            if found.settings.mode == "locked":
                return refused("mode locked: nothing changes what answers")
            if number == SOURCE and kind in ("pin", "unpin"):
                return refused("0 is the model as it was trained: it is always there")
            store = self._store(found)
            try:
                if number:
                    store.load(number)
                request = Request(
                    kind=kind,
                    actor=command.actor,
                    at=timestamp(datetime.now(UTC)),
                    number=number,
                    why=command.body.why or "",
                )
                ask(found.requests, request)
            except AdapterError as error:
                return refused(_known(error, store))
            before = {"number": store.active().number}
            return Answer(
                "accepted",
                "the station's learner takes it within a second; S/adapter/event tells",
                {"request": request.id},
                before,
                {"kind": kind, "number": number, "request": request.id},
            )

        return leave

    def _commissioned(self, command: Command) -> Commissioned | Answer:
        """Return the station that a command is about, or why it is about none that learns."""
        name, stations = command.station, self._stations()
        if name is None and len(stations) == 1:
            name = next(iter(stations))
        if name is None:
            return refused(f"which station? there is {', '.join(stations)}")
        found = stations.get(name)
        if found is None:
            return refused(f"no station {name!r} runs: there is {', '.join(stations)}")
        return found if isinstance(found, Commissioned) else refused(found.why)

    def _store(self, found: Commissioned) -> AdapterStore:
        """Open the versions anew: the learner, another process, writes them."""
        return AdapterStore(found.store.folder, self._engine.source, self._engine.info.weights, reading=True)


def _told(handler: Callable[[Command], Answer]) -> Handler:
    """Return the handler that refuses where the data folder cannot be used: a client's wish ends no agent."""

    def tell(command: Command) -> Answer:
        try:
            return handler(command)
        except AdapterError as error:
            log.error("%s: %s", command.verb, error)
            return refused("what is stored of the versions cannot be used: the agent's journal says why")
        except OSError as error:
            log.error("%s: %s", command.verb, error)
            return refused(f"the data folder cannot be used now: {error.strerror or error}")

    return tell


def _short(facts: dict[str, Any]) -> JSON:
    return {name: facts[name] for name in ("origin", "made_at", "parent", "digest", "offset", "window")}


def _known(error: AdapterError, store: AdapterStore) -> str:
    """Return what a client may read: no path of this machine."""
    if isinstance(error, UnknownVersion):
        return f"no such version: there is {', '.join(map(str, [0, *store.numbers()]))}"
    return "this version cannot be used: the agent's journal says why"
