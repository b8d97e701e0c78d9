"""The engine for processors of Intel and AMD with bf16: a bundle's towers on OpenVINO, without torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from adapters.bundle.reader import IMAGE, TEXT, graph, read_bundle
from adapters.core.adapter import Adapter
from adapters.core.protocol import Floats, ModelInfo, Tokens, place, require_batch, rows
from adapters.core.tokenizer import ClipTokenizer
from adapters.engines.openvino_tower import OpenVinoTower


class OpenVinoEngine:
    """An `Engine` on OpenVINO. Every call brings all LayerNorms, the source's too: none stays from another.

    `open_openvino` makes one.

    Args:
        image, text: the towers.
        info: what the model is.
        source: the LayerNorms as they were trained.
    """

    def __init__(
        self,
        image: OpenVinoTower,
        text: OpenVinoTower,
        info: ModelInfo,
        source: Adapter,
        tokenizer: ClipTokenizer,
    ) -> None:
        self._image, self._text = image, text
        self._info, self._source, self._tokenizer = info, source, tokenizer

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
        for adapter in adapters:
            adapter.require_shapes_of(self._source)
        return self._image.run(np.asarray(images, np.float32), rows(adapters, self._image.shapes))

    def encode_text(self, tokens: Tokens, adapter: Adapter) -> Floats:
        """See `Engine.encode_text`."""
        adapter.require_shapes_of(self._source)
        return self._text.run(tokens, adapter.tensors)


def open_openvino(
    folder: Path,
    *,
    precision: Literal["fp32", "bf16"] = "fp32",
    sha256: str | None = None,
    threads: int | None = None,
) -> OpenVinoEngine:
    """Verify every file of a bundle and open it on OpenVINO.

    Args:
        folder: the bundle.
        precision: of the image tower.
        sha256: what manifest.json must hash to.
        threads: CPU threads of the model; None leaves it to OpenVINO.

    Raises:
        ModelError: a file is missing, altered or too many; OpenVINO is missing or cannot run the model.
    """
    read = read_bundle(folder, sha256)
    image = OpenVinoTower(
        folder / graph(IMAGE), read.manifest.image_norms, each=True, precision=precision, threads=threads
    )
    text = OpenVinoTower(
        folder / graph(TEXT), read.manifest.text_norms, each=False, precision="fp32", threads=threads
    )
    info = read.info(place("openvino:CPU", precision))
    return OpenVinoEngine(image, text, info, read.source, read.tokenizer)
