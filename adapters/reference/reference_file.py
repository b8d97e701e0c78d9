"""The file of a reference: safetensors, with a digest over all that it says."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from adapters.core.adapter import AdapterError
from adapters.files.atomic_file import write_durably
from adapters.files.formats import mismatch
from adapters.files.strict_json import loads
from adapters.files.tensors import read_tensors

FORMAT = "mekiki.reference.v1"
AGAIN = "build it again with mekiki golden build"

Arrays = Mapping[str, NDArray[Any]]


class UnusableReference(AdapterError):
    """A reference cannot be made of these samples, or its file cannot be used; says what is missing."""


def digest_of(facts: Mapping[str, Any], arrays: Arrays) -> str:
    """Return ``sha256:...`` of facts and arrays."""
    sha = hashlib.sha256(json.dumps(facts, sort_keys=True, allow_nan=False).encode())
    for name, array in sorted(arrays.items()):
        sha.update(f"{name}{array.dtype}{array.shape}".encode())
        sha.update(np.ascontiguousarray(array).tobytes())
    return f"sha256:{sha.hexdigest()}"


def write(path: Path, facts: Mapping[str, Any], arrays: Arrays, release: str) -> None:
    """Write a reference to one file, complete or not at all.

    Raises:
        OSError: the disk is full or the folder cannot be written.
    """
    head = {
        "format": FORMAT,
        "release": release,
        "facts": json.dumps(facts, sort_keys=True, allow_nan=False),
        "digest": digest_of(facts, arrays),
    }
    tensors = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    write_durably(path, safetensors.numpy.save(tensors, head))


def read(path: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Return facts and arrays that `write` wrote, verified.

    Raises:
        UnusableReference: the file is missing, damaged, altered or of another version.
    """
    try:
        head, arrays = read_tensors(path)
    except FileNotFoundError as error:
        raise UnusableReference(f"{path}: there is no reference; {AGAIN}") from error
    except (OSError, ValueError) as error:
        raise UnusableReference(f"{path}: not readable: {error}; {AGAIN}") from error
    if (found := head.get("format")) != FORMAT:
        raise UnusableReference(f"{path}: {mismatch(found, FORMAT, head.get('release'), AGAIN)}")
    try:
        facts = dict(loads(head["facts"]))
        found = digest_of(facts, arrays)
    except (KeyError, ValueError, TypeError) as error:
        raise UnusableReference(f"{path}: damaged ({error}); {AGAIN}") from error
    if found != head.get("digest"):
        raise UnusableReference(f"{path}: altered since it was written; {AGAIN}")
    return facts, arrays
