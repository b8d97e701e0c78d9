"""Logging to standard error: for people, or one JSON object a line."""

from __future__ import annotations

import json
import logging
import os
import sys
from datetime import UTC, datetime

from agent.base.codec import timestamp
from camera.core.address import masked

_OURS = ("agent", "camera", "adapters")
_PRIORITIES = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (0, 7))


def set_up(level: str, style: str) -> None:
    """Send everything of ours at `level` and above to standard error, as ``text`` or ``json``.

    Of libraries only warnings are sent: what they say below that is about them, not about the line.

    Where that is systemd's journal, which knows the time by itself, text lines begin with their priority
    (sd-daemon(3)) instead of time and level: ``journalctl -p warning`` finds them.
    """
    handler = logging.StreamHandler(sys.stderr)
    if style == "json":
        handler.setFormatter(_JSONFormatter())
    elif _is_journal():
        handler.setFormatter(_JournalFormatter("%(message)s"))
    else:
        handler.setFormatter(_TextFormatter("%(asctime)s %(levelname)-7s %(message)s"))
    logging.basicConfig(level=max(logging.WARNING, _number(level)), handlers=[handler], force=True)
    for package in _OURS:
        logging.getLogger(package).setLevel(_number(level))


def _number(level: str) -> int:
    return logging.getLevelNamesMapping()[level.upper()]


def _is_journal() -> bool:
    """Whether standard error is the stream to the journal that systemd names in the environment."""
    try:
        stream = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):  # it is no file
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{stream.st_dev}:{stream.st_ino}"


class _TextFormatter(logging.Formatter):
    """One fact is one line without a password, whatever a file name, a broker or a driver put into it."""

    def format(self, record: logging.LogRecord) -> str:
        return masked(super().format(record))

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        record.message = "".join(map(_visible, record.message))
        return super().formatMessage(record)


def _visible(letter: str) -> str:
    return letter if letter.isprintable() else letter.encode("unicode_escape").decode()


class _JournalFormatter(_TextFormatter):
    def format(self, record: logging.LogRecord) -> str:
        priority = next(number for level, number in _PRIORITIES if record.levelno >= level)
        # Each line is an entry of its own there, also those of a traceback.
        return "\n".join(f"<{priority}>{line}" for line in super().format(record).splitlines())


class _JSONFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = {
            "at": timestamp(datetime.fromtimestamp(record.created, UTC)),
            "level": record.levelname.lower(),
            "thread": record.threadName,
            "module": record.name,
            "message": masked(record.getMessage()),
        }
        if record.exc_info:
            fields["traceback"] = masked(self.formatException(record.exc_info))
        return json.dumps(fields, ensure_ascii=False, allow_nan=False)
