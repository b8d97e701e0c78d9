"""Topics and payloads, as docs/mqtt.md promises them: pure functions from values to JSON-ready dicts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from adapters.engine import ModelInfo
from agent.verdict import Outcome, Verdict
from camera.feed import FeedStats

if TYPE_CHECKING:  # these two compose what is published here
    from agent.health import Condition
    from agent.publisher import PublisherStats

JSON = dict[str, Any]

RESULT_SCHEMA = "mekiki.result.v1"
STATE_SCHEMA = "mekiki.state.v1"
INFO_SCHEMA = "mekiki.info.v1"
HEALTH_SCHEMA = "mekiki.health.v1"
CAMERA_SCHEMA = "mekiki.camera.v1"
STATS_SCHEMA = "mekiki.stats.v1"

ONLINE, STOPPED, OFFLINE = "online", "stopped", "offline"


def agent_topic(prefix: str, agent_id: str, name: str) -> str:
    """Return ``<prefix>/<agent id>/<name>``: `P/name` of the documentation."""
    return f"{prefix}/{agent_id}/{name}"


def station_topic(prefix: str, agent_id: str, station: str, name: str) -> str:
    """Return ``<prefix>/<agent id>/<station>/<name>``: `S/name` of the documentation."""
    return f"{prefix}/{agent_id}/{station}/{name}"


def timestamp(moment: datetime) -> str:
    """Return UTC ISO-8601 with milliseconds and a Z."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def dumps(payload: JSON) -> str:
    """Return compact UTF-8 JSON; never NaN, which is not JSON."""
    return json.dumps(payload, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def result(verdict: Verdict, seq: int) -> JSON:
    """The result of one inspection, `S/result`."""
    d, p, q = verdict.decision, verdict.provenance, verdict.quality
    return {
        "schema": RESULT_SCHEMA,
        "event_id": verdict.event_id,
        "seq": seq,
        "replayed": False,
        "agent": verdict.agent,
        "station": verdict.station,
        "captured_at": timestamp(verdict.captured_at),
        "decided_at": timestamp(verdict.decided_at),
        "trigger": {"id": None, "part_id": verdict.part_id},
        "recipe": verdict.recipe,
        "verdict": d.verdict.value,
        "reason": d.reason,
        "label": d.label,
        "severity": d.severity,
        "score": _rounded(d.score),
        "margin": _rounded(d.margin),
        "scores": None if d.scores is None else {label: _rounded(s) for label, s in d.scores.items()},
        "source": None
        if verdict.source.label is None
        else {"label": verdict.source.label, "score": _rounded(verdict.source.score)},
        "provenance": {
            "model": p.model,
            "weights": p.weights,
            "adapter": p.adapter,
            "adapter_digest": p.adapter_digest,
            "recipe": p.recipe,
            "config": p.config,
            "version": p.version,
        },
        "quality": {
            "luma": None if q.luma is None else round(q.luma, 1),
            "sharpness": None if q.sharpness is None else round(q.sharpness, 1),
        },
        "latency_ms": {
            "wait": round(verdict.wait_ms, 2),
            "infer": round(verdict.infer_ms, 2),
            "total": round(verdict.wait_ms + verdict.infer_ms, 2),
        },
    }


def state(newest: Verdict, since: datetime, counts: Mapping[str, int]) -> JSON:
    """The present verdict of a station, `S/state`: what a screen shows that connects late."""
    d = newest.decision
    return {
        "schema": STATE_SCHEMA,
        "agent": newest.agent,
        "station": newest.station,
        "verdict": d.verdict.value,
        "reason": d.reason,
        "label": d.label,
        "score": _rounded(d.score),
        "since": timestamp(since),
        "event_id": newest.event_id,
        "counts": {outcome.value: counts.get(outcome.value, 0) for outcome in Outcome},
    }


def info(agent: str, version: str, model: ModelInfo, stations: Sequence[str]) -> JSON:
    """Who the agent is, `P/info`."""
    return {
        "schema": INFO_SCHEMA,
        "agent": agent,
        "version": version,
        "model": {"name": model.name, "weights": model.weights, "provider": model.provider},
        "stations": list(stations),
        "schemas": [RESULT_SCHEMA, STATE_SCHEMA, INFO_SCHEMA, HEALTH_SCHEMA, CAMERA_SCHEMA, STATS_SCHEMA],
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


def stats(agent: str, at: datetime, publisher: PublisherStats, feeds: Sequence[FeedStats]) -> JSON:
    """The agent's counters since its start, `P/stats`."""
    return {
        "schema": STATS_SCHEMA,
        "agent": agent,
        "at": timestamp(at),
        "results": {
            "stored": publisher.stored,
            "published": publisher.published,
            "waiting": publisher.waiting,
            "lost": publisher.lost,
            "given_up": publisher.given_up,
        },
        "stations": {feed.station: _feed(feed) for feed in feeds},
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
    }


def replayed(payload: str) -> str:
    """Mark a stored result as sent again."""
    return dumps({**json.loads(payload), "replayed": True})


def _rounded(score: float | None) -> float | None:
    # Six digits: finer than any decision, and a third of the bytes of a float's repr.
    return None if score is None else round(score, 6)
