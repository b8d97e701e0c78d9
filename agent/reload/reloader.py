"""The config in force: the file and what was set over it, brought into force while the line runs."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from adapters.engines.factory import ModelSettings
from agent.audit.agent_log import Trail
from agent.base.codec import JSON, timestamp
from agent.base.errors import AgentError, ConfigError
from agent.config import overrides
from agent.config.diff import SettingChange, changes, in_force
from agent.config.loader import Loaded, load, load_text
from agent.config.overrides import Name, Value
from agent.domain.conditions import Condition
from agent.reload import last_known_good
from agent.reload.restart_check import require_startable

log = logging.getLogger(__name__)

MAX_REQUESTS = 100
_SHOWN = 20
_AGAIN_S = 5.0

State = Literal["applied", "unchanged", "refused"]


@dataclass(frozen=True, slots=True)
class ReloadOutcome:
    """What became of a config.

    Attributes:
        state: ``applied``: everything that can be in force without a restart is.
        changes: every difference to what was in force, those that wait for a restart included.
        problems: why it was refused, one line each, as `ConfigError` has them; nothing has changed then.
    """

    state: State
    changes: tuple[SettingChange, ...] = ()
    problems: tuple[str, ...] = ()


Apply = Callable[[Loaded, Sequence[SettingChange]], None]
"""Brings a config into force as far as a running agent can; raises AgentError where nothing of it was."""


class Reloader:
    """Owns the config in force; the main thread uses it, any may `ask`. Beyond 100 requests they are one.

    Args:
        file: the config file as it was read.
        now: what is in force.
        kept: what of it was set over the file.
        apply: see `Apply`.
        trail: of the agent.
        refused: what is wrong with the file, where `file` is the one that was good last.
        wake: called when there is something to serve.
        unusable: the model that the start could not open, where that is why the file was refused: it is
            refused as long as the file names it. Only a start can tell whether it has become good.
    """

    def __init__(
        self,
        file: Loaded,
        now: Loaded,
        kept: overrides.Overrides,
        apply: Apply,
        trail: Trail,
        refused: Sequence[str] = (),
        wake: Callable[[], None] = lambda: None,
        unusable: ModelSettings | None = None,
    ) -> None:
        self.now = now
        self._file = file
        self._apply, self._trail, self._wake = apply, trail, wake
        self._data = Path(now.config.agent.data_dir)
        self._again_at = 0.0
        self._fallback = bool(refused)
        self._refused = tuple(refused)
        self._unusable, self._why_unusable = unusable, tuple(refused)
        self._pending: tuple[SettingChange, ...] = ()
        self._since = datetime.now(UTC)
        self._asked: deque[str] = deque(maxlen=MAX_REQUESTS)
        self._keep(kept)

    def ask(self, actor: str) -> None:
        """Have the file read again; any thread or signal handler.

        Args:
            actor: who asks: ``file`` where it was saved, a signal, a person.
        """
        self._asked.append(actor)
        self._wake()

    def serve(self) -> None:
        """Do what was asked."""
        if actors := dict.fromkeys(self._asked.popleft() for _ in range(len(self._asked))):
            self.reload(", ".join(actors))

    def reload(self, actor: str) -> ReloadOutcome:
        """Read the file, and bring it into force as far as that can be done now."""
        try:
            file = load(self._file.path, self._file.unchanged)
            wanted, kept = overrides.applied(file, self._overrides)
            self._require_startable(wanted)
            outcome = self._bring(wanted, actor)
        except AgentError as error:
            return self._refuse(actor, error)
        if kept != self._overrides:
            self._keep(kept)
        if self._refused or self._fallback:
            log.info("config: good again")
        self._file, self._refused, self._fallback = file, (), False
        if outcome.state == "unchanged":
            log.info("config: read again, nothing has changed")
        self.keep_last_good()
        return outcome

    def look_again(self, now: float) -> None:
        """Take what was missing and is there now: a password, a certificate, a folder.

        Args:
            now: `time.monotonic`.
        """
        if not self._file.absent or now < self._again_at:
            return
        self._again_at = now + _AGAIN_S
        try:
            file = load_text(self._file.text, self._file.path, self._file.unchanged)
            back = [one for one in self._file.absent if one.path not in {each.path for each in file.absent}]
            if not back:
                return
            wanted, _ = overrides.applied(file, self._overrides)
            self._bring(wanted, "agent")
        except AgentError as error:
            log.error("config: what is there again cannot be used: %s", error)
            return
        for one in back:
            log.info("%s: is there now", one.what)
        self._file = file

    def set(self, station: str, name: Name, value: Value, actor: str) -> ReloadOutcome:
        """Set one setting of a station over what the file says; it outlives a restart."""
        try:
            wished = overrides.with_set(self._file, self._overrides, station, name, value)
            wanted, kept = overrides.applied(self._file, wished)
            outcome = self._bring(wanted, actor)
        except AgentError as error:
            self._trail.record("set_refused", actor, error.problems[0], after={station: {name: value}})
            return ReloadOutcome("refused", problems=error.problems)
        self._keep(kept)
        return outcome

    def keep_last_good(self) -> None:
        """Keep the file for a start with a broken one, if everything in it is in force."""
        if self._pending or self._fallback:
            return
        try:
            last_known_good.keep(self._file)
        except OSError as error:
            log.error("config: cannot be kept for a start with a broken one: %s", error)

    def conditions(self) -> list[Condition]:
        """Return what is wrong with the file."""
        if not self._refused:
            return []
        more = f", and {len(self._refused) - 1} more" if len(self._refused) > 1 else ""
        model = self._unusable is not None and self._refused == self._why_unusable
        again = "; the next start tries it again" if model else ""
        kept = f"the last good one is in force{again}"
        return [Condition("config_refused", "config", f"{self._refused[0]}{more}; {kept}")]

    def shown(self) -> JSON:
        """Return what `P/info` says of the config."""
        return {
            "digest": self.now.digest,
            "file": str(self._file.path),
            "since": timestamp(self._since),
            "source": "last_good" if self._fallback else "file",
            "refused": list(self._refused[:_SHOWN]),
            "pending": [change.key for change in self._pending[:_SHOWN]],
            "set": [
                {"station": one.station, "name": one.name, "value": one.value, "file": one.file}
                for one in self._overrides
            ],
        }

    def _require_startable(self, wanted: Loaded) -> None:
        """Raise ConfigError where a restart would refuse what is wanted."""
        if self._unusable is not None and wanted.config.model == self._unusable:
            raise ConfigError(self._why_unusable)
        require_startable(self.now, wanted)

    def _bring(self, wanted: Loaded, actor: str) -> ReloadOutcome:
        found = changes(self.now, wanted)
        pending = tuple(change for change in found if change.effect == "restart")
        now = in_force(self.now, wanted)
        # Also where no setting is another one: certificates behind the same names may be.
        self._apply(now, found)
        fresh = tuple(change for change in found if change not in self._pending)
        self._pending = pending
        if not fresh:
            return ReloadOutcome("unchanged", found)
        self.now, self._since = now, datetime.now(UTC)
        self._record(actor, fresh)
        return ReloadOutcome("applied", found)

    def _refuse(self, actor: str, error: AgentError) -> ReloadOutcome:
        problems = error.problems
        if problems != self._refused:
            for line in problems:
                log.error("config refused: %s", line)
            self._trail.record("config_refused", actor, problems[0], numbers={"problems": len(problems)})
        self._refused = problems
        return ReloadOutcome("refused", problems=problems)

    def _record(self, actor: str, fresh: Sequence[SettingChange]) -> None:
        for change in fresh:
            log.info("config: %s", change)
        self._trail.record(
            "config",
            actor,
            f"{len(fresh)} settings changed",
            before={change.key: change.before for change in fresh},
            after={change.key: change.after for change in fresh},
        )

    def _keep(self, kept: overrides.Overrides) -> None:
        self._overrides = kept
        try:
            overrides.write(self._data, kept)
        except OSError as error:
            log.error("config: what was set does not outlive a restart: %s", error)
