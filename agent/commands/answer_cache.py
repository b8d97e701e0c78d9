"""Answers to commands, kept so that a command that comes twice is obeyed once."""

from __future__ import annotations

from collections import OrderedDict

from agent.domain.command_answer import Answer

MAX_ANSWERS = 1000
MAX_BYTES = 2_000_000
"""Of their texts. Some hold the numbers of all stations: a thousand of these would fill the memory."""


class AnswerCache:
    """When there are 1000, or 2 MB of them, the oldest is forgotten first; the newest stays in any case.

    Owns the answers; used by one thread.
    """

    def __init__(self, max_answers: int = MAX_ANSWERS, max_bytes: int = MAX_BYTES) -> None:
        self._max_answers, self._max_bytes = max_answers, max_bytes
        self._answers: OrderedDict[str, Answer | None] = OrderedDict()
        self._sizes: dict[str, int] = {}
        self._bytes = 0

    def __contains__(self, key: str) -> bool:
        return key in self._answers

    def __len__(self) -> int:
        return len(self._answers)

    def __getitem__(self, key: str) -> Answer | None:
        """Return the answer, None where it is still to come."""
        return self._answers[key]

    def keep(self, key: str, answer: Answer | None) -> None:
        """Keep an answer; None where it is still to come."""
        size = 0 if answer is None else len(repr((answer.data, answer.before, answer.after)))
        self._bytes += size - self._sizes.get(key, 0)
        self._answers[key], self._sizes[key] = answer, size
        while len(self._answers) > self._max_answers or (
            self._bytes > self._max_bytes and len(self._answers) > 1
        ):
            oldest, _ = self._answers.popitem(last=False)
            self._bytes -= self._sizes.pop(oldest)
