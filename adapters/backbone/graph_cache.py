"""Graphs that are made here, as files in a folder: what ran can be looked at."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

from adapters.files.atomic_file import write_durably

logger = logging.getLogger(__name__)


def kept_graph(cache: Path, name: str, content: bytes) -> Path | bytes:
    """Return the file with this content, written if it is not there or is damaged.

    Where it cannot be written, on a full disk or a wrong owner, the content itself: inspection does not wait
    for room.

    Args:
        cache: folder, made if it is not there; any process may use it at the same time.
        name: what the file's name begins with; the digest of its content follows.
        content: the graph.
    """
    digest = hashlib.sha256(content).hexdigest()
    file = cache / f"{name}-{digest[:16]}.onnx"
    try:
        if _holds(file, content):
            return file
        cache.mkdir(parents=True, exist_ok=True)
        write_durably(file, content)
    except OSError as error:
        logger.warning(
            "%s: the backbone's graph cannot be kept there, and is opened from memory: %s; make room, or let"
            " the agent write there", file, error.strerror or error,
        )  # fmt: skip
        return content
    logger.info("%s: written", file)
    return file


def _holds(file: Path, content: bytes) -> bool:
    if file.is_symlink() or not file.is_file():
        return False
    if file.stat().st_size == len(content) and file.read_bytes() == content:
        return True
    logger.warning("%s: damaged, it is written again", file)
    return False
