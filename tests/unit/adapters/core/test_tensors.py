"""A file of tensors with odd content is damaged, whatever stands in it; it ends nobody."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from adapters.baseline.baseline import Commissioning, CommissioningError, measured_with
from adapters.core.adapter import AdapterFileError
from adapters.core.version import read_version, save_version
from adapters.files.tensors import read_tensors
from tests.faults.kill_store import WEIGHTS, a_version, an_adapter
from tests.support.line_site import commissioned, frames

KINDS = {"BF16": 2, "F16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "F64": 8, "I32": 4, "BOOL": 1, "U64": 8, "C64": 8}
"""Numbers of other kinds, and their bytes."""
TEXTS = ("null", "[]", "1", '"x"', "{}", '{"measured": []}', '{"measured": {"precision": []}}', "[[1]]")
VALUES = (None, [], {}, "x", -1, 10**30, 10**400, [1], {"a": None}, {"a": []}, {"a": 10**400}, [10**400])


def odd(content: bytes) -> Iterator[bytes]:
    """Yield the file with one tensor, one text or one fact of its head replaced."""
    length = struct.unpack("<Q", content[:8])[0]
    head, body = json.loads(content[8 : 8 + length]), content[8 + length :]
    texts = head.pop("__metadata__")

    def file(tensors: dict[str, Any], said: dict[str, str]) -> bytes:
        text = json.dumps({"__metadata__": said, **tensors}).encode()
        text += b" " * (-len(text) % 8)
        return struct.pack("<Q", len(text)) + text + body

    for name, tensor in head.items():
        begin, end = tensor["data_offsets"]
        for kind, size in KINDS.items():
            yield file({**head, name: {**tensor, "dtype": kind, "shape": [(end - begin) // size]}}, texts)
        yield file({other: each for other, each in head.items() if other != name}, texts)
    for key, text in texts.items():
        yield from (file(head, {**texts, key: value}) for value in TEXTS)
        try:
            facts = json.loads(text)
        except ValueError:
            continue
        if isinstance(facts, dict):
            for name in facts:
                yield from (file(head, {**texts, key: json.dumps({**facts, name: v})}) for v in VALUES)


def test_a_commissioning_with_odd_content_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "commissioning.safetensors"
    made = commissioned(frames(1200))
    made.save(file)
    refused = 0
    for content in odd(file.read_bytes()):
        file.write_bytes(content)
        measured_with(file)
        try:
            # The same numbers in another kind are the same.
            assert Commissioning.load(file).digest == made.digest
        except CommissioningError:
            refused += 1
    assert refused > 200


def test_a_version_with_odd_content_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "version.safetensors"
    source = an_adapter(0)
    save_version(a_version(1), file, WEIGHTS)
    for content in odd(file.read_bytes()):
        file.write_bytes(content)
        with pytest.raises(AdapterFileError):
            read_version(file, source, WEIGHTS)


@pytest.mark.parametrize("content", [b"", b"\xff" * 100, b"{}", struct.pack("<Q", 2) + b"[]"])
def test_what_is_no_file_of_tensors_is_a_value_error(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(content)
    with pytest.raises(ValueError):  # noqa: PT011 - the library's own words
        read_tensors(file)
