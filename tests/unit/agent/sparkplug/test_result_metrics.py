"""What hosts of Sparkplug are told of one result."""

from __future__ import annotations

from dataclasses import replace

from agent.domain.claim import Claim
from agent.domain.comparison import Comparison
from agent.domain.production import Production
from agent.sparkplug.metrics import DEVICE, of_result
from tests.support.verdicts import a_verdict

ADDED = (
    "Result/View", "Result/Tile", "Result/Order", "Result/Lot", "Result/Shift",
    "Claim/False rejects at most", "Claim/Confidence", "Claim/Good parts",
    "Result/Reference score", "Result/Reference threshold", "Result/Reference box",
)  # fmt: skip


def test_what_is_made_and_promised_is_told_whatever_version_results_have() -> None:
    """Null where nobody knows; every reading is a metric of the birth."""
    verdict = a_verdict()
    plain = of_result(verdict, 1, {})
    assert {plain[name].value for name in ADDED} == {None}
    told = of_result(
        replace(
            verdict,
            view="crop",
            tile=(0.0, 0.25, 0.5, 1.0),
            production=Production("4711", "L", "late"),
            provenance=replace(verdict.provenance, claim=Claim(0.02, 0.95, 149)),
            compared=Comparison(1.5, 1.0, (0.0, 0.25, 0.5, 1.0), "sha256:" + "1" * 64, 12),
        ),
        1,
        {},
    )
    values = [told[name].value for name in ADDED]
    assert values == ["crop", "0 0.25 0.5 1", "4711", "L", "late", 0.02, 0.95, 149, 1.5, 1.0, "0 0.25 0.5 1"]
    assert told.keys() <= DEVICE.keys()
