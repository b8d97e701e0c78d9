"""The processes of learners, and what health says of them."""

from __future__ import annotations

from pathlib import Path

from tests.support.mqtt_peers import Subscriber


def children(of: int) -> list[int]:
    """Return the process ids of a process's learners."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
            if (
                int(parent) == of
                and state != "Z"
                and b"agent.learning.process" in (stat.parent / "cmdline").read_bytes()
            ):
                found.append(int(stat.parent.name))
        except OSError:  # gone meanwhile
            continue
    return found


def conditions(subscriber: Subscriber) -> list[str] | None:
    health = subscriber.last("health")
    return None if health is None else [one["code"] for one in health["conditions"]]
