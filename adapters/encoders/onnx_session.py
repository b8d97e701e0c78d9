"""A session of ONNX Runtime as a line PC wants it: no spinning threads, no surprises about the provider."""

from __future__ import annotations

import logging
from functools import cache
from pathlib import Path
from typing import Any

from adapters.core.protocol import ModelError
from adapters.encoders.installed_runtimes import runtime_problem

logger = logging.getLogger(__name__)

CUDA = "CUDAExecutionProvider"
CPU = "CPUExecutionProvider"
_GET_CUDA = "install 'mekiki[gpu]', check the driver"


def open_session(file: Path | bytes, device: str, threads: int | None, *, takes_turns: bool = False) -> Any:
    """Open a graph.

    Its threads are as urgent as the one that calls this.

    Args:
        file: the graph; its content where it is in no file.
        device: ``auto``, ``cpu`` or ``cuda``.
        threads: CPU threads; None leaves it to ONNX Runtime.
        takes_turns: it never runs at the same time as others of this kind, and has working memory in common
            with them.

    Raises:
        ModelError: ONNX Runtime is missing, cannot run the graph, or finds no card where one was asked for.
    """
    ort = _onnxruntime()
    providers: list[Any] = [CPU]
    if device != "cpu" and CUDA in ort.get_available_providers():
        # The CUDA and cuDNN wheels are not on the loader's path; without them this finds the system's.
        ort.preload_dlls()
        # TF32 keeps 10 bits of a float32's 23: too few for the tolerance that a bundle is built to.
        providers.insert(0, (CUDA, {"use_tf32": "0"}))
    options = ort.SessionOptions()
    # It warns once for every LayerNorm that can be overridden: that is the plan.
    options.log_severity_level = 3
    options.intra_op_num_threads = threads or 0
    # Spinning threads take the cores from the cameras and, when the machine is busy, make the model itself
    # two to three times slower.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if takes_turns:
        _share_memory()
        options.add_session_config_entry("session.use_env_allocators", "1")
        # A pattern is one block for everything of a pass, kept for each size of batch: nobody else fits in.
        options.enable_mem_pattern = False
    errors = _session_errors()
    try:
        content = str(file) if isinstance(file, Path) else file
        session = ort.InferenceSession(content, options, providers=providers)
    except errors as error:
        reason = str(error).splitlines()[0][:200]
        where = file if isinstance(file, Path) else "a graph in memory"
        raise ModelError(f"{where}: onnxruntime {ort.__version__} cannot run it: {reason}") from error
    running = session.get_providers()[0]
    if device == "cuda" and running != CUDA:
        raise ModelError(f"device cuda: ONNX Runtime runs on {running}; {_GET_CUDA}")
    if len(providers) > 1 and running != CUDA:
        logger.warning("ONNX Runtime found no usable CUDA card, the model runs on %s", running)
    return session


def require_cuda() -> None:
    """Make sure that the ONNX Runtime that is installed can use a card; whether there is one is not asked.

    Raises:
        ModelError: it cannot, or none is installed.
    """
    ort = _onnxruntime()
    if CUDA not in ort.get_available_providers():
        raise ModelError(f"device cuda: onnxruntime {ort.__version__} is built without it; {_GET_CUDA}")


def _onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise ModelError(runtime_problem() or f"ONNX Runtime cannot be loaded: {error}") from error
    return onnxruntime


@cache
def _share_memory() -> None:
    """Make the memory that sessions have in common; a process has it once."""
    import onnxruntime as ort

    place = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    # Grows by what is asked for, not to the next power of two.
    sizes = {"arena_extend_strategy": 1, "max_mem": 0, "initial_chunk_size_bytes": -1}
    arena = ort.OrtArenaCfg({**sizes, "max_dead_bytes_per_chunk": -1})
    ort.create_and_register_allocator(place, arena)


def run_errors() -> tuple[type[Exception], ...]:
    """Return what a session raises where it cannot run with what it is given."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    return (*_session_errors(), state.EPFail)


def _session_errors() -> tuple[type[Exception], ...]:
    """Return what a session raises for a file that it cannot run; the only common base is Exception."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    names = (
        "Fail",
        "InvalidArgument",
        "InvalidGraph",
        "InvalidProtobuf",
        "NotImplemented",
        "RuntimeException",
    )
    return tuple(getattr(state, name) for name in names)
