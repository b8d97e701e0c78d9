"""Names on the wire, as docs/mqtt.md promises them: topics, schemas, words of availability."""

from __future__ import annotations

RESULT_SCHEMAS = {1: "mekiki.result.v1", 2: "mekiki.result.v2"}
"""Name of a result's schema, by `mqtt.result_version`."""
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
PRODUCTION_SCHEMA = "mekiki.production.v1"
LOCAL_STATUS_SCHEMA = "mekiki.status.v1"
PUBLISHED = (
    *RESULT_SCHEMAS.values(), STATE_SCHEMA, INFO_SCHEMA, HEALTH_SCHEMA, CAMERA_SCHEMA, STATS_SCHEMA,
    ADAPTER_SCHEMA, ADAPTER_EVENT_SCHEMA, DRIFT_SCHEMA, ANSWER_SCHEMA, SETTING_SCHEMA, PRODUCTION_SCHEMA,
)  # fmt: skip
"""Schemas of what goes over MQTT."""

ONLINE, STOPPED, OFFLINE = "online", "stopped", "offline"


def agent_topic(prefix: str, agent_id: str, name: str) -> str:
    """Return ``<prefix>/<agent id>/<name>``: `P/name` of the documentation."""
    return f"{prefix}/{agent_id}/{name}"


def station_topic(prefix: str, agent_id: str, station: str, name: str) -> str:
    """Return ``<prefix>/<agent id>/<station>/<name>``: `S/name` of the documentation."""
    return f"{prefix}/{agent_id}/{station}/{name}"
