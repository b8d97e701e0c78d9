"""What a client may say about what is being made: order, lot and shift, at one station or at all."""

from __future__ import annotations

from dataclasses import asdict

from agent.base.codec import dumps
from agent.base.wire import PRODUCTION_SCHEMA, station_topic
from agent.commands.bodies import ProductionBody
from agent.commands.dispatcher import Handler
from agent.commands.schema import Command
from agent.config.models import Config
from agent.domain.command_answer import Answer, refused
from agent.mqtt.messages import Message
from agent.mqtt.retained_topics import RetainedTopics
from agent.payloads import agent_payload
from agent.reload.production_book import ProductionBook
from agent.reload.production_values import ProductionError


class ProductionHandlers:
    """Does `production`, and shows ``S/production`` of every station of the config; the main thread uses it.

    Args:
        book: of what is being made.
        retained: shows it, retained.
    """

    def __init__(self, book: ProductionBook, retained: RetainedTopics) -> None:
        self._book, self._retained = book, retained
        self._topics: dict[str, str] = {}

    def handlers(self) -> dict[str, Handler]:
        """Return verb -> what does it."""
        return {"production": self._set}

    def show(self, config: Config) -> None:
        """Show what is in force; call it with each config that comes into force, and at each change."""
        prefix, agent = config.mqtt.topic_prefix, config.agent.id
        topics = {name: station_topic(prefix, agent, name, "production") for name in config.stations}
        for name in self._topics.keys() - topics.keys():
            self._retained.clear(name, [self._topics[name]])
        self._topics = topics
        self._retained.expect(topics.values())
        for name, topic in topics.items():
            payload = agent_payload.production(agent, name, self._book.of(name))
            self._retained.set(Message(topic, dumps(payload).encode(), 1, True, PRODUCTION_SCHEMA))

    def _set(self, command: Command) -> Answer:
        body = command.body
        assert isinstance(body, ProductionBody)
        try:
            change = self._book.set(body.station, body.values(), command.actor, body.why or command.verb)
        except ProductionError as error:
            return refused(error.problems[0])
        before, after = (
            {name: asdict(one) for name, one in said.items()} for said in (change.before, change.after)
        )
        return Answer("done", None, {"stations": after}, before, after)
