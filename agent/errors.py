"""Errors of the agent and the exit codes that the documentation promises.

AgentError
├── UsageError     64  the command line is wrong
├── ConfigError    78  config.yaml, or something it names, is wrong
└── StoreError     78  the data folder cannot be used at start
"""

from __future__ import annotations

from collections.abc import Sequence

EXIT_OK = 0
EXIT_CHECK_FAILED = 1
EXIT_USAGE = 64
EXIT_UNEXPECTED = 70
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


class StoreError(AgentError):
    """The store cannot be opened or read."""

    exit_code = EXIT_CONFIG
