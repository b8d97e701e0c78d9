"""The adapter as a value and as a file."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from adapters.core.adapter import (
    Adapter,
    AdapterError,
    AdapterFileError,
    AdapterMismatch,
    load_adapter,
    save_adapter,
)

WEIGHTS = "sha256:" + "0" * 64


def adapter(seed: int = 0, number: int = 0, parent: str | None = None) -> Adapter:
    random = np.random.default_rng(seed)
    names = ("visual.ln_pre.weight", "visual.ln_pre.bias", "ln_final.weight")
    return Adapter({name: random.normal(size=8).astype(np.float32) for name in names}, number, parent)


def test_an_adapter_cannot_be_changed() -> None:
    """Its numbers are copies and read-only: what a verdict names is what was used."""
    numbers = np.ones(4, np.float32)
    value = Adapter({"ln.weight": numbers})
    numbers[0] = 2
    assert value.tensors["ln.weight"][0] == 1
    with pytest.raises(ValueError, match="read-only"):
        value.tensors["ln.weight"][0] = 2


def test_digest_covers_names_shapes_and_numbers() -> None:
    """Equal contents share a digest whatever their order; any difference changes it."""
    one, two = np.ones(2, np.float32), np.zeros(2, np.float32)
    digest = Adapter({"a": one, "b": two}).digest
    assert Adapter({"b": two, "a": one}, number=7).digest == digest
    others = [{"a": two, "b": one}, {"a": one, "c": two}, {"a": one.reshape(2, 1), "b": two}]
    assert digest not in {Adapter(other).digest for other in others}


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_refused(bad: float) -> None:
    """A diverged update never becomes an adapter."""
    with pytest.raises(AdapterError, match=r"ln\.weight holds a number that is not finite"):
        Adapter({"ln.weight": np.array([1, bad], np.float32)})


def test_an_adapter_of_another_model_is_refused() -> None:
    """Names and shapes must be the model's."""
    source = adapter()
    adapter(seed=3).require_shapes_of(source)
    for name, shape in (("other", 8), ("ln_final.weight", 9)):
        stranger = Adapter({**source.tensors, name: np.ones(shape, np.float32)})
        with pytest.raises(AdapterMismatch, match=name):
            stranger.require_shapes_of(source)


def test_saved_and_loaded_is_the_same_adapter(tmp_path: Path) -> None:
    """Numbers to the last bit, number and parent; nothing is left beside the file."""
    source, learned = adapter(), adapter(1, number=142, parent=adapter().digest)
    file = tmp_path / "142.safetensors"
    save_adapter(learned, file, WEIGHTS)
    save_adapter(learned, file, WEIGHTS)
    loaded = load_adapter(file, source, WEIGHTS)
    assert (loaded.digest, loaded.number, loaded.parent) == (learned.digest, 142, source.digest)
    assert [path.name for path in tmp_path.iterdir()] == ["142.safetensors"]


def test_every_flipped_bit_is_noticed(tmp_path: Path) -> None:
    """A flipped bit, which safetensors alone mostly loads silently, never becomes an adapter."""
    source = adapter()
    file = tmp_path / "1.safetensors"
    save_adapter(adapter(1, number=1), file, WEIGHTS)
    intact = file.read_bytes()
    for position in range(len(intact)):
        altered = bytearray(intact)
        altered[position] ^= 1 << position % 8
        file.write_bytes(altered)
        try:
            loaded = load_adapter(file, source, WEIGHTS)
        except AdapterFileError:
            continue
        # A space in the header's padding that became another character of whitespace.
        assert loaded.digest == adapter(1).digest
        assert loaded.number == 1


@pytest.mark.parametrize("keep", [0, 7, 100, -1])
def test_a_cut_file_is_refused(tmp_path: Path, keep: int) -> None:
    """Whatever is left of it."""
    file = tmp_path / "1.safetensors"
    save_adapter(adapter(), file, WEIGHTS)
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(AdapterFileError, match=r"1\.safetensors"):
        load_adapter(file, adapter(), WEIGHTS)


def test_files_that_are_no_adapter_are_refused(tmp_path: Path) -> None:
    """A missing file, a link, a pickle and another model's adapter are named in the error."""
    source, file = adapter(), tmp_path / "1.safetensors"
    with pytest.raises(AdapterFileError, match="not a readable"):
        load_adapter(file, source, WEIGHTS)
    file.write_bytes(pickle.dumps(source.tensors["ln_final.weight"]))
    with pytest.raises(AdapterFileError, match="not a readable"):
        load_adapter(file, source, WEIGHTS)
    save_adapter(source, file, WEIGHTS)
    with pytest.raises(AdapterFileError, match="made for weights"):
        load_adapter(file, source, "sha256:" + "1" * 64)
    with pytest.raises(AdapterFileError, match="another model"):
        load_adapter(file, Adapter({"ln.weight": np.ones(3, np.float32)}), WEIGHTS)
    (tmp_path / "link").symlink_to(file)
    with pytest.raises(AdapterFileError, match="a link"):
        load_adapter(tmp_path / "link", source, WEIGHTS)


def test_a_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk costs the new version, never the old one."""
    source, file = adapter(), tmp_path / "1.safetensors"
    save_adapter(source, file, WEIGHTS)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        save_adapter(adapter(1, number=1), file, WEIGHTS)
    monkeypatch.undo()
    assert load_adapter(file, source, WEIGHTS).digest == source.digest
    assert len(list(tmp_path.iterdir())) == 1


def test_a_saved_adapter_is_for_whom_other_files_are_for(tmp_path: Path) -> None:
    """The agent's user may read what an engineer exported: permissions follow the umask."""
    plain, file = tmp_path / "plain", tmp_path / "1.safetensors"
    plain.write_bytes(b"")
    save_adapter(adapter(), file, WEIGHTS)
    assert file.stat().st_mode == plain.stat().st_mode
