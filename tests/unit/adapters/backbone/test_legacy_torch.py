"""Torch's old format, read without running it: what torch wrote before, and what an attacker would write."""

from __future__ import annotations

import os
import pickle
import struct
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapters.backbone.legacy_torch import read_legacy_torch
from adapters.core.protocol import ModelError
from tests.support.legacy_torch_files import MAGIC, Tensor, legacy_file, op_global, raw_file, text, whole

REMEDY = "install it again"


def refused(path: Path, data: bytes) -> str:
    file = path / "weights.pth"
    file.write_bytes(data)
    with pytest.raises(ModelError) as info:
        read_legacy_torch(file, REMEDY)
    message = str(info.value)
    assert message.startswith(f"{file}: ")
    assert message.endswith(f"; {REMEDY}")
    assert len(message) < len(str(file)) + 300
    return message


def test_tensors_come_in_order_with_their_shapes_and_numbers(tmp_path: Path) -> None:
    """Float32 and int64, a scalar, an empty one, one that is turned around, two in one storage."""
    numbers = np.arange(12, dtype=np.float32)
    file = tmp_path / "weights.pth"
    file.write_bytes(
        legacy_file(
            {
                "b": Tensor("1", numbers, (3, 4), (4, 1)),
                "a.turned": Tensor("1", numbers, (4, 3), (1, 4)),
                "tail": Tensor("1", numbers, (2,), (1,), offset=10),
                "count": Tensor("2", np.array([7], np.int64), (), ()),
                "none": Tensor("3", np.zeros(0, np.float32), (0, 5), (5, 1)),
            }
        )
    )
    found = read_legacy_torch(file, REMEDY)
    assert list(found) == ["b", "a.turned", "tail", "count", "none"]
    np.testing.assert_array_equal(found["b"], numbers.reshape(3, 4))
    np.testing.assert_array_equal(found["a.turned"], numbers.reshape(3, 4).T)
    np.testing.assert_array_equal(found["tail"], [10, 11])
    assert found["count"].shape == ()
    assert found["count"] == 7
    assert found["none"].shape == (0, 5)
    assert not any(tensor.flags.writeable for name, tensor in found.items() if name != "none")


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    """At every byte of a small one, ends included."""
    data = legacy_file({"a": Tensor("1", np.arange(3, dtype=np.float32), (3,), (1,))})
    for length in range(len(data)):
        refused(tmp_path, data[:length])
    assert "1 bytes more" in refused(tmp_path, data + b"\0")


def test_a_pickle_that_would_run_a_command_is_refused_and_does_not_run(tmp_path: Path) -> None:
    """By REDUCE, in each of the five places, and the same in newer opcodes."""
    canary = tmp_path / "canary"

    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.system, (f"touch {canary}",)

    good = [MAGIC, 1001, {"little_endian": True}, OrderedDict(), []]
    for protocol in (2, 4):
        bomb = pickle.dumps(Bomb(), protocol)
        for place in range(5):
            parts = [pickle.dumps(value, 2) for value in good]
            parts[place] = bomb
            message = refused(tmp_path, b"".join(parts))
            assert "'posix system' is not allowed" in message or protocol == 4
            assert f"byte {sum(map(len, parts[:place]))}" in message or protocol == 2
    assert not canary.exists()
    pickle.loads(bomb)  # the same bytes do run where one lets them
    assert canary.exists()


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (b"c__builtin__\neval\n.", "'__builtin__ eval' is not allowed"),
        (b"ctorch\nload\n.", "'torch load' is not allowed"),
        (b"(X\x01\x00\x00\x00ao.", "opcode OBJ is not allowed"),
        (b"(i__builtin__\neval\n.", "opcode INST is not allowed"),
        (b"}0.", "opcode POP is not allowed"),
        (b"}2.", "opcode DUP is not allowed"),
        (b"\x8c\x01a.", "opcode SHORT_BINUNICODE is not allowed"),
        (b"S'a'\n.", "opcode STRING is not allowed"),
        (b"\x82\x01.", "opcode EXT1 is not allowed"),
        (b"}}b" + text("a") + b"K\x01s.", "'a' is no tensor"),  # attributes are passed over
        (b"K\x01.", "no state dict"),
        (b"}K\x01K\x02s.", "a key of a dict is of type int"),
        (b"}" + text("a") + b"K\x01s" + text("a") + b"K\x01s.", "'a' twice in one dict"),
        (b"}" + text("a") + b"K\x01s.", "'a' is no tensor"),
        (b"](K\x01" + text("a") + b"e.", "no state dict"),
        (b"]" + text("a") + b"K\x01s.", "no dict to put this into"),
        (b"}(" + text("a") + b"u.", "a key without a value"),
        (b"}K\x01K\x02u.", "the mark before these values is missing"),
        (b"(s.", "a value is missing"),
        (b"R.", "a value is missing"),
        (b".", "a value is missing"),
        (b"q\x00.", "nothing to remember"),
        (b"(q\x00.", "nothing to remember"),
        (b"h\x07.", "nothing was remembered as number 7"),
        (b"}}.", "values left over"),
        (b"K\x01Q.", "the name of a storage is no tuple"),
        (b"K\x01)R.", "a call of what is no name"),
        (b"ccollections\nOrderedDict\n(K\x01tR.", "'collections OrderedDict' with arguments"),
        (b"}K\x01b.", "attributes that are no dict"),
        (b"\xff", "opcode b'\\xff' unknown"),
        (b"X\xff\xff\xff\x7fa", "no whole pickle"),
        (b"\x8a\xff", "no whole pickle"),
        (b"L" + b"9" * 5000 + b"L\n.", "no whole pickle"),
        (b"X\x01\x00\x00\x00\xff.", "no whole pickle"),
        (b"]" * 200_000 + b".", "more than 100000 opcodes"),
        (b")" + b"\x85" * 99_000 + b".", "no state dict"),  # nested as deep as it may be
    ],
)
def test_opcodes_and_values_that_no_state_dict_has_are_refused(
    tmp_path: Path, code: bytes, reason: str
) -> None:
    message = refused(tmp_path, raw_file(b"\x80\x02" + code))
    assert "byte " in message
    assert reason in message


def test_a_value_that_holds_itself_is_refused(tmp_path: Path) -> None:
    assert "no state dict" in refused(tmp_path, raw_file(b"\x80\x02]q\x00(h\x00e."))
    assert "'a' is no tensor" in refused(tmp_path, raw_file(b"\x80\x02}q\x00" + text("a") + b"h\x00s."))


@pytest.mark.parametrize(
    ("tensor", "reason"),
    [
        (Tensor("1", np.zeros(4, np.float32), (5,), (1,)), "reaches beyond its storage of 4"),
        (Tensor("1", np.zeros(4, np.float32), (4,), (1,), offset=1), "reaches beyond its storage of 4"),
        (Tensor("1", np.zeros(4, np.float32), (2, 2), (4, 1)), "reaches beyond its storage of 4"),
        (Tensor("1", np.zeros(4, np.float32), (1 << 20, 1 << 20), (0, 0)), "reaches beyond its storage of 4"),
        (Tensor("1", np.zeros(4, np.float32), (1 << 62,), (0,)), "no whole numbers from 0 on"),
        (Tensor("1", np.zeros(4, np.float32), (-1,), (1,)), "no whole numbers from 0 on"),
        (Tensor("1", np.zeros(4, np.float32), (4,), (-1,)), "no whole numbers from 0 on"),
        (Tensor("1", np.zeros(4, np.float32), (4,), (1,), offset=-1), "no whole numbers from 0 on"),
        (Tensor("1", np.zeros(4, np.float32), (True,), (1,)), "no whole numbers from 0 on"),
        (Tensor("1", np.zeros(4, np.float32), (2, 2), (1,)), "size and strides do not fit"),
        (Tensor("1", np.zeros(4, np.float32), (1,) * 9, (1,) * 9), "size and strides do not fit"),
        (Tensor("1", np.zeros(4, np.float32), (4,), (1,), said=5), "has 4 numbers, not 5"),
        (Tensor("1", np.zeros(4, np.float32), (4,), (1,), said=-4), "anything but float32 or int64"),
        (Tensor("1", np.zeros(4, np.float64), (4,), (1,)), "'torch DoubleStorage' is not allowed"),
        (Tensor("1", np.zeros(4, np.float32), (4,), (1,), hooks={"a": 1}), "has hooks"),
    ],
)
def test_tensors_that_do_not_fit_their_storage_are_refused(
    tmp_path: Path, tensor: Tensor, reason: str
) -> None:
    message = refused(tmp_path, legacy_file({"a": tensor}))
    assert reason in message
    assert "byte " in message


def test_storages_that_are_too_short_or_not_those_of_the_tensors_are_refused(tmp_path: Path) -> None:
    numbers = np.arange(4, dtype=np.float32)
    one = {"a": Tensor("1", numbers, (4,), (1,))}
    assert "within storage '1'" in refused(tmp_path, legacy_file(one)[:-1])
    assert "does not list the storages that its tensors name" in refused(
        tmp_path, legacy_file(one, keys=["2"])
    )
    assert "does not list the storages that its tensors name" in refused(
        tmp_path, legacy_file(one, keys=["1", "1"])
    )
    assert "does not list the storages that its tensors name" in refused(tmp_path, legacy_file(one, keys=[1]))
    two = {**one, "b": Tensor("1", numbers, (4,), (1,), said=3)}
    assert "of two kinds or sizes" in refused(tmp_path, legacy_file(two))
    huge = legacy_file(one)
    at = huge.rindex(struct.pack("<q", 4) + numbers.tobytes())
    for count in (1 << 62, -1, 3):
        assert "numbers, not 4" in refused(tmp_path, huge[:at] + struct.pack("<q", count) + huge[at + 8 :])


def test_what_is_no_such_file_is_refused(tmp_path: Path) -> None:
    parts = {"magic": whole(5), "empty": b"", "zip": b"PK\x03\x04" + bytes(100), "page": b"<html>" * 9}
    for data in parts.values():
        assert "byte " in refused(tmp_path, data)
    assert "not protocol 1001" in refused(tmp_path, whole(MAGIC) + whole(1002))
    big = whole(MAGIC) + whole(1001) + whole({"little_endian": False})
    assert "little-endian" in refused(tmp_path, big)
    assert "a call of what is no name" in refused(tmp_path, raw_file(b"\x80\x02}" + text("a") + b")Rs."))
    call = op_global("torch FloatStorage") + b")R"
    assert "'a' is no tensor" in refused(tmp_path, raw_file(b"\x80\x02}" + text("a") + call + b"s."))
    with pytest.raises(ModelError, match=r"cannot be read: No such file or directory; install it again"):
        read_legacy_torch(tmp_path / "none.pth", REMEDY)
    with pytest.raises(ModelError, match=r"cannot be read: Is a directory; install it again"):
        read_legacy_torch(tmp_path, REMEDY)
    with (tmp_path / "big.pth").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ModelError, match="more than the 268435456 that are read"):
        read_legacy_torch(tmp_path / "big.pth", REMEDY)
