"""The primary host application: is it there, by what it says of itself under its STATE topic."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from agent.base.refusal import refusal
from agent.sparkplug.edge_node import NAMESPACE
from agent.sparkplug.payload import PayloadError


class _State(BaseModel):
    """What a host says; more than the specification knows of is no mistake."""

    model_config = ConfigDict(strict=True, frozen=True)

    online: bool
    timestamp: Annotated[int, Field(ge=0)]


class PrimaryHost:
    """Owns what the host has said last; the session's thread alone uses it.

    A word that is older than one that was heard before, by the time in it, is not believed. That holds
    from connection to connection; whether the host is there has to be heard anew over each.

    Args:
        host_id: None waits for nobody: then it is always there.
    """

    def __init__(self, host_id: str | None) -> None:
        self.topic = None if host_id is None else f"{NAMESPACE}/STATE/{host_id}"
        self._online = host_id is None
        self._timestamp = 0

    @property
    def online(self) -> bool:
        """Whether births may be published."""
        return self._online

    def forget(self) -> None:
        """Hear anew whether it is there: the connection is another one."""
        self._online = self.topic is None

    def receive(self, content: bytes) -> None:
        """Believe what the host says, unless it is old.

        Raises:
            PayloadError: it is no STATE.
        """
        try:
            state = _State.model_validate_json(content)
        except ValidationError as error:
            raise PayloadError(f"no STATE: {refusal(error, _State)}") from error
        if state.timestamp >= self._timestamp:
            self._timestamp, self._online = state.timestamp, state.online
