"""Is the agent well? Pure functions from the parts' numbers to conditions that a person can act on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from agent.domain.conditions import Code, Condition, Level, picture_cropped
from agent.domain.learner_stats import LearnerStats
from agent.domain.publisher_stats import NOT_YET, PublisherStats
from camera.core.frame import Fault
from camera.feed.stats import FeedStats

_BLIND = ("camera_offline", "picture_unusable", "model_not_finite")
"""Conditions under which a station inspects nothing."""


def conditions(
    publisher: PublisherStats, feeds: Sequence[FeedStats], learners: Sequence[LearnerStats] = ()
) -> tuple[Condition, ...]:
    """Return everything that is wrong now, in a stable order."""
    found = []
    for feed in feeds:
        if feed.ended:
            continue
        if not feed.connected:
            why = feed.problem or "no picture from the camera"
            found.append(Condition("camera_offline", feed.station, f"{why}; it is tried again"))
        # A folder that is back gives its next picture when somebody puts one in: nothing is wrong till then.
        elif feed.last_fault not in (None, Fault.CAMERA_OFFLINE):
            found.append(
                Condition(
                    "picture_unusable",
                    feed.station,
                    f"the picture is {feed.last_fault}: parts are not inspected",
                )
            )
    found += [
        Condition("folder", feed.station, f"{feed.trouble}; inspection goes on")
        for feed in feeds
        if feed.trouble is not None and not feed.ended
    ]
    found += [
        picture_cropped(feed.station, feed.cropped)
        for feed in feeds
        if feed.cropped is not None and not feed.ended
    ]
    if publisher.link_problem is not None:
        found.append(Condition("broker", "mqtt", f"{publisher.link_problem}; results wait on disk"))
    troubles = (
        ("store", publisher.store_problem),
        ("mekiki.db", publisher.damage),
        ("evidence", publisher.pictures_problem),
    )
    found += [Condition("store", subject, problem) for subject, problem in troubles if problem is not None]
    if publisher.same_id is not None:
        found.append(Condition("same_id", "mqtt", publisher.same_id))
    if publisher.lost or publisher.given_up or publisher.too_large:
        # Numbers that grow stand in the stats; here they would make every message a new condition.
        found.append(Condition("results_lost", "store", "results were lost or not delivered since the start"))
    for learner in learners:
        found += of_learner(learner)
    return tuple(found)


def beginning(publisher: PublisherStats, feeds: Sequence[FeedStats]) -> set[tuple[str, str]]:
    """Return code and subject of what is not there yet, and of which nothing bad is known: it only begins."""
    cameras = {
        ("camera_offline", feed.station)
        for feed in feeds
        if not feed.connected and feed.problem is None and feed.last_fault is None and feed.frames == 0
    }
    return cameras | ({("broker", "mqtt")} if publisher.link_problem == NOT_YET else set())


def not_finite(stations: Iterable[str]) -> list[Condition]:
    """Return what is wrong where the model could say nothing of the newest picture."""
    message = (
        "what the model computes of the pictures is no finite number: parts are not inspected;"
        " roll the station's adapter back, or fetch or build the model again"
    )
    return [Condition("model_not_finite", station, message) for station in stations]


def level(found: Sequence[Condition], feeds: Sequence[FeedStats]) -> Level:
    """``down`` when no station can inspect, ``degraded`` while anything is wrong."""
    blind = {c.subject for c in found if c.blind or c.code in _BLIND}
    watched = [feed.station for feed in feeds if not feed.ended]
    if watched and blind.issuperset(watched):
        return "down"
    return "degraded" if found else "ok"


def of_learner(learner: LearnerStats) -> list[Condition]:
    """Return what is wrong with one learner."""
    unusable = [f"{learner.unusable}; nothing is learned"] if learner.unusable else []
    if learner.unusable_products is not None:
        unusable.append(learner.unusable_products)
    told: tuple[tuple[bool, Code, str], ...] = (
        (bool(unusable), "commissioning_unusable", "; ".join(unusable)),
        (
            learner.at_bound,
            "operating_point_at_bound",
            "the operating point may not follow the pictures any further: look at lamp and lens",
        ),
        (
            learner.tripped,
            "learning_tripped",
            "learning went wrong and was taken back; the model as it was trained answers",
        ),
        (
            learner.too_many_rejects,
            "too_many_rejects",
            "more parts are rejected than at commissioning: look at the parts, then at lamp and lens",
        ),
        (bool(learner.disk), "learning_disk", f"nothing can be learned: {learner.disk}"),
        (
            bool(learner.away),
            "learning_away",
            f"the process that learns {learner.away}; it is started again, what answered last goes on",
        ),
        (
            bool(learner.failed),
            "learning_failed",
            f"nothing is learned: {learner.failed}; it is tried again after a pause that grows, what answered"
            " last goes on, and the journal says more",
        ),
    )
    return [Condition(code, learner.station, message) for wrong, code, message in told if wrong]
