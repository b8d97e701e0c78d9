"""The payloads about learning, as docs/mqtt.md promises them: pure functions from values to JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from adapters.core.version import strict
from adapters.monitoring.drift_detector import DriftReport
from agent.base.codec import JSON, rounded, timestamp
from agent.base.wire import ADAPTER_EVENT_SCHEMA, ADAPTER_SCHEMA, DRIFT_SCHEMA
from agent.domain.active_version import ActiveVersion


def adapter(
    agent: str,
    station: str,
    answering: ActiveVersion,
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
    unwatched: Sequence[str] = (),
    samples: Mapping[str, Mapping[str, int]] | None = None,
) -> JSON:
    """What answers at a station and what its learner does, `S/adapter`.

    Args:
        phase: of the learner; ``off`` where nothing is learned.
        parent: number of the version that what answers came from; None for the model as it was trained.
        promoted: number of the version that was promoted last; in mode ``shadow`` another one answers.
        since: when that was.
        why_off: why nothing is learned; None where it is.
        guard: numbers of the last proposal; None before the first.
        unwatched: what the guard cannot see, one sentence each.
        samples: of the baseline, by who named them and by class; None where there is no baseline.
    """
    return {
        "schema": ADAPTER_SCHEMA,
        "agent": agent,
        "station": station,
        "number": answering.number,
        "parent": parent,
        "digest": answering.adapter.digest,
        "offset": rounded(answering.offset),
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
        "unwatched": list(unwatched),
        "samples": None if samples is None else {by: dict(counts) for by, counts in samples.items()},
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
        "distance": rounded(report.distance),
        "gradual": rounded(report.gradual),
        "jump": rounded(report.jump),
        "moved": [{"what": name, "size": rounded(size)} for name, size in report.moved],
        "unseen": unseen,
    }


def _numbers(numbers: Mapping[str, Any]) -> JSON:
    """Return what decided, for strict JSON: what is not finite becomes text."""
    plain: JSON = strict(numbers)
    return {name: rounded(value) if isinstance(value, float) else value for name, value in plain.items()}
