"""`mekiki demo`: broker, simulated line and agent in one process, and what a subscriber sees of them."""

from __future__ import annotations

import json
import signal
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table

from adapters.engines.factory import ModelSettings, open_engine
from adapters.files.strict_json import loads
from agent.app.daemon import Daemon
from agent.base.codec import JSON, timestamp
from agent.base.wire import station_topic
from agent.config.recipes import shipped
from agent.demo import story as demo_story
from agent.demo.config import STATION, demo_config
from agent.demo.real_product import tell_of_nuts
from agent.demo.setup import PARTS, commission_line, sentences
from agent.demo.story import CHAPTERS, Operator, Score
from agent.mqtt.connection import subscription
from agent.mqtt.embedded_broker import embedded_broker
from agent.versions.commissioned import station_folder
from agent.versions.operator_requests import Request, ask, requester
from camera.core.settings import SimulatedCamera
from camera.simulation.source import SimulatedLine

_ROWS = 16
_ARRIVE_S = 5.0
_COLOURS = {"pass": "green", "fail": "red", "unsure": "yellow", "not_inspected": "magenta"}


def demo(frames: int | None, *, fps: float | None, as_json: bool) -> int:
    """Tell the story to its end, until Ctrl-C, or for `frames` parts; return the exit code.

    Args:
        fps: parts a second; None as fast as they are inspected.
        as_json: one JSON object a line on stdout, the last one the summary.
    """
    with tempfile.TemporaryDirectory(prefix="mekiki-demo-") as folder:
        loaded = demo_config(Path(folder), fps)
        _remark(f"{PARTS} parts of the clean line are watched first")
        _remark(sentences(commission_line(loaded, STATION, open_engine(ModelSettings()))))
        camera = loaded.config.stations[STATION].camera
        assert isinstance(camera, SimulatedCamera)
        mqtt, agent = loaded.config.mqtt, loaded.config.agent.id
        topics = [
            station_topic(mqtt.topic_prefix, agent, STATION, name) for name in ("result", "adapter/event")
        ]
        daemon = Daemon(loaded, frames=frames or demo_story.PARTS)
        requests = station_folder(loaded.config, STATION) / "requests"
        watch = DemoSubscriber(SimulatedLine(camera), daemon.stop, _asking(requests), as_json=as_json)
        signal.signal(signal.SIGINT, lambda *_: daemon.stop())
        signal.signal(signal.SIGTERM, lambda *_: daemon.stop())
        with embedded_broker(mqtt.port), subscription(mqtt, topics, watch.receive), watch.display():
            summary = daemon.run()
            watch.wait_for(summary.published)
        watch.close(summary.inspected, summary.stored, summary.published)
    # The folder stays: its map is to be looked at.
    for line in tell_of_nuts(Path(tempfile.mkdtemp(prefix="mekiki-demo-nuts-"))):
        _remark(line)
    return 0


class DemoSubscriber:
    """Compares the verdicts that arrive with the truth. `receive` runs in the subscriber's thread.

    Args:
        line: knows the truth.
        on_gone: called when nobody reads us any more.
        go_back: asks the agent for a version.
        as_json: print one JSON object a line.
    """

    def __init__(
        self,
        line: SimulatedLine,
        on_gone: Callable[[], None],
        go_back: Callable[[int], None],
        *,
        as_json: bool,
    ) -> None:
        self._line = line
        self._on_gone = on_gone
        self._go_back = go_back
        self._gone = False
        self._json = as_json
        self._live = sys.stdout.isatty() and not as_json
        self._view: Live | None = None
        self._changed = threading.Condition()
        self._started = time.monotonic()
        self._first_at: float | None = None
        self._last_at = 0.0
        self._received = 0
        self._correct = 0
        self._verdicts: Counter[str] = Counter()
        self._missed = self._false_rejects = self._defects = 0
        self._rows: deque[tuple[JSON, str]] = deque(maxlen=_ROWS)
        self._score = Score({name: each.verdict for name, each in shipped("line").classes.items()})
        self._chapter = -1
        self._operator = Operator()

    def display(self) -> Live | nullcontext[None]:
        """Return the live table, or nothing where stdout is no terminal."""
        if not self._live:
            return nullcontext()
        self._view = Live(get_renderable=self._table, refresh_per_second=8)
        return self._view

    def receive(self, topic: str, payload: bytes) -> None:
        """Take one result, or one event of the learner, as it came over MQTT."""
        message: JSON = loads(payload)
        if topic.endswith("/adapter/event"):
            self._operator.hears(message)
            self._say(_event(message), {"event": message["event"], "why": message["why"], **_after(message)})
        else:
            self._take(message)

    def _take(self, result: JSON) -> None:
        part = self._line.number(result["trigger"]["part_id"])
        truth = self._line.label(part)
        right = result["verdict"] in ("pass", "fail") and result["label"] == truth
        with self._changed:
            self._last_at = time.monotonic()
            self._first_at = self._last_at if self._first_at is None else self._first_at
            self._received += 1
            self._correct += right
            self._verdicts[result["verdict"]] += 1
            self._defects += truth != "ok"
            self._missed += truth != "ok" and result["verdict"] == "pass"
            self._false_rejects += truth == "ok" and result["verdict"] == "fail"
            self._rows.append((result, truth))
            chapter = self._score.add(part, result, truth)
            self._changed.notify_all()
        if chapter > self._chapter >= 0:
            self._say(
                f"part {part}: {CHAPTERS[chapter].says}", {"chapter": CHAPTERS[chapter].name, "part": part}
            )
        self._chapter = chapter
        if not self._live:
            self._print(result, truth)
        number = self._operator.goes_back_to(part)
        if number is not None:
            said = f"part {part}: the operator asks for version {number}, as mekiki adapter rollback does"
            self._say(said, {"request": "rollback", "number": number, "part": part})
            self._go_back(number)

    def wait_for(self, published: int) -> None:
        """Wait until everything that the broker has taken has arrived here, or time is up."""
        with self._changed:
            self._changed.wait_for(lambda: self._received >= published, _ARRIVE_S)

    def close(self, inspected: int, stored: int, published: int) -> None:
        """Say how it went."""
        first_at = self._started if self._first_at is None else self._first_at
        span_s = self._last_at - first_at
        summary: JSON = {
            "frames": inspected,
            "correct": self._correct,
            "accuracy": round(self._correct / self._received, 4) if self._received else None,
            "verdicts": stored,
            "published": published,
            "received": self._received,
            "fps": round((self._received - 1) / span_s, 2) if self._received > 1 and span_s > 0 else None,
        }
        chapters = self._score.chapters()
        if len(chapters) > 1:
            summary["chapters"] = chapters
        if self._json:
            print(json.dumps(summary, allow_nan=False), flush=True)  # noqa: T201 - stdout is the product here
            return
        if len(chapters) > 1:
            Console().print(demo_story.table(chapters))
        first_s = first_at - self._started
        counts = ", ".join(f"{n} {verdict}" for verdict, n in sorted(self._verdicts.items()))
        Console(highlight=False).print(
            f"{inspected} parts inspected ({counts}), {self._correct} of {self._received} as in truth; "
            f"{self._missed} of {self._defects} defects missed, {self._false_rejects} good parts rejected; "
            f"{published} published, {self._received} received; "
            f"{summary['fps']} parts/s, first verdict after {first_s:.1f} s",
            soft_wrap=True,
        )

    def _print(self, result: JSON, truth: str) -> None:
        line = {
            "part_id": result["trigger"]["part_id"],
            "truth": truth,
            "verdict": result["verdict"],
            "label": result["label"],
            "score": result["score"],
            "latency_ms": result["latency_ms"]["total"],
        }
        self._write(
            json.dumps(line, allow_nan=False)
            if self._json
            else "  ".join(str(value) for value in line.values())
        )

    def _say(self, text: str, facts: JSON) -> None:
        """Tell what happened: above the live table, or as a line of its own."""
        if self._view is not None:
            self._view.console.print(text, highlight=False, markup=False)
        else:
            self._write(json.dumps(facts, allow_nan=False) if self._json else f"-- {text}")

    def _write(self, text: str) -> None:
        if self._gone:
            return
        try:
            print(text, flush=True)  # noqa: T201 - stdout is the product here
        except BrokenPipeError:
            # Whoever read us has left, as in `mekiki demo --json | head`; this is the subscriber's thread.
            self._gone = True
            self._on_gone()

    def _table(self) -> Table:
        with self._changed:
            rows, received, correct = list(self._rows), self._received, self._correct
            counts = "  ".join(f"{v} {self._verdicts[v]}" for v in _COLOURS)
        share = f"{100 * correct / received:.1f} %" if received else "-"
        table = Table(
            title="mekiki demo: the simulated line over MQTT (Ctrl-C ends)",
            caption=f"{received} parts  {counts}  as in truth {share}  "
            f"defects missed {self._missed}/{self._defects}  good parts rejected {self._false_rejects}",
        )
        for heading in ("part", "truth", "verdict", "label", "score", "latency"):
            table.add_column(heading, justify="right" if heading in ("score", "latency") else "left")
        for result, truth in rows:
            colour = _COLOURS[result["verdict"]]
            score = "" if result["score"] is None else f"{result['score']:.2f}"
            table.add_row(
                result["trigger"]["part_id"],
                truth,
                f"[{colour}]{result['verdict']}[/]",
                result["label"] if result["label"] == truth else f"[bold]{result['label']}[/]",
                score,
                f"{result['latency_ms']['total']:.0f} ms",
            )
        return table


def _event(event: JSON) -> str:
    """Return in a sentence what the learner did."""
    after = _after(event)
    now = f" -> version {after['number']}, operating point {after['offset']:.2f}" if after else ""
    frame = event["numbers"].get("frame")
    when = "" if frame is None else f"part {frame:.0f}: "
    return f"{when}{event['event']} by {event['actor']}: {event['why']}{now}"


def _after(event: JSON) -> JSON:
    return {key: event["after"][key] for key in ("number", "offset")} if event["after"] else {}


def _asking(folder: Path) -> Callable[[int], None]:
    """Return what leaves the request that `mekiki adapter rollback` leaves."""

    def go_back(number: int) -> None:
        at = timestamp(datetime.now(UTC))
        options = Request(kind="rollback", actor=requester(), at=at, number=number, why="the demo's operator")
        ask(folder, options)

    return go_back


def _remark(text: str) -> None:
    """Say something beside the product, which may be JSON."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201 - what is not the product goes to stderr
