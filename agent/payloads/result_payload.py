"""The payloads of a result, as docs/mqtt.md promises them: pure functions from a verdict to JSON."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from adapters.files.strict_json import loads
from agent.base.codec import JSON, dumps, rounded, timestamp
from agent.base.wire import RESULT_SCHEMA, STATE_SCHEMA
from agent.domain.verdict import Outcome, Verdict


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
        "score": rounded(d.score),
        "margin": rounded(d.margin),
        "scores": None if d.scores is None else {label: rounded(s) for label, s in d.scores.items()},
        "source": None
        if verdict.source is None or verdict.source.label is None
        else {"label": verdict.source.label, "score": rounded(verdict.source.score)},
        "provenance": {
            "model": p.model,
            "weights": p.weights,
            "adapter": p.adapter,
            "adapter_digest": p.adapter_digest,
            "recipe": p.recipe,
            "config": p.config,
            "version": p.version,
            "offset": rounded(p.offset),
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
        "score": rounded(d.score),
        "since": timestamp(since),
        "event_id": newest.event_id,
        "seq": seq,
        "counts": {outcome.value: counts.get(outcome.value, 0) for outcome in Outcome},
    }


def replayed(payload: str) -> str:
    """Mark a stored result as sent again."""
    return dumps({**loads(payload), "replayed": True})
