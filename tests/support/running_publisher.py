"""A publisher that runs in a thread for a test."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from agent.mqtt.publisher import Publisher
from tests.support.verdicts import availability


@contextmanager
def running(publisher: Publisher, drain_s: float = 5.0) -> Iterator[Publisher]:
    thread = threading.Thread(target=publisher.run, name="publisher")
    thread.start()
    try:
        yield publisher
    finally:
        publisher.stop(drain_s, availability("stopped"))
        thread.join(15)
        assert not thread.is_alive()
