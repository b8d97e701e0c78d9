"""All learners of an agent, as inspection knows them: a process that may die, and is started again."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import replace
from pathlib import Path

from adapters.core.version import SOURCE
from agent.base.codec import JSON
from agent.base.event_id import ulid
from agent.base.thread_priority import SERVING, lower_priority
from agent.config.loader import Loaded
from agent.domain.learner_stats import LearnerStats
from agent.inspection.frame_count import InForce
from agent.inspection.predictor import Predictor
from agent.inspection.sample_queue import InspectedSample, SampleQueue
from agent.learning.ipc import Answers, Begin, Channel, Doing, Ends, Label, Samples, Say, Told, pair
from agent.versions.commissioned import station_folder
from agent.versions.operator_requests import waiting_names

log = logging.getLogger(__name__)

_AT_ONCE = 32
_WAIT_S = 0.2
_GO_S = 1.0
_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 900.0
_ASK_S = 0.5
_WELL_S = 600.0
_MAX_LABELS = 1000


class LearnerHandle:
    """A commissioned station as inspection knows it: what answers there, and where its parts are handed over.

    Args:
        frozen: the model as it was trained, at the commissioned operating point.
        first: what answers until its learner says otherwise.
        recipe: name of the recipe that it is judged by; what was learned is this one's.
        since: since when that is so; None: for as long as the agent runs.
    """

    def __init__(
        self,
        station: str,
        frozen: Predictor,
        first: Predictor,
        recipe: str = "",
        since: InForce | None = None,
    ) -> None:
        self.station, self.frozen = station, frozen
        self.recipe, self.since = recipe, since
        self.stats = LearnerStats(station)
        self.handover = SampleQueue()
        self.labels: deque[Label] = deque(maxlen=_MAX_LABELS)
        self.gone = threading.Event()
        self._answering = first

    def answering(self) -> Predictor:
        """Return what to judge with now; any thread may ask."""
        return self._answering

    def put(self, seen: InspectedSample) -> None:
        """Hand a part over; any thread, never waits."""
        self.handover.put(seen)

    def answer(self, predictor: Predictor) -> None:
        """Judge with this from now on."""
        # Its learner's own texts of the model as it was trained may be of another engine than ours.
        self._answering = self.frozen if predictor.number == SOURCE else predictor


class LearnerSupervisor:
    """Owns the process of `agent.learning.process` and what is known of it here.

    Inspection never waits for it: a `LearnerHandle` gives what is complete and takes what was seen. While
    there is no process, what answered last goes on answering.

    Args:
        loaded: the config.
        tell: publishes a station's topic: its name, the topic's name, the payload; in the thread of `run`.
    """

    def __init__(self, loaded: Loaded, tell: Callable[[str, str, JSON], None]) -> None:
        self._loaded, self._tell = loaded, tell
        self._handles: dict[str, LearnerHandle] = {}
        self._stop = threading.Event()
        self._renewed = threading.Event()
        self._ended = threading.Event()
        self._changing = threading.Lock()
        self._link: Channel | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._away: str | None = None
        self._ends: str | None = None
        self._run_id = ulid()

    def use(self, loaded: Loaded, handles: Mapping[str, LearnerHandle]) -> None:
        """Let these stations learn from now on, as the config says; any thread, also while `run` does.

        Where any of them is another one than before, the process that has learned until now ends, and the
        next begins with what is stored.
        """
        with self._changing:
            if dict(handles) == self._handles:
                self._loaded = loaded
                return
            for station, handle in self._handles.items():
                if handles.get(station) is not handle:
                    handle.gone.set()
            new = [handle for handle in handles.values() if handle not in self._handles.values()]
            self._loaded, self._handles = loaded, dict(handles)
            self._wake()
        for handle in new:
            threading.Thread(
                target=self._send, args=(handle,), name=f"learner-{handle.station}", daemon=True
            ).start()

    def label(self, label: Label) -> None:
        """Tell a station's learner what a part really was; any thread, never waits.

        When 1000 wait, the oldest is lost first; the store has them all. Where there is no learner, or one
        of another product, it is not needed, and not kept.
        """
        handle = self._handles.get(label.station)
        if handle is not None and handle.recipe == label.recipe:
            handle.labels.append(label)

    def stats(self) -> list[LearnerStats]:
        """Return how each learner is doing; any thread may ask."""
        return [replace(handle.stats, away=self._away) for handle in self._handles.values()]

    def run(self) -> None:
        """Have a process that learns while there is a station that does, until `stop`."""
        pause_s = _PAUSE_S
        while not self._stop.is_set():
            with self._changing:
                self._renewed.clear()
                loaded, handles = self._loaded, self._handles
            if self._stop.is_set():
                break
            if not handles:
                self._renewed.wait()
                continue
            began, before = time.monotonic(), _waiting(loaded, handles)
            why = self._live(loaded, handles)
            if self._renewed.is_set():
                continue
            if time.monotonic() - began > _WELL_S:
                pause_s = _PAUSE_S
            self._away = why
            log.error("learners: their process %s; inspection goes on, they start in %.0f s", why, pause_s)
            self._pause(loaded, handles, pause_s, before)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        self._ended.set()

    def stop(self) -> None:
        """Let the process end: at the next call of the model, also in the middle of an update."""
        with self._changing:
            self._stop.set()
            self._wake()

    def wait(self, timeout_s: float) -> bool:
        """Wait for the end of `run`; one that takes longer is killed, which its files survive."""
        if not self._ended.wait(timeout_s):
            with self._changing:
                if self._process is not None:
                    self._process.kill()
            return self._ended.wait(_GO_S)
        return True

    def _pause(
        self, loaded: Loaded, handles: Mapping[str, LearnerHandle], pause_s: float, before: Set[Path]
    ) -> None:
        """Leave the learners alone for a while, unless somebody asks something of them.

        Args:
            loaded: the config.
            pupils: that learn.
            pause_s: how long.
            before: what waited when their process was started; it has had its turn.
        """
        until = time.monotonic() + pause_s
        while not self._renewed.wait(max(0.0, min(_ASK_S, until - time.monotonic()))):
            if _waiting(loaded, handles) - before or time.monotonic() >= until:
                return

    def _wake(self) -> None:
        self._renewed.set()
        if self._link is not None:
            self._link.finish()

    def _live(self, loaded: Loaded, handles: Mapping[str, LearnerHandle]) -> str:
        """Start a process, hear what it says until it ends, and return why."""
        link, theirs = pair()
        with theirs:
            whose = [str(theirs.fileno()), str(os.getpid())]
            command = [sys.executable, "-P", "-m", "agent.learning.process", *whose]
            # A group of its own: what a terminal sends to ours is for the agent to act on.
            try:
                process = subprocess.Popen(  # noqa: S603 - ourselves
                    command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, process_group=0
                )
            except OSError as error:  # out of memory, or of processes
                link.close()
                return f"cannot be started: {error}"
        self._ends = None
        always = InForce(self._run_id)
        link.send(Begin(loaded, {name: one.since or always for name, one in handles.items()}))
        with self._changing:
            self._process, self._link = process, link
            if self._renewed.is_set():
                link.finish()
        while (message := link.receive()) is not None:
            self._take(message, handles)
        with self._changing:
            self._link = None
        link.close()
        code = process.wait()
        if self._ends is not None:
            return f"cannot learn: {self._ends}"
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"

    def _take(self, message: object, handles: Mapping[str, LearnerHandle]) -> None:
        match message:
            case Answers(name, predictor):
                handles[name].answer(predictor)
            case Doing(stats):
                handles[stats.station].stats = stats
                self._away = None
            case Ends(why):
                self._ends = why
            case Told(name, topic, payload):
                self._tell(name, topic, payload)

    def _send(self, handle: LearnerHandle) -> None:
        """Send what a station's learner is to see; thread ``learner-<station>``."""
        lower_priority(SERVING)
        missed, known, log_settings = 0, 0, self._loaded.config.log
        while not self._stop.is_set() and not handle.gone.is_set():
            said = len(handle.labels)  # of parts that were handed over before
            seen = tuple(handle.handover.take(_AT_ONCE, _WAIT_S))
            if handle.gone.is_set():  # meanwhile: what it saw is nothing to who learns there now
                return
            if not seen:
                self._say(handle, said)
                continue
            link, lost = self._link, handle.handover.lost
            missed += lost - known
            known = lost
            # Here, because who asked for it must not wait for a process that hangs.
            if link is not None and log_settings != self._loaded.config.log:
                log_settings = self._loaded.config.log
                link.send(Say(log_settings))
            if link is not None and link.send(Samples(handle.station, seen, missed)):
                missed = 0
            else:
                missed += len(seen)
            if len(seen) < _AT_ONCE:
                self._say(handle, said)

    def _say(self, handle: LearnerHandle, count: int) -> None:
        """Pass labels on; while there is no process that learns they are of no use, and go."""
        for _ in range(count):
            label = handle.labels.popleft()
            if (link := self._link) is not None:
                link.send(label)


def _waiting(loaded: Loaded, stations: Iterable[str]) -> frozenset[Path]:
    """Return what people have asked for, and no learner has taken yet."""
    folders = [station_folder(loaded.config, station) / "requests" for station in stations]
    return frozenset(folder / name for folder in folders for name in waiting_names(folder))
