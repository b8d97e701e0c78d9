"""Challenges: what a line must do with known parts, counted, kept, and alarmed where it does not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import ValidationError

from agent.audit.agent_log import Trail
from agent.challenge.book import FILE, ChallengeBook, ChallengeRefused
from agent.challenge.progress import Challenge, Expect, ended, seen
from agent.challenge.requests import ChallengeRequest, leave, take
from agent.domain.verdict import Outcome, Verdict
from tests.support.verdicts import a_verdict


def said(outcome: Outcome, station: str = "top") -> Verdict:
    verdict = a_verdict(station)
    return replace(verdict, decision=replace(verdict.decision, verdict=outcome))


def asked(expect: Expect = "fail", parts: int = 1, **more: object) -> ChallengeRequest:
    fields = {"station": "top", "expect": expect, "parts": parts, "actor": "anna", **more}
    return ChallengeRequest.model_validate(fields)


def book(data: Path) -> ChallengeBook:
    made = ChallengeBook(data, Trail(data))
    made.use(["top", "side"])
    return made


def events(data: Path) -> list[tuple[str, str]]:
    lines = [json.loads(line) for line in (data / "audit.jsonl").read_text().splitlines()]
    return [(line["event"], line["why"]) for line in lines]


def test_known_bad_parts_that_fail_pass_the_challenge(tmp_path: Path) -> None:
    """Results of other stations, and those without an inspection, do not count."""
    one = book(tmp_path)
    outcome = one.begin(asked(parts=2, kind="scratch"))
    one.see([said(Outcome.FAIL), said(Outcome.PASS, "side"), said(Outcome.NOT_INSPECTED)])
    one.serve()
    assert not outcome.done()
    assert one.shown()["top"]["state"] == "running"
    one.see([said(Outcome.FAIL), said(Outcome.PASS)])  # the second comes too late to count
    one.serve()
    found = outcome.result(0)
    assert (found.state, found.met, found.missed, found.not_inspected) == ("passed", 2, 0, 1)
    assert one.conditions() == []
    assert events(tmp_path)[-1][0] == "challenge"


@pytest.mark.parametrize("outcome", [Outcome.PASS, Outcome.UNSURE])
def test_a_miss_alarms_until_the_same_is_passed(tmp_path: Path, outcome: Outcome) -> None:
    one = book(tmp_path)
    one.begin(asked())
    one.see([said(outcome)])
    one.serve()
    (condition,) = one.conditions()
    assert (condition.code, condition.subject) == ("challenge_missed", "top")
    assert "mekiki challenge --station top --expect fail" in condition.message
    one.begin(asked("pass"))  # good parts that pass say nothing of bad ones
    one.see([said(Outcome.PASS)])
    one.serve()
    assert len(one.conditions()) == 1
    one.begin(asked())
    one.see([said(Outcome.FAIL)])
    one.serve()
    assert one.conditions() == []


def test_a_restart_loses_no_alarm(tmp_path: Path) -> None:
    """Nor a challenge that ran: it is on record as interrupted, or missed where a part was missed already."""
    one = book(tmp_path)
    one.begin(asked("pass"))
    one.see([said(Outcome.FAIL)])
    one.serve()
    one.begin(asked(parts=3))
    one.see([said(Outcome.PASS)])
    one.serve()
    again = book(tmp_path)
    assert {one.message.split("expect ")[1].split()[0] for one in again.conditions()} == {"fail", "pass"}
    assert again.shown()["top"]["state"] == "missed"
    third = book(tmp_path)
    third.begin(asked(parts=2))
    third.see([said(Outcome.FAIL)])
    third.serve()
    assert book(tmp_path).shown()["top"]["state"] == "interrupted"
    assert "interrupted: the agent ended after 1 of 2 parts" in events(tmp_path)[-1][1]


def test_too_few_parts_in_time_are_no_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = book(tmp_path)
    outcome = one.begin(asked(parts=3, within_s=1.0))
    one.see([said(Outcome.FAIL)])
    now = [0.0]
    monkeypatch.setattr("agent.challenge.book.time.monotonic", lambda: 1e9 + now[0])
    one.serve()
    found = outcome.result(0)
    assert found.sentence() == "incomplete: 1 of 3 parts came within 1 s"
    assert one.conditions() == []


def test_one_at_a_time_and_only_at_a_station_that_there_is(tmp_path: Path) -> None:
    one = book(tmp_path)
    one.begin(asked(parts=3))
    with pytest.raises(ChallengeRefused, match="another challenge runs"):
        one.begin(asked())
    with pytest.raises(ChallengeRefused, match="no station is called 'attic': there is top, side"):
        one.begin(asked(station="attic"))
    assert one.only_station() is None


def test_a_request_is_taken_once_and_what_is_none_is_told(tmp_path: Path) -> None:
    one = book(tmp_path)
    request = asked()
    path = leave(tmp_path, request)
    path.with_name("00000000000000000001-01ARZ3NDEKTSV4RRFFQ69G5FAV.json").write_text('{"station": 3}')
    (path.parent / "notes.txt").write_text("hello")
    requests, wrong = take(tmp_path)
    assert [each.id for each in requests] == [request.id]
    assert len(wrong) == 2
    assert take(tmp_path)[0] == []
    leave(tmp_path, asked())
    one.serve()
    assert one.shown()["top"]["state"] == "running"


def test_what_was_asked_of_an_agent_that_ended_is_refused(tmp_path: Path) -> None:
    leave(tmp_path, asked())
    one = book(tmp_path)
    one.serve()
    assert one.shown() == {}
    assert events(tmp_path) == [
        ("challenge_refused", "station top: the agent has been started since: ask again")
    ]


@pytest.mark.parametrize(
    "content", [b"", b"{}", b'{"format": "mekiki.challenges.v1", "missed": [3]}', b"[1]", b'{"format": NaN}']
)
def test_a_file_that_cannot_be_read_is_told_and_ends_nothing(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / FILE).write_bytes(content)
    one = book(tmp_path)
    assert one.conditions() == []
    assert FILE in caplog.text
    one.begin(asked())
    assert json.loads((tmp_path / FILE).read_bytes())["format"] == "mekiki.challenges.v1"


@pytest.mark.parametrize("state", ["missed", "last", "running"])
@pytest.mark.parametrize(
    "odd",
    [{"missed": "x"}, {"missed": 10**300}, {"met": -1}, {"parts": None}, {"within_s": "long"}, {"kind": 5},
     {"state": "incomplete", "within_s": "long"}, {"expect": "win"}, {"state": "odd"}, {"actor": None}],
)  # fmt: skip
def test_a_file_whose_values_are_none_ends_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, state: str, odd: dict[str, object]
) -> None:
    one = book(tmp_path)
    one.begin(asked())
    one.see([said(Outcome.PASS)])
    one.serve()
    stored = json.loads((tmp_path / FILE).read_text())
    stored[state] = [{**stored["missed"][0], **odd}]
    (tmp_path / FILE).write_text(json.dumps(stored))
    again = book(tmp_path)
    assert again.conditions() == []
    json.dumps(again.shown(), allow_nan=False)
    again.serve()
    assert "cannot be read, what was missed before is not known" in caplog.text


def test_a_file_of_a_newer_release_is_left_as_it_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = b'{"format": "mekiki.challenges.v2", "release": "9.9.0"}'
    (tmp_path / FILE).write_bytes(content)
    one = book(tmp_path)
    one.begin(asked())
    one.see([said(Outcome.FAIL)])
    one.serve()
    assert "newer version of the agent (release 9.9.0)" in caplog.text
    assert (tmp_path / FILE).read_bytes() == content


def test_the_alarm_of_a_station_that_is_gone_is_not_shown(tmp_path: Path) -> None:
    one = book(tmp_path)
    one.begin(asked())
    one.see([said(Outcome.PASS)])
    one.serve()
    one.use(["side"])
    assert one.conditions() == []


def test_a_challenge_is_what_its_facts_say() -> None:
    challenge = Challenge("id", "top", "fail", 2, 9.0, "anna", "", "dent", "2026-11-30T00:00:00.000Z")
    challenge = seen(challenge, said(Outcome.PASS))
    assert Challenge.read(json.loads(json.dumps(challenge.facts()))) == challenge
    assert ended(challenge, "incomplete").state == "missed"


@pytest.mark.parametrize(
    "fields",
    [{"parts": 0}, {"parts": 1001}, {"within_s": 0.5}, {"within_s": float("inf")}, {"expect": "unsure"},
     {"actor": ""}, {"kind": "a\nb"}, {"more": 1}],
)  # fmt: skip
def test_a_request_has_bounds(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        asked(**fields)  # type: ignore[arg-type]
