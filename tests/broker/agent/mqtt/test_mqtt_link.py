"""A connection that is over leaves nothing behind, however many there were."""

from __future__ import annotations

import contextlib
import gc
import threading
import weakref
from pathlib import Path

import pytest

from agent.config.models_mqtt import MqttSettings
from agent.mqtt.connection import BrokerConnection, LinkState
from agent.mqtt.messages import Message, Subscriptions
from tests.support.insides import paho_client
from tests.support.mqtt_peers import free_port, mosquitto, wait_until

PATIENCE_S = 120.0
"""A busy machine takes its time for a handshake."""


def _settings(port: int) -> MqttSettings:
    return MqttSettings.model_validate({"host": "127.0.0.1", "port": port, "connect_timeout_s": 60.0})


def _link(port: int, number: int) -> BrokerConnection:
    subscriptions = Subscriptions(("a/#",), lambda inbound: None)
    will = Message("a/will", b"gone", 1, True)
    return BrokerConnection(_settings(port), f"link-{number}", 5, will, lambda: None, None, subscriptions)


def _held() -> set[object]:
    """Sockets and threads by themselves: a count would also fall when one of another test ends."""
    sockets = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the listing's own, and what has just been closed
            sockets.add(str(descriptor.readlink()))
    return {name for name in sockets if name.startswith("socket:")} | set(threading.enumerate())


@pytest.mark.broker
def test_a_connection_that_is_over_is_freed_at_once(tmp_path: Path) -> None:
    """Its sockets, its thread and all that was on its way, without waiting for the garbage collector."""
    with mosquitto(tmp_path) as broker:
        before, gone = _held(), []
        gc.disable()
        try:
            for number in range(5):
                link = _link(broker.port, number)
                link.open()
                wait_until(lambda link=link: link.check() is LinkState.UP, PATIENCE_S)
                link.publish(Message("b", bytes(100_000), 1, False))
                gone += [weakref.ref(link), weakref.ref(paho_client(link))]
                link.close()
                del link
            wait_until(lambda: not any(one() for one in gone), PATIENCE_S)
            wait_until(lambda: not _held() - before, PATIENCE_S)
        finally:
            gc.enable()


def test_a_connection_that_never_was_is_freed_at_once() -> None:
    """A broker that is away for a night is tried thousands of times."""
    port, before, gone = free_port(), _held(), []
    gc.disable()
    try:
        for number in range(5):
            link = _link(port, number)
            link.open()
            wait_until(lambda link=link: link.check() is LinkState.DOWN, PATIENCE_S)
            gone += [weakref.ref(link), weakref.ref(paho_client(link))]
            link.close()
            del link
        wait_until(lambda: not any(one() for one in gone), PATIENCE_S)
        wait_until(lambda: not _held() - before, PATIENCE_S)
    finally:
        gc.enable()
