"""Who says that a part is there gets exactly one result for it, whatever happens meanwhile."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from agent.base.errors import ConfigError
from agent.config.loader import load
from agent.inspection.trigger_queue import MAX_WAITING, REMEMBERED, Ended, Trigger, TriggerQueue
from tests.support.line_site import UNHURRIED
from tests.support.mqtt_peers import Mosquitto, Subscriber, check_complete, mosquitto, wait_until
from tests.support.running_agent import at, running, write_config, write_pictures


def trigger(name: str, at_ns: int = 0, deadline_ns: int = 100) -> Trigger:
    return Trigger(name, None, at_ns, at_ns + deadline_ns)


_STEP = st.one_of(
    st.tuples(st.just("ask"), st.integers(0, 12)),
    st.tuples(st.just("frame"), st.integers(-30, 0)),
    st.tuples(st.just("bad"), st.just(0)),
    st.tuples(st.just("settle"), st.integers(0, 12)),
    st.tuples(st.just("wait"), st.integers(1, 60)),
    st.tuples(st.just("offline"), st.booleans()),
)


@given(st.lists(_STEP, max_size=60), st.sampled_from(["shutdown", "reload"]))
@UNHURRIED
def test_every_trigger_ends_exactly_once(  # noqa: C901 - one branch a step
    steps: list[tuple[str, Any]], how: Any
) -> None:
    """Any order of triggers, repeated ones, pictures, verdicts, stalls, dead cameras, and an end."""
    book, now = TriggerQueue(), 0
    asked: dict[str, int] = {}
    claimed: list[str] = []
    ends: Counter[str] = Counter()

    def over(ended: list[Ended]) -> None:
        ends.update(one.trigger.id for one in ended)

    for what, value in steps:
        if what == "ask":
            if str(value) not in asked:
                asked[str(value)] = now
            over(book.ask(trigger(str(value), now)))
        elif what == "frame":
            got = book.claim(now + value)
            if got is not None:
                assert now + value >= asked[got.id], "an older picture than the trigger"
                claimed.append(got.id)
        elif what == "bad":
            book.unusable("black")
        elif what == "settle":
            if claimed and book.settle(claimed[value % len(claimed)]):
                ends[claimed[value % len(claimed)]] += 1
        elif what == "wait":
            now += value
            over(book.expire(now))
        else:
            over(book.camera(offline=value))
        assert all(count == 1 for count in ends.values())
    over(book.close(how))
    over(book.ask(trigger("afterwards", now)))
    for name in claimed:
        assert not book.settle(name)
    assert ends == dict.fromkeys([*asked, "afterwards"], 1)
    assert book.due_ns() is None


def test_the_reason_says_what_was_wrong() -> None:
    book = TriggerQueue()
    book.ask(trigger("black"))
    book.unusable("black")
    assert [e.reason for e in book.expire(100)] == ["black"]
    book.ask(trigger("silent", 200))
    assert [e.reason for e in book.expire(300)] == ["timeout"]
    book.ask(trigger("slow", 300))
    book.claim(300)
    assert [e.reason for e in book.expire(400)] == ["timeout"]
    assert not book.settle("slow")
    assert [e.reason for e in book.camera(offline=True) + book.ask(trigger("dead"))] == ["camera_offline"]


def test_too_many_are_busy_and_the_memory_of_ids_is_bounded() -> None:
    book = TriggerQueue()
    ends = [end for number in range(MAX_WAITING + 3) for end in book.ask(trigger(str(number)))]
    assert [end.reason for end in ends] == ["busy"] * 3
    book.close("shutdown")
    for number in range(2 * REMEMBERED):
        book.ask(trigger(f"n{number}"))
    newest = range(REMEMBERED, 2 * REMEMBERED)
    assert [end for number in newest for end in book.ask(trigger(f"n{number}"))] == []  # known: it was here
    assert [end.reason for end in book.ask(trigger(f"n{REMEMBERED - 1}"))] == ["shutdown"]  # forgotten


def test_each_trigger_has_a_picture_of_its_own() -> None:
    book = TriggerQueue()
    book.ask(trigger("a", 0))
    book.ask(trigger("b", 1))
    assert book.claim(-1) is None
    first, second = book.claim(5), book.claim(6)
    assert first is not None
    assert second is not None
    assert (first.id, second.id, book.claim(7)) == ("a", "b", None)


def test_a_station_that_waits_for_triggers_needs_mqtt(tiny_bundle: Path, tmp_path: Path) -> None:
    stations = {"line": {"camera": {"kind": "simulated"}, "trigger": {"mode": "mqtt"}}}
    with pytest.raises(ConfigError, match=r"mqtt\.enabled"):
        load(write_config(tmp_path, tiny_bundle, stations))


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    folder = tmp_path / "broker"
    folder.mkdir()
    with mosquitto(folder) as one:
        yield one


def of(subscriber: Subscriber, station: str = "line") -> dict[str, dict[str, Any]]:
    return {r["trigger"]["id"]: r for r in subscriber.results(station) if r["trigger"]["id"] is not None}


@pytest.mark.broker
def test_a_plc_gets_one_result_for_each_part(tiny_bundle: Path, broker: Mosquitto, tmp_path: Path) -> None:
    """Files wait for their trigger; a repeated trigger gives nothing; what is no trigger is answered."""
    pictures = write_pictures(tmp_path / "pictures", 5)
    stations = {
        "line": {
            "camera": {"kind": "folder", "path": str(pictures)},
            "trigger": {"mode": "mqtt", "deadline_ms": 10_000},
        },
        "other": {"camera": {"kind": "simulated", "fps": 5}},
    }
    subscriber = Subscriber(broker.port)
    with running(load(write_config(tmp_path, tiny_bundle, stations, mqtt=at(broker)))):
        wait_until(lambda: subscriber.last("line/recipe/state") is not None)
        for number in (1, 2, 2, 3):
            subscriber.send(
                "plant/agent/line/trigger", {"trigger_id": f"t{number}", "part_id": f"SN{number}"}
            )
        subscriber.send("plant/agent/line/trigger", {"trigger": "wrong"})
        subscriber.send("plant/agent/other/trigger", {"trigger_id": "t1"})
        wait_until(lambda: len(of(subscriber)) == 3)
        wait_until(lambda: len([a for a in subscriber.answers() if a["verb"] == "trigger"]) == 2)
        subscriber.send("plant/agent/line/trigger", {"trigger_id": "t4"}, retain=True)
        for number in (5, 6, 7):  # two pictures are left
            subscriber.send("plant/agent/line/trigger", {"trigger_id": f"t{number}"})
        wait_until(lambda: len(of(subscriber)) == 6)
    found = of(subscriber)
    assert [found[f"t{n}"]["trigger"]["part_id"] for n in (1, 2, 3)] == ["SN1", "SN2", "SN3"]
    assert [found[f"t{n}"]["trigger"]["part_id"] for n in (5, 6)] == ["0003.png", "0004.png"]
    assert all(found[f"t{n}"]["reason"] == "class" for n in (1, 2, 3, 5, 6))
    assert found["t7"]["reason"] == "camera_offline"
    assert check_complete(subscriber.results("line"), 6) == []
    reasons = sorted(a["reason"] for a in subscriber.answers() if a["verb"] == "trigger")
    assert "takes no triggers" in reasons[0] + reasons[1]
    assert subscriber.invalid == []
    subscriber.close()


@pytest.mark.broker
def test_triggers_end_in_time_at_a_stalled_model_and_at_the_end(
    tiny_bundle: Path, broker: Mosquitto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that hangs, many parts at once, a stop in the middle: one result each, none late."""
    from agent.inspection.inspector import Inspector

    judge, stalled = Inspector.judge, threading.Event()

    def slow(self: Inspector, frames: Any) -> Any:
        if stalled.is_set():
            time.sleep(1.5)
        return judge(self, frames)

    monkeypatch.setattr(Inspector, "judge", slow)
    stations = {
        "line": {
            "camera": {"kind": "simulated", "fps": 50},
            "trigger": {"mode": "mqtt", "deadline_ms": 400},
        }
    }
    subscriber = Subscriber(broker.port)
    with running(load(write_config(tmp_path, tiny_bundle, stations, mqtt=at(broker)))) as (daemon, _):
        wait_until(lambda: subscriber.last("line/recipe/state") is not None)
        subscriber.send("plant/agent/line/trigger", {"trigger_id": "well"})
        wait_until(lambda: "well" in of(subscriber))
        stalled.set()
        sent = time.monotonic()
        subscriber.send("plant/agent/line/trigger", {"trigger_id": "stalled"})
        wait_until(lambda: "stalled" in of(subscriber))
        assert time.monotonic() - sent < 1.4  # before the model came back
        stalled.clear()
        wanted = 2 * MAX_WAITING
        for number in range(wanted):
            subscriber.send("plant/agent/line/trigger", {"trigger_id": f"m{number}", "deadline_ms": 60_000})
        daemon.stop()
    wait_until(lambda: subscriber.last("availability") == "stopped")
    reasons = Counter(result["reason"] for result in of(subscriber).values())
    results = subscriber.results()
    assert of(subscriber)["stalled"]["reason"] == "timeout"
    assert len(results) == len(of(subscriber)) == wanted + 2
    assert reasons["shutdown"] > 0
    assert check_complete(results, len(results)) == []
    assert subscriber.invalid == []
    subscriber.close()


@pytest.mark.broker
def test_a_dead_camera_answers_triggers_at_once(tiny_bundle: Path, broker: Mosquitto, tmp_path: Path) -> None:
    stations = {
        "dead": {
            "camera": {"kind": "opencv", "source": "http://127.0.0.1:9/none", "backend": "ffmpeg"},
            "trigger": {"mode": "mqtt", "deadline_ms": 60_000},
        }
    }
    subscriber = Subscriber(broker.port)
    with running(load(write_config(tmp_path, tiny_bundle, stations, mqtt=at(broker)))):
        wait_until(lambda: subscriber.results("dead"))
        subscriber.send("plant/agent/dead/trigger", {"trigger_id": "t"})
        wait_until(lambda: "t" in of(subscriber, "dead"))
    assert of(subscriber, "dead")["t"]["reason"] == "camera_offline"
    subscriber.close()


@pytest.mark.broker
def test_a_reload_ends_what_waits_and_a_black_picture_says_why(
    tiny_bundle: Path, broker: Mosquitto, tmp_path: Path
) -> None:
    """A lamp is dead: at its deadline a trigger says so; a changed config ends the others, each once."""
    (tmp_path / "black").mkdir()
    Image.new("RGB", (40, 40)).save(tmp_path / "black" / "0.png")
    camera = {"kind": "folder", "path": str(tmp_path / "black"), "loop": True, "fps": 50}
    waiting = {"line": {"camera": camera, "trigger": {"mode": "mqtt", "deadline_ms": 200}}}
    path = write_config(tmp_path, tiny_bundle, waiting, mqtt=at(broker))
    subscriber = Subscriber(broker.port)
    with running(load(path)) as (daemon, _):
        wait_until(lambda: subscriber.last("line/recipe/state") is not None)
        subscriber.send("plant/agent/line/trigger", {"trigger_id": "dark"})
        wait_until(lambda: "dark" in of(subscriber))
        for name in "ab":
            subscriber.send("plant/agent/line/trigger", {"trigger_id": name, "deadline_ms": 60_000})
        time.sleep(0.3)
        write_config(tmp_path, tiny_bundle, {"line": {"camera": camera}}, mqtt=at(broker))
        daemon.reload("test")
        wait_until(lambda: {"a", "b"} <= of(subscriber).keys())
        wait_until(lambda: subscriber.results()[-1]["trigger"]["id"] is None)  # it inspects everything now
    reasons = {name: result["reason"] for name, result in of(subscriber).items()}
    assert reasons == {"dark": "black", "a": "reload", "b": "reload"}
    assert check_complete(subscriber.results(), len(subscriber.results())) == []
    assert subscriber.invalid == []
    subscriber.close()
