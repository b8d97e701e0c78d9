"""What the agent and the process of its learners say to each other, over a pair of sockets.

Both are this program, one the other's child: messages are pickled, and nobody else can write there.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection

from agent.base.codec import JSON
from agent.config.loader import Loaded
from agent.config.models import LogSettings
from agent.domain.learner_stats import LearnerStats
from agent.inspection.frame_count import InForce
from agent.inspection.predictor import Predictor
from agent.inspection.sample_queue import InspectedSample


@dataclass(frozen=True, slots=True)
class Begin:
    """To the learners, first of all: the config as the agent read it, and the commissioned stations.

    Attributes:
        stations: with since when the product of each is in force.
    """

    loaded: Loaded
    stations: Mapping[str, InForce]


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """To a station's learner: what the inspector saw, in order.

    Attributes:
        lost: how many more since the last message it never gets.
    """

    station: str
    seen: tuple[InspectedSample, ...]
    lost: int


@dataclass(frozen=True, slots=True)
class Label:
    """To a station's learner: what a part really was.

    Attributes:
        number: of its frame since the agent's start.
        actor: who says so.
        recipe: name of the recipe that it was judged by.
    """

    station: str
    number: int
    defect: bool
    actor: str
    recipe: str


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """From a station's learner: what is to answer from now on."""

    station: str
    predictor: Predictor


@dataclass(frozen=True, slots=True)
class Doing:
    """From a station's learner: how it is doing."""

    stats: LearnerStats


@dataclass(frozen=True, slots=True)
class Ends:
    """From the learners: why they cannot learn, before their process ends."""

    why: str


@dataclass(frozen=True, slots=True)
class Told:
    """From a station's learner: what is to be published."""

    station: str
    topic: str
    payload: JSON


@dataclass(frozen=True, slots=True)
class Say:
    """To the learners: what is worth a line in the journal from now on."""

    log: LogSettings


Message = Begin | Samples | Label | Say | Answers | Doing | Told | Ends


class Channel:
    """One end. Any thread may send, one thread receives.

    Args:
        file: descriptor of a socket; owned from now on.
    """

    def __init__(self, file: int) -> None:
        self._connection: Connection = Connection(file)
        self._sending = threading.Lock()

    def send(self, message: Message) -> bool:
        """Send; waits while the other end is behind. False where it is gone."""
        with self._sending:
            try:
                self._connection.send(message)
            except OSError:
                return False
        return True

    def receive(self) -> Message | None:
        """Return the next message; None where the other end has nothing more to say."""
        try:
            found: Message = self._connection.recv()
        except (EOFError, OSError):
            return None
        return found

    def finish(self) -> None:
        """Have nothing more to say, never waiting for who is just sending; what comes is still received."""
        with socket.socket(fileno=os.dup(self._connection.fileno())) as ours:
            ours.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Let go of the socket; in the thread that receives."""
        with self._sending:
            self._connection.close()


def pair() -> tuple[Channel, socket.socket]:
    """Return this process's end, and the one that a child inherits."""
    ours, theirs = socket.socketpair()
    return Channel(ours.detach()), theirs
