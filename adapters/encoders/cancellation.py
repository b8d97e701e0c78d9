"""Engine and towers that let a thread go which is to end: long work ends at its next call, not at its end."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from adapters.core.adapter import Adapter
from adapters.core.protocol import Engine, Floats, ModelInfo, Tokens
from adapters.encoders.protocol import Encoded, Encoders


class Cancelled(Exception):
    """What is being computed here is not wanted any more: it is worth nothing and can be left."""


class CancellableEngine:
    """An `Engine` that raises `Cancelled` instead of answering once it is asked to.

    Args:
        engine: answers.
        halt: whether to end; asked before each call, in the thread that calls.
    """

    def __init__(self, engine: Engine, halt: Callable[[], bool]) -> None:
        self._engine = engine
        self._halt = halt

    @property
    def info(self) -> ModelInfo:
        """What the model is."""
        return self._engine.info

    @property
    def source(self) -> Adapter:
        """The LayerNorms as they were trained, number 0."""
        return self._engine.source

    def tokenize(self, texts: Sequence[str]) -> Tokens:
        """See `Engine.tokenize`."""
        return self._engine.tokenize(texts)

    def encode_image(self, images: Floats, adapters: Sequence[Adapter]) -> Floats:
        """See `Engine.encode_image`."""
        self._go_on()
        return self._engine.encode_image(images, adapters)

    def encode_text(self, tokens: Tokens, adapter: Adapter) -> Floats:
        """See `Engine.encode_text`."""
        self._go_on()
        return self._engine.encode_text(tokens, adapter)

    def _go_on(self) -> None:
        if self._halt():
            raise Cancelled


class CancellableEncoders:
    """`Encoders` that raise `Cancelled` instead of encoding once they are asked to.

    Args:
        towers: encode.
        halt: whether to end; asked before each call, in the thread that calls.
    """

    def __init__(self, encoders: Encoders, halt: Callable[[], bool]) -> None:
        self._encoders = encoders
        self._halt = halt

    @property
    def info(self) -> ModelInfo:
        """What the model is."""
        return self._encoders.info

    @property
    def source(self) -> Adapter:
        """The LayerNorms as they were trained, number 0."""
        return self._encoders.source

    def encode(self, vector: Floats, images: Floats, tokens: Tokens) -> Encoded:
        """See `Encoders.encode`; the way back ends here too."""
        self._go_on()
        encoded = self._encoders.encode(vector, images, tokens)

        def backward(by_images: Floats, by_texts: Floats) -> Floats:
            self._go_on()
            return encoded.backward(by_images, by_texts)

        return Encoded(encoded.images, encoded.texts, backward)

    def _go_on(self) -> None:
        if self._halt():
            raise Cancelled
