"""Verdicts as the inspector makes them, without a camera and a model; and a publisher that can be killed."""

from __future__ import annotations

import sqlite3
import sys
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agent.base.event_id import ulid
from agent.config.models_mqtt import MqttSettings
from agent.domain.verdict import Decision, Outcome, Provenance, Verdict
from agent.mqtt.messages import Message
from agent.mqtt.publisher import Publisher
from agent.mqtt.retained_topics import RetainedTopics
from agent.store.image_writer import ImageWriter
from agent.store.retention import Retention
from agent.store.store import Store
from camera.core.frame import Quality
from camera.core.settings import Reconnect

_SHA = "sha256:" + 64 * "0"
PROVENANCE = Provenance("tiny", _SHA, 0, _SHA, _SHA, _SHA, "0.0.0")
PREFIX = "plant/agent"


def a_verdict(station: str = "top", part: int = 1) -> Verdict:
    decision = Decision(Outcome.PASS, "class", "ok", None, 0.9, 0.4, {"ok": 0.9, "scratch": 0.1})
    now = datetime.now(UTC)
    return Verdict(
        event_id=ulid(),
        agent="agent",
        station=station,
        captured_at=now,
        decided_at=now,
        part_id=f"part-{part}",
        recipe="line",
        decision=decision,
        source=decision,
        provenance=PROVENANCE,
        quality=Quality(100.0, 200.0),
        wait_ms=1.0,
        infer_ms=2.0,
    )


_opened: list[Store] = []


def a_store(folder: Path, *, outbox: bool = True, **limits: int) -> Store:
    retention = Retention(**{"keep_results": 1_000_000, "max_waiting": 1_000_000, **limits})
    store = Store(folder, retention, outbox=outbox)
    _opened.append(store)
    return store


def beside(store: Store, statement: str) -> list[Any]:
    """Do something to the store's file over a connection of one's own, and return what that finds."""
    with closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        return other.execute(statement).fetchall()


def close_stores() -> None:
    """Close what `a_store` opened since the last call; closing twice does no harm."""
    while _opened:
        _opened.pop().close()


def a_board() -> RetainedTopics:
    return RetainedTopics(lambda station: f"{PREFIX}/{station}/state")


def a_publisher(
    store: Store,
    port: int | None,
    *,
    retained: RetainedTopics | None = None,
    evidence: ImageWriter | None = None,
    **settings: object,
) -> Publisher:
    quick = {"reconnect": Reconnect(initial_s=0.1, max_s=0.3), "drain_per_s": 5000.0}
    return Publisher(
        store,
        None if port is None else MqttSettings(host="127.0.0.1", port=port, **{**quick, **settings}),
        "agent",
        lambda station: f"{PREFIX}/{station}/result",
        retained or a_board(),
        availability("offline"),
        evidence,
    )


def availability(word: str) -> Message:
    return Message(f"{PREFIX}/availability", word.encode(), 1, True)


def main() -> None:
    """Publish verdicts of two stations until killed; arguments: data folder, broker port."""
    import threading

    store = a_store(Path(sys.argv[1]))
    publisher = a_publisher(store, int(sys.argv[2]))
    threading.Thread(target=publisher.run, daemon=True).start()
    part = 0
    while True:
        part += 1
        publisher.put([a_verdict("top", part), a_verdict("side", part)])
        time.sleep(0.002)


if __name__ == "__main__":
    main()
