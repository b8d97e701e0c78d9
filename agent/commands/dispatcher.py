"""The dispatcher: who asks what over MQTT is heard, obeyed once if the config allows it, and answered."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any

from agent.base.codec import JSON, dumps
from agent.base.rate_limiter import RateLimiter
from agent.base.wire import ANSWER_SCHEMA
from agent.commands.answer_cache import AnswerCache
from agent.commands.schema import Command, Refusal, Reply, read
from agent.config.models_mqtt import CommandSettings, MqttSettings
from agent.config.overrides import NAMES
from agent.domain.command_answer import Answer, one_line, refused
from agent.mqtt.bounded_inbox import Inbox
from agent.mqtt.messages import Inbound, Message
from agent.mqtt.retained_topics import RetainedTopics
from agent.payloads import agent_payload

log = logging.getLogger(__name__)

ANSWER_EXPIRY_S = 60
"""An answer is of no use to a client who comes back later than this."""
_REFUSALS_A_TURN = 64
_TELL_S = 10.0

Handler = Callable[[Command], "Answer | Future[Answer]"]
"""Does what a command asks; one that has to wait for another thread gives a future."""
Record = Callable[[str, str, str, Any, Any], object]
"""Adds to the agent's audit trail: event, actor, why, before, after."""


@dataclass(slots=True)
class CommandStats:
    """What became of messages since the start; one that came twice counts twice as received."""

    obeyed: int = 0
    refused: int = 0
    unanswered: int = 0
    retained: int = 0


class Dispatcher:
    """Owns the answers that were given. `serve` and everything below happen in one thread, the main one.

    `receive` is the connection's: it leaves a message in the inbox, which never waits. Work is bounded:
    `commands.per_s` commands are obeyed, and of those that are too many 64 a turn are told so.

    Args:
        settings: of MQTT.
        agent: id of the agent.
        handlers: verb -> what does it; a verb without one is not possible in this agent.
        retained: takes the answers.
        again: shows ``S/<name>/state`` again, after a set that may have been refused.
        record: takes a line of the audit trail for each command that a handler carried out or refused.

    Attributes:
        stats: what became of what came.
    """

    def __init__(
        self,
        settings: MqttSettings,
        agent: str,
        handlers: Mapping[str, Handler],
        retained: RetainedTopics,
        again: Callable[[str, str], None] = lambda station, name: None,
        record: Record = lambda event, actor, why, before, after: None,
    ) -> None:
        self.stats = CommandStats()
        self._settings = settings.commands
        self._prefix = settings.topic_prefix
        self._own = f"{settings.topic_prefix}/{agent}"
        self._agent = agent
        self._handlers = handlers
        self._retained = retained
        self._again = again
        self._record = record
        self._inbox = Inbox()
        self._pace = RateLimiter(self._settings.per_s)
        self._answers = AnswerCache()
        self._waiting: list[tuple[Future[Answer], Command, float]] = []
        self._told_at = float("-inf")
        self._told_retained = False
        self._not_told = 0

    @staticmethod
    def filters(own: str) -> tuple[str, ...]:
        """Return what to listen to, below ``<topic_prefix>/<agent id>``."""
        return (
            f"{own}/cmd/request/#",
            f"{own}/+/label",
            f"{own}/+/trigger",
            *(f"{own}/+/{name}/set" for name in NAMES),
        )

    def receive(self, inbound: Inbound) -> None:
        """Take a message over; from the connection's thread."""
        self._inbox.put(inbound)

    def use(self, settings: CommandSettings) -> None:
        """Obey by these from now on."""
        if settings.per_s != self._settings.per_s:
            self._pace = RateLimiter(settings.per_s)
        self._settings = settings

    def shown(self) -> JSON:
        """Return the counters for ``P/stats``; any thread may ask."""
        return {
            "received": self._inbox.received,
            "obeyed": self.stats.obeyed,
            "refused": self.stats.refused,
            "unanswered": self.stats.unanswered + self._inbox.lost,
            "retained": self.stats.retained,
        }

    def serve(self) -> None:
        """Obey and answer what came since the last turn."""
        now = time.monotonic()
        self._collect(now)
        waiting, too_many = self._inbox.take()
        refusals = 0
        for inbound in waiting:
            if inbound.retained:
                self._ignore(inbound)
            elif self._pace.allows(now):
                self._execute(inbound, now)
            else:
                too_many.append(inbound)
        for inbound in too_many:
            if inbound.retained:
                self._ignore(inbound)
            elif refusals < _REFUSALS_A_TURN:
                refusals += 1
                self._too_many(inbound)
            else:
                self.stats.unanswered += 1

    def _read(self, inbound: Inbound) -> Command | Refusal:
        largest = self._settings.max_payload_kb * 1024
        return read(inbound, self._own, self._prefix, largest, self._settings.response_topics)

    def _execute(self, inbound: Inbound, now: float) -> None:
        command = self._read(inbound)
        if isinstance(command, Refusal):
            self._refuse(command)
            return
        key = _key(command)
        if key is not None and key in self._answers:
            before = self._answers[key]
            if before is not None:  # otherwise its answer is still to come
                self._send(command.reply, command.body.transaction, command.station, before)
            return
        if not any(fnmatchcase(command.verb, pattern) for pattern in self._settings.allow):
            self._answer(command, refused(f"{command.verb} is not in mqtt.commands.allow"), carried_out=False)
            return
        handler = self._handlers.get(command.verb)
        if handler is None:
            self._answer(command, refused(f"{command.verb}: not possible in this agent"), carried_out=False)
            return
        found = handler(command)
        if isinstance(found, Answer):
            self._answer(command, found)
        else:
            self._keep(command, None)
            self._waiting.append((found, command, now + command.body.patience_s))

    def _collect(self, now: float) -> None:
        """Answer commands that waited for another thread."""
        still = []
        for future, command, until in self._waiting:
            if future.done():
                self._answer(command, future.result())
            elif now > until:
                self._answer(command, refused("no answer in time: it may be done yet"))
            else:
                still.append((future, command, until))
        self._waiting = still

    def _answer(self, command: Command, answer: Answer, *, carried_out: bool = True) -> None:
        if carried_out:
            asked = command.body.model_dump(exclude={"transaction", "user"}, exclude_none=True)
            why = one_line(answer.reason or getattr(command.body, "why", None) or command.verb)
            after = {"status": answer.status, "asked": asked, "station": command.station, "to": answer.after}
            self._record(f"command:{command.verb}", command.actor, why, answer.before, after)
        if answer.status == "refused":
            self.stats.refused += 1
            self._tell(f"{command.verb} by {command.actor} refused: {answer.reason}")
        else:
            self.stats.obeyed += 1
            log.info("mqtt: %s by %s: %s", command.verb, command.actor, answer.status)
        self._keep(command, answer)
        self._send(command.reply, command.body.transaction, command.station, answer)
        if command.verb.startswith("set/") and command.station is not None:
            self._again(command.station, command.verb.removeprefix("set/"))

    def _keep(self, command: Command, answer: Answer | None) -> None:
        if (key := _key(command)) is not None:
            self._answers.keep(key, answer)

    def _refuse(self, refusal: Refusal) -> None:
        self.stats.refused += 1
        self._tell(f"{refusal.reply.verb} refused: {refusal.why}")
        self._send(refusal.reply, refusal.transaction, refusal.station, refused(refusal.why))

    def _too_many(self, inbound: Inbound) -> None:
        found = self._read(inbound)
        why = f"more than {self._settings.per_s:g} commands a second: ask again later"
        if isinstance(found, Command):
            found = Refusal(found.reply, why, found.body.transaction, found.station)
        self._refuse(found)

    def _ignore(self, inbound: Inbound) -> None:
        self.stats.retained += 1
        if not self._told_retained:
            self._told_retained = True
            log.warning(
                "mqtt: a retained message on %s is ignored, as all are: publish commands without retain",
                one_line(inbound.topic),
            )

    def _tell(self, line: str) -> None:
        """Tell the journal, a line in ten seconds at most."""
        now = time.monotonic()
        if now - self._told_at < _TELL_S:
            self._not_told += 1
            return
        more = f" (and {self._not_told} more since the last such line)" if self._not_told else ""
        log.warning("mqtt: %s%s", line, more)
        self._told_at, self._not_told = now, 0

    def _send(self, reply: Reply, transaction: str | None, station: str | None, answer: Answer) -> None:
        payload = agent_payload.answer(
            self._agent, reply.verb, transaction, station, answer, datetime.now(UTC)
        )
        body = dumps(payload).encode()
        own = f"{self._own}/cmd/response/{reply.verb}"
        for topic in {own: None, reply.topic or own: None}:
            self._retained.answer(
                Message(
                    topic, body, 1, False, ANSWER_SCHEMA, ANSWER_EXPIRY_S,
                    reply.correlation if topic == reply.topic else None,
                )
            )  # fmt: skip


def _key(command: Command) -> str | None:
    """Return what a command that comes again is known by; None where it cannot be.

    Clients choose transactions without knowing of each other, and MQTT does not tell who has published. So
    another command, user, response topic or correlation is another command, whatever its transaction.
    """
    if command.body.transaction is None:
        return None
    known = (
        command.verb,
        command.station,
        command.body.model_dump_json(),
        sorted(command.body.model_fields_set),  # null is not the same as nothing
        command.reply.topic,
        command.reply.correlation,
    )
    return hashlib.sha256(repr(known).encode()).hexdigest()
