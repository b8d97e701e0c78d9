"""What the agent needs besides cameras and model: the broker, a port for metrics, room on the disk."""

from __future__ import annotations

import threading
from pathlib import Path

from agent.base.errors import AgentError, ConfigError, StoreError
from agent.cli.checks.finding import Finding
from agent.config.models import Config
from agent.config.types import at_port
from agent.mqtt.access import tls_context
from agent.mqtt.connection import BrokerConnection, LinkState
from agent.mqtt.embedded_broker import embedded_broker
from agent.mqtt.packets import Protocol
from agent.reload.restart_check import nearest, unwritable
from agent.store.database import disk_free
from agent.store.outbox import peek
from agent.telemetry.prometheus import metrics_server


def broker(config: Config) -> Finding:
    """Say whether the broker takes us, as another client than the agent that may run."""
    where = at_port(config.mqtt.host, config.mqtt.port)
    protocols: list[Protocol] = [5, 4] if config.mqtt.protocol == 5 else [4]
    reason = ""
    try:
        tls = tls_context(config.mqtt)
    except ConfigError as error:
        return Finding(False, "broker", str(error))
    for protocol in protocols:
        changed = threading.Event()
        # An id of our own: with the agent's, the broker would throw out the agent that runs.
        link = BrokerConnection(
            config.mqtt, f"mekiki-{config.agent.id}-doctor", protocol, None, changed.set, tls
        )
        link.open()
        while link.check() is LinkState.CONNECTING:
            changed.wait(0.1)
        state, reason = link.state, link.reason
        link.close()
        if state is LinkState.UP:
            return Finding(True, "broker", f"{where} takes us, MQTT {'5' if protocol == 5 else '3.1.1'}")
        if not link.speaks_other_protocol:
            break
    return Finding(False, "broker", f"{where}: {reason}")


def embedded(config: Config, runs: bool) -> Finding:
    """Say whether the embedded broker has its port."""
    if runs:
        return Finding(True, "broker", "embedded in the agent that runs")
    try:
        with embedded_broker(config.mqtt.port):
            return Finding(True, "broker", f"embedded, port {config.mqtt.port} is free")
    except AgentError as error:
        return Finding(False, "broker", str(error))


def metrics(config: Config, runs: bool) -> Finding:
    """Say whether the metrics have their port."""
    where = at_port(config.metrics.host, config.metrics.port)
    if runs:
        return Finding(True, "metrics", f"{where} is the affair of the agent that runs")
    try:
        with metrics_server(config.metrics, dict):
            return Finding(True, "metrics", f"{where} is free")
    except ConfigError as error:
        return Finding(False, "metrics", str(error))


def disk(config: Config) -> Finding:
    """Say whether the data folder can be written and has room."""
    folder = Path(config.agent.data_dir)
    # Only looked at: a folder made by whoever runs the doctor would not belong to the service's user.
    if (problem := unwritable(folder)) is not None:
        return Finding(False, "disk", problem)
    store, floor_mb = folder / "mekiki.db", config.storage.min_free_mb
    try:
        free_mb = disk_free(nearest(folder) / store.name) // 1_000_000
        waiting = f", {peek(store)} results wait for the broker" if store.exists() else ""
    except (StoreError, OSError) as error:  # names the file
        return Finding(False, "disk", str(error))
    if free_mb < floor_mb:
        return Finding(False, "disk", f"{folder}: {free_mb} MB free, storage.min_free_mb asks for {floor_mb}")
    return Finding(True, "disk", f"{folder}: {free_mb} MB free{waiting}")
