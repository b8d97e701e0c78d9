"""The embedded broker: amqtt on loopback, for the demo and for trying things out. It speaks MQTT 3.1.1."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from agent.base.errors import AgentError, ConfigError

HOST = "127.0.0.1"
_START_S = 10.0


def require_amqtt() -> None:
    """Raise ConfigError where the broker is not installed."""
    if find_spec("amqtt") is None:
        raise ConfigError(
            ["mqtt.embedded_broker: amqtt is not installed: pip install 'mekiki[demo]', or set it to false"]
        )


@contextmanager
def embedded_broker(port: int) -> Iterator[None]:
    """Serve MQTT on 127.0.0.1 while the context lasts, in a thread of its own.

    Raises:
        ConfigError: amqtt is not installed, or the port is taken.
    """
    require_amqtt()
    from amqtt.broker import Broker
    from amqtt.contexts import BrokerConfig, ListenerConfig
    from amqtt.errors import BrokerError

    # amqtt logs a traceback where it raises as well; what it raises is handled below.
    logging.getLogger("amqtt").setLevel(logging.CRITICAL)
    logging.getLogger("transitions").setLevel(logging.CRITICAL)

    ready = threading.Event()
    failures: list[BaseException] = []
    stops: list[Callable[[], object]] = []
    config = BrokerConfig(
        listeners={"default": ListenerConfig(bind=f"{HOST}:{port}")},
        plugins={"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
    )

    async def serve() -> None:
        broker = Broker(config)
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        stops.append(lambda: loop.call_soon_threadsafe(stop.set))
        try:
            await broker.start()
        except (BrokerError, OSError) as error:
            failures.append(error)
            return
        finally:
            ready.set()
        await stop.wait()
        await broker.shutdown()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), name="broker", daemon=True)
    thread.start()
    if not ready.wait(_START_S):
        raise AgentError(f"the embedded broker did not start within {_START_S:.0f} s")
    if failures:
        thread.join(_START_S)
        reason = f"mqtt.port: {port} on {HOST} cannot be served: {failures[0]}"
        raise ConfigError([f"{reason}: choose another port"])
    try:
        yield
    finally:
        stops[0]()
        thread.join(_START_S)
