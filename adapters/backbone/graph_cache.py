"""Graphs that are made here, as files in a folder: the runtime opens files."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

from adapters.core.protocol import ModelError
from adapters.files.atomic_file import write_durably

logger = logging.getLogger(__name__)


def kept_graph(cache: Path, name: str, content: bytes) -> Path:
    """Return the file with this content, written if it is not there or is damaged.

    Args:
        cache: folder, made if it is not there; any process may use it at the same time.
        name: what the file's name begins with; the digest of its content follows.
        content: the graph.

    Raises:
        ModelError: it cannot be written.
    """
    digest = hashlib.sha256(content).hexdigest()
    file = cache / f"{name}-{digest[:16]}.onnx"
    try:
        if _holds(file, content):
            return file
        cache.mkdir(parents=True, exist_ok=True)
        write_durably(file, content)
    except OSError as error:
        raise ModelError(
            f"{file}: the backbone's graph cannot be kept there: {error.strerror}; make room, or let the"
            " agent write there"
        ) from error
    logger.info("%s: written", file)
    return file


def _holds(file: Path, content: bytes) -> bool:
    if file.is_symlink() or not file.is_file():
        return False
    if file.stat().st_size == len(content) and file.read_bytes() == content:
        return True
    logger.warning("%s: damaged, it is written again", file)
    return False
