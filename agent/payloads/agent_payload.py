"""The payloads about the agent as a whole, as docs/mqtt.md promises them: pure functions to JSON."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from adapters.core.protocol import ModelInfo
from agent.base.codec import JSON, timestamp
from agent.base.wire import (
    ANSWER_SCHEMA,
    CAMERA_SCHEMA,
    HEALTH_SCHEMA,
    INFO_SCHEMA,
    PRODUCTION_SCHEMA,
    PUBLISHED,
    SETTING_SCHEMA,
    STATS_SCHEMA,
)
from agent.domain.command_answer import Answer
from agent.domain.conditions import Condition
from agent.domain.production import Production
from agent.domain.publisher_stats import PublisherStats
from camera.feed.stats import FeedStats


def info(
    agent: str,
    version: str,
    model: ModelInfo,
    stations: Sequence[str],
    config: JSON,
    last_exit: JSON | None = None,
    instance: str = "",
) -> JSON:
    """Who the agent is, `P/info`.

    Args:
        instance: new at each start.
    """
    return {
        "schema": INFO_SCHEMA,
        "agent": agent,
        "version": version,
        "instance": instance,
        "model": {"name": model.name, "weights": model.weights, "provider": model.provider},
        "stations": list(stations),
        "schemas": list(PUBLISHED),
        "config": config,
        "last_exit": last_exit,
    }


def health(agent: str, level: str, since: datetime, conditions: Sequence[Condition]) -> JSON:
    """Whether the agent is well, `P/health`."""
    return {
        "schema": HEALTH_SCHEMA,
        "agent": agent,
        "health": level,
        "since": timestamp(since),
        "conditions": [{"code": c.code, "subject": c.subject, "message": c.message} for c in conditions],
    }


def camera(agent: str, feed: FeedStats) -> JSON:
    """How a camera is doing, `S/camera`."""
    return {"schema": CAMERA_SCHEMA, "agent": agent, "station": feed.station, **_feed(feed)}


def stats(
    agent: str,
    at: datetime,
    health: str,
    publisher: PublisherStats,
    feeds: Sequence[FeedStats],
    tallied: Callable[[str], JSON],
) -> JSON:
    """The agent's counters since its start, `P/stats`.

    Args:
        health: ``ok``, ``degraded`` or ``down``.
        tallied: station -> its verdicts and how long they took, as `agent.telemetry.counters` shows them.
    """
    return {
        "schema": STATS_SCHEMA,
        "agent": agent,
        "at": timestamp(at),
        "health": health,
        "results": {
            "stored": publisher.stored,
            "published": publisher.published,
            "waiting": publisher.waiting,
            "lost": publisher.lost,
            "given_up": publisher.given_up,
            "too_large": publisher.too_large,
        },
        "storage": {
            "database_bytes": publisher.kept.database_bytes,
            "images": publisher.kept.images,
            "image_bytes": publisher.kept.image_bytes,
            "images_dropped": publisher.pictures_dropped,
            "oldest_at": publisher.kept.oldest_at,
            "purging": publisher.kept.purging,
            "purged": publisher.kept.purged,
            "purged_images": publisher.kept.purged_images,
        },
        "stations": {feed.station: {**_feed(feed), **tallied(feed.station)} for feed in feeds},
    }


def answer(
    agent: str, verb: str, transaction: str | None, station: str | None, given: Answer, at: datetime
) -> JSON:
    """What became of a command, `P/cmd/response/<verb>` and the client's response topic."""
    return {
        "schema": ANSWER_SCHEMA,
        "agent": agent,
        "at": timestamp(at),
        "verb": verb,
        "transaction": transaction,
        "station": station,
        "status": given.status,
        "reason": given.reason,
        "data": given.data,
    }


def setting(
    agent: str, station: str, name: str, value: str | bool, options: Sequence[str] | None = None
) -> JSON:
    """What is in force, `S/<name>/state`.

    Args:
        options: what it can be set to; None where that is true and false.
    """
    return {
        "schema": SETTING_SCHEMA,
        "agent": agent,
        "station": station,
        "name": name,
        "value": value,
        "options": None if options is None else list(options),
    }


def production(agent: str, station: str, made: Production) -> JSON:
    """What is being made, `S/production`."""
    return {
        "schema": PRODUCTION_SCHEMA,
        "agent": agent,
        "station": station,
        "order": made.order,
        "lot": made.lot,
        "shift": made.shift,
    }


def _feed(feed: FeedStats) -> JSON:
    return {
        "connected": feed.connected,
        "fps": round(feed.fps, 2),
        "frames": feed.frames,
        "dropped": feed.dropped,
        "reconnects": feed.reconnects,
        "stalls": feed.stalls,
        "fault": feed.last_fault,
        "luma": None if feed.luma is None else round(feed.luma, 1),
        "sharpness": None if feed.sharpness is None else round(feed.sharpness, 1),
        "parts": feed.presence.parts,
        "no_part": feed.presence.no_part,
        "disturbances": feed.presence.disturbances,
    }
