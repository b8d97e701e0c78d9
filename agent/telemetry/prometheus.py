"""The agent's stats for Prometheus, over HTTP: the very numbers of ``P/stats``, in its text format."""

from __future__ import annotations

import hmac
import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any
from wsgiref.simple_server import make_server

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from agent.base.codec import JSON
from agent.base.errors import ConfigError
from agent.config.models import MetricsSettings
from agent.config.types import at_port, is_loopback
from agent.telemetry.http_server import BoundedHandler, BoundedServer

log = logging.getLogger(__name__)

_LEVELS = ("ok", "degraded", "down")


class _Stats(Collector):
    """Turns the stats into metric families each time it is asked. Labels: station, recipe, verdict, stage."""

    def __init__(self, stats: Callable[[], JSON]) -> None:
        self._stats = stats

    def collect(self) -> Iterable[Metric]:
        """Return what the stats say now."""
        now = self._stats()
        yield from _of_the_agent(now)
        yield from _of_cameras(now["stations"])
        yield from _of_verdicts(now["stations"])


def _of_the_agent(now: JSON) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "mekiki_health", "0: ok, 1: degraded, 2: no station can inspect", _LEVELS.index(now["health"])
    )
    results = now["results"]
    told = {
        "stored": "Verdicts committed to disk.",
        "published": "Verdicts that the broker has acknowledged.",
        "lost": "Verdicts that never reached the disk.",
        "given_up": "Verdicts on disk whose delivery was given up.",
        "too_large": "Verdicts on disk that the broker cannot take.",
    }
    for name, what in told.items():
        yield CounterMetricFamily(f"mekiki_results_{name}", what, results[name])
    yield GaugeMetricFamily("mekiki_results_waiting", "Verdicts not yet delivered.", results["waiting"])
    yield from _of_storage(now["storage"])
    yield from _of_commands(now.get("commands"))


def _of_commands(commands: JSON | None) -> Iterator[Metric]:
    """Yield what became of messages to the agent; nothing where it listens to none."""
    if commands is None:
        return
    counters = {
        "received": "Messages that came, one that came twice counts twice.",
        "obeyed": "Commands that were carried out.",
        "refused": "Messages that were refused.",
        "unanswered": "Messages that were too many to be answered.",
        "retained": "Retained messages, which are ignored.",
    }
    for name, what in counters.items():
        yield CounterMetricFamily(f"mekiki_commands_{name}", what, commands[name])
    yield CounterMetricFamily(
        "mekiki_triggers_lost", "Triggers that got no result.", commands["triggers_lost"]
    )


def _of_storage(storage: JSON) -> Iterator[Metric]:
    gauges = {
        "database_bytes": "Of the database without its free pages.",
        "images": "Pictures kept as evidence.",
        "image_bytes": "Of these pictures.",
        "purging": "Whether old results or pictures are being deleted.",
    }
    for name, what in gauges.items():
        yield GaugeMetricFamily(f"mekiki_storage_{name}", what, float(storage[name]))
    counters = {
        "images_dropped": "Pictures that were to be kept and are not.",
        "purged": "Results that retention deleted.",
        "purged_images": "Pictures that retention deleted.",
    }
    for name, what in counters.items():
        yield CounterMetricFamily(f"mekiki_storage_{name}", what, storage[name])
    if storage["oldest_at"] is not None:
        oldest = datetime.fromisoformat(storage["oldest_at"]).timestamp()
        yield GaugeMetricFamily(
            "mekiki_storage_oldest_timestamp_seconds", "When the oldest result was decided.", oldest
        )


def _of_cameras(stations: JSON) -> Iterator[Metric]:
    up = GaugeMetricFamily("mekiki_camera_connected", "Whether pictures are coming.", labels=["station"])
    rate = GaugeMetricFamily("mekiki_camera_fps", "Captures a second over 10 s.", labels=["station"])
    seen = {
        name: GaugeMetricFamily(f"mekiki_camera_{name}", what, labels=["station"])
        for name, what in (
            ("luma", "Mean brightness of the last picture, 0 to 255."),
            ("sharpness", "Variance of the Laplacian of the last picture."),
        )
    }
    counters = {
        "frames": "Captures, those without a picture and those that nobody wanted included.",
        "dropped": "Pictures that a newer one pushed out before they were inspected.",
        "reconnects": "Times that the camera delivered again after it was offline.",
        "parts": "Parts that the station has found itself, trigger.mode presence.",
        "no_part": "Pictures without a part, where the station finds parts itself.",
        "disturbances": "Things that came into view and were no parts: hands, jumps of the light.",
        "stalls": "Times that it stayed silent for its read time-out.",
    }
    families = {
        name: CounterMetricFamily(f"mekiki_camera_{name}", what, labels=["station"])
        for name, what in counters.items()
    }
    for station, found in stations.items():
        up.add_metric([station], float(found["connected"]))
        rate.add_metric([station], found["fps"])
        for name, family in families.items():
            family.add_metric([station], found[name])
        for name, gauge in seen.items():
            if found[name] is not None:
                gauge.add_metric([station], found[name])
    yield from (up, rate, *seen.values(), *families.values())


def _of_verdicts(stations: JSON) -> Iterator[Metric]:
    verdicts = CounterMetricFamily(
        "mekiki_verdicts", "Parts by what was decided.", labels=["station", "recipe", "verdict"]
    )
    latency = HistogramMetricFamily(
        "mekiki_latency_seconds", "Of a part, by stage: wait, infer.", labels=["station", "stage"]
    )
    for station, found in stations.items():
        for recipe, counts in found["verdicts"].items():
            for verdict, count in counts.items():
                verdicts.add_metric([station, recipe, verdict], count)
        for stage, seen in found["latency"].items():
            within = [(str(float(ms) / 1e3), float(count)) for ms, count in seen["within_ms"].items()]
            latency.add_metric([station, stage], [*within, ("+Inf", seen["count"])], seen["sum_ms"] / 1e3)
    yield from (verdicts, latency)


@contextmanager
def metrics_server(settings: MetricsSettings, stats: Callable[[], JSON]) -> Iterator[int]:
    """Serve ``GET /metrics`` in threads of its own; yields the port.

    Args:
        settings: where, and with which token.
        stats: returns what ``P/stats`` says; called in threads of the server.

    Raises:
        ConfigError: the address cannot be had.
    """
    registry = CollectorRegistry()
    registry.register(_Stats(stats))
    app = _guarded(make_wsgi_app(registry), settings)
    try:
        server = make_server(settings.host, settings.port, app, BoundedServer, BoundedHandler)
    except (OSError, UnicodeError) as error:
        where = at_port(settings.host, settings.port)
        why = getattr(error, "strerror", None) or error
        raise ConfigError(
            [f"metrics: {where} cannot be served: {why}: free it, or set metrics.host or metrics.port"]
        ) from error
    thread = threading.Thread(target=server.serve_forever, args=(0.2,), name="metrics", daemon=True)
    thread.start()
    log.info("metrics: http://%s/metrics", at_port(settings.host, server.server_port))
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


def _guarded(app: Callable[..., Any], settings: MetricsSettings) -> Callable[..., Any]:
    """Return the app for those who may ask: by its token, or else from this machine by its own name."""
    token = None if settings.token is None else f"Bearer {settings.token.get_secret_value()}".encode()

    def answer(environ: dict[str, Any], start: Callable[..., Any]) -> Any:
        def refuse(status: str) -> list[bytes]:
            start(status, [("Content-Type", "text/plain"), ("Cache-Control", "no-store")])
            return [status.encode() + b"\n"]

        if token is not None:
            # wsgi's texts are Latin-1 by definition
            shown = environ.get("HTTP_AUTHORIZATION", "").encode("latin-1")
            if not hmac.compare_digest(shown, token):
                return refuse("401 Unauthorized")
        elif not is_loopback(_host_of(environ.get("HTTP_HOST", ""))):
            return refuse("403 Forbidden")  # a page of another host, by a name that points here
        if environ["PATH_INFO"] != "/metrics":
            return refuse("404 Not Found")
        return app(environ, start)

    return answer


def _host_of(header: str) -> str:
    """Return the host of a ``Host`` header, without its port and brackets."""
    if header.startswith("["):
        return header[1:].partition("]")[0]
    return header.partition(":")[0].lower()
