"""A backbone on ONNX Runtime."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np

from adapters.core.patches import PatchInfo
from adapters.core.protocol import Floats, ModelError
from adapters.encoders.onnx_session import run_errors


@dataclass(frozen=True, slots=True)
class OutputForm:
    """What a graph gives, and which of it are patches.

    Attributes:
        input: name of its input.
        output: name of its output.
        order: ``places``: (N, h, w, D); ``nchw``: (N, D, h, w); ``tokens``: (N, prefix + h w, D).
        prefix: tokens before those of the patches, such as the class token.
    """

    input: str
    output: str
    order: Literal["places", "nchw", "tokens"]
    prefix: int = 0


class OnnxBackbone:
    """A `PatchExtractor` on ONNX Runtime. Owns a session; calls that meet take turns.

    Args:
        session: of the graph.
        form: of its input and output.
        info: what it is.
        at_once: pictures in one run at most.
    """

    AT_ONCE: Final = 8
    """Pictures in one run: more need memory and save no time."""

    def __init__(self, session: Any, form: OutputForm, info: PatchInfo, at_once: int = AT_ONCE) -> None:
        self._session, self._form, self._info, self._at_once = session, form, info, at_once
        self._turn = threading.Lock()

    @property
    def info(self) -> PatchInfo:
        """What it is."""
        return self._info

    def patches(self, pixels: Floats) -> Floats:
        """Return ``(N, h, w, D)`` float32 features of ``(N, 3, S, S)`` pictures.

        Raises:
            ValueError: pictures of another size.
            ModelError: the runtime cannot run it, such as for want of memory.
        """
        side, shape = self._info.preprocess.size, (*self._info.grid, self._info.channels)
        if pixels.ndim != 4 or pixels.shape[1:] != (3, side, side):
            raise ValueError(f"pictures of shape {pixels.shape}, not (N, 3, {side}, {side})")
        found = np.empty((len(pixels), *shape), np.float32)
        for first in range(0, len(pixels), self._at_once):
            batch = pixels[first : first + self._at_once]
            found[first : first + len(batch)] = self._run(batch)
        return found

    def _run(self, pixels: Floats) -> Floats:
        """Return the features of a few pictures."""
        feeds = {self._form.input: np.ascontiguousarray(pixels, dtype=np.float32)}
        try:
            with self._turn:
                output = self._session.run([self._form.output], feeds)[0]
        except run_errors() as error:
            reason = str(error).splitlines()[0][:200]
            raise ModelError(f"backbone {self._info.name}: the runtime cannot run it: {reason}") from error
        return placed(output, self._form, self._info)


def placed(output: Any, form: OutputForm, info: PatchInfo) -> Floats:
    """Return a graph's output as ``(N, h, w, D)``.

    Raises:
        ModelError: it has another shape or kind of numbers than the backbone says.
    """
    height, width = info.grid
    places, channels = height * width, info.channels
    expected: dict[str, tuple[int, ...]] = {
        "places": (height, width, channels),
        "nchw": (channels, height, width),
        "tokens": (form.prefix + places, channels),
    }
    if output.dtype != np.float32 or output.shape[1:] != expected[form.order]:
        raise ModelError(
            f"backbone {info.name}: output {form.output} is {output.dtype} of shape {output.shape}, not"
            f" float32 of (N, {', '.join(map(str, expected[form.order]))})"
        )
    if form.order == "nchw":
        output = output.transpose(0, 2, 3, 1)
    elif form.order == "tokens":
        output = output[:, form.prefix :].reshape(len(output), height, width, channels)
    features: Floats = output
    return features
