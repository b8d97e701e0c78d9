"""The engine of the line PC: a bundle's towers on ONNX Runtime, without torch."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from adapters.adapter import Adapter
from adapters.engine import Floats, ModelError, ModelInfo, Preprocess, Tokens, encode_in_groups
from adapters.runtime import runtime_problem
from adapters.tokenizer import ClipTokenizer

logger = logging.getLogger(__name__)

CUDA = "CUDAExecutionProvider"
CPU = "CPUExecutionProvider"


class OnnxEngine:
    """An `Engine` on ONNX Runtime. Owns two sessions that never change; calls may even overlap.

    An adapter's LayerNorms are fed with the pictures: they override the file's own numbers for this call,
    so there is nothing to switch, to restore or to lock. `adapters.bundle.open_bundle` makes one.
    """

    def __init__(
        self,
        *,
        image_file: Path,
        text_file: Path,
        name: str,
        weights: str,
        bundle: str,
        embed_dim: int,
        logit_scale: float,
        preprocess: Preprocess,
        tokenizer: ClipTokenizer,
        source: Adapter,
        device: str,
        threads: int | None,
    ) -> None:
        self._tokenizer = tokenizer
        self._source = source
        self._image = _session(image_file, device, threads)
        self._text = _session(text_file, device, threads)
        self._image_norms = [norm.name for norm in self._image.get_overridable_initializers()]
        self._text_norms = [norm.name for norm in self._text.get_overridable_initializers()]
        self._info = ModelInfo(
            name=name,
            weights=weights,
            embed_dim=embed_dim,
            logit_scale=logit_scale,
            context_length=tokenizer.context_length,
            preprocess=preprocess,
            provider=f"onnx:{self._image.get_providers()[0]}",
            bundle=bundle,
        )

    @property
    def info(self) -> ModelInfo:
        """What the model is."""
        return self._info

    @property
    def source(self) -> Adapter:
        """The LayerNorms as they were trained, number 0."""
        return self._source

    def tokenize(self, texts: Sequence[str]) -> Tokens:
        """See `Engine.tokenize`."""
        return self._tokenizer(texts)

    def encode_image(self, images: Floats, adapters: Sequence[Adapter]) -> Floats:
        """See `Engine.encode_image`."""
        return encode_in_groups(images, adapters, self._encode_image, self._info)

    def encode_text(self, tokens: Tokens, adapter: Adapter) -> Floats:
        """See `Engine.encode_text`."""
        features: Floats = self._text.run(None, {"tokens": tokens, **self._norms(self._text_norms, adapter)})[
            0
        ]
        return features

    def _encode_image(self, images: Floats, adapter: Adapter) -> Floats:
        features: Floats = self._image.run(
            None, {"images": images, **self._norms(self._image_norms, adapter)}
        )[0]
        return features

    def _norms(self, names: list[str], adapter: Adapter) -> dict[str, Floats]:
        """Return what overrides a tower's LayerNorms: nothing for the source, which the file holds."""
        if adapter.digest == self._source.digest:
            return {}
        adapter.require_shapes_of(self._source)
        return {name: adapter.tensors[name] for name in names}


def _session(file: Path, device: str, threads: int | None) -> Any:
    try:
        import onnxruntime as ort
    except ImportError as error:
        raise ModelError(runtime_problem() or f"ONNX Runtime cannot be loaded: {error}") from error

    providers: list[Any] = [CPU]
    if device != "cpu" and CUDA in ort.get_available_providers():
        # The CUDA and cuDNN wheels are not on the loader's path; without them this finds the system's.
        ort.preload_dlls()
        # TF32 keeps 10 bits of a float32's 23: too few for the tolerance that a bundle is built to.
        providers.insert(0, (CUDA, {"use_tf32": "0"}))
    options = ort.SessionOptions()
    options.log_severity_level = (
        3  # it warns once for every LayerNorm that can be overridden: that is the plan
    )
    options.intra_op_num_threads = threads or 0
    # Spinning threads take the cores from the cameras and, when the machine is busy, make the model itself
    # two to three times slower.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    errors = _session_errors()
    try:
        session = ort.InferenceSession(str(file), options, providers=providers)
    except errors as error:
        reason = str(error).splitlines()[0][:200]
        raise ModelError(f"{file}: onnxruntime {ort.__version__} cannot run it: {reason}") from error
    running = session.get_providers()[0]
    if device == "cuda" and running != CUDA:
        raise ModelError(
            f"device cuda: ONNX Runtime runs on {running}; install 'mekiki[gpu]', check the driver"
        )
    if len(providers) > 1 and running != CUDA:
        logger.warning("ONNX Runtime found no usable CUDA card, the model runs on %s", running)
    return session


def _session_errors() -> tuple[type[Exception], ...]:
    """Return what a session raises for a file that it cannot run; the only common base is Exception."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    names = ("Fail", "InvalidGraph", "InvalidProtobuf", "NotImplemented", "RuntimeException")
    return tuple(getattr(state, name) for name in names)
