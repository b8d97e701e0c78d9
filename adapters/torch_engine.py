"""The reference engine: open_clip on torch. What every bundle is checked against; for CUDA and research."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import torch
from torch import Tensor

from adapters.adapter import Adapter
from adapters.clip import Clip
from adapters.engine import Floats, ModelInfo, Tokens, encode_in_groups


class TorchEngine:
    """An `Engine` on torch. With the source adapter it gives what open_clip gives, to the last bit.

    Owns nothing that changes, but torch lends the module other LayerNorms for the time of a call: a lock
    makes calls that meet take turns.
    """

    def __init__(self, clip: Clip, threads: int | None = None) -> None:
        self.clip = clip
        self._turn = threading.Lock()
        if threads is not None:
            torch.set_num_threads(threads)

    @property
    def info(self) -> ModelInfo:
        """What the model is."""
        return self.clip.info

    @property
    def source(self) -> Adapter:
        """The LayerNorms as they were trained, number 0."""
        return self.clip.source

    def tokenize(self, texts: Sequence[str]) -> Tokens:
        """See `Engine.tokenize`."""
        return self.clip.tokenizer(texts)

    def encode_image(self, images: Floats, adapters: Sequence[Adapter]) -> Floats:
        """See `Engine.encode_image`."""
        return encode_in_groups(images, adapters, self._encode_image, self.info)

    def encode_text(self, tokens: Tokens, adapter: Adapter) -> Floats:
        """See `Engine.encode_text`."""
        with self._turn, torch.inference_mode():
            moved = torch.tensor(tokens, device=self.clip.device)
            return _floats(self.clip.encode_text(moved, self._norms(adapter)))

    def _encode_image(self, images: Floats, adapter: Adapter) -> Floats:
        with self._turn, torch.inference_mode():
            moved = torch.tensor(images, device=self.clip.device)
            return _floats(self.clip.encode_image(moved, self._norms(adapter)))

    def _norms(self, adapter: Adapter) -> dict[str, Tensor]:
        """Return the adapter as tensors; nothing for the source, whose numbers are in the model."""
        if adapter.digest == self.source.digest:
            return {}
        adapter.require_shapes_of(self.source)
        return {name: torch.tensor(array, device=self.clip.device) for name, array in adapter.tensors.items()}


def _floats(features: Tensor) -> Floats:
    array: Floats = features.float().cpu().numpy()
    return array
