"""What a client may ask about the config: to read it again, and to set a station's settings over it."""

from __future__ import annotations

from agent.commands.bodies import Setting
from agent.commands.dispatcher import Handler
from agent.commands.schema import Command
from agent.config.overrides import NAMES, Name
from agent.domain.command_answer import Answer, refused
from agent.reload.reloader import Reloader, ReloadOutcome


class ConfigHandlers:
    """Does `reload` and what ``S/<name>/set`` asks; the main thread uses it.

    Args:
        reloader: of the config in force.
    """

    def __init__(self, reloader: Reloader) -> None:
        self._reloader = reloader

    def handlers(self) -> dict[str, Handler]:
        """Return verb -> what does it."""
        return {"reload": self._reload, **{f"set/{name}": self._setting(name) for name in NAMES}}

    def _reload(self, command: Command) -> Answer:
        return _told(self._reloader.reload(command.actor))

    def _setting(self, name: Name) -> Handler:
        def put(command: Command) -> Answer:
            assert command.station is not None
            assert isinstance(command.body, Setting)
            return _told(self._reloader.set(command.station, name, command.body.value, command.actor))

        return put


def _told(outcome: ReloadOutcome) -> Answer:
    """Return the answer; what changed from what to what stands in the trail by the reloader."""
    if outcome.state == "refused":
        return refused("; ".join(outcome.problems[:3]))
    data = {"state": outcome.state, "changes": [{"key": c.key, "effect": c.effect} for c in outcome.changes]}
    return Answer("done", None, data)
