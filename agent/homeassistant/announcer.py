"""What Home Assistant was told, remembered on disk, so that it can be told what is no more."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from adapters.files.atomic_file import write_durably
from adapters.files.strict_json import loads
from agent.base.codec import dumps
from agent.config.models import Config
from agent.homeassistant.description import components, discovery, discovery_topic
from agent.mqtt.messages import Message
from agent.mqtt.retained_topics import RetainedTopics

log = logging.getLogger(__name__)

_FILE = "homeassistant.json"
_MOST = 1000


class Announcer:
    """Owns what was described; the main thread uses it.

    A component that is gone is described by its platform alone, a device that is gone by nothing at all: that
    is how Home Assistant takes them away. Both are repeated at every connection, because it may have been
    away; the newest 1000 of each are kept.

    Args:
        data: the data folder.
        retained: shows it, retained.
        model: name of the model.
    """

    def __init__(self, data: Path, retained: RetainedTopics, model: str) -> None:
        self._file = data / _FILE
        self._retained = retained
        self._model = model
        self._topic: str | None = None

    def show(self, config: Config) -> None:
        """Describe the agent by this config, or take away what was described."""
        kept = self._read()
        wanted = discovery_topic(config) if config.homeassistant.enabled else None
        if wanted is None and not kept["topics"]:
            return
        gone = [topic for topic in kept["topics"] if topic != wanted]
        for topic in gone:
            self._retained.set(Message(topic, b"", 1, True))
        told: dict[str, str] = {}
        if wanted is not None:
            payload = discovery(config, self._model, kept["components"] if wanted in kept["topics"] else {})
            told = components(payload)
            self._retained.set(Message(wanted, dumps(payload).encode(), 1, True))
        self._topic = wanted
        topics = [*gone, *([wanted] if wanted else [])][-_MOST:]
        now = {**kept, "topics": topics, "components": dict(list(told.items())[-_MOST:])}
        if now != kept:
            self._write(now)

    def again(self) -> None:
        """Describe it once more: Home Assistant has just begun. Any thread."""
        if self._topic is not None:
            self._retained.again(self._topic)

    def _read(self) -> dict[str, Any]:
        try:
            kept = loads(self._file.read_text("utf-8"))
            # What a newer release keeps there besides stays.
            topics = [str(topic) for topic in kept["topics"]]
            return {**kept, "topics": topics, "components": dict(kept["components"])}
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.error("%s: cannot be read, what Home Assistant knew may stay there: %s", self._file, error)
        return {"topics": [], "components": {}}

    def _write(self, kept: dict[str, Any]) -> None:
        try:
            write_durably(self._file, json.dumps(kept, allow_nan=False).encode())
        except OSError as error:
            log.error(
                "%s: cannot be written, what Home Assistant knows may stay there: %s", self._file, error
            )
