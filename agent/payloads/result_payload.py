"""The payloads of a result, as docs/mqtt.md promises them: pure functions from a verdict to JSON.

`schema` and `event_id` come first: `agent.store.recovery` finds results in a damaged file by these bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from adapters.files.strict_json import loads
from agent.base.codec import JSON, dumps, rounded, timestamp
from agent.base.wire import RESULT_SCHEMAS, STATE_SCHEMA
from agent.domain.comparison import Comparison
from agent.domain.part_pictures import PartPictures
from agent.domain.verdict import Outcome, Verdict

NEWEST = max(RESULT_SCHEMAS)
_FIRST: Mapping[str, tuple[str, ...]] = {
    "schema": (), "event_id": (), "seq": (), "replayed": (), "agent": (), "station": (), "captured_at": (),
    "decided_at": (), "trigger": ("id", "part_id"), "recipe": (), "verdict": (), "reason": (), "label": (),
    "severity": (), "score": (), "margin": (), "scores": (), "source": ("label", "score"),
    "provenance": (
        "model", "weights", "adapter", "adapter_digest", "recipe", "config", "version", "offset",
        "commissioning",
    ),
    "quality": ("luma", "sharpness"), "latency_ms": ("wait", "infer", "total"),
}  # fmt: skip
"""What version 1 has, in its order, and what the objects in it have: it is closed."""
_FIRST_REASONS = frozenset({
    "class", "low_margin", "votes", "black", "saturated", "frozen", "blurred", "stale", "unreadable",
    "camera_offline", "not_finite", "timeout", "busy", "shutdown", "reload",
})  # fmt: skip
_FIRST_REASON = {"pass": "class", "fail": "class", "unsure": "low_margin", "not_inspected": "unreadable"}
"""What version 1 says, by verdict, where it has no word for the reason; `S/state` too."""
_ADDED = ("part", "view", "tile", "reference", "order", "lot", "shift", "claim")
"""What version 2 has besides; null where it is not known, or there is none."""


def result(verdict: Verdict, seq: int, version: int = NEWEST) -> JSON:
    """The result of one inspection, `S/result`, in one of the versions of `RESULT_SCHEMAS`."""
    d, p, q = verdict.decision, verdict.provenance, verdict.quality
    first = {
        "schema": RESULT_SCHEMAS[1],
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
    return _as_first(first) if version == 1 else _as_second({**first, **_added(verdict)})


def published(payload: str, version: int, *, replayed: bool = False) -> tuple[str, str]:
    """Return a stored result as it is sent, and its schema: in `version`, whichever it was stored in.

    Version 1 has no place for what was added, and says the general reason of a verdict for one that it does
    not know. What a result of version 1 does not say is null in version 2. A result of a version that this
    release does not know, which a newer one has stored, is sent as it is.

    Args:
        replayed: it is sent again.
    """
    schema = RESULT_SCHEMAS[version]
    if not replayed and payload.startswith(f'{{"schema":"{schema}"'):
        return payload, schema
    said = loads(payload)
    if said["schema"] != schema and said["schema"] in RESULT_SCHEMAS.values():
        said = _as_first(said) if version == 1 else _as_second(said)
    return dumps({**said, "replayed": replayed}), said["schema"]


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
        "reason": _first_reason(d.verdict, d.reason),
        "label": d.label,
        "score": rounded(d.score),
        "since": timestamp(since),
        "event_id": newest.event_id,
        "seq": seq,
        "counts": {outcome.value: counts.get(outcome.value, 0) for outcome in Outcome},
    }


def _added(verdict: Verdict) -> JSON:
    """What only version 2 says; what no part of the agent finds out yet is left to `_as_second`."""
    claim, made, compared = verdict.provenance.claim, verdict.production, verdict.compared
    return {
        "part": None if verdict.part is None else _part(verdict.part),
        "view": verdict.view,
        "tile": None if verdict.tile is None else [rounded(edge) for edge in verdict.tile],
        "reference": None if compared is None or not compared.finite else _compared(compared),
        "order": made.order,
        "lot": made.lot,
        "shift": made.shift,
        "claim": None
        if claim is None
        else {
            "false_rejects_at_most": rounded(claim.false_rejects_at_most),
            "confidence": rounded(claim.confidence),
            "good_parts": claim.good_parts,
        },
    }


def _part(one: PartPictures) -> JSON:
    return {
        "number": one.number,
        "picture": one.place,
        "of": one.of,
        "pictures": [
            {
                "event_id": said.event_id,
                "captured_at": timestamp(said.captured_at),
                "station": said.station,
                "verdict": str(said.verdict),
                "label": said.label,
            }
            for said in one.pictures
        ],
    }


def _compared(one: Comparison) -> JSON:
    return {
        "score": rounded(one.score),
        "threshold": rounded(one.threshold),
        "box": None if one.box is None else [rounded(edge) for edge in one.box],
        "digest": one.digest,
        "samples": one.samples,
    }


def _as_first(said: JSON) -> JSON:
    told = {name: _only(said[name], within) for name, within in _FIRST.items()}
    return {**told, "schema": RESULT_SCHEMAS[1], "reason": _first_reason(said["verdict"], said["reason"])}


def _only(value: Any, within: tuple[str, ...]) -> Any:
    return {name: value[name] for name in within if name in value} if within and value is not None else value


def _first_reason(verdict: str, reason: str) -> str:
    return reason if reason in _FIRST_REASONS else _FIRST_REASON[verdict]


def _as_second(said: JSON) -> JSON:
    return {
        **{name: said[name] for name in _FIRST},
        **{name: said.get(name) for name in _ADDED},
        **{name: value for name, value in said.items() if name not in _FIRST and name not in _ADDED},
        "schema": RESULT_SCHEMAS[2],
    }
