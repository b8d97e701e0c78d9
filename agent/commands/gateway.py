"""What the plant asks of the agent over MQTT, put together: the daemon's one hand on all of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from adapters.core.protocol import Engine
from adapters.files.strict_json import loads
from agent.base.codec import JSON
from agent.base.rate_limiter import RateLimiter
from agent.challenge.book import ChallengeBook
from agent.commands.adapter_handlers import AdapterHandlers
from agent.commands.challenge_handlers import ChallengeHandlers
from agent.commands.config_handlers import ConfigHandlers
from agent.commands.dispatcher import Dispatcher, Record
from agent.commands.production_handlers import ProductionHandlers
from agent.commands.result_handlers import RecentParts, ResultHandlers
from agent.commands.setting_topics import SettingTopics
from agent.config.models import Config
from agent.homeassistant.announcer import Announcer
from agent.inspection.triggers import Triggers
from agent.learning.ipc import Label
from agent.mqtt.messages import Inbound, Subscriptions
from agent.mqtt.publisher import Publisher
from agent.mqtt.retained_topics import RetainedTopics
from agent.reload.production_book import ProductionBook
from agent.reload.reloader import Reloader
from agent.versions.commissioned import Commissioned, Uncommissioned

_INTRODUCE_S = 60.0


class CommandGateway:
    """Owns what listens, what answers and what shows the settings; the main thread uses it.

    Built before the publisher, whose connections ask it what to listen to; `begin` gives it the rest. What
    comes is taken over in the connection's thread, which never waits here.

    Attributes:
        recent: frames of recent results; the inspector's thread adds to it.
    """

    def __init__(self, config: Config) -> None:
        self.recent = RecentParts()
        self._config = config
        self._own = f"{config.mqtt.topic_prefix}/{config.agent.id}"
        self._triggers: Triggers
        self._publisher: Publisher
        self._discovery: Announcer
        self._production: ProductionHandlers | None = None
        self._retained: RetainedTopics
        self._instance = ""
        self._namesakes = RateLimiter(1 / _INTRODUCE_S, 1)
        self._dispatcher: Dispatcher | None = None

    def subscriptions(self) -> Subscriptions | None:
        """Return what connections listen to; None where nothing is to be heard."""
        settings, homeassistant = self._config.mqtt, self._config.homeassistant
        filters: tuple[str, ...] = ()
        watched = [f"{self._own}/info"]
        if settings.commands.enabled:
            filters = Dispatcher.filters(self._own)
        if homeassistant.enabled:
            watched.append(f"{homeassistant.discovery_prefix}/status")
        return Subscriptions(filters, self._receive, tuple(watched)) if settings.enabled else None

    def begin(
        self,
        retained: RetainedTopics,
        stations: Callable[[], Mapping[str, Commissioned | Uncommissioned]],
        engine: Engine,
        stats: Callable[[], JSON],
        publisher: Publisher,
        tell: Callable[[Label], None],
        triggers: Triggers,
        production: ProductionBook,
        *,
        instance: str,
        reloader: Reloader | None = None,
        challenges: ChallengeBook | None = None,
        record: Record = lambda event, actor, why, before, after: None,
    ) -> None:
        """Hear, obey and answer from now on.

        Args:
            retained: takes answers and settings.
            stations: asked what there is of each running station's learning.
            engine: of the versions.
            stats: what ``P/stats`` says now.
            publisher: keeps labels and sends results again.
            tell: takes a label to a station's learner.
            triggers: takes triggers.
            production: of what is being made.
            instance: of this agent, as ``P/info`` says.
            reloader: of the config; None where it stays as it is.
            challenges: of the shift-start checks; None where there are none.
            record: adds to the agent's audit trail.
        """
        self._triggers = triggers
        self._publisher, self._retained, self._instance = publisher, retained, instance
        self.settings = SettingTopics(retained)
        self._discovery = Announcer(Path(self._config.agent.data_dir), retained, engine.info.name)
        self.settings.show(self._config)
        self._discovery.show(self._config)
        handlers = AdapterHandlers(stations, engine, stats).handlers()
        handlers |= ResultHandlers(lambda: self._config, publisher, self.recent, tell).handlers()
        self._production = ProductionHandlers(production, retained)
        handlers |= self._production.handlers()
        self.show_production()
        if reloader is not None:
            handlers |= ConfigHandlers(reloader).handlers()
        if challenges is not None:
            handlers |= ChallengeHandlers(challenges).handlers()
        self._dispatcher = Dispatcher(
            self._config.mqtt, self._config.agent.id, handlers, retained, self.settings.again, record
        )

    def serve(self) -> None:
        """Obey and answer what came since the last turn."""
        if self._dispatcher is not None:
            self._dispatcher.serve()

    def use(self, config: Config) -> None:
        """Show and go by another config from now on; what is listened to stays as it is."""
        self._config = config
        self.settings.show(config)
        self._discovery.show(config)
        self.show_production()
        if self._dispatcher is not None:
            self._dispatcher.use(config.mqtt.commands)

    def show_production(self) -> None:
        """Show what is being made now."""
        if self._production is not None:
            self._production.show(self._config)

    def shown(self) -> JSON | None:
        """Return the counters of `P/stats`; any thread may ask."""
        if self._dispatcher is None:
            return None
        return {**self._dispatcher.shown(), "triggers_lost": self._triggers.lost}

    def _receive(self, inbound: Inbound) -> None:
        if self._dispatcher is None:
            return
        if inbound.topic == f"{self._own}/info":
            self._heard_info(inbound)
            return
        if inbound.topic == f"{self._config.homeassistant.discovery_prefix}/status":
            if inbound.payload == b"online":
                self._discovery.again()
            return
        station, _, name = inbound.topic.removeprefix(f"{self._own}/").partition("/")
        fits = len(inbound.payload) <= self._config.mqtt.commands.max_payload_kb * 1024
        trigger = name == "trigger" and fits and not inbound.retained
        if not (trigger and self._triggers.receive(station, inbound.payload)):
            self._dispatcher.receive(inbound)

    def _heard_info(self, inbound: Inbound) -> None:
        """Look who speaks under our name; what was retained may be from the run before this one."""
        if inbound.retained or not inbound.payload:
            return
        try:
            said = loads(inbound.payload)
            instance = said.get("instance")
        except (ValueError, AttributeError):
            instance = None
        if instance != self._instance:
            self._publisher.saw_client_id_conflict()
            if self._namesakes.allows(time.monotonic()):
                self._retained.again(inbound.topic)  # so that they learn of us, and what stands there is ours
