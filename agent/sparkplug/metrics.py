"""What Sparkplug hosts are told, metric by metric: pure functions from the agent's values to readings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from agent.domain.comparison import Box
from agent.domain.verdict import Outcome, Verdict
from agent.sparkplug.payload import DataType, Value
from camera.feed.stats import FeedStats

NODE: Mapping[str, DataType] = {
    "Properties/Version": DataType.STRING,
    "Properties/Model": DataType.STRING,
    "Properties/Config": DataType.STRING,
    "Health/Level": DataType.STRING,
    "Health/Conditions": DataType.UINT64,
    "Results/Not reported": DataType.UINT64,
}
"""Metrics of the agent, beside those that Sparkplug itself wants."""

DEVICE: Mapping[str, DataType] = {
    "Result/Verdict": DataType.STRING,
    "Result/Reason": DataType.STRING,
    "Result/Label": DataType.STRING,
    "Result/Severity": DataType.STRING,
    "Result/Score": DataType.DOUBLE,
    "Result/Margin": DataType.DOUBLE,
    "Result/Part": DataType.STRING,
    "Result/Event": DataType.STRING,
    "Result/Sequence": DataType.UINT64,
    "Result/Recipe": DataType.STRING,
    "Result/Adapter": DataType.UINT64,
    "Result/View": DataType.STRING,
    "Result/Tile": DataType.STRING,
    "Result/Order": DataType.STRING,
    "Result/Lot": DataType.STRING,
    "Result/Shift": DataType.STRING,
    "Result/Reference score": DataType.DOUBLE,
    "Result/Reference threshold": DataType.DOUBLE,
    "Result/Reference box": DataType.STRING,
    "Claim/False rejects at most": DataType.DOUBLE,
    "Claim/Confidence": DataType.DOUBLE,
    "Claim/Good parts": DataType.UINT64,
    "Counts/Pass": DataType.UINT64,
    "Counts/Fail": DataType.UINT64,
    "Counts/Unsure": DataType.UINT64,
    "Counts/Not inspected": DataType.UINT64,
    "Camera/Connected": DataType.BOOLEAN,
    "Camera/Frames per second": DataType.DOUBLE,
    "Camera/Reconnects": DataType.UINT64,
    "Camera/Dropped": DataType.UINT64,
    "Drift/Distance": DataType.DOUBLE,
    "Drift/Gradual": DataType.DOUBLE,
    "Drift/Jump": DataType.DOUBLE,
    "Drift/Drifting": DataType.BOOLEAN,
    "Adapter/Number": DataType.UINT64,
    "Adapter/Mode": DataType.STRING,
    "Adapter/Phase": DataType.STRING,
}
"""Metrics of a station."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One metric's value at one moment.

    Attributes:
        at_ms: when it was so, in milliseconds since 1970, UTC.
    """

    value: Value
    at_ms: int


Readings = Mapping[str, Reading]
"""Metric name: reading."""


@dataclass(frozen=True, slots=True)
class NodeNow:
    """How the agent is doing, at one moment.

    Attributes:
        model: name of the one that inspects.
        config: digest of the one in force.
        level: ``ok``, ``degraded`` or ``down``.
        conditions: how many things are wrong.
    """

    model: str
    config: str
    level: str
    conditions: int


def milliseconds(moment: datetime) -> int:
    """Return a moment as Sparkplug says it: milliseconds since 1970, UTC."""
    return int(moment.timestamp() * 1000)


def nothing(types: Mapping[str, DataType], at_ms: int) -> dict[str, Reading]:
    """Return every metric as null: nothing is known yet."""
    return dict.fromkeys(types, Reading(None, at_ms))


def of_node(version: str, now: NodeNow, not_reported: int, at_ms: int) -> Readings:
    """Return the agent's readings.

    Args:
        version: of the agent.
        now: how it is doing.
        not_reported: results since the start that Sparkplug hosts were not told.
        at_ms: now.
    """
    values: tuple[Value, ...] = (version, now.model, now.config, now.level, now.conditions, not_reported)
    return {name: Reading(value, at_ms) for name, value in zip(NODE, values, strict=True)}


def of_result(verdict: Verdict, seq: int, counts: Mapping[Outcome, int]) -> Readings:
    """Return what one inspection says of its station, as of the moment the picture was taken.

    Args:
        verdict: of the inspection.
        seq: its number in the store.
        counts: verdicts of the station since the start, this one included.
    """
    decision, made, claim = verdict.decision, verdict.production, verdict.provenance.claim
    compared = verdict.compared if verdict.compared is not None and verdict.compared.finite else None
    values: dict[str, Value] = {
        "Result/Verdict": decision.verdict.value,
        "Result/Reason": str(decision.reason),
        "Result/Label": decision.label,
        "Result/Severity": decision.severity,
        "Result/Score": decision.score,
        "Result/Margin": decision.margin,
        "Result/Part": verdict.part_id,
        "Result/Event": verdict.event_id,
        "Result/Sequence": seq,
        "Result/Recipe": verdict.recipe,
        "Result/Adapter": verdict.provenance.adapter,
        "Result/View": verdict.view,
        "Result/Tile": _box(verdict.tile),
        "Result/Order": made.order,
        "Result/Lot": made.lot,
        "Result/Shift": made.shift,
        "Result/Reference score": None if compared is None else compared.score,
        "Result/Reference threshold": None if compared is None else compared.threshold,
        "Result/Reference box": None if compared is None else _box(compared.box),
        "Claim/False rejects at most": None if claim is None else claim.false_rejects_at_most,
        "Claim/Confidence": None if claim is None else claim.confidence,
        "Claim/Good parts": None if claim is None else claim.good_parts,
        "Counts/Pass": counts.get(Outcome.PASS, 0),
        "Counts/Fail": counts.get(Outcome.FAIL, 0),
        "Counts/Unsure": counts.get(Outcome.UNSURE, 0),
        "Counts/Not inspected": counts.get(Outcome.NOT_INSPECTED, 0),
    }
    at_ms = milliseconds(verdict.captured_at)
    return {name: Reading(value, at_ms) for name, value in values.items()}


def _box(edges: Box | None) -> str | None:
    return None if edges is None else " ".join(f"{edge:.6g}" for edge in edges)


def of_camera(feed: FeedStats, at_ms: int) -> Readings:
    """Return how a station's camera is doing."""
    return {
        "Camera/Connected": Reading(feed.connected, at_ms),
        "Camera/Frames per second": Reading(round(feed.fps, 1), at_ms),
        "Camera/Reconnects": Reading(feed.reconnects, at_ms),
        "Camera/Dropped": Reading(feed.dropped, at_ms),
    }


def of_learning(name: str, payload: Mapping[str, Any], at_ms: int) -> Readings:
    """Return what ``S/drift`` or ``S/adapter`` says; nothing of any other.

    Args:
        name: ``drift`` or ``adapter``.
        payload: as it goes over MQTT.
        at_ms: now.
    """
    told = {
        "drift": {
            "Drift/Distance": "distance",
            "Drift/Gradual": "gradual",
            "Drift/Jump": "jump",
            "Drift/Drifting": "drifting",
        },
        "adapter": {"Adapter/Number": "number", "Adapter/Mode": "mode", "Adapter/Phase": "phase"},
    }
    return {metric: Reading(payload[key], at_ms) for metric, key in told.get(name, {}).items()}
