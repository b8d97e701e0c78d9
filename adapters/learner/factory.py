"""What learners look and learn with. Imports torch only where the model runs on it."""

from __future__ import annotations

import threading
from collections.abc import Callable

from adapters.core.prompts import Prompts
from adapters.core.protocol import Engine
from adapters.encoders.cancellation import CancellableEncoders, CancellableEngine
from adapters.encoders.protocol import Encoders
from adapters.engines.factory import ModelSettings, open_plain
from adapters.learner.losses import Words
from adapters.learner.rehearsal_update import Proposer

THREADS = 1
"""Of a learner's model: its batches are large, and the other cores belong to inspection."""


class LearnerModel:
    """The model of all learners of a process, beside the one that inspects: neither waits for the other.

    Opened by the first thread that asks, and as urgent as that; the others share it. It looks in fp32,
    whatever inspects, and learns in fp32; on torch with bf16 products where bf16 was asked for.

    Args:
        settings: of the model that inspects.

    Attributes:
        turn: held by the learner that computes: together they keep one core busy, not one each.
    """

    def __init__(self, settings: ModelSettings) -> None:
        self.turn = threading.Lock()
        self._settings = settings
        self._opening, self._opening_towers = threading.Lock(), threading.Lock()
        self._engine: Engine | None = None
        self._encoders: Encoders | None = None

    def open(
        self, prompts: Prompts, *, full: bool, halt: Callable[[], bool]
    ) -> tuple[Engine, Proposer | None]:
        """Return what one learner looks with, and what makes its proposals.

        Args:
            prompts: the recipe's words.
            full: LayerNorms are to move.
            halt: whether the thread is to end; both raise `Cancelled` then.

        Raises:
            AdapterError: the model's file is missing or altered by now.
        """
        engine, opened = self.load(full=full)
        proposer = None
        if full and opened is not None:
            proposer = Proposer(CancellableEncoders(opened, halt), Words.of(engine, prompts))
        return CancellableEngine(engine, halt), proposer

    def load(self, *, full: bool) -> tuple[Engine, Encoders | None]:
        """Open what is not open yet.

        Args:
            full: LayerNorms are to move.

        Raises:
            AdapterError: the model's file is missing or altered by now.
        """
        with self._opening:
            if self._engine is None:
                self._engine = open_plain(self._settings, THREADS)
        if not full:
            return self._engine, self._encoders
        # Who only needs the engine does not wait for the towers, which take longer.
        with self._opening_towers:
            if self._encoders is None:
                self._encoders = self._open_encoders()
            return self._engine, self._encoders

    def _open_encoders(self) -> Encoders:
        settings = self._settings
        if settings.engine != "torch":
            from adapters.bundle.reader import bundle_path
            from adapters.engines.open_bundle import open_encoders

            folder = bundle_path(settings.bundle)
            return open_encoders(folder, sha256=settings.sha256, device=settings.device, threads=THREADS)
        from adapters.encoders.torch_encoders import TorchEncoders
        from adapters.engines.torch_engine import TorchEngine

        assert isinstance(self._engine, TorchEngine)
        return TorchEncoders(self._engine.clip, "bf16" if settings.precision == "bf16" else "fp32")
