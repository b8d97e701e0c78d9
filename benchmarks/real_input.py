"""Real pictures through the whole agent: three stations at once, a real broker, a subscriber who checks.

``python -m benchmarks.real_input`` runs ``mekiki run`` with held-out NEU steel photos as one camera and two
conveyor clips as two others until 2 000 results have arrived, checks every one against its schema, their
order and their completeness, and writes ``docs/real-input.md`` with a picture of the terminal.
Needs ``../shared/data`` and mosquitto.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import paho.mqtt.client as paho
import yaml
from paho.mqtt.enums import CallbackAPIVersion
from rich.console import Console
from rich.table import Table

from benchmarks.line_run import mosquitto
from benchmarks.machine import describe, in_words, table

ROOT = Path(__file__).parent.parent
DATA = ROOT.parent / "shared" / "data"
CLIPS = {"fruit": "intel-fruit-and-vegetable.mp4", "bottles": "intel-bottle-detection.mp4"}
WANTED = 2000


class Inspector:
    """The plant's side: validates, orders and counts what arrives. `receive` runs in paho's thread."""

    def __init__(self) -> None:
        schemas = (ROOT / "docs" / "schemas").glob("*.schema.json")
        self._schemas = {
            path.name.removesuffix(".schema.json"): jsonschema.Draft202012Validator(
                json.loads(path.read_text())
            )
            for path in schemas
        }
        self.results: dict[str, list[dict[str, Any]]] = {}
        self.others: Counter[str] = Counter()
        self.violations: list[str] = []
        self.changed = threading.Condition()

    def receive(self, _client: Any, _userdata: Any, message: Any) -> None:
        """Check one message."""
        with self.changed:
            if not message.payload.startswith(b"{"):
                self.others[message.topic.rsplit("/", 1)[1]] += 1
                return
            payload = json.loads(message.payload)
            for error in self._schemas[payload["schema"]].iter_errors(payload):
                self.violations.append(f"{message.topic}: {error.json_path}: {error.message}")
            if payload["schema"].startswith("mekiki.result."):
                rows = self.results.setdefault(payload["station"], [])
                if payload["seq"] != len(rows) + 1:
                    self.violations.append(f"{message.topic}: {payload['seq']} after {len(rows)}")
                rows.append(payload)
                self.changed.notify_all()
            else:
                self.others[message.topic.rsplit("/", 1)[1]] += 1

    def total(self) -> int:
        """Results of all stations."""
        return sum(len(rows) for rows in self.results.values())


def main() -> int:
    """Run, check, write; exit code 1 where anything was violated."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=int, default=WANTED)
    wanted = parser.parse_args().results
    plant = Inspector()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        port = stack.enter_context(mosquitto(folder))
        photos = _held_out(folder / "steel")
        config = _config(folder, port)
        client = paho.Client(CallbackAPIVersion.VERSION2)
        subscribed = threading.Event()
        client.on_connect = lambda c, *_: c.subscribe("plant/#", 1)
        client.on_subscribe = lambda *_: subscribed.set()
        client.on_message = plant.receive
        client.connect("127.0.0.1", port)
        client.loop_start()
        assert subscribed.wait(10), "the broker does not answer"

        started = time.monotonic()
        agent = subprocess.Popen(
            [sys.executable, "-m", "agent", "run", "-c", str(config)], stderr=subprocess.PIPE, text=True
        )
        with plant.changed:
            plant.changed.wait_for(lambda: plant.total() >= wanted, timeout=600)
        span_s = time.monotonic() - started
        agent.send_signal(signal.SIGTERM)
        _, log = agent.communicate(timeout=30)
        stored = (
            sqlite3.connect(folder / "data" / "mekiki.db")
            .execute("SELECT COUNT(*) FROM verdict")
            .fetchone()[0]
        )
        with plant.changed:
            plant.changed.wait_for(lambda: plant.total() >= stored, timeout=10)
        client.disconnect()
        client.loop_stop()
    complete = plant.total() == stored
    text = _report(plant, stored, complete, photos, span_s, agent.returncode, log)
    (ROOT / "docs" / "real-input.md").write_text(text, encoding="utf-8")
    print(text)
    return 0 if complete and not plant.violations and agent.returncode == 0 else 1


def _held_out(folder: Path) -> int:
    """Copy the NEU photos that the model was not trained on, and return how many."""
    rows = csv.DictReader((Path(__file__).parent / "splits" / "neu.csv").open(encoding="utf-8"))
    files = [row["file"] for row in rows if row["split"] == "test"]
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(DATA / "neu-steel" / file, folder / file)
    return len(files)


def _config(folder: Path, port: int) -> Path:
    belt = {
        "templates": ["a photo of {} on a conveyor belt", "a photo of {}"],
        "classes": {
            "something": {"verdict": "pass", "phrases": ["a fruit", "a vegetable", "a bottle"]},
            "nothing": {"verdict": "fail", "severity": "minor", "phrases": ["an empty belt", "nothing"]},
        },
    }
    clips = {
        name: {
            "recipe": "belt",
            "camera": {
                "kind": "opencv",
                "source": str(DATA / "video-open" / file),
                "backend": "ffmpeg",
                "loop": True,
            },
        }
        for name, file in CLIPS.items()
    }
    steel = {"recipe": "steel-neu", "camera": {"kind": "folder", "path": "steel", "fps": 30, "loop": True}}
    config = {
        "version": 1,
        "agent": {"id": "line3"},
        "mqtt": {"host": "127.0.0.1", "port": port, "topic_prefix": "plant"},
        "recipes": {"belt": belt},
        "stations": {"steel": steel, **clips},
        "storage": {"min_free_mb": 0},
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return path


def _report(
    plant: Inspector, stored: int, complete: bool, photos: int, span_s: float, code: int, log: str
) -> str:
    rows = []
    for station, results in sorted(plant.results.items()):
        counts = Counter(r["verdict"] for r in results)
        totals = [r["latency_ms"]["total"] for r in results]
        rows.append(
            [
                station,
                str(len(results)),
                f"1..{results[-1]['seq']}",
                str(sum(r["replayed"] for r in results)),
                ", ".join(f"{n} {verdict}" for verdict, n in counts.most_common()),
                f"{np.percentile(totals, 50):.0f} / {np.percentile(totals, 99):.0f}",
            ]
        )
    steel = [r for r in plant.results["steel"] if r["label"] is not None]
    right = sum(r["trigger"]["part_id"].split("/")[0] == r["label"] for r in steel)
    heads = ["station", "results", "seq", "replayed", "verdicts", "capture to decision p50 / p99, ms"]
    others = ", ".join(f"{n} {topic}" for topic, n in sorted(plant.others.items()))
    _picture(plant, heads, rows, log)
    machine = in_words(describe("onnxruntime"))
    return (
        "# Real input, shown\n\n"
        "Written by `python -m benchmarks.real_input`: `mekiki run` with three stations at once, a real mosquitto,"
        " and a subscriber that validates every payload against `docs/schemas`, and checks order and completeness.\n\n"
        f"* `steel`: {photos} held-out NEU photos (`benchmarks/splits/neu.csv`) as a camera of 30 pictures a second\n"
        f"* `fruit`, `bottles`: `{CLIPS['fruit']}` and `{CLIPS['bottles']}` at their recorded pace, again and again\n\n"
        + table(heads, rows)
        + f"\n{plant.total()} results in {span_s:.0f} s, {stored} in the store:"
        f" {'complete' if complete else 'NOT COMPLETE'};"
        f" {len(plant.violations)} violations of schema or order; exit code {code}."
        f" Besides: {others}.\n\n"
        f"Of {len(steel)} results on held-out steel, {right} ({100 * right / len(steel):.1f} %) name the class of the"
        " photo's folder; the same photos come round again, so this is not a sample of that size."
        " What the model says about the clips means nothing: `mekiki-line` has never seen fruit or bottles;"
        " they show the camera's path.\n\n"
        f"Model `mekiki-line`; machine: {machine}.\n\n"
        "![The terminal](img/real-input.svg)\n"
    )


def _picture(plant: Inspector, heads: list[str], rows: list[list[str]], log: str) -> None:
    """Draw what the terminal shows: the agent's log, the newest results, the totals."""
    console = Console(record=True, width=118, file=Path("/dev/null").open("w", encoding="utf-8"))  # noqa: SIM115
    console.print("$ mekiki run -c config.yaml", style="bold")
    console.print(log.strip(), highlight=False)
    newest = Table(title="what the subscriber saw last")
    for head in ("station", "seq", "part", "verdict", "label", "score", "total ms"):
        newest.add_column(head)
    for station, results in sorted(plant.results.items()):
        for r in results[-4:]:
            score = "" if r["score"] is None else f"{r['score']:.3f}"
            newest.add_row(
                station, str(r["seq"]), r["trigger"]["part_id"], r["verdict"], r["label"], score,
                f"{r['latency_ms']['total']:.0f}",
            )  # fmt: skip
    console.print(newest)
    totals = Table(title="totals")
    for head in heads:
        totals.add_column(head)
    for row in rows:
        totals.add_row(*row)
    console.print(totals)
    svg = console.export_svg(title="mekiki run, three stations")
    # rich would have the browser fetch its font.
    svg = re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL)
    (ROOT / "docs" / "img" / "real-input.svg").write_text(svg, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
