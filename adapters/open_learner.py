"""What a learner's thread looks and learns with. Imports torch only where the model runs on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from adapters.engine import Engine
from adapters.halting import HaltingEngine
from adapters.open import ModelSettings, default_threads, open_clip_model
from adapters.prompts import Prompts

if TYPE_CHECKING:
    from adapters.torch_update import TorchUpdate


def open_learner(
    settings: ModelSettings, shared: Engine, prompts: Prompts, *, full: bool, halt: Callable[[], bool]
) -> tuple[Engine, TorchUpdate | None]:
    """Return an engine that nobody waits for, and what makes proposals.

    Sessions of ONNX Runtime may be called from several threads at once and are shared. torch lends a module
    other LayerNorms for the time of a call, so with it the learner has a model of its own.

    Args:
        settings: of the model that inspects.
        shared: that model, open.
        prompts: the recipe's words.
        full: LayerNorms are to move; needs ``engine: torch``.
        halt: whether the thread is to end; both raise `Halted` then.

    Raises:
        AdapterError: the model's file is missing or altered by now.
    """
    if settings.engine == "onnx":
        return HaltingEngine(shared, halt), None

    from adapters.halting_clip import HaltingClip
    from adapters.torch_engine import TorchEngine
    from adapters.torch_update import TorchUpdate

    clip = HaltingClip.of(open_clip_model(settings), halt)
    engine = TorchEngine(clip, threads=settings.threads or default_threads())
    return engine, TorchUpdate(clip, prompts) if full else None
