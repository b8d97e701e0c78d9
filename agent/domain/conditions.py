"""What can be wrong with the agent, and how well it is: values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "degraded", "down"]
Code = Literal[
    "camera_offline", "picture_unusable", "picture_cropped", "model_not_finite", "folder", "broker", "store",
    "results_lost", "same_id", "commissioning_unusable", "operating_point_at_bound", "learning_tripped",
    "too_many_rejects", "learning_disk", "learning_away", "learning_failed", "config_refused",
    "config_unwatched", "audit", "sparkplug", "metrics", "embedded_broker", "local_status",
    "reference_unusable", "challenge_missed",
]  # fmt: skip
"""What can be wrong, for machines."""


@dataclass(frozen=True, slots=True)
class Condition:
    """Something that is wrong.

    Attributes:
        code: what is wrong, for machines.
        subject: the station, or the part of the agent.
        message: one sentence for people.
        blind: the station inspects nothing because of it, which its code alone does not say.
    """

    code: Code
    subject: str
    message: str
    blind: bool = False


def picture_cropped(station: str, share: float) -> Condition:
    """Say that nobody sees a share of a station's region, 0..1, because its baseline was measured so."""
    # In whole percents: pictures of a folder that differ by a few pixels make no new condition each.
    return Condition(
        "picture_cropped",
        station,
        f"{share:.0%} of the region is seen by nobody, since the baseline was measured with its middle alone:"
        f" commission again (mekiki commission --station {station} --replace), or set view: crop on the"
        " station if that is meant",
    )
