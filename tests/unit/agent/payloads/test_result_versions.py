"""Two versions of a result: each as its schema says, and each made of the other."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.base.codec import dumps
from agent.domain.claim import Claim
from agent.domain.comparison import Comparison
from agent.domain.production import Production
from agent.domain.verdict import Decision, Outcome, Provenance, Verdict
from agent.payloads.result_payload import published, result, state
from camera.core.frame import Fault, Quality
from tests.support.mqtt_peers import SCHEMAS

ADDED = {"part", "view", "tile", "reference", "order", "lot", "shift", "claim"}
SHA = "sha256:" + 64 * "a"
RECORDED = (
    '{"schema":"mekiki.result.v1","event_id":"01M80K1CE35SHYR574A97TZM6G","seq":18231,"replayed":false,'
    '"agent":"line3","station":"top","captured_at":"2026-11-22T08:15:02.114Z",'
    '"decided_at":"2026-11-22T08:15:02.141Z","trigger":{"id":"plc-1","part_id":"SN µ\\"1"},'
    '"recipe":"housing","verdict":"fail","reason":"class","label":"scratch","severity":"major",'
    '"score":0.912346,"margin":0.44,"scores":{"ok":0.05,"scratch":0.912346},'
    '"source":{"label":"scratch","score":0.9},"provenance":{"model":"mekiki-line",'
    f'"weights":"{SHA}","adapter":12,"adapter_digest":"{SHA}","recipe":"{SHA}","config":"{SHA}",'
    f'"version":"0.1.0","offset":2.312346,"commissioning":"{SHA}"}},'
    '"quality":{"luma":118.0,"sharpness":233.2},"latency_ms":{"wait":4.12,"infer":21.3,"total":25.42}}'
)
"""What the release before version 2 made of `a_fail`."""


def a_fail() -> Verdict:
    scores = {"ok": 0.05, "scratch": 0.91234567}
    return Verdict(
        event_id="01M80K1CE35SHYR574A97TZM6G",
        agent="line3",
        station="top",
        captured_at=datetime(2026, 11, 22, 8, 15, 2, 114000, UTC),
        decided_at=datetime(2026, 11, 22, 8, 15, 2, 141000, UTC),
        part_id='SN µ"1',
        recipe="housing",
        decision=Decision(Outcome.FAIL, "class", "scratch", "major", 0.91234567, 0.44, scores),
        source=Decision(Outcome.FAIL, "class", "scratch", "major", 0.9, 0.4, {}),
        provenance=Provenance("mekiki-line", SHA, 12, SHA, SHA, SHA, "0.1.0", 2.3123456789, SHA),
        quality=Quality(118.04, 233.16),
        wait_ms=4.123,
        infer_ms=21.3,
        trigger="plc-1",
    )


def full() -> Verdict:
    verdict = a_fail()
    return replace(
        verdict,
        view="fit",
        tile=(0.0, 0.0, 0.55, 1.0),
        production=Production("4711-A", "L 23", "früh"),
        provenance=replace(verdict.provenance, claim=Claim(0.02, 0.95, 149)),
        compared=Comparison(1.23456789, 0.9, (0.1, 0.2, 0.3, 0.4), SHA, 12),
    )


def valid(payload: dict[str, Any], version: int) -> None:
    SCHEMAS[f"mekiki.result.v{version}"].validate(payload)


shares = st.floats(0, 1)
texts = st.none() | st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=100)
by_words = st.builds(
    Decision,
    st.sampled_from([Outcome.PASS, Outcome.FAIL, Outcome.UNSURE]),
    st.sampled_from(["class", "low_margin", "votes"]),
    st.sampled_from(["ok", "scratch"]),
    st.sampled_from([None, "minor", "critical"]),
    shares,
    shares,
    st.fixed_dictionaries({"ok": shares, "scratch": shares}),
)
decisions = st.one_of(
    by_words,
    st.builds(
        Decision,
        st.just(Outcome.NOT_INSPECTED),
        st.sampled_from(
            [*map(str, Fault), "not_finite", "timeout", "busy", "shutdown", "reload", "no_reference"]
        ),
    ),
    st.builds(Decision, st.just(Outcome.FAIL), st.just("anomaly"), st.just("unknown"), st.just("major")),
    st.builds(Decision, st.just(Outcome.PASS), st.just("normal")),
)
TOLD = {"anomaly": "class", "normal": "class", "no_reference": "unreadable"}
"""What version 1 says for reasons that it has no word for."""
comparisons = st.none() | st.builds(
    Comparison,
    st.floats(0, 1e6) | st.just(math.nan),
    st.floats(0, 1e6),
    st.none() | st.tuples(shares, shares, shares, shares),
    st.just(SHA),
    st.integers(1, 5000),
)
claims = st.none() | st.builds(Claim, shares, st.floats(0.5, 0.999), st.integers(1, 10**6))
verdicts = st.builds(
    lambda decision, source, claim, production, view, tile, trigger, compared: replace(
        a_fail(),
        decision=decision,
        source=source,
        provenance=replace(a_fail().provenance, claim=claim),
        production=production,
        view=view,
        tile=tile,
        trigger=trigger,
        compared=compared,
    ),
    decisions,
    st.none() | by_words,
    claims,
    st.builds(Production, texts, texts, texts),
    st.sampled_from([None, "fit", "fill", "crop"]),
    st.none() | st.tuples(shares, shares, shares, shares),
    texts,
    comparisons,
)


def test_version_1_is_as_it_was_to_the_byte() -> None:
    """Whatever the agent knows besides: nothing of it is in there, and no comma has moved."""
    assert dumps(result(a_fail(), 18231, 1)) == RECORDED
    assert dumps(result(full(), 18231, 1)) == RECORDED
    assert published(RECORDED, 1) == (RECORDED, "mekiki.result.v1")
    again, _ = published(RECORDED, 1, replayed=True)
    assert again == RECORDED.replace('"replayed":false', '"replayed":true')


def test_version_2_says_what_is_known_and_null_for_the_rest() -> None:
    """The fields of the documentation, with their values."""
    said = result(full(), 1, 2)
    assert {name: said[name] for name in ADDED} == {
        "part": None,
        "view": "fit",
        "tile": [0.0, 0.0, 0.55, 1.0],
        "reference": {
            "score": 1.234568, "threshold": 0.9, "box": [0.1, 0.2, 0.3, 0.4], "digest": SHA, "samples": 12,
        },
        "order": "4711-A",
        "lot": "L 23",
        "shift": "früh",
        "claim": {"false_rejects_at_most": 0.02, "confidence": 0.95, "good_parts": 149},
    }  # fmt: skip
    assert [name for name, value in result(a_fail(), 1, 2).items() if value is None and name in ADDED] == [
        "part", "view", "tile", "reference", "order", "lot", "shift", "claim",
    ]  # fmt: skip


@given(verdicts, st.integers(1, 2**53 - 1), st.booleans())
def test_any_verdict_is_valid_in_both_and_either_is_made_of_the_other(
    verdict: Verdict, seq: int, replayed: bool
) -> None:
    """Version 1 is version 2 without what was added; a stored one becomes the other to the last byte."""
    first, second = result(verdict, seq, 1), result(verdict, seq, 2)
    valid(first, 1)
    valid(second, 2)
    told = {"schema": first["schema"], "reason": TOLD.get(second["reason"], second["reason"])}
    assert {**{n: v for n, v in second.items() if n not in ADDED}, **told} == first
    assert list(second)[:2] == list(first)[:2] == ["schema", "event_id"]
    down, schema = published(dumps(second), 1, replayed=replayed)
    assert (down, schema) == (dumps({**first, "replayed": replayed}), "mekiki.result.v1")
    text, schema = published(dumps(first), 2, replayed=replayed)
    up = json.loads(text)
    valid(up, 2)
    assert schema == up["schema"] == "mekiki.result.v2"
    assert {name: up[name] for name in ADDED} == dict.fromkeys(ADDED)
    assert published(dumps(second), 2, replayed=replayed)[0] == dumps({**second, "replayed": replayed})


@pytest.mark.parametrize(
    ("outcome", "reason", "told"),
    [
        (Outcome.FAIL, "anomaly", "class"),
        (Outcome.NOT_INSPECTED, "no_part", "unreadable"),
        (Outcome.UNSURE, "something_new", "low_margin"),
    ],
)
def test_a_reason_that_version_1_does_not_know_is_told_by_its_general_one(
    outcome: Outcome, reason: str, told: str
) -> None:
    """A closed set stays closed, in the state too, and the verdict is the same."""
    verdict = replace(a_fail(), decision=Decision(outcome, reason))
    first, second = result(verdict, 1, 1), result(verdict, 1, 2)
    valid(first, 1)
    valid(second, 2)
    assert (first["verdict"], first["reason"], second["reason"]) == (outcome, told, reason)
    shown = state(verdict, 1, verdict.decided_at, {})
    SCHEMAS["mekiki.state.v1"].validate(shown)
    assert shown["reason"] == told


def test_what_a_later_release_has_added_is_kept_in_version_2_and_left_out_in_version_1() -> None:
    """Also within the objects; a whole other version is sent as it is."""
    stored = result(full(), 5, 2) | {"gauge": 1.5, "part": {"number": 3, "pictures": []}}
    stored["provenance"]["order_of"] = "x"
    valid(stored, 2)
    kept = json.loads(published(dumps(stored), 2, replayed=True)[0])
    assert kept == {**stored, "replayed": True}
    down = json.loads(published(dumps(stored), 1)[0])
    valid(down, 1)
    assert down == {**result(full(), 5, 1)}
    later = dumps({**stored, "schema": "mekiki.result.v3"})
    assert published(later, 1) == (later, "mekiki.result.v3")


@pytest.mark.parametrize(
    "wrong",
    [
        {"order": ""}, {"order": "x" * 101}, {"lot": 5}, {"view": "squash"}, {"tile": [0, 0, 1]},
        {"tile": [0, 0, 1, 1.5]}, {"tile": [0, 0, 1, 1, 1]}, {"reason": ""}, {"verdict": "maybe"},
        {"claim": {"false_rejects_at_most": 0.1, "confidence": 1, "good_parts": 3}}, {"claim": {}},
        {"reference": {"score": 1.0}}, {"part": {"number": 0, "pictures": []}},
        {"part": {"number": 1, "pictures": [{"event_id": "x"}]}},
    ],
)  # fmt: skip
def test_the_schema_of_version_2_is_open_and_not_lax(wrong: dict[str, Any]) -> None:
    """More is welcome, another meaning is not; and each field has to be there."""
    good = result(full(), 1, 2)
    valid({**good, "anything": {"at": "all"}}, 2)
    schema = SCHEMAS["mekiki.result.v2"]
    assert not schema.is_valid({**good, **wrong})
    for name in good:
        assert not schema.is_valid({key: value for key, value in good.items() if key != name})
