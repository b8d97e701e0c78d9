"""The engine of an agent whose stations have no words: no model is loaded, and what compares is named."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NoReturn

from adapters.core.adapter import Adapter
from adapters.core.patches import PatchExtractor
from adapters.core.protocol import Floats, ModelInfo, PromptError, Tokens

NO_MODEL: Final = (
    "no station asked the model by words when this was started, so that none is loaded: start it again"
)


class WordlessEngine:
    """An `Engine` that encodes nothing. Its info is the backbone's, for whoever asks what inspects.

    Args:
        backbone: what parts are compared by.
    """

    def __init__(self, backbone: PatchExtractor) -> None:
        one = backbone.info
        self._info = ModelInfo(
            name=one.name,
            weights=one.digest,
            embed_dim=one.channels,
            logit_scale=1.0,
            context_length=0,
            preprocess=one.preprocess,
            provider="backbone",
        )
        self._source = Adapter({})

    @property
    def info(self) -> ModelInfo:
        """What compares parts, in the words of a model."""
        return self._info

    @property
    def source(self) -> Adapter:
        """No LayerNorms at all."""
        return self._source

    def tokenize(self, texts: Sequence[str]) -> Tokens:
        """Refuse.

        Raises:
            PromptError: always.
        """
        self._refuse()

    def encode_image(self, images: Floats, adapters: Sequence[Adapter]) -> Floats:
        """Refuse.

        Raises:
            PromptError: always.
        """
        self._refuse()

    def encode_text(self, tokens: Tokens, adapter: Adapter) -> Floats:
        """Refuse.

        Raises:
            PromptError: always.
        """
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise PromptError(NO_MODEL)
