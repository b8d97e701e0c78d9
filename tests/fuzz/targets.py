"""What is fuzzed: everything that reads bytes which somebody else may have written, with good examples."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from adapters.bundle.manifest import read_manifest
from adapters.bundle.reader import bundle_path
from adapters.core.adapter import AdapterError
from agent.app import run_record
from agent.audit.hash_chain import Audit, verify
from agent.base.errors import ConfigError
from agent.base.text import harmless
from agent.commands import schema as commands
from agent.config import overrides
from agent.config.loader import load_text, print_config
from agent.mqtt.messages import Inbound
from agent.sparkplug import payload as sparkplug_payload
from agent.sparkplug.bd_seq import BdSeq
from agent.sparkplug.primary_host import PrimaryHost
from agent.versions import operator_requests
from camera.pictures.images import UnreadableImage, read_image
from tests.fuzz import backbones, metadata
from tests.support.places import ROOT

Take = Callable[[bytes], bool]
"""Reads one input; True where it was good, False where it was refused as promised."""


@dataclass(frozen=True, slots=True)
class Target:
    """One reader.

    Attributes:
        corpus: good inputs.
        make: returns what reads, given a folder of its own.
    """

    name: str
    corpus: tuple[bytes, ...]
    make: Callable[[Path], Take]


def _config(folder: Path) -> Take:
    def take(data: bytes) -> bool:
        try:
            loaded = load_text(data.decode("utf-8", "replace"), folder / "config.yaml")
        except ConfigError as error:
            assert error.problems
            assert all(line.isprintable() and ":" in line for line in error.problems), error.problems
            return False
        print_config(loaded)
        return True

    return take


def _configs() -> Iterator[bytes]:
    yield (ROOT / "config.yaml").read_bytes()
    yield yaml.safe_dump(
        {
            "version": 1,
            "mqtt": {"host": "h", "username": "u", "password": "${env:HOME}", "tls": {}},
            "recipes": {
                "r": {
                    "templates": ["{}"],
                    "votes": {"k": 1, "n": 2},
                    "classes": {
                        "ok": {"verdict": "pass", "phrases": ["a"]},
                        "no": {"verdict": "fail", "phrases": ["b"]},
                    },
                }
            },
            "station_defaults": {"roi": {"crop": [0, 0, 1, 1], "masks": {"m": [[0, 0], [1, 0], [1, 1]]}}},
            "stations": {
                "a": {"recipe": "r", "camera": {"kind": "opencv", "source": "rtsp://u:p@h/x"}},
                "b": {"recipe": "line", "camera": {"kind": "simulated"}, "trigger": {"mode": "continuous"}},
            },
        }
    ).encode()


_ID = "0" * 26
"""Of every request: the one in the file's name is to be the one in the file."""


def _request(folder: Path) -> Take:
    def take(data: bytes) -> bool:
        (folder / f"{1:020d}-{_ID}.json").write_bytes(data)
        taken = operator_requests.take(folder)
        assert len(taken.requests) + len(taken.refused) == 1
        for request in taken.requests:
            operator_requests.finish(folder, request)
        for file in (folder / operator_requests.REFUSED).glob("*"):
            file.unlink()
        for file in folder.glob("*.json"):
            file.unlink()
        return bool(taken.requests)

    return take


def _picture(folder: Path) -> Take:
    path = folder / "picture"

    def take(data: bytes) -> bool:
        path.write_bytes(data)
        try:
            image = read_image(path)
        except UnreadableImage as error:
            assert str(error)
            return False
        assert image.dtype == np.uint8
        assert image.shape[2] == 3
        return True

    return take


def _pictures() -> Iterator[bytes]:
    rng = np.random.default_rng(0)
    pixels = Image.fromarray(rng.integers(0, 255, (24, 31, 3), dtype=np.uint8))
    for kind in ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM"):
        buffer = io.BytesIO()
        pixels.save(buffer, kind)
        yield buffer.getvalue()
    # With metadata around the pixels, for mutations of it.
    for kind in metadata.KINDS:
        yield metadata.build(kind, random.Random(1)).content


def _manifest(folder: Path) -> Take:
    def take(data: bytes) -> bool:
        (folder / "manifest.json").write_bytes(data)
        try:
            read_manifest(folder)
        except AdapterError:
            return False
        return True

    return take


def _command(folder: Path) -> Take:
    """The first line is the topic below ours, the rest the payload."""

    def take(data: bytes) -> bool:
        topic, _, payload = data.partition(b"\n")
        place = topic.decode("utf-8", "replace").replace("\0", "")
        inbound = Inbound(f"plant/agent/{place}", payload, False, "plant/mes/answers", b"1")
        found = commands.read(inbound, "plant/agent", "plant", 16384)
        if isinstance(found, commands.Refusal):
            assert all(map(harmless, found.why)), found.why
            assert found.transaction is None or all(map(harmless, found.transaction))
            return False
        assert all(map(harmless, found.actor))
        return True

    return take


def _commands() -> Iterator[bytes]:
    who: dict[str, Any] = {"transaction": "t-1", "user": "eve"}
    for verb in ("ping", "stats", "adapter/list", "reload"):
        yield f"cmd/request/{verb}\n{json.dumps(who)}".encode()
    number = {**who, "station": "top", "number": 3, "why": "because"}
    yield b"cmd/request/adapter/rollback\n" + json.dumps(number).encode()
    yield b"cmd/request/replay\n" + json.dumps({**who, "station": "top", "from_seq": 1, "to_seq": 9}).encode()
    yield b"top/recipe/set\nhousing"
    yield b"top/enabled/set\n" + json.dumps({**who, "value": False}).encode()
    label = {**who, "event_id": "01M80K1CE35SHYR574A97TZM6G", "label": "good"}
    yield b"top/label\n" + json.dumps(label).encode()
    yield b"top/trigger\n" + json.dumps({"trigger_id": "p-1", "part_id": "SN1", "deadline_ms": 300}).encode()


def _audit(folder: Path) -> Take:
    path = folder / "audit.jsonl"

    def take(data: bytes) -> bool:
        path.write_bytes(data)
        good = verify(path).ok
        Audit("", path)  # goes on behind whatever it is
        return good

    return take


def _trail() -> bytes:
    audit = Audit("", None)
    for number in range(3):
        audit.append(
            "2026-01-01T00:00:00.000Z", "config", actor="ada", why="x", before=None, after={"n": number}
        )
    return "".join(f"{line}\n" for line in audit.lines).encode()


def _overrides(folder: Path) -> Take:
    def take(data: bytes) -> bool:
        (folder / "overrides.json").write_bytes(data)
        return bool(overrides.read(folder))

    return take


def _last_run(folder: Path) -> Take:
    def take(data: bytes) -> bool:
        (folder / "last_run.json").write_bytes(data)
        return run_record.RunRecord(folder).begin() is not None

    return take


def _sparkplug_commands() -> Iterator[bytes]:
    boolean, text = sparkplug_payload.DataType.BOOLEAN, sparkplug_payload.DataType.STRING
    rebirth = sparkplug_payload.Metric(True, "Node Control/Rebirth", datatype=boolean)
    other = sparkplug_payload.Metric("x", alias=7, timestamp=1_790_000_000_000, kind=text, historical=True)
    yield sparkplug_payload.encode(sparkplug_payload.Payload(1, (rebirth,)))
    yield sparkplug_payload.encode(sparkplug_payload.Payload(None, (other, rebirth, other), 255))


def _sparkplug_command(folder: Path) -> Take:
    def take(data: bytes) -> bool:
        try:
            sparkplug_payload.decode(data)
        except sparkplug_payload.PayloadError:
            return False
        return True

    return take


def _sparkplug_state(folder: Path) -> Take:
    host = PrimaryHost("scada")

    def take(data: bytes) -> bool:
        try:
            host.receive(data)
        except sparkplug_payload.PayloadError:
            return False
        return True

    return take


def _sparkplug_number(folder: Path) -> Take:
    def take(data: bytes) -> bool:
        (folder / "sparkplug.json").write_bytes(data)
        number = BdSeq(folder, "g/n").next()
        assert 0 <= number <= 255
        return number == 42

    return take


_ALL = (
    Target("config", tuple(_configs()), _config),
    Target(
        "request",
        (
            operator_requests.Request(id=_ID, kind="rollback", number=3, actor="ada", at="now", why="because")
            .model_dump_json()
            .encode(),
            operator_requests.Request(id=_ID, kind="freeze", actor="ada", at="now")
            .model_dump_json()
            .encode(),
        ),
        _request,
    ),
    Target("command", tuple(_commands()), _command),
    Target("picture", tuple(_pictures()), _picture),
    Target("manifest", ((bundle_path("mekiki-line") / "manifest.json").read_bytes(),), _manifest),
    Target("backbone_manifest", backbones.MANIFESTS, backbones.read_manifests),
    Target("legacy_torch", backbones.WEIGHTS, backbones.read_weights),
    Target("audit", (_trail(),), _audit),
    Target(
        "overrides",
        (
            json.dumps(
                {"overrides": [{"station": "a", "name": "recipe", "value": "b", "file": "c"}], "version": 1}
            ).encode(),
        ),
        _overrides,
    ),
    Target(
        "last_run",
        (json.dumps({"began_at": None, "ended_at": "x", "reason": "y", "orderly": True}).encode(),),
        _last_run,
    ),
    Target(
        "sparkplug_command",
        tuple(_sparkplug_commands()),
        _sparkplug_command,
    ),
    Target("sparkplug_state", (b'{"online": true, "timestamp": 1790000000000}',), _sparkplug_state),
    Target("sparkplug_number", (b'{"edge_node": "g/n", "bdSeq": 41}',), _sparkplug_number),
)

TARGETS = {target.name: target for target in _ALL}
