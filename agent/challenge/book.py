"""The challenges of all stations: those that run, what came of the last ones, and what was missed."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Collection, Sequence
from concurrent.futures import Future
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from adapters.files.atomic_file import write_durably
from adapters.files.formats import is_newer, mismatch
from adapters.files.strict_json import loads
from agent.audit.agent_log import Trail
from agent.base.codec import JSON, timestamp
from agent.challenge import requests
from agent.challenge.progress import Challenge, ended, seen
from agent.challenge.requests import ChallengeRequest
from agent.domain.conditions import Condition
from agent.domain.verdict import Verdict

log = logging.getLogger(__name__)

FILE: Final = "challenges.json"
"""In the data folder."""
FORMAT: Final = "mekiki.challenges.v1"


class ChallengeRefused(Exception):
    """A challenge cannot begin; says why."""


class ChallengeBook:
    """Owns the challenges. The main thread begins and ends them; any thread may show results and ask.

    What was missed is on the disk, so that a restart loses no alarm. It counts until a challenge of the same
    station with the same expectation has passed.

    Args:
        data: the data folder.
        trail: of the agent.

    Attributes:
        stations: of the config.
    """

    def __init__(self, data: Path, trail: Trail) -> None:
        self._data, self._trail = data, trail
        self._lock = threading.Lock()  # results come from other threads
        self._running: dict[str, Challenge] = {}
        self._kept: dict[str, Challenge] = {}  # those that run, as they are on the disk
        self._last: dict[str, Challenge] = {}
        self._alarms: dict[tuple[str, str], Challenge] = {}
        self._until: dict[str, float] = {}
        self._answers: dict[str, Future[Challenge]] = {}
        self.stations: tuple[str, ...] = ()
        self._told = set[str]()
        self._newer = False
        self._read()
        self._drop_requests()

    def use(self, stations: Collection[str]) -> None:
        """Go by these stations of the config from now on."""
        self.stations = tuple(stations)

    def only_station(self) -> str | None:
        """Return the station where there is no other; None where there are several."""
        return self.stations[0] if len(self.stations) == 1 else None

    def begin(self, request: ChallengeRequest) -> Future[Challenge]:
        """Begin a challenge with the next result of its station; the outcome comes when it is over.

        Raises:
            ChallengeRefused: there is no such station, or another challenge runs there.
        """
        name = request.station
        if name not in self.stations:
            raise ChallengeRefused(f"no station is called {name!r}: there is {', '.join(self.stations)}")
        with self._lock:
            if name in self._running:
                raise ChallengeRefused(f"station {name}: another challenge runs: wait until it is over")
            challenge = Challenge(
                id=request.id,
                station=name,
                expect=request.expect,
                parts=request.parts,
                within_s=request.within_s,
                actor=request.actor,
                why=request.why or "",
                kind=request.kind or "",
                at=timestamp(datetime.now(UTC)),
            )
            self._running[name] = challenge
            self._until[name] = time.monotonic() + request.within_s
        what = f"{request.parts} parts must {request.expect}"
        log.info("station %s: challenge by %s: %s", name, request.actor, what)
        self._keep()
        self._answers[challenge.id] = Future()
        return self._answers[challenge.id]

    def see(self, verdicts: Sequence[Verdict]) -> None:
        """Count results; from the threads that decide."""
        with self._lock:
            for verdict in verdicts:
                if (running := self._running.get(verdict.station)) is not None:
                    self._running[verdict.station] = seen(running, verdict)

    def serve(self) -> None:
        """Begin what was asked by the command line, and end what is over; the main thread."""
        try:
            asked, wrong = requests.take(self._data)
        except OSError as error:
            self._say_once(f"challenge: requests cannot be taken: {error}")
            asked, wrong = [], []
        for line in wrong:
            self._say_once(line)
        for request in asked:
            try:
                self.begin(request)
            except ChallengeRefused as error:
                self._refuse(request, str(error))
        now = time.monotonic()
        with self._lock:
            known = dict(self._running)
            for name, challenge in known.items():
                if challenge.state == "running" and now > self._until[name]:
                    self._running[name] = ended(challenge, "incomplete")
            over = [one for one in self._running.values() if one.state != "running"]
            for one in over:
                del self._running[one.station], self._until[one.station]
        for one in over:
            self._end(one)
        if known != self._kept:  # a miss is a miss, also where the power goes before the last part
            self._keep()

    def conditions(self) -> list[Condition]:
        """Return what was missed and has not passed since."""
        return [
            Condition("challenge_missed", name, _alarm(challenge))
            for (name, _), challenge in sorted(self._alarms.items())
            if name in self.stations
        ]

    def shown(self) -> JSON:
        """Return station -> its challenge that runs, or the last one; any thread may ask."""
        with self._lock:
            found = {**self._last, **self._running}
        return {name: one.facts() for name, one in found.items()}

    def _end(self, challenge: Challenge) -> None:
        key = (challenge.station, challenge.expect)
        if challenge.state == "missed":
            self._alarms[key] = challenge
        elif challenge.state == "passed":
            self._alarms.pop(key, None)
        with self._lock:
            self._last = {**self._last, challenge.station: challenge}
        self._keep()
        said = challenge.sentence()
        log.log(
            logging.INFO if challenge.state == "passed" else logging.WARNING,
            "station %s: challenge %s", challenge.station, said,
        )  # fmt: skip
        facts = challenge.facts()
        numbers = {name: facts.pop(name) for name in ("parts", "met", "missed", "not_inspected")}
        why = f"{said}; {challenge.why}" if challenge.why else said
        self._trail.record("challenge", challenge.actor, why, after=facts, numbers=numbers)
        if (answer := self._answers.pop(challenge.id, None)) is not None:
            answer.set_result(challenge)

    def _refuse(self, request: ChallengeRequest, why: str) -> None:
        log.warning("challenge: asked by %s: %s", request.actor, why)
        self._trail.record("challenge_refused", request.actor, why, after={"id": request.id})

    def _drop_requests(self) -> None:
        """Refuse what was asked of an agent that was ending: nobody waits for it any more."""
        try:
            asked, _ = requests.take(self._data)
        except OSError as error:
            self._say_once(f"challenge: requests cannot be taken: {error}")
            return
        for request in asked:
            self._refuse(request, f"station {request.station}: the agent has been started since: ask again")

    def _say_once(self, line: str) -> None:
        if line not in self._told:
            log.error("%s", line)
        self._told.add(line)

    def _read(self) -> None:
        file = self._data / FILE
        try:
            stored = loads(file.read_bytes())
            if stored["format"] != FORMAT:
                self._newer = is_newer(stored["format"], FORMAT)
                remedy = "what was missed before is not known"
                log.error("%s: %s", file, mismatch(stored["format"], FORMAT, stored.get("release"), remedy))
                return
            alarms, last, running = (
                [Challenge.read(one) for one in stored[name]] for name in ("missed", "last", "running")
            )
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            log.error("%s: cannot be read, what was missed before is not known: %s", file, error)
            return
        self._alarms = {(one.station, one.expect): one for one in alarms}
        self._last = {one.station: one for one in last}
        for one in running:
            self._end(ended(one, "interrupted"))

    def _keep(self) -> None:
        with self._lock:
            self._kept = dict(self._running)
        running = [replace(one, state="running") for one in self._kept.values()]
        if self._newer:  # the file is left as it is
            return
        content: dict[str, Any] = {
            "format": FORMAT,
            "missed": [one.facts() for one in self._alarms.values()],
            "last": [one.facts() for one in self._last.values()],
            "running": [one.facts() for one in running],
        }
        try:
            self._data.mkdir(parents=True, exist_ok=True)
            write_durably(self._data / FILE, json.dumps(content, allow_nan=False).encode())
        except OSError as error:
            log.error("challenge: its outcome does not outlive a restart: %s", error)


def _alarm(challenge: Challenge) -> str:
    fault = "miss defects" if challenge.expect == "fail" else "reject good parts"
    return (
        f"the challenge of {challenge.at} was {challenge.sentence()}: the line may {fault}: look at lamp,"
        f" lens and threshold, then run mekiki challenge --station {challenge.station} --expect"
        f" {challenge.expect} until it passes"
    )
