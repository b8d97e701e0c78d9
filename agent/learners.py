"""All learners of an agent, as inspection knows them: a process that may die, and is started again."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from adapters.version import SOURCE
from agent.configfile import Loaded
from agent.handover import HandOver, Witnessed
from agent.health import LearnerStats
from agent.learner_link import Answers, Begin, Doing, Link, Parts, Told, pair
from agent.payloads import JSON
from agent.predictor import Predictor
from agent.priority import SERVING, step_back

log = logging.getLogger(__name__)

_AT_ONCE = 32
_WAIT_S = 0.2
_GO_S = 1.0
_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 60.0
_WELL_S = 600.0


@dataclass(slots=True, eq=False)
class _Station:
    frozen: Predictor
    answering: Predictor
    stats: LearnerStats
    handover: HandOver = field(default_factory=HandOver)


class Learners:
    """Owns the process of `agent.learner_process` and what is known of it here.

    Inspection never waits for it: `answering` gives what is complete, `put` takes what was seen. While there
    is no process, what answered last goes on answering.

    Args:
        loaded: the config.
        tell: publishes a station's topic: its name, the topic's name, the payload; in the thread of `run`.
    """

    def __init__(self, loaded: Loaded, tell: Callable[[str, str, JSON], None]) -> None:
        self._loaded, self._tell = loaded, tell
        self._stations: dict[str, _Station] = {}
        self._stop = threading.Event()
        self._ended = threading.Event()
        self._changing = threading.Lock()
        self._link: Link | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._away: str | None = None

    def add(self, station: str, frozen: Predictor, first: Predictor) -> None:
        """Let a commissioned station learn; before `run`.

        Args:
            station: its name.
            frozen: the model as it was trained, at the commissioned operating point.
            first: what answers until its learner says otherwise.
        """
        self._stations[station] = _Station(frozen, first, LearnerStats(station))

    def __bool__(self) -> bool:
        return bool(self._stations)

    def answering(self, station: str) -> Predictor:
        """Return what to judge with now; any thread may ask."""
        return self._stations[station].answering

    def put(self, station: str, seen: Witnessed) -> None:
        """Hand a part over; any thread, never waits."""
        self._stations[station].handover.put(seen)

    def stats(self) -> list[LearnerStats]:
        """Return how each learner is doing; any thread may ask."""
        return [replace(station.stats, away=self._away) for station in self._stations.values()]

    def run(self) -> None:
        """Have a process that learns, until `stop`."""
        for name, station in self._stations.items():
            threading.Thread(
                target=self._send, args=(name, station.handover), name=f"learner-{name}", daemon=True
            ).start()
        pause_s = _PAUSE_S
        while not self._stop.is_set():
            began = time.monotonic()
            why = self._live()
            if self._stop.is_set():
                break
            if time.monotonic() - began > _WELL_S:
                pause_s = _PAUSE_S
            self._away = why
            log.error("learners: their process %s; inspection goes on, they start in %.0f s", why, pause_s)
            self._stop.wait(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        self._ended.set()

    def stop(self) -> None:
        """Let the process end: at the next call of the model, also in the middle of an update."""
        with self._changing:
            self._stop.set()
            if self._link is not None:
                self._link.finish()

    def wait(self, timeout_s: float) -> bool:
        """Wait for the end of `run`; one that takes longer is killed, which its files survive."""
        if not self._ended.wait(timeout_s):
            with self._changing:
                if self._process is not None:
                    self._process.kill()
            return self._ended.wait(_GO_S)
        return True

    def _live(self) -> str:
        """Start a process, hear what it says until it ends, and return why."""
        link, theirs = pair()
        with theirs:
            whose = [str(theirs.fileno()), str(os.getpid())]
            command = [sys.executable, "-P", "-m", "agent.learner_process", *whose]
            # A group of its own: what a terminal sends to ours is for the agent to act on.
            try:
                process = subprocess.Popen(  # noqa: S603 - ourselves
                    command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, process_group=0
                )
            except OSError as error:  # out of memory, or of processes
                link.close()
                return f"cannot be started: {error}"
        link.send(Begin(self._loaded, tuple(self._stations)))
        with self._changing:
            self._process, self._link = process, link
            if self._stop.is_set():
                link.finish()
        while (message := link.receive()) is not None:
            self._take(message)
        with self._changing:
            self._link = None
        link.close()
        code = process.wait()
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"

    def _take(self, message: object) -> None:
        match message:
            case Answers(name, predictor):
                station = self._stations[name]
                # Its own texts of the model as it was trained may be of another engine than ours.
                station.answering = station.frozen if predictor.number == SOURCE else predictor
            case Doing(stats):
                self._stations[stats.station].stats = stats
                self._away = None
            case Told(name, topic, payload):
                self._tell(name, topic, payload)

    def _send(self, name: str, handover: HandOver) -> None:
        """Send what a station's learner is to see; thread ``learner-<station>``."""
        step_back(SERVING)
        missed, known = 0, 0
        while not self._stop.is_set():
            seen = tuple(handover.take(_AT_ONCE, _WAIT_S))
            if not seen:
                continue
            link, lost = self._link, handover.lost
            missed += lost - known
            known = lost
            if link is not None and link.send(Parts(name, seen, missed)):
                missed = 0
            else:
                missed += len(seen)
