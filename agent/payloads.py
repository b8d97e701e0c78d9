"""Topics and payloads, as docs/mqtt.md promises them: pure functions from values to JSON-ready dicts."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from adapters.engine import ModelInfo
from adapters.strict_json import loads
from adapters.version import strict
from agent.verdict import Outcome, Verdict
from camera.feed_stats import FeedStats

if TYPE_CHECKING:  # only their values are composed here
    from adapters.drift import DriftReport
    from agent.answering import Answering
    from agent.commands import Answer
    from agent.health import Condition
    from agent.publisher_stats import PublisherStats

JSON = dict[str, Any]

RESULT_SCHEMA = "mekiki.result.v1"
STATE_SCHEMA = "mekiki.state.v1"
INFO_SCHEMA = "mekiki.info.v1"
HEALTH_SCHEMA = "mekiki.health.v1"
CAMERA_SCHEMA = "mekiki.camera.v1"
STATS_SCHEMA = "mekiki.stats.v1"
ADAPTER_SCHEMA = "mekiki.adapter.v1"
ADAPTER_EVENT_SCHEMA = "mekiki.adapter_event.v1"
DRIFT_SCHEMA = "mekiki.drift.v1"
ANSWER_SCHEMA = "mekiki.answer.v1"
SETTING_SCHEMA = "mekiki.setting.v1"
LOCAL_STATUS_SCHEMA = "mekiki.status.v1"

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
        "trigger": {"id": verdict.trigger, "part_id": verdict.part_id},
        "recipe": verdict.recipe,
        "verdict": d.verdict.value,
        "reason": d.reason,
        "label": d.label,
        "severity": d.severity,
        "score": _rounded(d.score),
        "margin": _rounded(d.margin),
        "scores": None if d.scores is None else {label: _rounded(s) for label, s in d.scores.items()},
        "source": None
        if verdict.source is None or verdict.source.label is None
        else {"label": verdict.source.label, "score": _rounded(verdict.source.score)},
        "provenance": {
            "model": p.model,
            "weights": p.weights,
            "adapter": p.adapter,
            "adapter_digest": p.adapter_digest,
            "recipe": p.recipe,
            "config": p.config,
            "version": p.version,
            "offset": _rounded(p.offset),
            "commissioning": p.commissioning,
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


def state(newest: Verdict, seq: int, since: datetime, counts: Mapping[str, int]) -> JSON:
    """The present verdict of a station, `S/state`: what a screen shows that connects late.

    Args:
        seq: number of the newest result, so that a subscriber sees what it misses.
    """
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
        "seq": seq,
        "counts": {outcome.value: counts.get(outcome.value, 0) for outcome in Outcome},
    }


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
        "schemas": [
            RESULT_SCHEMA,
            STATE_SCHEMA,
            INFO_SCHEMA,
            HEALTH_SCHEMA,
            CAMERA_SCHEMA,
            STATS_SCHEMA,
            ADAPTER_SCHEMA,
            ADAPTER_EVENT_SCHEMA,
            DRIFT_SCHEMA,
            ANSWER_SCHEMA,
            SETTING_SCHEMA,
        ],
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
        tallied: station -> its verdicts and how long they took, as `agent.tally` shows them.
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


def adapter(
    agent: str,
    station: str,
    answering: Answering,
    *,
    mode: str,
    level: str,
    phase: str,
    parent: int | None = None,
    promoted: int = 0,
    since: str | None = None,
    why_off: str | None = None,
    frozen_by: str | None = None,
    commissioning: str | None = None,
    too_many_rejects: bool = False,
    guard: Mapping[str, float] | None = None,
) -> JSON:
    """What answers at a station and what its learner does, `S/adapter`.

    Args:
        phase: of the learner; ``off`` where nothing is learned.
        parent: number of the version that what answers came from; None for the model as it was trained.
        promoted: number of the version that was promoted last; in mode ``shadow`` another one answers.
        since: when that was.
        why_off: why nothing is learned; None where it is.
        guard: numbers of the last proposal; None before the first.
    """
    return {
        "schema": ADAPTER_SCHEMA,
        "agent": agent,
        "station": station,
        "number": answering.number,
        "parent": parent,
        "digest": answering.adapter.digest,
        "offset": _rounded(answering.offset),
        "at_bound": answering.at_bound,
        "promoted": promoted,
        "since": since,
        "mode": mode,
        "level": level,
        "phase": phase,
        "why_off": why_off,
        "frozen_by": frozen_by,
        "commissioning": commissioning,
        "too_many_rejects": too_many_rejects,
        "guard": _numbers(guard) if guard else None,
    }


def adapter_event(agent: str, station: str, record: Mapping[str, Any]) -> JSON:
    """One record of the audit trail as it is written, `S/adapter/event`."""
    return {
        "schema": ADAPTER_EVENT_SCHEMA,
        "agent": agent,
        "station": station,
        **{key: record[key] for key in ("at", "event", "actor", "why", "before", "after")},
        "numbers": _numbers(record["numbers"]),
    }


def drift(agent: str, station: str, report: DriftReport, at: datetime | None, unseen: int) -> JSON:
    """How far the pictures are from those of the commissioning, `S/drift`.

    Args:
        report: after the last block of parts.
        at: when that was complete; None before the first.
        unseen: parts since the start that were inspected and not looked at here.
    """
    return {
        "schema": DRIFT_SCHEMA,
        "agent": agent,
        "station": station,
        "at": None if at is None else timestamp(at),
        "block": report.block,
        "drifting": report.drifting,
        "abrupt": report.abrupt,
        "normal": report.normal,
        "distance": _rounded(report.distance),
        "gradual": _rounded(report.gradual),
        "jump": _rounded(report.jump),
        "moved": [{"what": name, "size": _rounded(size)} for name, size in report.moved],
        "unseen": unseen,
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


def _numbers(numbers: Mapping[str, Any]) -> JSON:
    """Return what decided, for strict JSON: what is not finite becomes text."""
    plain: JSON = strict(numbers)
    return {name: _rounded(value) if isinstance(value, float) else value for name, value in plain.items()}


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
    return dumps({**loads(payload), "replayed": True})


def _rounded(score: float | None) -> float | None:
    # Six digits: finer than any decision, and a third of the bytes of a float's repr.
    return None if score is None else round(score, 6)
