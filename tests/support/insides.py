"""The only door to what is private in the product and in libraries: a function for each, and its reason.

Before one is added: is there a public name, a file to read, a message or a line in the journal to wait for?
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import sqlite3

    import pytest
    from paho.mqtt.client import Client
    from torch import nn

    from adapters.baseline.baseline import Commissioning
    from adapters.core.observation import Observation
    from adapters.core.protocol import Engine
    from adapters.core.version import Version
    from adapters.engines.auto_select import Choice, Circumstances
    from adapters.gate.evaluation import Evaluation
    from adapters.learner.sample_buffer import Buffer
    from agent.app.daemon import Daemon
    from agent.inspection.inspector import Inspector
    from agent.learning.ipc import Channel
    from agent.learning.station_learner import StationLearner
    from agent.learning.worker import Learning
    from agent.mqtt.connection import BrokerConnection
    from agent.mqtt.outbox_sender import OutboxSender
    from agent.mqtt.publisher import Publisher
    from agent.mqtt.store_upkeep import StoreUpkeep
    from agent.reload.file_watcher import ConfigWatch
    from agent.reload.reloader import Reloader
    from agent.store.store import Store
    from camera.feed.thread import Feed

# How long the product waits.

_LIMITS = {
    "an optional service is tried again": "agent.app.optional_services._AGAIN_S",
    "the inspector may take to end": "agent.app.shutdown._INSPECTOR_S",
    "the learners pause": "agent.learning.supervisor._PAUSE_S",
    "a learner that failed pauses": "agent.learning.failure._FIRST_S",
    "a learner's failure is shown": "agent.learning.worker._SHOWN_S",
    "a full disk is left alone": "agent.learning.station_desk._DISK_S",
    "requests are looked for": "agent.learning.station_desk._ASK_S",
    "the config is watched again": "agent.reload.file_watcher._AGAIN_S",
    "a scrape may take to ask": "agent.telemetry.http_server._ASK_S",
    "a scrape may take to read": "agent.telemetry.http_server._ANSWER_S",
    "a lock is waited for": "adapters.files.folder_lock._PATIENCE_S",
    "a picture is put away again": "camera.watched_folder.finished._AGAIN_S",
    "marks are kept beyond their files": "camera.watched_folder.done_ledger._SLACK",
}


def limit(monkeypatch: pytest.MonkeyPatch, name: str, value: float) -> None:
    """Have a time be another one; of marks it is a number: no setting moves them, and a test cannot wait."""
    monkeypatch.setattr(_LIMITS[name], value)


# The agent's threads.


def reloader(daemon: Daemon) -> Reloader:
    """Wait for a daemon's: it makes it in its own thread, and only a test asks it for the config in force."""
    from tests.support.mqtt_peers import wait_until

    wait_until(lambda: daemon._reloader is not None, 60)
    assert daemon._reloader is not None
    return daemon._reloader


def adopt_plans(inspector: Inspector) -> None:
    """Let it take over what it shall judge by: its thread does that beside taking pictures, a test's own."""
    inspector._adopt()


def looks_by_present_settings(feed: Feed) -> bool:
    """Whether a camera's thread has come to its newest settings: it tells nobody, and needs not."""
    return feed._view.settings is feed._settings


def look_at_config(watch: ConfigWatch) -> None:
    """Look once: the thread looks again and again, and that nothing is noticed would take a time to see."""
    watch._look()


# Storing and sending.


def delivery(publisher: Publisher) -> OutboxSender:
    """Return what sends: it is the publisher's thread's alone, and nobody else holds it in the agent."""
    return publisher._delivery


def reconnect_wait_s(publisher: Publisher) -> float:
    """Return the wait for the next connection: the journal tells only the first one of a trouble."""
    reconnector = publisher._delivery.link._reconnector
    return 0.0 if reconnector is None else reconnector._delay_s


def upkeep(publisher: Publisher) -> StoreUpkeep:
    """Return what tidies: the publisher's thread does that at times of its own, not at a test's."""
    return publisher._upkeep


def database(store: Store) -> sqlite3.Connection:
    """Return the store's own connection: how many pages a file may have SQLite knows for each by itself."""
    return store._db


def paho_client(link: BrokerConnection) -> Client:
    """Return what a connection is made of: that it is freed nobody sees but who holds a weak reference."""
    return link._client


def close_sockets(client: Client) -> None:
    """Close what paho wakes itself by: it leaves that to the garbage collector, in somebody else's test."""
    client._reset_sockets()


# Learning.


def learner(one: Learning) -> StationLearner | None:
    """Return what learns, None while there is none: it belongs to its thread, which shows only failures."""
    return one._learner


def is_computing(one: Learning) -> bool:
    """Whether something is being computed: nothing is told where its result is not used."""
    return one._job is not None


def newest_frame(one: Learning) -> int:
    """Return the newest frame that was counted: it is on the disk only now and then."""
    return one._manager.frame


def trial(of: StationLearner, frames: int) -> Evaluation:
    """Return the evaluation that it would decide by now: it makes one only where a proposal is due."""
    return of._context.hold(of._buffer.recent(frames))


def evidence_of(buffer: Buffer) -> Sequence[Sequence[Observation]]:
    """Return the frames kept of each class: the learner draws from them, and asks only how many."""
    return buffer._content.evidence


def compute_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have learners rest for ever: how long they do follows from how long a computation took."""
    monkeypatch.setattr("agent.learning.worker.Learning._work", lambda self, learner: None)


def lives_of_learners(monkeypatch: pytest.MonkeyPatch, life: Callable[..., str]) -> None:
    """Replace what a learners' process does from start to end: a real one takes seconds to begin."""
    monkeypatch.setattr("agent.learning.supervisor.LearnerSupervisor._live", life)


def told_to_inspector(link: Channel) -> Callable[[Learning], None]:
    """Return what tells the inspector: a learners' process makes it, where a test cannot reach."""
    from agent.learning.process import _Changes

    return _Changes(link)


def answers_at_start(folder: Path, engine: Engine, clean: Commissioning) -> Version | None:
    """Return what a replay begins with; None: the source. Who opens one needs a whole config."""
    from agent.replay.station import _active

    return _active(folder, engine, "active", clean)


# What newer releases write, and other machines have.


def write_besides(monkeypatch: pytest.MonkeyPatch, facts: Mapping[str, Any]) -> None:
    """Have audit trails say more in each line: this release adds nothing that it does not know."""
    from agent.audit.hash_chain import Audit

    append = Audit._append
    monkeypatch.setattr(Audit, "_append", lambda self, known: append(self, {**known, **facts}))


def sealed_facts(more: str, digest: str, release: str) -> str:
    """Return the seal of what a baseline says besides: only so can an older file be made from ours."""
    from adapters.baseline import baseline

    return baseline._sealed(more, digest, release)


def stored_choice(file: Path, now: Circumstances) -> Choice | None:
    """Return the engine that a file names: who opens one by it needs the circumstances of this machine."""
    from adapters.engines.auto_select import _stored

    return _stored(file, now)


def timesyncd(monkeypatch: pytest.MonkeyPatch, mark: Path) -> Callable[[float], bool]:
    """Put timesyncd's mark elsewhere; return who asks it: all others would ask the machine's kernel too."""
    from agent.clock import trusted_time

    monkeypatch.setattr(trusted_time, "_TIMESYNCD", mark)
    return trusted_time._marked


# Models.


def graphs_of(monkeypatch: pytest.MonkeyPatch, write: Callable[..., None]) -> None:
    """Have a bundle's graphs come from elsewhere: to export them takes minutes, to compare them does not."""
    monkeypatch.setattr("adapters.build.bundle._write_graphs", write)


def merge_norms(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the exporter merge equal LayerNorms: a build always keeps it from that."""
    from contextlib import nullcontext

    monkeypatch.setattr("adapters.build.forward_graph._distinct_norms", nullcontext)


def add_pretrained(monkeypatch: pytest.MonkeyPatch, model: str, tags: Mapping[str, Any]) -> None:
    """Have open_clip know another model's weights: it has no way to register any."""
    from open_clip import pretrained

    monkeypatch.setitem(pretrained._PRETRAINED, model, tags)


def hooks_before(module: nn.Module) -> int:
    """Return how many pre-hooks a module has: torch gives them out to nobody."""
    return len(module._forward_pre_hooks)
