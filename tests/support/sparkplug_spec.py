"""Which test shows which assertion of the Sparkplug specification 3.0.0."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from tests.support.places import RECORDED

ALL_IDS = (RECORDED / "sparkplug-3.0.0-tck-ids.txt").read_text().split()
"""Every ``tck-id`` of the specification's text at its tag v3.0.0, in its order."""

SHOWN: dict[str, list[str]] = {}
"""``tck-id``: names of the tests that show it."""

_Test = TypeVar("_Test", bound=Callable[..., None])


def shows(*ids: str) -> Callable[[_Test], _Test]:
    """Mark a test that fails where one of these assertions is not met; names without ``tck-id-``."""

    def mark(test: _Test) -> _Test:
        for short in ids:
            full = f"tck-id-{short}"
            assert full in ALL_IDS, f"{full} is none of the specification's"
            SHOWN.setdefault(full, []).append(test.__name__)
        return test

    return mark
