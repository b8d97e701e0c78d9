"""What is in force at each station, as ``S/<name>/state`` shows it beside ``S/<name>/set``."""

from __future__ import annotations

from agent.base.codec import dumps
from agent.base.wire import SETTING_SCHEMA
from agent.config.models import Config
from agent.config.models_adaptation import MODES
from agent.config.overrides import NAMES
from agent.config.voting import possible_recipes
from agent.mqtt.messages import Message
from agent.mqtt.retained_topics import RetainedTopics
from agent.payloads import agent_payload


class SettingTopics:
    """Shows recipe, adaptation and enabled of every station of the config; the main thread uses it.

    Args:
        retained: shows them, retained.
    """

    def __init__(self, retained: RetainedTopics) -> None:
        self._retained = retained
        self._own = ""
        self._shown: set[str] = set()

    def show(self, config: Config) -> None:
        """Show what a config says; call it with each config that comes into force."""
        agent = config.agent.id
        for name in self._shown - {*config.stations}:
            self._retained.clear(name, [self._topic(name, setting) for setting in NAMES])
        self._shown = {*config.stations}
        self._own = f"{config.mqtt.topic_prefix}/{agent}"
        self._retained.expect(self._topic(name, setting) for name in config.stations for setting in NAMES)
        for name, station in config.stations.items():
            mode = station.adaptation.mode
            for message in (
                agent_payload.setting(
                    agent, name, "recipe", station.recipe, possible_recipes(station, config.recipes)
                ),
                agent_payload.setting(agent, name, "adaptation", mode, sorted({*MODES, mode})),
                agent_payload.setting(agent, name, "enabled", station.enabled),
            ):
                topic = self._topic(name, message["name"])
                body = dumps(message).encode()
                self._retained.set(Message(topic, body, 1, True, SETTING_SCHEMA))

    def again(self, station: str, name: str) -> None:
        """Show one once more: who has set it, and was refused, believes otherwise."""
        self._retained.again(self._topic(station, name))

    def _topic(self, station: str, name: str) -> str:
        return f"{self._own}/{station}/{name}/state"
