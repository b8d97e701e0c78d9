"""What a config names and cannot be had now: a picture folder, a certificate, a secret kept elsewhere.

In a file that somebody edits it is a mistake. In a config that was in force before, and has not changed
there, it is not: a disk was unplugged, or is mounted later. What inspection can do without is then started
without it, and looked for again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from agent import yamltree

_SPARED = (
    ("stations", "*", "camera"),
    ("mqtt", "tls"),
    ("mqtt", "username"),
    ("mqtt", "password"),
    ("metrics", "token"),
)
"""Settings, with all below them, without which the other stations inspect; ``*`` is any name."""

Excuse = Callable[[yamltree.Path, yamltree.Node], bool]
"""Whether what is written at a path is no mistake where it cannot be had now."""


@dataclass(frozen=True, slots=True)
class Absent:
    """One thing that cannot be had now.

    Attributes:
        path: of the setting that names it.
        what: for people, ``file:line: key.path: what: hint``.
        reference: the setting has no value at all: its reference leads nowhere.
    """

    path: yamltree.Path
    what: str
    reference: bool


def nothing(_path: yamltree.Path, _node: yamltree.Node) -> bool:
    """Excuse nothing: for a file that is being edited."""
    return False


def whatever_is_spared(path: yamltree.Path, _node: yamltree.Node) -> bool:
    """Excuse everything that inspection can do without."""
    return any(_below(path, pattern) for pattern in _SPARED)


def unchanged(before: yamltree.Node) -> Excuse:
    """Return what excuses the same where it is written as in `before`, a config that was in force."""

    def excuse(path: yamltree.Path, node: yamltree.Node) -> bool:
        old = before.get(path)
        same = old is not None and old.value == node.value
        return same and whatever_is_spared(path, node)

    return excuse


def _below(path: yamltree.Path, pattern: tuple[str, ...]) -> bool:
    return len(path) >= len(pattern) and all(
        each in ("*", part) for part, each in zip(path, pattern, strict=False)
    )
