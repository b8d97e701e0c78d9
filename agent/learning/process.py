"""The process in which all stations learn: ``python -P -m agent.learning.process FD AGENT``.

Apart from inspection, because threads share Python's lock: one that holds it while more urgent ones have its
core keeps inspection waiting. And what runs out of memory here, or crashes, ends nothing else.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from adapters.core.adapter import AdapterError
from adapters.learner.factory import LearnerModel
from agent.base import logs
from agent.base.codec import JSON
from agent.base.errors import EXIT_OK, EXIT_UNEXPECTED, AgentError
from agent.base.heaps import Heaps
from agent.base.thread_priority import LEARNING, lower_priority
from agent.domain.learner_stats import LearnerStats
from agent.inspection.predictor import Predictor
from agent.inspection.sample_queue import InspectedSample, SampleQueue
from agent.learning.ipc import Answers, Begin, Channel, Doing, Ends, Label, Samples, Say, Told
from agent.learning.worker import Learning
from agent.versions.commissioned import Commissioned, open_station
from agent.versions.station_plans import predictors, prompts, used_recipes

log = logging.getLogger(__name__)

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Learn until the agent has nothing more to say."""
    _belong_to_the_agent(int(sys.argv[2]))
    lower_priority(LEARNING)
    heaps = Heaps()
    link = Channel(int(sys.argv[1]))
    begin = link.receive()
    if not isinstance(begin, Begin):
        return
    logs.set_up(begin.loaded.config.log.level, begin.loaded.config.log.format)
    try:
        learners = _open(begin, link)
    except (AgentError, AdapterError) as error:
        log.error("learners: %s", error)
        link.send(Ends(str(error)))
        sys.exit(EXIT_UNEXPECTED)
    heaps.settle()
    threads = [_start(learning) for learning in learners.values()]
    try:
        while (message := link.receive()) is not None:
            heaps.turn()
            match message:
                case Say(log_settings):
                    logs.set_up(log_settings.level, log_settings.format)
                case Label(station) if station in learners:
                    learners[station].label(message)
                case Samples(station, seen, lost):
                    # Of a station that learned until a moment ago, and does not by this process's config.
                    if station in learners:
                        _hand_over(learners[station].handover, seen, lost)
    finally:
        for learning in learners.values():
            learning.stop()
        for thread in threads:
            thread.join()
    # All is written. What is still computed is not wanted, and a thread that comes back from native code
    # while Python is shutting down would abort the process.
    logging.shutdown()
    os._exit(EXIT_OK)


def _hand_over(handover: SampleQueue, seen: Sequence[InspectedSample], lost: int) -> None:
    handover.lose(lost)
    for one in seen:
        handover.put(one)


def _belong_to_the_agent(agent: int) -> None:
    """Leave signals to the agent, and die with it, whatever it dies of: the next one is to write alone."""
    # systemd sends them to all of a service; the agent ends its learners in order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if sys.platform == "linux":
        with suppress(OSError):  # a sandbox may forbid it
            # Where memory runs out, it is to be had here.
            Path("/proc/self/oom_score_adj").write_text("500")
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != agent:
        sys.exit("mekiki: the agent was gone before its learners had begun")


def _open(begin: Begin, link: Channel) -> dict[str, Learning]:
    """Return a learner of each station; its model is not yet open for learning."""
    loaded = begin.loaded
    model = LearnerModel(loaded.config.model)
    engine, _ = model.load(full=False)
    recipes = used_recipes(loaded.config)
    learners = {}
    for station, since in begin.stations.items():
        recipe = recipes[loaded.config.stations[station].recipe]
        found = open_station(loaded, station, recipe, engine, inspecting=False)
        if not isinstance(found, Commissioned):  # damaged since the agent has read it; the others can learn
            link.send(Doing(LearnerStats(station, unusable=found.why)))
            continue
        frozen, first = predictors(engine, recipe, found)
        learners[station] = Learning(
            found, model, prompts(recipe), first, frozen, loaded.config.agent.id,
            partial(_tell, link, station), _Changes(link), since,
        )  # fmt: skip
    return learners


def _tell(link: Channel, station: str, topic: str, payload: JSON) -> None:
    link.send(Told(station, topic, payload))


class _Changes:
    """Sends what answers and how a learner is doing, each where it has changed."""

    def __init__(self, link: Channel) -> None:
        self._link = link
        self._answers: Predictor | None = None

    def __call__(self, learning: Learning) -> None:
        if learning.answering() is not self._answers:
            answers = learning.answering()
            self._link.send(Answers(learning.station, answers))
            self._answers = answers  # only now: what could not be sent is sent the next time
        self._link.send(Doing(learning.stats()))


def _start(learning: Learning) -> threading.Thread:
    name = f"learner-{learning.station}"
    thread = threading.Thread(target=_run, args=(learning,), name=name, daemon=True)
    thread.start()
    return thread


def _run(learning: Learning) -> None:
    try:
        learning.run()
    except BaseException:  # a thread never dies alone, whatever it was: the agent starts the process again
        log.exception("learner %s", learning.station)
        os._exit(EXIT_UNEXPECTED)


if __name__ == "__main__":
    main()
