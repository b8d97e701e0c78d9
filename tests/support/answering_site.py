"""Versions that answer, a disk that is full, an agent that is killed."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from adapters.core.adapter import Adapter
from adapters.core.version import Version, Window
from agent.audit import hash_chain
from tests.faults.kill_store import kill_before
from tests.support.small_line import WORDS, Site, SmallEngine


def moved(shift: float, number: int = 0) -> Adapter:
    """Return an adapter of the small model."""
    return Adapter({**SmallEngine.source.tensors, "shift": np.full(16, shift, np.float32)}, number)


def a_version(shift: float, offset: float = 0.5) -> Version:
    return Version(
        moved(shift), 0, "learned", "2026-01-01T00:00:00.000Z",
        Window(1, 50, 50), offset, WORDS.digest, {}, {},
    )  # fmt: skip


def trail(site: Site) -> list[dict[str, Any]]:
    file = site.folder / "audit.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def full(*arguments: object, **options: object) -> None:
    raise OSError(28, "No space left on device")


def fill_disk_of_trails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no line of an audit trail come to the disk; all other files do."""
    of_trails = SimpleNamespace(**{**vars(os), "fsync": full})
    monkeypatch.setattr(hash_chain, "os", of_trails)


def killed_at(step: int, body: Callable[[], object]) -> bool:
    """Do something in a child that is killed before its n-th step on the disk; return whether it ended."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            kill_before(step)
            body()
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status):
        assert os.WEXITSTATUS(status) == 0, "the child failed by itself"
        return True
    assert os.WTERMSIG(status) == signal.SIGKILL
    return False
