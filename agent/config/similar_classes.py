"""Classes of a recipe that cannot be told apart: the model would give each half of what is one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from agent.base.text import looks
from agent.config.diagnostics import shown

_Key = TypeVar("_Key")


def alike(classes: Mapping[str, Sequence[str]]) -> str | None:
    """Return why two classes cannot be told apart, by people or by any model; None where all can.

    Args:
        classes: phrases by label.
    """
    from adapters.core.clean_text import same_words

    pair = first_equal((label, looks(label)) for label in classes)
    if pair is not None:
        return f"{shown(pair[0])} and {shown(pair[1])} look alike: give one another name"
    pair = first_equal((label, frozenset(map(same_words, phrases))) for label, phrases in classes.items())
    return None if pair is None else same(*pair)


def same(label: str, other: str) -> str:
    """Return what to say of two classes with the same words."""
    return f"{shown(label)} and {shown(other)} are the same words to the model: change the phrases of one"


def first_equal(keys: Iterable[tuple[str, _Key]]) -> tuple[str, str] | None:
    """Return the first two labels with equal keys."""
    seen: dict[_Key, str] = {}
    for label, key in keys:
        if key in seen:
            return seen[key], label
        seen[key] = label
    return None
