"""The end of a run, in order: what was decided is stored and, if it can be, sent."""

from __future__ import annotations

import logging
import time
from threading import Event

from agent.app.composition import Components
from agent.app.run_summary import not_kept
from agent.app.service_notify import STOPPING, notify
from agent.app.threads import AgentThreads
from agent.base.wire import OFFLINE, STOPPED

log = logging.getLogger(__name__)

# Together below 10 s, which is what an orderly stop may take; learners end while the others do.
_INSPECTOR_S = 3.0
_DRAIN_S = 2.5
_EVIDENCE_S = 0.5
_PUBLISHER_S = _DRAIN_S + 3.0
_CAMERAS_S = 1.0
_TRIGGERS_S = 1.0
_LEARNER_S = 2.0
_SPARKPLUG_S = 1.0


def shut_down(parts: Components, threads: AgentThreads, stop: Event) -> list[str]:
    """Stop in the direction of the frames.

    Args:
        stop: ends the inspector.

    Returns:
        What was not kept, and who did not end; nothing where all is in order.
    """
    dropped = parts.evidence.dropped
    stop.set()
    notify(STOPPING)
    learners_until = time.monotonic() + _LEARNER_S
    parts.watch.stop()
    parts.learners.stop()
    parts.stations.stop()
    parts.mailbox.close()
    left = [] if threads.join("inspector", _INSPECTOR_S) else ["inspector"]
    parts.mailbox.clear()
    parts.triggers.stop()  # nobody will look at their pictures any more
    left += [] if threads.join("triggers", _TRIGGERS_S) else ["triggers"]
    parts.evidence.end()
    threads.join("evidence", _EVIDENCE_S)  # what it has not written is counted below
    # Before the publisher ends: what they did last is to be told.
    if not parts.learners.wait(max(0.0, learners_until - time.monotonic())):
        log.error("learners: do not end, they are left behind")
        left.append("learners")
    word = OFFLINE if threads.crashes else STOPPED
    parts.publisher.stop(_DRAIN_S, parts.status.availability(word))
    left += [] if threads.join("publisher", _PUBLISHER_S) else ["publisher"]
    if parts.sparkplug is not None:
        parts.sparkplug.stop()
    parts.stations.join(_CAMERAS_S)
    if parts.sparkplug is not None:
        threads.join("sparkplug", _SPARKPLUG_S)
    facts = not_kept(parts.publisher.unsaved(), parts.evidence.dropped - dropped, left)
    for fact in facts:
        log.error("the end: %s", fact)
    return facts
