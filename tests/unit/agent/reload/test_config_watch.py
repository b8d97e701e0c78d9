"""Saving the config file is noticed where it says something else, and only there."""

from __future__ import annotations

import codecs
from pathlib import Path

import pytest

from agent.config.loader import read_text
from agent.reload.file_watcher import ConfigWatch
from tests.support.insides import look_at_config

TEXT = "version: 1\nagent:\n  id: line-ü\n"


@pytest.mark.parametrize(
    ("known", "saved", "noticed"),
    [
        (codecs.BOM_UTF8 + TEXT.encode(), codecs.BOM_UTF8 + TEXT.encode(), False),
        (TEXT.encode(), codecs.BOM_UTF8 + TEXT.encode(), False),
        (codecs.BOM_UTF8 + TEXT.encode(), TEXT.encode(), False),
        (TEXT.encode(), TEXT.replace("\n", "\r\n").encode(), False),
        (TEXT.replace("\n", "\r\n").encode(), codecs.BOM_UTF8 + TEXT.encode(), False),
        (TEXT.encode(), TEXT.replace("line-ü", "line-u").encode(), True),
        (TEXT.encode(), (TEXT + "\n").encode(), True),
        (TEXT.encode(), TEXT.encode("latin-1"), True),
        (TEXT.encode(), b"", True),
        (TEXT.encode(), TEXT.encode() + b"#" * 3_000_000, True),
    ],
    ids=["same", "BOM", "no BOM", "CRLF", "CRLF and BOM", "text", "line", "Latin-1", "empty", "too large"],
)
def test_a_byte_order_mark_or_other_ends_of_lines_are_no_news(
    tmp_path: Path, known: bytes, saved: bytes, noticed: bool
) -> None:
    """What the agent read at its start is compared with what lies there, as text."""
    path, news = tmp_path / "config.yaml", list[None]()
    path.write_bytes(known)
    watch = ConfigWatch(path, read_text(path), lambda: news.append(None))
    path.write_bytes(saved)
    look_at_config(watch)
    look_at_config(watch)
    assert len(news) == int(noticed)
