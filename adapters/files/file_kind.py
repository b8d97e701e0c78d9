"""What a file that was given as weights is, where its first bytes or its contents say that it is none."""

from __future__ import annotations

import tarfile
import zipfile
from pathlib import Path

_HEAD_BYTES = 512
_WEB_PAGE = "a web page, not the weights: download the file itself"
_PACKED = "a packed archive: unpack it, and use the weights inside"
_NUMPY = "arrays of numpy, as big_vision publishes, not weights of open_clip: convert them first"
_BEGINS = (
    (b"version https://git-lfs.github.com/", "a pointer of Git LFS, not the weights: run git lfs pull there"),
    (b"<!doctype html", _WEB_PAGE),
    (b"<html", _WEB_PAGE),
    (b"\x1f\x8b\x08", _PACKED),
    (b"bzh", _PACKED),
    (b"\xfd7zxz", _PACKED),
    (b"7z\xbc\xaf", _PACKED),
    (b"rar!", _PACKED),
    (b"\x28\xb5\x2f\xfd", _PACKED),
    (b"\x93numpy", _NUMPY),
    (b"\x89hdf\r\n", "an HDF5 file, as Keras writes, not weights of open_clip"),
    (b"gguf", "a GGUF file, not weights of open_clip"),
)
"""First bytes, in lower case where they are letters, and what to say."""
_TORCHSCRIPT = (
    "a TorchScript archive, which runs code when it is read: where you trust who made it, load it with"
    " torch.jit.load and save its state_dict as safetensors"
)


def wrong_kind(file: Path) -> str | None:
    """Say what a file is that holds no weights, and what to do; None where it may hold some.

    Raises:
        OSError: it cannot be read.
    """
    if file.is_dir():
        return "a folder: name the file in it"
    with file.open("rb") as content:
        head = content.read(_HEAD_BYTES)
    if not head:
        return "empty: copy it again"
    begin = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for mark, what in _BEGINS:
        if begin.startswith(mark):
            return what
    if begin.startswith(b"{") and b"\0" not in head:  # safetensors begin with a number of eight bytes
        return "a text of settings in JSON, not the weights beside it"
    if zipfile.is_zipfile(file):
        return _in_a_zip(file)
    return _PACKED if head[257:262] == b"ustar" and tarfile.is_tarfile(file) else None


def _in_a_zip(file: Path) -> str | None:
    try:
        with zipfile.ZipFile(file) as archive:
            names = [name.partition("/")[2] or name for name in archive.namelist()]
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return None  # who reads it says what is wrong
    if "constants.pkl" in names or any(name.startswith("code/") for name in names):
        return _TORCHSCRIPT
    if any(name.endswith(".npy") for name in names):
        return _NUMPY
    return None if "data.pkl" in names else _PACKED
