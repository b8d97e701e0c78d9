"""Learning in the running agent: from a commissioning to what answers, over restarts and people's wishes."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from adapters.core.adapter import Adapter
from adapters.core.version import Version, Window
from adapters.learner.factory import LearnerModel
from adapters.monitoring.change_point import WINDOW
from agent.app.daemon import Daemon
from agent.audit.hash_chain import Audit, verify
from agent.base.errors import ConfigError
from agent.cli.main import main
from agent.config.loader import Loaded
from agent.config.recipes import shipped
from agent.inspection.sample_queue import InspectedSample
from agent.learning.episode import Look
from agent.learning.station_learner import StationLearner
from agent.learning.worker import Learning
from agent.mqtt.messages import Message
from agent.mqtt.retained_topics import MAX_EVENTS, RetainedTopics
from agent.versions.commissioned import Commissioned, open_station
from agent.versions.operator_requests import Request, ask
from agent.versions.station_plans import predictors, prompts
from tests.support.insides import compute_nothing, limit
from tests.support.learning_site import ONNX, TORCH, clean, engine, looks, site, stream
from tests.support.learning_steps import a_store, line_folder, promote
from tests.support.mqtt_peers import Mosquitto, Subscriber, mosquitto, wait_until
from tests.support.running_agent import at, running

PATIENCE_S = 150.0
"""Longer than any of this takes on a busy machine; nothing here asserts a time."""


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    folder = tmp_path / "broker"
    folder.mkdir()
    with mosquitto(folder) as started:
        yield started


def results(loaded: Loaded) -> list[dict]:
    with sqlite3.connect(Path(loaded.config.agent.data_dir) / "mekiki.db") as db:
        return [json.loads(row[0]) for row in db.execute("SELECT payload FROM verdict ORDER BY seq")]


def adapters_of(found: list[dict]) -> list[int]:
    return [result["provenance"]["adapter"] for result in found]


@contextmanager
def learning(loaded: Loaded, told: list[tuple[str, dict]]) -> Iterator[Learning]:
    """Run the station's learner alone; the test is the inspector."""
    recipe = shipped("line")
    found = open_station(loaded, "line", recipe, engine())
    assert isinstance(found, Commissioned)
    frozen, first = predictors(engine(), recipe, found)
    one = Learning(
        found, LearnerModel(loaded.config.model), prompts(recipe), first, frozen, "agent",
        lambda name, payload: told.append((name, payload)),
    )  # fmt: skip
    crashes: list[BaseException] = []

    def run() -> None:
        try:
            one.run()
        except BaseException as error:  # noqa: BLE001 - shown by the test
            crashes.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield one
    finally:
        one.stop()
        thread.join(30)
        assert not thread.is_alive()
        assert crashes == []


def events(told: list[tuple[str, dict]]) -> list[str]:
    return [payload["event"] for name, payload in told if name == "adapter/event"]


def last(told: list[tuple[str, dict]], name: str) -> dict:
    return next((payload for topic, payload in reversed(list(told)) if topic == name), {})


@pytest.mark.broker
@pytest.mark.slow
def test_a_line_that_gets_worse_is_learned_and_a_person_can_go_back(
    broker: Mosquitto, tmp_path: Path
) -> None:
    """Drift is told, a version answers, also after a restart, until a person goes back; all is on record."""
    camera = {"kind": "simulated", "seed": 5, "conditions": [{"kind": "defocus", "severity": 4.0}]}
    loaded = site(
        tmp_path,
        camera=camera,
        mqtt=at(broker),
        adaptation={"duty": 1.0, "level": "operating_point"},
    )
    subscriber = Subscriber(broker.port)
    with running(loaded):
        wait_until(lambda: (subscriber.last("adapter") or {}).get("number", 0) > 0, PATIENCE_S)
        number = subscriber.last("adapter")["number"]
        wait_until(lambda: number in adapters_of(subscriber.results()), PATIENCE_S)
    assert subscriber.last("drift")["drifting"]
    assert subscriber.last("drift")["moved"]
    promoted = [e for t, e in _messages(subscriber, "adapter/event") if e["event"] == "promoted"]
    assert promoted
    _nothing_is_mixed(loaded, subscriber.results())

    active = a_store(loaded).active().number
    before = len(subscriber.results())
    with running(loaded):
        wait_until(lambda: len(subscriber.results()) > before + 5, PATIENCE_S)
        assert subscriber.results()[before]["provenance"]["adapter"] == active
        assert main(["adapter", "rollback", "0", "-c", str(tmp_path / "config.yaml"), "--why", "test"]) == 0
        wait_until(lambda: subscriber.results()[-1]["provenance"]["adapter"] == 0, PATIENCE_S)
        wait_until(
            lambda: any(e["why"] == "test" for _, e in _messages(subscriber, "adapter/event")), PATIENCE_S
        )
    assert subscriber.invalid == []
    assert verify(line_folder(loaded) / "audit.jsonl").ok
    subscriber.close()


def _messages(subscriber: Subscriber, name: str) -> list[tuple[str, dict]]:
    return [(t, json.loads(p)) for t, p, _ in list(subscriber.messages) if t.endswith(f"/{name}")]


def _nothing_is_mixed(loaded: Loaded, found: list[dict]) -> None:
    """Number, digest and operating point of each result belong to one version."""
    known = {0: (engine().source.digest, round(clean().offset, 6))}
    known |= {v.number: (v.digest, round(v.offset, 6)) for v in a_store(loaded).versions()}
    for result in found:
        made = result["provenance"]
        assert (made["adapter_digest"], made["offset"]) == known[made["adapter"]]
        assert made["commissioning"] == clean().digest


@pytest.mark.broker
def test_an_uncommissioned_station_says_why_it_does_not_learn(broker: Mosquitto, tmp_path: Path) -> None:
    """Not to learn is no trouble: health stays ok, and the topic names the command to run."""
    loaded = site(tmp_path, commissioned=False, mqtt=at(broker), camera={"kind": "simulated", "fps": 20})
    subscriber = Subscriber(broker.port)
    with running(loaded):
        wait_until(lambda: subscriber.last("adapter") and subscriber.last("drift") and subscriber.results())
        wait_until(lambda: subscriber.last("health"))
    shown = subscriber.last("adapter")
    assert (shown["phase"], shown["number"], shown["offset"], shown["commissioning"]) == ("off", 0, 0, None)
    assert "mekiki commission --station line" in shown["why_off"]
    assert subscriber.last("health")["health"] == "ok"
    assert subscriber.last("drift")["at"] is None
    assert subscriber.results()[0]["provenance"]["offset"] == 0
    assert subscriber.invalid == []
    subscriber.close()


@pytest.mark.parametrize("damage", ["other recipe", "flipped byte", "empty"])
def test_a_commissioning_that_does_not_fit_does_not_stop_the_line(damage: str, tmp_path: Path) -> None:
    """The model as it was trained answers at offset 0, and why is told."""
    sections = {}
    if damage == "other recipe":
        mine = shipped("line").model_dump(mode="json") | {"templates": ["{}"]}
        sections["recipes"] = {"line": mine}
    loaded = site(tmp_path, **sections)
    file = line_folder(loaded) / "commissioning.safetensors"
    content = bytearray(file.read_bytes())
    if damage == "flipped byte":
        content[-100] ^= 1
    if damage != "other recipe":
        file.write_bytes(content if damage == "flipped byte" else b"")

    recipe = loaded.config.recipes.get("line", shipped("line"))
    found = open_station(loaded, "line", recipe, engine())

    assert not isinstance(found, Commissioned)
    assert found.unusable
    assert found.answering.offset == 0
    assert "commission" in found.why
    assert Daemon(loaded, frames=3).run().inspected == 3
    assert results(loaded)[0]["provenance"]["commissioning"] is None


def pins(loaded: Loaded, **changed: object) -> dict[str, object]:
    right = {
        "weights": engine().info.weights,
        "recipe": shipped("line").digest,
        "commissioning": clean().digest,
        "adapter": engine().source.digest,
    }
    return right | changed


def test_a_locked_station_starts_only_with_what_is_pinned(tmp_path: Path) -> None:
    """Each mismatch is named with its line; with the right pins it runs and refuses requests."""
    other = "sha256:" + 64 * "1"
    wrong = pins(site(tmp_path), adapter=other, recipe=other)
    loaded = site(tmp_path, adaptation={"mode": "locked", "pins": wrong})
    with pytest.raises(ConfigError) as caught:
        Daemon(loaded, frames=1).run()
    assert [problem.split(": ")[1] for problem in caught.value.problems] == [
        "stations.line.adaptation.pins.recipe",
        "stations.line.adaptation.pins.adapter",
    ]
    assert engine().source.digest in caught.value.problems[1]

    loaded = site(tmp_path, adaptation={"mode": "locked", "pins": pins(loaded)})
    told: list[tuple[str, dict]] = []
    with learning(loaded, told):
        wait_until(lambda: last(told, "adapter"), PATIENCE_S)
        ask(line_folder(loaded) / "requests", Request(kind="freeze", actor="ada", at="now"))
        wait_until(lambda: "request_refused" in events(told), PATIENCE_S)
    assert last(told, "adapter")["why_off"] == "mode locked"
    assert list((line_folder(loaded) / "requests").iterdir()) == []


def test_a_locked_station_wants_the_operating_point_of_its_version_too(tmp_path: Path) -> None:
    """Versions may share their tensors; a lock that leaves the threshold free would be none."""
    version = promote(site(tmp_path), 1.25)
    locked = pins(site(tmp_path), adapter=version.digest)
    with pytest.raises(ConfigError, match=r"pins: version 1 answers.*offset: 1\.25"):
        Daemon(site(tmp_path, adaptation={"mode": "locked", "pins": locked}), frames=1).run()
    with pytest.raises(ConfigError, match=r"pins\.offset: is pinned to 2, in force is 1\.25"):
        Daemon(
            site(tmp_path, adaptation={"mode": "locked", "pins": locked | {"offset": 2.0}}), frames=1
        ).run()
    loaded = site(tmp_path, adaptation={"mode": "locked", "pins": locked | {"offset": 1.25}})
    Daemon(loaded, frames=2).run()
    assert adapters_of(results(loaded)) == [1, 1]


def test_a_locked_station_without_its_commissioning_does_not_start(tmp_path: Path) -> None:
    """What is missing is as wrong as what is another."""
    loaded = site(tmp_path, commissioned=False, adaptation={"mode": "locked", "pins": pins(None)})
    with pytest.raises(ConfigError, match=r"pins\.commissioning: is pinned .* in force is none"):
        Daemon(loaded, frames=1).run()


@pytest.mark.parametrize(("mode", "answers"), [("adaptive", 1), ("frozen", 1), ("shadow", 0)])
def test_what_was_promoted_answers_from_the_first_frame(mode: str, answers: int, tmp_path: Path) -> None:
    """After a restart the line goes on where it was; in shadow the model as it was trained answers."""
    promote(site(tmp_path), 1.5)
    loaded = site(tmp_path, adaptation={"mode": mode})
    Daemon(loaded, frames=4).run()
    found = results(loaded)
    assert adapters_of(found) == [answers] * 4
    assert found[0]["provenance"]["offset"] == pytest.approx(1.5 if answers else clean().offset, abs=1e-6)


def feed(one: Learning, count: int, worse: str | None = None, first: int = 1) -> None:
    for seen in stream(count, worse, first):
        one.handover.put(InspectedSample(seen, seen.score > 1, seen.score > 1))


def gained(told: list[tuple[str, dict]]) -> bool:
    """Whether LayerNorms were promoted, not only an operating point."""
    return any(str(payload.get("why")).startswith("gain on known parts") for _, payload in list(told))


@pytest.mark.slow
@pytest.mark.parametrize("model", [ONNX, TORCH], ids=["onnx", "torch"])
def test_it_learns_from_what_it_is_handed_and_counts_on_after_a_restart(tmp_path: Path, model: dict) -> None:
    """LayerNorms are learned with both engines, in windows after those of the versions before the restart.

    Frames count from 1 at each start.
    """
    loaded = site(tmp_path, model=model, adaptation={"duty": 1.0})
    old = promote(loaded, 1.0)  # it remembers frame 500
    a_store(loaded).activate(0, "2026-01-03T00:00:00.000Z")
    told: list[tuple[str, dict]] = []
    with learning(loaded, told) as one:
        for start in range(1, 500, 50):
            feed(one, 50, "defocus", start)
            wait_until(lambda done=start // 50: last(told, "drift").get("block", 0) > done, PATIENCE_S)
            if gained(told):
                break
        wait_until(lambda: gained(told), PATIENCE_S)
        ask(line_folder(loaded) / "requests", Request(kind="freeze", actor="ada", at="now"))
        wait_until(lambda: last(told, "adapter").get("frozen_by") == "ada", PATIENCE_S)
    answering, version = one.answering(), a_store(loaded).active().version
    assert version is not None
    assert (answering.number, answering.offset) == (version.number, version.offset)
    assert version.digest not in (engine().source.digest, old.digest)
    assert version.window.first > 500
    assert (last(told, "adapter")["number"], last(told, "adapter")["parent"]) == (
        version.number,
        version.parent,
    )
    parents = {one.number: one.parent for one in a_store(loaded).versions()}
    assert version.number > 1
    assert {parents[number] for number in parents if number > 1} <= {0, *range(2, version.number)}
    entries = [json.loads(line) for line in (line_folder(loaded) / "audit.jsonl").read_text().splitlines()]
    assert entries[0]["event"] == "found"  # what this baseline does not know
    assert [e["event"] for e in entries[1:]] == events(told)
    assert "watch->learn" in events(told)


def test_what_was_learned_for_other_pictures_is_left_also_while_the_learner_rests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its share of the time is for computing; to leave what answers takes none."""
    compute_nothing(monkeypatch)
    loaded = site(tmp_path)
    promote(loaded, 1.5)
    told: list[tuple[str, dict]] = []
    with learning(loaded, told) as one:
        assert one.answering().number == 1
        feed(one, WINDOW)
        wait_until(lambda: one.answering().number == 0, PATIENCE_S)
        wait_until(lambda: last(told, "adapter").get("number") == 0, PATIENCE_S)
    assert events(told) == ["reset", "hold->watch"]


def test_drift_is_watched_while_nothing_is_learned(tmp_path: Path) -> None:
    """A frozen station still says that its pictures have changed; nothing is promoted."""
    loaded = site(tmp_path, adaptation={"mode": "frozen"})
    told: list[tuple[str, dict]] = []
    with learning(loaded, told) as one:
        for start in range(1, 250, 50):
            feed(one, 50, "noise", start)
            wait_until(lambda done=start // 50: last(told, "drift").get("block", 0) > done, PATIENCE_S)
    assert last(told, "drift")["drifting"]
    assert last(told, "adapter")["why_off"] == "mode frozen"
    assert last(told, "adapter")["phase"] == "off"
    assert a_store(loaded).numbers() == []


def test_a_pinned_version_is_kept_over_a_restart_until_it_is_let_go(tmp_path: Path) -> None:
    """With one version kept beside pinned ones, a newer one does not push out what a person pinned."""
    loaded = site(tmp_path)
    promote(loaded, 1.5)
    requests = line_folder(loaded) / "requests"
    told: list[tuple[str, dict]] = []
    for kind, kept in (("pin", (1,)), ("unpin", ())):
        with learning(loaded, told):
            ask(requests, Request(kind=kind, actor="ada", at="now", number=1, why="the best so far"))
            wait_until(lambda done=f"{kind}ned": events(told)[-1:] == [done], PATIENCE_S)
        assert a_store(loaded).pinned == kept
    assert verify(line_folder(loaded) / "audit.jsonl").problems == ()


def test_an_import_is_a_line_of_the_trail_and_changes_nothing(tmp_path: Path) -> None:
    """It has happened, so it is on record; what answers stays."""
    loaded = site(tmp_path)
    promote(loaded, 1.5)
    requests = line_folder(loaded) / "requests"
    told: list[tuple[str, dict]] = []
    with learning(loaded, told) as one:
        ask(requests, Request(kind="imported", actor="ada", at="now", number=1, why="from good.safetensors"))
        wait_until(lambda: "imported" in events(told), PATIENCE_S)
        wait_until(lambda: not list(requests.iterdir()))
        assert one.answering().number == 1
    lines = [json.loads(line) for line in (line_folder(loaded) / "audit.jsonl").read_text().splitlines()]
    (line,) = [line for line in lines if line["event"] == "imported"]
    assert (line["actor"], line["why"], line["numbers"]["version"]) == ("ada", "from good.safetensors", 1)
    assert line["numbers"]["digest"] == a_store(loaded).load(1).digest


def test_what_a_person_asks_is_done_once_and_survives_a_restart(tmp_path: Path) -> None:
    """A request that was obeyed just before the power went is not obeyed again; freeze stays."""
    loaded = site(tmp_path)
    promote(loaded, 1.5)
    requests = line_folder(loaded) / "requests"
    rollback = Request(kind="rollback", actor="ada", at="now", number=0, why="too strict")
    freeze = Request(kind="freeze", actor="ada", at="now")
    told: list[tuple[str, dict]] = []
    with learning(loaded, told) as one:
        assert one.answering().number == 1
        ask(requests, rollback)
        wait_until(lambda: one.answering().number == 0, PATIENCE_S)
        ask(requests, freeze)
        wait_until(lambda: last(told, "adapter").get("frozen_by") == "ada", PATIENCE_S)
        wait_until(lambda: not list(requests.iterdir()))
    ask(requests, freeze)  # as if the power had gone before it was taken away
    again: list[tuple[str, dict]] = []
    with learning(loaded, again):
        wait_until(lambda: last(again, "adapter") and not list(requests.iterdir()), PATIENCE_S)
    assert events(told) == ["reset", "freeze"]
    assert events(again) == []
    assert last(again, "adapter")["why_off"] == "frozen by ada"


def test_what_cannot_be_obeyed_is_refused_with_a_reason(tmp_path: Path) -> None:
    """An unknown version, and one of another recipe: nothing changes, the reason is on record."""
    loaded = site(tmp_path)
    first = promote(loaded, 1.5)
    store = a_store(loaded)
    tensors = {name: tensor - 0.01 for name, tensor in first.adapter.tensors.items()}
    foreign = Version(
        Adapter(tensors), 0, "learned", "now", Window(1, 1, 1), 0.0, "sha256:" + 64 * "7", {}, {}
    )
    store.promote(foreign, "now")
    store.activate(1, "now")
    told: list[tuple[str, dict]] = []
    with learning(loaded, told) as one:
        for number in (77, 2):
            ask(
                line_folder(loaded) / "requests",
                Request(kind="rollback", actor="ada", at="now", number=number),
            )
        wait_until(lambda: events(told) == ["request_refused"] * 2, PATIENCE_S)
        assert one.answering().number == 1
    whys = [payload["why"] for name, payload in told if name == "adapter/event"]
    assert "no version 77" in whys[0]
    assert "another recipe" in whys[1]


def test_a_full_disk_stops_learning_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread lives on, says so in its stats, and takes the request when the disk takes it."""
    limit(monkeypatch, "a full disk is left alone", 0.2)
    loaded = site(tmp_path)
    promote(loaded, 1.5)
    full = threading.Event()
    full.set()
    append = Audit.append

    def written(self: Audit, *arguments: object, **facts: object) -> str:
        if full.is_set():
            raise OSError(28, "No space left on device")
        return append(self, *arguments, **facts)

    monkeypatch.setattr(Audit, "append", written)
    told: list[tuple[str, dict]] = []
    with learning(loaded, told) as one:
        ask(line_folder(loaded) / "requests", Request(kind="freeze", actor="ada", at="now"))
        wait_until(lambda: one.stats().disk is not None, PATIENCE_S)
        feed(one, 50)
        wait_until(lambda: last(told, "drift")["block"] == 1, PATIENCE_S)
        full.clear()
        wait_until(lambda: one.stats().disk is None and "disk_trouble_over" in events(told), PATIENCE_S)
        assert "No space left" not in (one.stats().disk or "")


def test_a_learner_ends_in_the_middle_of_its_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the next call of the model, not at the end of what it does."""
    loaded = site(tmp_path)
    entered = threading.Event()

    class Endless(Look):
        def run(self, ask: object) -> None:
            while True:
                entered.set()
                self.episode.context.scorer.look(looks()[0].picture[None], self.answering.adapter)

    def due(self: StationLearner) -> Look:
        return Endless(self._manager.generation, 0, self._episode, [], self._manager.answering, True)

    monkeypatch.setattr(StationLearner, "due", due)
    with learning(loaded, []):
        assert entered.wait(PATIENCE_S)


def test_every_event_is_sent_in_order_and_the_oldest_is_lost_first() -> None:
    """Unlike a retained topic, of which the newest content is enough."""
    retained = RetainedTopics(lambda station: f"{station}/state")
    for number in range(MAX_EVENTS + 2):
        retained.tell(Message("S/adapter/event", str(number).encode(), 1, False))
    retained.set(Message("S/adapter", b"old", 1, True))
    retained.set(Message("S/adapter", b"new", 1, True))
    payloads = [message.payload for message in retained.take()]
    assert payloads == [*(str(number).encode() for number in range(2, MAX_EVENTS + 2)), b"new"]
    assert retained.lost_events == 2
    assert retained.take() == []


def test_the_light_profile_does_not_import_torch(tmp_path: Path) -> None:
    """With ONNX Runtime everything is learned, and torch need not be there."""
    import subprocess
    import sys

    loaded = site(tmp_path, model=ONNX)
    script = (
        "import sys; sys.modules['torch'] = None\n"
        "from pathlib import Path\n"
        "from agent.config.loader import load\n"
        "from agent.app.daemon import Daemon\n"
        "from adapters.learner.factory import LearnerModel\n"
        "from agent.versions.station_plans import prompts\n"
        "from agent.config.recipes import shipped\n"
        f"loaded = load(Path({str(loaded.path)!r}))\n"
        "model = LearnerModel(loaded.config.model)\n"
        "_, proposer = model.open(prompts(shipped('line')), full=True, halt=lambda: False)\n"
        "assert proposer is not None\n"
        "print(Daemon(loaded, frames=60).run().inspected)\n"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=170)
    assert run.stdout.strip() == "60", run.stderr
