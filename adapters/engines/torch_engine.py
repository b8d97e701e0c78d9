"""The reference engine: open_clip on torch. What every bundle is checked against; for CUDA and research."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from adapters.core.adapter import Adapter
from adapters.core.patches import PatchInfo, model_patches
from adapters.core.protocol import Floats, ModelInfo, Precision, Tokens, place, require_batch
from adapters.torch_model.clip import Clip
from adapters.torch_model.lowered_clip import lowered
from adapters.torch_model.patch_tokens import PatchTower

_DTYPES: dict[Precision, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}


class TorchEngine:
    """An `Engine` and `TokenEngine` on torch. In fp32 the source adapter gives open_clip's own features.

    Owns nothing that changes; calls that meet take turns, see `Clip.turn`.

    Args:
        clip: the model, fp32.
        threads: CPU threads of all of torch; None leaves them as they are.
        precision: fp32, or what weights and pictures are cast to.
    """

    def __init__(self, clip: Clip, threads: int | None = None, precision: Precision = "fp32") -> None:
        self._dtype = _DTYPES.get(precision, torch.float32)
        self._info = replace(clip.info, provider=place(clip.info.provider, precision))
        self.clip = clip if self._dtype == torch.float32 else lowered(clip, self._dtype)
        if threads is not None:
            torch.set_num_threads(threads)

    @property
    def info(self) -> ModelInfo:
        """What the model is."""
        return self._info

    @property
    def source(self) -> Adapter:
        """The LayerNorms as they were trained, number 0."""
        return self.clip.source

    def tokenize(self, texts: Sequence[str]) -> Tokens:
        """See `Engine.tokenize`."""
        return self.clip.tokenizer(texts)

    def encode_image(self, images: Floats, adapters: Sequence[Adapter]) -> Floats:
        """See `Engine.encode_image`."""
        require_batch(images, adapters, self.info)
        if not len(images):
            return np.empty((0, self.info.embed_dim), np.float32)
        with self.clip.turn, torch.inference_mode():
            moved = torch.tensor(images, device=self.clip.device, dtype=self._dtype)
            return _floats(self.clip.encode_image(moved, self._rows(adapters)))

    def patch_info(self) -> PatchInfo:
        """See `TokenEngine.patch_info`."""
        side = self.info.preprocess.size
        with self.clip.turn, torch.inference_mode():
            example = torch.zeros(1, 3, side, side, device=self.clip.device, dtype=self._dtype)
            layers = PatchTower(self.clip.model, self.clip.taps).layers(example)
        height, width = layers[len(layers) // 2].shape[-2:]
        return model_patches(self._info, (height, width), tuple(layer.shape[1] for layer in layers))

    def encode_with_patches(self, images: Floats, adapters: Sequence[Adapter]) -> tuple[Floats, Floats]:
        """See `TokenEngine.encode_with_patches`."""
        require_batch(images, adapters, self.info)
        if not len(images):
            info = self.patch_info()
            return self.encode_image(images, adapters), np.empty((0, *info.grid, info.channels), np.float32)
        with self.clip.turn, torch.inference_mode():
            moved = torch.tensor(images, device=self.clip.device, dtype=self._dtype)
            features, patches = self.clip.encode_with_patches(moved, self._rows(adapters))
            return _floats(features), _floats(patches)

    def encode_text(self, tokens: Tokens, adapter: Adapter) -> Floats:
        """See `Engine.encode_text`."""
        with self.clip.turn, torch.inference_mode():
            moved = torch.tensor(tokens, device=self.clip.device)
            return _floats(self.clip.encode_text(moved, self._norms(adapter)))

    def _rows(self, adapters: Sequence[Adapter]) -> dict[str, Tensor]:
        """Return one row of every LayerNorm of the image tower for each picture, or one for all."""
        if len({adapter.digest for adapter in adapters}) == 1:
            return self._norms(adapters[0])
        for adapter in adapters:
            adapter.require_shapes_of(self.source)
        return {
            name: torch.from_numpy(np.stack([one.tensors[name] for one in adapters])).to(self.clip.device)
            for name in self.clip.norm_names("image")
        }

    def _norms(self, adapter: Adapter) -> dict[str, Tensor]:
        """Return the adapter as tensors; nothing for the source, whose numbers are in the model."""
        if adapter.digest == self.source.digest:
            return {}
        adapter.require_shapes_of(self.source)
        return {name: torch.tensor(array, device=self.clip.device) for name, array in adapter.tensors.items()}


def _floats(features: Tensor) -> Floats:
    array: Floats = features.float().cpu().numpy()
    return array
