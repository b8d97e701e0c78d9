"""What the agent shows of itself: topics of its own, composed from the parts' numbers."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime

from adapters.core.protocol import ModelInfo
from adapters.files import strict_json
from adapters.monitoring.drift_detector import DriftReport
from agent import __version__
from agent.base.codec import JSON, dumps
from agent.base.event_id import ulid
from agent.base.wire import LOCAL_STATUS_SCHEMA, ONLINE, STATS_SCHEMA, agent_topic, station_topic
from agent.config.models import Config
from agent.domain.conditions import Condition, Level
from agent.domain.exit_reason import LastExit
from agent.domain.learner_stats import LearnerStats
from agent.domain.publisher_stats import PublisherStats
from agent.mqtt.messages import Message
from agent.mqtt.retained_topics import RetainedTopics
from agent.payloads import agent_payload, learning_payload
from agent.telemetry.counters import Counters
from agent.telemetry.health import beginning, conditions, level, not_finite
from agent.versions.commissioned import Uncommissioned
from camera.core.frame import Frame
from camera.feed.stats import FeedStats
from camera.feed.thread import Feed
from camera.pictures.images import encode_jpeg

log = logging.getLogger(__name__)

_CAMERA_EVERY_S = 10.0
_PATIENCE_S = 5.0
"""What only begins, such as a camera that is being opened, is wrong when it takes longer than this."""
_LEAST_WIDTH_PX = 16
_FRAME_BYTES = 16
"""Of a PUBLISH packet, beside topic and payload."""
_RETAINED = ("state", "camera", "adapter", "drift", "image/last_fail")


class StatusTopics:
    """Composes the agent's own messages. Owned by the main thread; the topics may be asked from any.

    Args:
        feeds: asked for the cameras that are watched.
        tally: of the verdicts.
        learners: asked how the stations' learners are doing.
        more: asked what else is wrong.
        commands: asked what became of commands.

    Attributes:
        instance: a ULID, new at each start: two agents with the same id tell each other by it.
    """

    def __init__(
        self,
        config: Config,
        model: ModelInfo,
        feeds: Callable[[], Sequence[Feed]],
        tally: Counters,
        learners: Callable[[], Sequence[LearnerStats]] = lambda: (),
        more: Callable[[], Sequence[Condition]] = lambda: (),
        commands: Callable[[], JSON | None] = lambda: None,
    ) -> None:
        self._config = config
        self._learners = learners
        self._more = more
        self._commands = commands
        self._model = model
        self.instance = ulid()
        self._feeds = feeds
        self._tally = tally
        self._level: Level = "ok"
        self._for_hosts: tuple[str, int] = ("ok", 0)
        self._conditions: tuple[Condition, ...] | None = None
        self._since = datetime.now(UTC)
        self._begun_s = time.monotonic()
        self._cameras: dict[str, bool] = {}
        self._begun: dict[tuple[str, str], float] = {}
        self._cameras_at = self._stats_at = float("-inf")

    def use(self, config: Config) -> None:
        """Compose by this config from now on; its agent and its topics are those of the first."""
        self._config = config

    def result_topic(self, station: str) -> str:
        """Return where a station's results go."""
        return self._station(station, "result")

    def state_topic(self, station: str) -> str:
        """Return where a station's present verdict stands."""
        return self._station(station, "state")

    def image_topic(self, station: str) -> str:
        """Return where the picture of the last failed part stands."""
        return self._station(station, "image/last_fail")

    def station(self, station: str, name: str, payload: JSON, *, retain: bool = True) -> Message:
        """Return the message that shows a payload as ``S/name``."""
        return Message(self._station(station, name), dumps(payload).encode(), 1, retain, payload["schema"])

    def availability(self, word: str) -> Message:
        """Return the message that says `word` about us."""
        return Message(self._own("availability"), word.encode(), 1, True)

    def shows_fails(self, station: str) -> bool:
        """Whether pictures of failed parts are published."""
        found = self._config.stations.get(station)
        return found is not None and found.images.last_fail

    def picture(self, frame: Frame, largest: int) -> Message | None:
        """Return the JPEG of a failed part, smaller where it must be; None where it would be too small.

        None also where a reload has taken the station away, or its pictures.

        Args:
            frame: with its picture.
            largest: bytes of a packet that the broker takes.
        """
        assert frame.image is not None
        station = self._config.stations.get(frame.station)
        if station is None or not station.images.last_fail:
            return None
        topic, images = self.image_topic(frame.station), station.images
        width = min(images.max_width_px, frame.image.shape[1])
        while width >= _LEAST_WIDTH_PX:
            jpeg = encode_jpeg(frame.image, max_width_px=width, quality=images.jpeg_quality)
            if len(jpeg) + len(topic.encode()) + _FRAME_BYTES <= largest:
                return Message(topic, jpeg, 0, True)
            width //= 2
        return None

    def birth(self) -> Message:
        """Return the message that we are there."""
        return self.availability(ONLINE)

    def info(self, config: JSON, last: LastExit | None) -> Message:
        """Return the message about who we are.

        Args:
            config: what is in force, as `Reloader.shown` has it.
            last: how the last run ended.
        """
        info = agent_payload.info(
            self._config.agent.id,
            __version__,
            self._model,
            [name for name, station in self._config.stations.items() if station.enabled],
            config,
            None if last is None else asdict(last),
            self.instance,
        )
        return self._shown("info", info)

    def retained(self, station: str) -> list[str]:
        """Return all topics under which the broker keeps something of a station."""
        return [self._station(station, name) for name in _RETAINED]

    def unlearned(self, stations: Iterable[Uncommissioned]) -> list[Message]:
        """Return what is shown of stations that learn nothing, so that nothing older stands there."""
        messages = []
        for found in stations:
            agent = self._config.agent.id
            shown = learning_payload.adapter(
                agent,
                found.station,
                found.answering,
                mode=found.settings.mode,
                level=found.level,
                phase="off",
                why_off=found.why,
            )
            drift = learning_payload.drift(agent, found.station, DriftReport(), None, 0)
            messages += [
                self.station(found.station, "adapter", shown),
                self.station(found.station, "drift", drift),
            ]
        return messages

    def look(self, publisher: PublisherStats, now: float) -> list[Message]:
        """Return what has changed, and what is due: health at once, cameras and stats now and then."""
        feeds = [feed.snapshot() for feed in self._feeds()]
        messages = self._health(publisher, feeds, now)
        connected = {feed.station: feed.connected for feed in feeds}
        if connected != self._cameras or now - self._cameras_at >= _CAMERA_EVERY_S:
            self._cameras, self._cameras_at = connected, now
            messages += [
                self.station(feed.station, "camera", agent_payload.camera(self._config.agent.id, feed))
                for feed in feeds
            ]
        if now - self._stats_at >= self._config.mqtt.stats_interval_s:
            self._stats_at = now
            stats = dumps(self.stats(publisher)).encode()
            # Of no use to whoever comes when the next but one is due.
            expiry_s = math.ceil(2 * self._config.mqtt.stats_interval_s)
            messages.append(Message(self._own("stats"), stats, 0, False, STATS_SCHEMA, expiry_s))
        return messages

    def stats(self, publisher: PublisherStats) -> JSON:
        """Return the counters since the start; any thread may ask."""
        feeds = [feed.snapshot() for feed in self._feeds()]
        now = datetime.now(UTC)
        shown = agent_payload.stats(
            self._config.agent.id, now, self._level, publisher, feeds, self._tally.shown
        )
        return shown if (commands := self._commands()) is None else {**shown, "commands": commands}

    def local(self, publisher: PublisherStats, config: JSON, retained: RetainedTopics) -> JSON:
        """Return what `mekiki status` shows; any thread may ask.

        Args:
            publisher: how storing and sending are doing.
            config: what is in force, as `Reloader.shown` has it.
            retained: holds what answers at the stations.
        """
        found, since, word = self._conditions or (), self._since, self._level
        stats = self.stats(publisher)
        shown = {name: retained.shown(self._station(name, "adapter")) for name in stats["stations"]}
        return {
            "schema": LOCAL_STATUS_SCHEMA,
            "agent": self._config.agent.id,
            "version": __version__,
            "pid": os.getpid(),
            "running_s": round(time.monotonic() - self._begun_s, 1),
            "model": {
                "name": self._model.name,
                "weights": self._model.weights,
                "provider": self._model.provider,
            },
            "config": config,
            "health": agent_payload.health(self._config.agent.id, word, since, found),
            "stats": stats,
            "adapters": {name: strict_json.loads(text) for name, text in shown.items() if text is not None},
        }

    def health(self) -> tuple[str, int]:
        """Return the level and how many things are wrong, as of the last look; any thread may ask.

        For hosts of Sparkplug: to whoever reads it there, Sparkplug is well.
        """
        return self._for_hosts

    def _health(self, publisher: PublisherStats, feeds: Sequence[FeedStats], now: float) -> list[Message]:
        begun = {one: self._begun.get(one, now) for one in beginning(publisher, feeds)}
        self._begun = begun
        early = {one for one, since in begun.items() if now - since < _PATIENCE_S}
        blind = [feed.station for feed in feeds if self._tally.not_finite(feed.station)]
        wrong = (*conditions(publisher, feeds, self._learners()), *not_finite(blind), *self._more())
        found = tuple(one for one in wrong if (one.code, one.subject) not in early)
        self._level = level(found, feeds)
        there = [condition for condition in found if condition.code != "sparkplug"]
        self._for_hosts = level(there, feeds), len(there)
        if found == self._conditions:
            return []
        for condition in found:
            log.warning("health: %s: %s: %s", condition.code, condition.subject, condition.message)
        if not found and self._conditions:
            log.info("health: ok again")
        self._conditions, self._since = found, datetime.now(UTC)
        # To whoever reads this over MQTT, the broker is well.
        told = tuple(condition for condition in found if condition.code != "broker")
        health = agent_payload.health(self._config.agent.id, level(told, feeds), self._since, told)
        return [self._shown("health", health)]

    def _shown(self, name: str, payload: JSON) -> Message:
        return Message(self._own(name), dumps(payload).encode(), 1, True, payload["schema"])

    def _own(self, name: str) -> str:
        return agent_topic(self._config.mqtt.topic_prefix, self._config.agent.id, name)

    def _station(self, station: str, name: str) -> str:
        return station_topic(self._config.mqtt.topic_prefix, self._config.agent.id, station, name)
