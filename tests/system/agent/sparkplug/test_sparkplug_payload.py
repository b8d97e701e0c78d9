"""Bytes of Sparkplug B: what is encoded is decoded, here and by others, and no bytes harm."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.sparkplug.edge_node import EdgeNode, batches
from agent.sparkplug.metrics import DEVICE, NODE, Reading
from agent.sparkplug.payload import DataType, Metric, Payload, PayloadError, decode, encode
from agent.sparkplug.primary_host import PrimaryHost
from tests.support.line_site import UNHURRIED
from tests.support.sparkplug_peers import read_payload

NUMBERS = st.integers(0, 2**64 - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = {
    DataType.INT64: st.integers(-(2**63), 2**63 - 1),
    DataType.UINT64: NUMBERS,
    DataType.DOUBLE: st.floats(allow_nan=False),
    DataType.BOOLEAN: st.booleans(),
    DataType.STRING: TEXT,
}
METRICS = st.sampled_from(DataType).flatmap(
    lambda datatype: st.builds(
        Metric,
        value=st.none() | VALUES[datatype],
        name=st.none() | TEXT,
        alias=st.none() | NUMBERS,
        datatype=st.just(datatype),
        timestamp=st.none() | NUMBERS,
        historical=st.booleans(),
    )
)
PAYLOADS = st.builds(
    Payload, st.none() | NUMBERS, st.lists(METRICS, max_size=5).map(tuple), st.none() | st.integers(0, 255)
)


@UNHURRIED
@given(PAYLOADS)
def test_what_is_encoded_is_decoded(payload: Payload) -> None:
    """To the last bit of every number, and the same again from what was decoded."""
    content = encode(payload)
    assert decode(content) == payload
    assert encode(decode(content)) == content


@UNHURRIED
@given(PAYLOADS)
def test_a_reader_by_the_field_numbers_reads_the_same(payload: Payload) -> None:
    """Without protobuf, by chapter 6.4.1 alone; signed numbers in two's complement."""
    read = read_payload(encode(payload))
    assert (read.get("timestamp"), read.get("seq")) == (payload.timestamp, payload.seq)
    assert len(read["metrics"]) == len(payload.metrics)
    for theirs, ours in zip(read["metrics"], payload.metrics, strict=True):
        value = ours.value
        if ours.datatype is DataType.INT64 and isinstance(value, int) and value < 0:
            value += 2**64
        assert theirs.get("value") == value
        assert theirs.get("is_null", False) == (ours.value is None)
        assert theirs.get("is_historical", False) == ours.historical
        assert [theirs.get(key) for key in ("name", "alias", "timestamp", "datatype")] == [
            ours.name, ours.alias, ours.timestamp, ours.datatype
        ]  # fmt: skip


@UNHURRIED
@given(st.binary(max_size=300) | PAYLOADS.map(encode).flatmap(
    lambda content: st.tuples(st.just(content), st.integers(0, len(content)), st.binary(max_size=4)).map(
        lambda cut: cut[0][: cut[1]] + cut[2] + cut[0][cut[1] :]
    )
))  # fmt: skip
def test_no_bytes_do_harm(content: bytes) -> None:
    """A payload, or one error that says so; of a host's STATE likewise."""
    host = PrimaryHost("scada")
    for read in (decode, host.receive):
        with suppress(PayloadError):
            read(content)
    assert not host.online


def test_nesting_has_an_end() -> None:
    """A template in a template in a template: refused, not followed to the end of the stack."""
    content = b""
    for _ in range(2000):
        metric = b"\x92\x01" + _size(content) + content
        content = b"\x12" + _size(metric) + metric
    with pytest.raises(PayloadError):
        decode(content)


def _size(content: bytes) -> bytes:
    size, found = len(content), b""
    while size >= 0x80:
        found += bytes([size & 0x7F | 0x80])
        size >>= 7
    return found + bytes([size])


@UNHURRIED
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 50)), max_size=30))
def test_a_host_is_there_by_its_newest_word(words: list[tuple[bool, int]]) -> None:
    """What is older, by the time in it, than anything that was heard is not believed."""
    host = PrimaryHost("scada")
    newest, online = -1, False
    for there, at in words:
        host.receive(json.dumps({"online": there, "timestamp": at}).encode())
        if at >= newest:
            newest, online = at, there
        assert host.online == online
    host.forget()
    assert not host.online


@UNHURRIED
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), max_size=200))
def test_a_message_never_goes_back_in_time(found: list[tuple[int, int]]) -> None:
    """All steps are there, in order, and no message has one metric twice at one time."""
    steps = [{"a": Reading(value, at_ms)} for value, at_ms in found]
    made = batches(steps)
    assert [step for batch in made for step in batch] == steps
    for batch in made:
        times = [step["a"].at_ms for step in batch]
        assert times == sorted(set(times))


# An implementation that has nothing to do with ours.

PEER = "sparkplug-payload@1.0.3"
"""Of npm, by Cirrus Link; tests/setup-services.sh installs it."""
_FOLDER = Path(os.environ.get("MEKIKI_TEST_CACHE", Path.home() / ".cache" / "mekiki-tests")) / PEER

_SCRIPT = """
const {get} = require('sparkplug-payload');
const raw = require('sparkplug-payload/lib/sparkplugPayloadProto').org.eclipse.tahu.protobuf.Payload;
const codec = get('spBv1.0');
const plain = v => v === null || v === undefined ? null : typeof v === 'object' ? v.toString() : v;
const told = p => ({timestamp: plain(p.timestamp), seq: plain(p.seq), metrics: p.metrics.map(m => ({
  name: plain(m.name), alias: plain(m.alias), timestamp: plain(m.timestamp), type: plain(m.type),
  value: plain(m.value), historical: !!m.isHistorical}))});
const bare = p => p.metrics.map(m => ({alias: plain(m.alias), null: !!m.isNull,
  value: m.value ? plain(m[m.value]) : null}));
const lines = require('fs').readFileSync(0, 'utf8').trim().split('\\n');
console.log(JSON.stringify(lines.map(line => {
  const bytes = Buffer.from(line, 'hex');
  const message = raw.decode(bytes);
  const payload = codec.decodePayload(bytes);
  const typed = payload.metrics.every(m => m.type);
  return {told: told(payload), bare: bare(message),
    again: Buffer.from(raw.encode(message).finish()).toString('hex'),
    whole: typed ? Buffer.from(codec.encodePayload(payload)).toString('hex') : null};
})));
"""


@pytest.fixture(scope="module")
def peer() -> Any:
    node = shutil.which("node")
    if node is None or not (_FOLDER / "node_modules" / "sparkplug-payload").is_dir():
        pytest.skip(f"npm's {PEER} is not installed in {_FOLDER}: run tests/setup-services.sh")

    def ask(contents: list[bytes]) -> list[dict[str, Any]]:
        done = subprocess.run(
            [node, "-e", _SCRIPT],
            input="\n".join(content.hex() for content in contents),
            capture_output=True, text=True, cwd=_FOLDER, timeout=60, check=True,
        )  # fmt: skip
        found: list[dict[str, Any]] = json.loads(done.stdout)
        return found

    return ask


TYPES = {4: "Int64", 8: "UInt64", 10: "Double", 11: "Boolean", 12: "String"}


def _plain(value: Any) -> Any:
    """Return a value as the script prints it: 64 bits are text, JavaScript's numbers have 53."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def test_an_independent_implementation_reads_births_and_data(peer: Any) -> None:
    """Equal values, and byte by byte the same when it encodes what it has read."""
    node = EdgeNode("group", "node")
    texts = {"Result/Verdict": "fail", "Result/Label": "Kratzer äöü 傷", "Result/Part": ""}
    numbers = {"Result/Sequence": 2**53 + 1, "Counts/Pass": 2**64 - 1, "Counts/Fail": 0}
    floats = {"Result/Score": 0.1, "Result/Margin": math.pi, "Drift/Distance": -0.0, "Drift/Jump": 1e300}
    values = {**dict.fromkeys(DEVICE), **texts, **numbers, **floats, "Camera/Connected": True}
    readings = {name: Reading(value, 1_790_000_000_000 + n) for n, (name, value) in enumerate(values.items())}
    others = {name: Reading(None, 1_790_000_000_999) for name in DEVICE}
    of_node = {name: Reading(None, 1_790_000_000_000) for name in NODE}
    messages = [
        node.birth(of_node, 255, 1_790_000_000_001),
        node.device_birth("top", readings, 1_790_000_000_002),
        *node.data("top", [others, readings], 1_790_000_000_003),
        *node.history("top", [readings], 1_790_000_000_004),
        node.device_death("top", 1_790_000_000_005),
        node.death(255, 1_790_000_000_006),
    ]
    contents = [message.payload for message in messages]
    assert len(contents) == 7
    for content, theirs in zip(contents, peer(contents), strict=True):
        ours = decode(content)
        assert theirs["again"] == content.hex()
        if all(metric.datatype is not None for metric in ours.metrics):  # otherwise it takes no payload
            assert theirs["whole"] == content.hex()
        assert theirs["told"]["seq"] == _plain(ours.seq)
        assert theirs["told"]["timestamp"] == _plain(ours.timestamp)
        for told, bare, metric in zip(theirs["told"]["metrics"], theirs["bare"], ours.metrics, strict=True):
            assert told["historical"] == metric.historical
            assert bare["null"] == (metric.value is None)
            assert told["timestamp"] == _plain(metric.timestamp)
            assert bare["value"] == _plain(metric.value)
            if metric.datatype is not None:
                assert told["name"] == metric.name
                assert told["type"] == TYPES[metric.datatype]
                assert told["value"] == _plain(metric.value)
