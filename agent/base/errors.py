"""Errors of the agent and the exit codes that the documentation promises.

AgentError         70  unexpected
├── UsageError     64  the command line is wrong
├── ConfigError    78  config.yaml, or something it names, is wrong
├── NotNow         75  what a config names is missing that was there when it was in force last
├── StoreError     75  the data folder or the store cannot be used now
└── NoAnswer       75  no agent runs there, or it does not answer

These are the codes of a command that cannot begin. Once the agent inspects, whatever ends it is unexpected:
70, also for an error of these classes. The service is started again after all of them but 78.
"""

from __future__ import annotations

from collections.abc import Sequence

EXIT_OK = 0
EXIT_CHECK_FAILED = 1
EXIT_USAGE = 64
EXIT_UNEXPECTED = 70
EXIT_TRY_AGAIN = 75
"""It may pass: the same command can succeed later, without a change of the config."""
EXIT_CONFIG = 78


class AgentError(Exception):
    """Root of everything that agent/ raises on purpose."""

    exit_code = EXIT_UNEXPECTED

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong, one line each."""
        return (str(self),)


class UsageError(AgentError):
    """The command line asks for something that cannot be done."""

    exit_code = EXIT_USAGE


class ConfigError(AgentError):
    """The configuration, or a thing that it names, is wrong; says everything that is wrong at once.

    Args:
        problems: one line each, ``file:line: key.path: what: hint``.
    """

    exit_code = EXIT_CONFIG

    def __init__(self, problems: Sequence[str]) -> None:
        self._problems = tuple(problems)
        super().__init__("\n".join(problems))

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong, one line each."""
        return self._problems


class NotNow(ConfigError):
    """What a config names cannot be used now, and could when that was in force last: it may come back."""

    exit_code = EXIT_TRY_AGAIN


class StoreError(AgentError):
    """The data folder or the store cannot be used now: in use, busy, unreadable, or its disk is full."""

    exit_code = EXIT_TRY_AGAIN


class NoAnswer(AgentError):
    """No agent runs with the data folder, or it does not say how it is doing."""

    exit_code = EXIT_TRY_AGAIN
