"""What `mekiki challenge` does: says which part to present, has the agent watch, waits for the outcome."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from agent.base.data_dir import require_owner
from agent.base.errors import EXIT_CHECK_FAILED, EXIT_OK, NoAnswer, StoreError, UsageError
from agent.base.refusal import refusal
from agent.challenge.progress import Challenge, Expect
from agent.challenge.requests import ChallengeRequest, leave
from agent.cli.golden.target import GoldenTarget, target_of
from agent.cli.output import as_json, put, say
from agent.golden.index import GOOD
from agent.golden.reference_build import good_labels
from agent.telemetry.status_socket import ask
from agent.versions.operator_requests import requester

_LOOK_S: Final = 0.5
_TAKEN_S: Final = 10.0
"""Until an agent that runs has taken a request."""
_SLACK_S: Final = 15.0


@dataclass(frozen=True, slots=True)
class KnownKind:
    """Parts to present.

    Attributes:
        expect: what they must do.
        kind: class of the golden samples; None where nobody says.
    """

    expect: Expect
    kind: str | None = None

    def sentence(self, parts: int) -> str:
        """Say what to do."""
        what = "bad" if self.expect == "fail" else "good"
        kind = "" if self.kind is None else f" ({self.kind})"
        if parts == 1:
            return f"put a known {what} part{kind} before the camera: it must {self.expect}"
        return (
            f"put {parts} known {what} parts{kind} before the camera, one after the other: they must"
            f" {self.expect}"
        )


def run(arguments: argparse.Namespace) -> int:
    """Challenge a station that runs; 1 where a part was missed, or too few have come.

    Raises:
        UsageError: no such station, or nothing says which parts to present.
        NoAnswer: no agent runs there.
        StoreError: the data folder cannot be written.
    """
    place = target_of(arguments)
    require_owner(place.data, "challenge")
    ask(place.data)  # an agent that does not run watches nothing
    well = True
    for known in _kinds(arguments.expect, place):
        say(known.sentence(arguments.parts))
        if sys.stdin.isatty():
            say("press Enter when it lies there")
            sys.stdin.readline()
        outcome = _outcome(place.data, _request(arguments, place, known))
        put(as_json(outcome.facts()) if arguments.json else f"{place.name}: {outcome.sentence()}")
        if outcome.state == "missed":
            _say_missed(outcome)
        well = well and outcome.state == "passed"
    return EXIT_OK if well else EXIT_CHECK_FAILED


def _say_missed(challenge: Challenge) -> None:
    """Name the parts, so that a person can look whether they were the right ones."""
    for one in challenge.results:
        if one.verdict != challenge.expect:
            part = one.event_id if one.part_id is None else f"part {one.part_id} ({one.event_id})"
            label = "" if one.label is None else f" {one.label}"
            say(f"{part}: {one.verdict}, {one.reason}{label}")
    say(
        f"health says challenge_missed until mekiki challenge --station {challenge.station}"
        f" --expect {challenge.expect} passes"
    )


def _kinds(expect: Expect | None, place: GoldenTarget) -> Iterator[KnownKind]:
    """Yield what to present: bad parts first, as a line that passes everything is the worse one."""
    if expect is not None:
        yield KnownKind(expect)
        return
    labels = sorted(set(place.store.index().classes().values()))
    good = good_labels(place.rules)
    bad = [label for label in labels if label not in good]
    if not bad:
        raise UsageError(
            f"station {place.name}: no golden sample is of a bad part, so that nobody knows what to present:"
            " add some with mekiki golden add --class KIND, or say what must happen with --expect fail"
        )
    yield from (KnownKind("fail", label) for label in bad)
    yield from (KnownKind("pass", None if label == GOOD else label) for label in labels if label in good)


def _request(arguments: argparse.Namespace, place: GoldenTarget, known: KnownKind) -> ChallengeRequest:
    try:
        return ChallengeRequest(
            station=place.name,
            expect=known.expect,
            parts=arguments.parts,
            within_s=arguments.within,
            actor=requester(),
            kind=known.kind,
            why=arguments.why,
        )
    except ValidationError as error:
        raise UsageError(refusal(error, ChallengeRequest)) from None


def _outcome(data: Path, request: ChallengeRequest) -> Challenge:
    """Leave a request and return what came of it."""
    try:
        leave(data, request)
    except OSError as error:
        raise StoreError(f"{data}: cannot be written: {error.strerror or error}") from error
    began, told, taken = time.monotonic(), "", False
    while True:
        time.sleep(_LOOK_S)
        found: dict[str, Any] | None = ask(data).get("challenges", {}).get(request.station)
        waited_s = time.monotonic() - began
        if found is not None and found["id"] == request.id:
            taken, challenge = True, Challenge.read(found)
            if challenge.state != "running":
                return challenge
            if told != (told := challenge.sentence()):
                say(told)
        elif taken or waited_s > _TAKEN_S:
            raise NoAnswer(
                f"{request.station}: the agent has not begun the challenge, as when another one runs there:"
                " its journal and audit trail say why; ask again"
            )
        if waited_s > request.within_s + _SLACK_S:
            raise NoAnswer(f"{request.station}: the agent does not end the challenge: look into its journal")
