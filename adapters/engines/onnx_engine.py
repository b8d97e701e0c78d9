"""The engine of the line PC: a bundle's towers on ONNX Runtime, without torch."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from adapters.core.adapter import Adapter
from adapters.core.patches import PatchInfo, model_patches
from adapters.core.protocol import Floats, ModelError, ModelInfo, Tokens, require_batch, rows
from adapters.core.tokenizer import ClipTokenizer
from adapters.encoders.onnx_encoders import FEATURES

PATCHES, LAYERS = "patches", "layers"
"""The second output of a tower with patches, and where its file notes the channels of each layer."""


class OnnxEngine:
    """An `Engine` and `TokenEngine` on ONNX Runtime. Owns sessions that never change; calls may overlap.

    An adapter's LayerNorms are fed with the pictures: they override the file's own numbers for this call,
    so there is nothing to switch, to restore or to lock. Where the pictures of a batch have different
    adapters, each brings its own row of every LayerNorm and all go through the tower together.
    `adapters.engines.open_bundle.open_bundle` makes one.

    Args:
        image, text: sessions of the towers.
        info: what the model is.
        source: the LayerNorms that stand in the files.
        alone: every picture goes through the tower alone, because it would change its neighbours' answers.
        patched: opens the image tower that has patches; called once, when they are first asked for.
    """

    def __init__(
        self,
        image: Any,
        text: Any,
        info: ModelInfo,
        source: Adapter,
        tokenizer: ClipTokenizer,
        *,
        alone: bool = False,
        patched: Callable[[], Any] | None = None,
    ) -> None:
        self._image, self._text = image, text
        self._info, self._source, self._tokenizer = info, source, tokenizer
        self._alone, self._open_patched = alone, patched
        self._patched: Any = None
        self._opening = threading.Lock()
        # (1 or B, 1, ..., C): where its rows stand, and one for each picture or one for all.
        self._shapes = {norm.name: norm.shape for norm in image.get_overridable_initializers()}
        self._text_norms = [norm.name for norm in text.get_overridable_initializers()]

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
        require_batch(images, adapters, self._info)
        if not len(images):
            return np.empty((0, self._info.embed_dim), np.float32)
        size = 1 if self._alone else len(images)
        parts = [
            self._encoded(images[first : first + size], adapters[first : first + size])
            for first in range(0, len(images), size)
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def patch_info(self) -> PatchInfo:
        """See `TokenEngine.patch_info`."""
        session = self._with_patches()
        height, width, channels = next(one for one in session.get_outputs() if one.name == PATCHES).shape[1:]
        noted = session.get_modelmeta().custom_metadata_map.get(LAYERS, "")
        layers = tuple(int(one) for one in noted.split(",") if one.isdecimal())
        if sum(layers) != channels:
            raise ModelError(f"{self._info.name}: its patches are not of this release: build it again")
        return model_patches(self._info, (height, width), layers)

    def encode_with_patches(self, images: Floats, adapters: Sequence[Adapter]) -> tuple[Floats, Floats]:
        """See `TokenEngine.encode_with_patches`."""
        require_batch(images, adapters, self._info)
        session = self._with_patches()
        if not len(images):
            info = self.patch_info()
            return self.encode_image(images, adapters), np.empty((0, *info.grid, info.channels), np.float32)
        features, patches = session.run([FEATURES, PATCHES], self._feeds(images, adapters))
        return features, patches

    def _with_patches(self) -> Any:
        with self._opening:
            if self._patched is None:
                if self._open_patched is None:
                    raise ModelError(f"{self._info.name}: was opened without patches")
                self._patched = self._open_patched()
            return self._patched

    def encode_text(self, tokens: Tokens, adapter: Adapter) -> Floats:
        """See `Engine.encode_text`."""
        feeds: dict[str, Any] = {"tokens": tokens}
        if adapter.digest != self._source.digest:
            adapter.require_shapes_of(self._source)
            feeds |= {name: adapter.tensors[name] for name in self._text_norms}
        features: Floats = self._text.run(None, feeds)[0]
        return features

    def _encoded(self, images: Floats, adapters: Sequence[Adapter]) -> Floats:
        features: Floats = self._image.run(None, self._feeds(images, adapters))[0]
        return features

    def _feeds(self, images: Floats, adapters: Sequence[Adapter]) -> dict[str, Any]:
        feeds: dict[str, Any] = {"images": np.ascontiguousarray(images, dtype=np.float32)}
        # The source's own numbers are in the file.
        if {adapter.digest for adapter in adapters} != {self._source.digest}:
            for adapter in adapters:
                adapter.require_shapes_of(self._source)
            feeds |= rows(adapters, self._shapes)
        return feeds
