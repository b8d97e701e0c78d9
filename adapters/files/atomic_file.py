"""Files that are the old one or the new one after a power cut, never half of either."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write_durably(path: Path, content: bytes, *, mode: int | None = None) -> None:
    """Make or replace `path` in one step: write beside it, flush to the disk, rename, flush the folder.

    Args:
        path: of the file.
        content: all that is to be in it.
        mode: its permissions; None: those of any other new file.

    Raises:
        OSError: the disk is full or the folder cannot be written; an old file is as it was.
    """
    # In a folder of its own the new file has the permissions of any other, and goes with the folder.
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        half = Path(folder) / path.name
        with half.open("wb") as file:
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        half.replace(path)
    parent = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(parent)
    finally:
        os.close(parent)
