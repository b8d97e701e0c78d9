"""What is wrong with the agent that a test runs."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from agent.app.composition import Components


@pytest.fixture
def conditions(monkeypatch: pytest.MonkeyPatch) -> Callable[[], dict[str, str]]:
    """Return what is wrong with the agent that runs: code -> message."""
    made: list[Components] = []
    turn = Components.turn

    def watched(self: Components) -> None:
        made[:] = [self]
        turn(self)

    monkeypatch.setattr(Components, "turn", watched)

    def found() -> dict[str, str]:
        if not made:
            return {}
        return {one["code"]: one["message"] for one in made[0].local_status()["health"]["conditions"]}

    return found
