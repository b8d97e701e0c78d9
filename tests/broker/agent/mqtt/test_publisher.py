"""Nothing that was decided is lost, whatever happens to the broker or to us. Against a real mosquitto."""

from __future__ import annotations

import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.mqtt.embedded_broker import embedded_broker
from agent.mqtt.pending_results import MAX_PENDING
from tests.support.insides import delivery
from tests.support.mqtt_peers import Mosquitto, Subscriber, check_complete, free_port, mosquitto, wait_until
from tests.support.places import ROOT
from tests.support.running_publisher import running
from tests.support.verdicts import PREFIX, a_board, a_publisher, a_store, a_verdict, availability

pytestmark = pytest.mark.broker


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    folder = tmp_path / "broker"
    folder.mkdir()
    with mosquitto(folder) as running:
        yield running


def test_every_result_arrives_once_and_in_order(broker: Mosquitto, tmp_path: Path) -> None:
    """In fair weather there is nothing to repeat."""
    subscriber = Subscriber(broker.port)
    with running(a_publisher(a_store(tmp_path / "data"), broker.port)) as publisher:
        for part in range(300):
            publisher.put([a_verdict("top", part), a_verdict("side", part)])
        wait_until(lambda: publisher.stats().published == 600)
        wait_until(lambda: len(subscriber.results()) >= 600)

    for station in ("top", "side"):
        assert check_complete(subscriber.results(station), 300) == []
        assert not any(result["replayed"] for result in subscriber.results(station))
    assert subscriber.invalid == []
    subscriber.close()


def test_a_broker_outage_loses_nothing(broker: Mosquitto, tmp_path: Path) -> None:
    """The broker is killed three times in the middle; everything arrives, repeats say so."""
    subscriber = Subscriber(broker.port)
    with running(a_publisher(a_store(tmp_path / "data"), broker.port)) as publisher:
        for part in range(1200):
            if part in (300, 600, 900):
                broker.kill()
            if part in (450, 750, 1050):
                broker.start()
                # The broker forgot the subscription with everything else; wait for it, not for luck.
                subscriber.subscribe_again()
            publisher.put([a_verdict("top", part)])
            time.sleep(0.001)
        wait_until(lambda: publisher.stats().waiting == 0, 30)
        stats = publisher.stats()
        assert (stats.lost, stats.given_up) == (0, 0)
        wait_until(lambda: subscriber.results("top")[-1]["seq"] == 1200)
    # What mosquitto acknowledged and lost when it was killed is not ours to repeat; what we sent is complete.
    assert stats.published == 1200
    subscriber.close()


def test_kill_minus_nine_loses_nothing(broker: Mosquitto, tmp_path: Path) -> None:
    """Killed 8 times at random: a subscriber sees every number; repeats say so, at most a window each."""
    subscriber = Subscriber(broker.port)
    dice = random.Random(1)
    for _ in range(8):
        victim = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.support.verdicts",
                str(tmp_path / "data"),
                str(broker.port),
            ],
            cwd=ROOT,
            env={"PYTHONPATH": ".", "PATH": "/usr/bin:/bin"},
        )
        seen = len(subscriber.results())
        wait_until(lambda seen=seen: len(subscriber.results()) > seen + 20)
        time.sleep(dice.uniform(0.0, 0.3))
        victim.kill()
        victim.wait(10)
    with running(a_publisher(a_store(tmp_path / "data"), broker.port)) as publisher:
        publisher.put([a_verdict("top"), a_verdict("side")])
        wait_until(lambda: publisher.stats().waiting == 0)
        last = {row["station"]: row["seq"] for row in subscriber.results()}
        wait_until(lambda: all(subscriber.results(s)[-1]["trigger"]["part_id"] == "part-1" for s in last))
    for station in ("top", "side"):
        results = subscriber.results(station)
        repeats = check_complete(results, max(result["seq"] for result in results))
        assert len(repeats) <= 64 * 8
    subscriber.close()


def test_results_before_the_first_connection_wait_on_disk(tmp_path: Path) -> None:
    """An agent that starts before its broker works, says so, and delivers when the broker comes."""
    folder = tmp_path / "broker"
    folder.mkdir()
    with mosquitto(folder) as broker:
        broker.kill()
        with running(a_publisher(a_store(tmp_path / "data"), broker.port)) as publisher:
            publisher.put([a_verdict(part=part) for part in range(100)])
            wait_until(lambda: publisher.stats().stored == 100)
            wait_until(lambda: "cannot be reached" in str(publisher.stats().link_problem))
            broker.start()
            subscriber = Subscriber(broker.port)
            wait_until(lambda: publisher.stats().waiting == 0)
            wait_until(lambda: publisher.stats().link_problem is None)
        subscriber.close()


def test_a_refused_connection_is_not_a_connection(tmp_path: Path) -> None:
    """A wrong password is health, not silence; nothing is lost and the broker is not hammered."""
    folder = tmp_path / "broker"
    folder.mkdir()
    (folder / "passwords").write_text("")
    with (
        mosquitto(folder, f"allow_anonymous false\npassword_file {folder}/passwords\n") as broker,
        running(a_publisher(a_store(tmp_path / "data"), broker.port), drain_s=0.1) as publisher,
    ):
        publisher.put([a_verdict()])
        wait_until(lambda: "refused" in str(publisher.stats().link_problem))
        assert "Not authorized" in str(publisher.stats().link_problem)
        assert publisher.stats().published == 0
        assert publisher.stats().waiting == 1


def test_a_refused_publish_is_not_delivered(tmp_path: Path) -> None:
    """An ACL that forbids our topic gives a PUBACK with a failure: the result stays in the outbox."""
    folder = tmp_path / "broker"
    folder.mkdir()
    (folder / "acl").write_text(f"topic write {PREFIX}/availability\ntopic read #\n")
    with (
        mosquitto(folder, f"allow_anonymous true\nacl_file {folder}/acl\n") as broker,
        running(a_publisher(a_store(tmp_path / "data"), broker.port), drain_s=0.1) as publisher,
    ):
        publisher.put([a_verdict()])
        wait_until(lambda: "publishing refused" in str(publisher.stats().link_problem))
        assert publisher.stats().published == 0
        assert publisher.stats().waiting == 1


def test_retained_state_is_there_for_whoever_connects_late(broker: Mosquitto, tmp_path: Path) -> None:
    """State and availability are retained, and the last word of an orderly stop is `stopped`."""
    retained = a_board()
    publisher = a_publisher(a_store(tmp_path / "data"), broker.port, retained=retained)
    retained.set(availability("online"))
    with running(publisher):
        publisher.put([a_verdict() for _ in range(5)])
        wait_until(lambda: publisher.stats().published == 5)
        late = Subscriber(broker.port)
        wait_until(lambda: late.last("top/state") is not None)
        assert late.last("availability") == "online"
        assert late.last("top/state")["verdict"] == "pass"
    wait_until(lambda: late.last("availability") == "stopped")
    assert late.results() == []  # results are not retained
    assert late.invalid == []
    late.close()


def test_the_will_speaks_when_we_cannot(broker: Mosquitto, tmp_path: Path) -> None:
    """After kill -9 the broker says `offline` for us."""
    subscriber = Subscriber(broker.port)
    victim = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "tests.support.verdicts",
            str(tmp_path / "data"),
            str(broker.port),
        ],
        cwd=ROOT,
        env={"PYTHONPATH": ".", "PATH": "/usr/bin:/bin"},
    )
    wait_until(lambda: subscriber.results())
    victim.kill()
    victim.wait(10)

    wait_until(lambda: subscriber.last("availability") == "offline")
    subscriber.close()


def test_retained_topics_are_published_again_after_a_broker_restart(
    broker: Mosquitto, tmp_path: Path
) -> None:
    """A broker that forgot everything is told everything again."""
    with running(a_publisher(a_store(tmp_path / "data"), broker.port)) as publisher:
        publisher.put([a_verdict()])
        wait_until(lambda: publisher.stats().published == 1)
        broker.kill()
        wait_until(lambda: publisher.stats().link_problem is not None)
        broker.start()
        late = Subscriber(broker.port)
        wait_until(lambda: late.last("top/state") is not None)
        late.close()


@pytest.mark.usefixtures("sockets_left_behind")
def test_a_3_1_1_broker_is_spoken_to_in_3_1_1(tmp_path: Path) -> None:
    """The embedded broker refuses MQTT 5; the agent falls back by itself."""
    with (
        embedded_broker(port := free_port()),
        running(a_publisher(a_store(tmp_path / "data"), port, connect_timeout_s=0.2)) as publisher,
    ):
        publisher.put([a_verdict() for _ in range(20)])
        wait_until(lambda: publisher.stats().published == 20)


def test_a_broker_that_never_answers_is_given_up_on(tmp_path: Path) -> None:
    """A port that accepts and stays silent is a problem with a name, not a wait for ever."""
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        running(
            a_publisher(a_store(tmp_path / "data"), silent.getsockname()[1], connect_timeout_s=0.2),
            drain_s=0.1,
        ) as publisher,
    ):
        publisher.put([a_verdict()])
        wait_until(lambda: "no answer" in str(publisher.stats().link_problem))
        assert publisher.stats().waiting == 1


def test_the_backlog_is_drained_at_its_pace(broker: Mosquitto, tmp_path: Path) -> None:
    """What waited is paced by `drain_per_s`, so it takes at least its time; what is new goes at once."""
    store = a_store(tmp_path / "data")
    store.commit([a_verdict() for _ in range(60)])
    started = time.monotonic()
    with running(a_publisher(store, broker.port, drain_per_s=50.0)) as publisher:
        wait_until(lambda: publisher.stats().waiting == 0)
    # 60 at 50 a second are 1.2 s; a burst of a tenth of a second may go ahead.
    assert time.monotonic() - started > 0.9


def test_a_full_disk_keeps_results_in_memory_and_says_so(tmp_path: Path) -> None:
    """Inspection goes on; when space returns everything is stored, in order."""
    store = a_store(tmp_path / "data", min_free_bytes=10**15)
    with running(a_publisher(store, None)) as publisher:
        publisher.put([a_verdict(part=part) for part in range(50)])
        wait_until(lambda: publisher.stats().store_problem is not None)
        publisher.put([a_verdict(part=part) for part in range(50, 80)])
        store.retention = replace(store.retention, min_free_bytes=0)
        wait_until(lambda: publisher.stats().stored == 80)
        assert publisher.stats().store_problem is None
        assert publisher.stats().lost == 0


def test_a_disk_that_stays_full_loses_the_oldest_and_counts(tmp_path: Path) -> None:
    """Memory is bounded; what was lost is known."""
    store = a_store(tmp_path / "data", min_free_bytes=10**15)
    with running(a_publisher(store, None), drain_s=0.1) as publisher:
        one = a_verdict()
        publisher.put([one])
        wait_until(lambda: publisher.stats().store_problem is not None)
        publisher.put([one] * (MAX_PENDING + 99))
        wait_until(lambda: publisher.stats().lost == 100)


def test_a_hanging_name_server_keeps_nothing_from_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS has no time-out: paho's thread may hang for long, ours stores on and ends in time."""
    resolve = socket.getaddrinfo

    def hang(host: str, *rest: object, **more: object) -> object:
        if host == "broker.plant.example":
            time.sleep(8)
        return resolve("127.0.0.1", *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    publisher = a_publisher(a_store(tmp_path / "data"), 1, connect_timeout_s=0.1)
    settings = delivery(publisher).link.mqtt
    assert settings is not None
    publisher.use(settings.model_copy(update={"host": "broker.plant.example"}), None)
    with running(publisher, drain_s=0.5):
        publisher.put([a_verdict()])
        wait_until(lambda: "no answer" in str(publisher.stats().link_problem))
        publisher.put([a_verdict() for _ in range(50)])
        wait_until(lambda: publisher.stats().stored == 51, 2)
        stopped = time.monotonic()
    assert time.monotonic() - stopped < 3


def test_what_the_end_cut_off_is_counted(tmp_path: Path) -> None:
    """A disk that is full until the end loses verdicts; the last numbers say so."""
    store = a_store(tmp_path / "data", min_free_bytes=10**15)
    with running(a_publisher(store, None), drain_s=0.1) as publisher:
        publisher.put([a_verdict() for _ in range(7)])
        wait_until(lambda: publisher.stats().store_problem is not None)
    assert publisher.stats().lost == 7
    assert publisher.stats().waiting == 0


def test_never_more_than_a_window_can_come_twice(broker: Mosquitto, tmp_path: Path) -> None:
    """Acknowledged but not yet struck off counts: a crash at any moment repeats at most 64."""
    store = a_store(tmp_path / "data")
    store.commit([a_verdict() for _ in range(1500)])
    exposed = []
    publisher = a_publisher(store, broker.port, drain_per_s=100_000.0)
    sender = delivery(publisher)
    tend = sender.tend

    def watched(now: float, *, ending: bool) -> None:
        exposed.append(sender.in_flight.results())
        tend(now, ending=ending)

    sender.tend = watched
    with running(publisher):
        wait_until(lambda: publisher.stats().waiting == 0)
    assert max(exposed) <= 64


def test_a_refused_retained_topic_does_not_stop_the_results(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An ACL that forbids one topic costs that topic and one line in the log, not the connection."""
    folder = tmp_path / "broker"
    folder.mkdir()
    (folder / "acl").write_text(f"topic write {PREFIX}/top/result\ntopic read #\n")
    with (
        mosquitto(folder, f"allow_anonymous true\nacl_file {folder}/acl\n") as broker,
        running(a_publisher(a_store(tmp_path / "data"), broker.port)) as publisher,
    ):
        for part in range(50):
            publisher.put([a_verdict(part=part)])
            time.sleep(0.01)
        wait_until(lambda: publisher.stats().published == 50)
        assert publisher.stats().link_problem is None
        refused = [record.args for record in caplog.records if "the broker refuses" in record.msg]
        assert [args[0] for args in refused] == [f"{PREFIX}/top/state"]


def test_a_moment_of_trouble_does_not_cost_mqtt_5(tmp_path: Path) -> None:
    """A broker that hangs up while it starts is tried in both versions until one is taken, and found."""
    from agent.mqtt.connection import LinkState

    folder = tmp_path / "broker"
    folder.mkdir()
    with mosquitto(folder) as broker:
        broker.kill()
        with running(a_publisher(a_store(tmp_path / "data"), broker.port)) as publisher:
            with socket.create_server(("127.0.0.1", broker.port)) as rude:
                rude.settimeout(10)
                for _ in range(2):
                    rude.accept()[0].close()
            broker.start()
            link = delivery(publisher).link
            wait_until(lambda: link.connection is not None and link.connection.state is LinkState.UP)
            broker.kill()
            wait_until(lambda: publisher.stats().link_problem is not None)
            broker.start()
            wait_until(lambda: publisher.stats().link_problem is None)
            assert link.connection.protocol == 5


def test_a_broker_that_acknowledges_nothing_is_left(tmp_path: Path) -> None:
    """Accepting and never a PUBACK is not delivery: the connection is given up and health says why."""
    connack = b"\x20\x03\x00\x00\x00"
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        deaf.settimeout(0.2)
        over = threading.Event()

        def serve() -> None:
            clients = []
            while not over.is_set():
                try:
                    client = deaf.accept()[0]
                except TimeoutError:
                    continue
                client.recv(4096)
                client.sendall(connack)
                clients.append(client)
            for client in clients:
                client.close()

        thread = threading.Thread(target=serve)
        thread.start()
        publisher = a_publisher(a_store(tmp_path / "data"), deaf.getsockname()[1], keepalive_s=1)
        with running(publisher, drain_s=0.1):
            publisher.put([a_verdict()])
            wait_until(lambda: "does not acknowledge" in str(publisher.stats().link_problem))
            assert publisher.stats().published == 0
        over.set()
        thread.join()
