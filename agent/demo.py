"""`mekiki demo`: broker, simulated line and agent in one process, and what a subscriber sees of them."""

from __future__ import annotations

import json
import signal
import socket
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from contextlib import nullcontext
from importlib import resources
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table

from agent.broker import HOST, embedded_broker
from agent.configfile import Loaded, load
from agent.daemon import Daemon
from agent.mqtt import subscription
from agent.payloads import JSON, station_topic
from camera.settings import SimulatedCamera
from camera.simulated import SimulatedLine

_STATION = "line"
_ROWS = 16
_ARRIVE_S = 5.0
_COLOURS = {"pass": "green", "fail": "red", "unsure": "yellow", "not_inspected": "magenta"}


def demo(frames: int | None, *, fps: float | None, as_json: bool) -> int:
    """Run the demo until Ctrl-C or for `frames` parts, and return the exit code.

    Args:
        fps: parts a second; None as fast as they are inspected.
        as_json: one JSON object a line on stdout, the last one the summary.
    """
    with tempfile.TemporaryDirectory(prefix="mekiki-demo-") as folder:
        loaded = _config(Path(folder), fps)
        camera = loaded.config.stations[_STATION].camera
        assert isinstance(camera, SimulatedCamera)
        mqtt = loaded.config.mqtt
        results = station_topic(mqtt.topic_prefix, loaded.config.agent.id, _STATION, "result")
        daemon = Daemon(loaded, frames=frames)
        watch = Watch(SimulatedLine(camera), daemon.stop, as_json=as_json)
        signal.signal(signal.SIGINT, lambda *_: daemon.stop())
        signal.signal(signal.SIGTERM, lambda *_: daemon.stop())
        with embedded_broker(mqtt.port), subscription(mqtt, [results], watch.receive), watch.display():
            summary = daemon.run()
            watch.wait_for(summary.published)
        watch.close(summary.inspected, summary.stored, summary.published)
    return 0


class Watch:
    """Compares the verdicts that arrive with the truth. `receive` runs in the subscriber's thread."""

    def __init__(self, line: SimulatedLine, on_gone: Callable[[], None], *, as_json: bool) -> None:
        self._line = line
        self._on_gone = on_gone
        self._gone = False
        self._json = as_json
        self._live = sys.stdout.isatty() and not as_json
        self._changed = threading.Condition()
        self._started = time.monotonic()
        self._first_at: float | None = None
        self._last_at = 0.0
        self._received = 0
        self._correct = 0
        self._verdicts: Counter[str] = Counter()
        self._missed = self._false_rejects = self._defects = 0
        self._rows: deque[tuple[JSON, str]] = deque(maxlen=_ROWS)

    def display(self) -> Live | nullcontext[None]:
        """Return the live table, or nothing where stdout is no terminal."""
        if not self._live:
            return nullcontext()
        return Live(get_renderable=self._table, refresh_per_second=8)

    def receive(self, _topic: str, payload: bytes) -> None:
        """Take one result as it came over MQTT."""
        result: JSON = json.loads(payload)
        truth = self._line.label(self._line.number(result["trigger"]["part_id"]))
        right = result["verdict"] in ("pass", "fail") and result["label"] == truth
        with self._changed:
            self._last_at = time.monotonic()
            self._first_at = self._first_at or self._last_at
            self._received += 1
            self._correct += right
            self._verdicts[result["verdict"]] += 1
            self._defects += truth != "ok"
            self._missed += truth != "ok" and result["verdict"] == "pass"
            self._false_rejects += truth == "ok" and result["verdict"] == "fail"
            self._rows.append((result, truth))
            self._changed.notify_all()
        if not self._live and not self._gone:
            self._print(result, truth)

    def wait_for(self, published: int) -> None:
        """Wait until everything that the broker has taken has arrived here, or time is up."""
        with self._changed:
            self._changed.wait_for(lambda: self._received >= published, _ARRIVE_S)

    def close(self, inspected: int, stored: int, published: int) -> None:
        """Say how it went."""
        span_s = self._last_at - (self._first_at or 0.0)
        summary = {
            "frames": inspected,
            "correct": self._correct,
            "accuracy": round(self._correct / self._received, 4) if self._received else None,
            "verdicts": stored,
            "published": published,
            "received": self._received,
            "fps": round((self._received - 1) / span_s, 2) if self._received > 1 and span_s > 0 else None,
        }
        if self._json:
            print(json.dumps(summary), flush=True)  # noqa: T201 - stdout is the product here
            return
        if self._live:
            Console().print(self._table())
        first_s = (self._first_at or self._started) - self._started
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
        text = json.dumps(line) if self._json else "  ".join(str(value) for value in line.values())
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


def _config(folder: Path, fps: float | None) -> Loaded:
    text = (resources.files("agent") / "demo.yaml").read_text(encoding="utf-8")
    values = {
        "data_dir": json.dumps(str(folder / "data")),
        "port": str(_free_port()),
        "fps": "null" if fps is None else str(float(fps)),
    }
    for name, value in values.items():
        text = text.replace(f"<{name}>", value)
    path = folder / "demo.yaml"
    path.write_text(text, encoding="utf-8")
    return load(path)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
