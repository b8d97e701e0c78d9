"""How learning is doing at a station: a value."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LearnerStats:
    """How a station's learner is doing, at one moment. Not to learn is no trouble.

    Attributes:
        unusable: why the station's commissioning cannot be used; None where it can, or where there is none.
        unusable_products: what is wrong with baselines of the station's products that are not in force, and
            whose parts are judged by their ids; None where nothing is.
        at_bound: the operating point may not follow the pictures any further.
        tripped: the guard has stopped learning for a while.
        too_many_rejects: more parts are rejected than at commissioning.
        disk: what could not be written; None while all is well.
        away: why there is no process that learns, in words that follow its name; None while there is one.
        failed: what learning failed with, and where; None while it does not.
    """

    station: str
    unusable: str | None = None
    at_bound: bool = False
    tripped: bool = False
    too_many_rejects: bool = False
    disk: str | None = None
    away: str | None = None
    failed: str | None = None
    unusable_products: str | None = None
