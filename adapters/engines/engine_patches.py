"""The model that judges by words as a backbone: its patches, seen with the source adapter."""

from __future__ import annotations

from adapters.core.patches import PatchExtractor, PatchInfo, TokenEngine
from adapters.core.protocol import Engine, Floats, ModelError


class EnginePatches:
    """A `PatchExtractor` of an engine's patches.

    Args:
        engine: the model.
        tokens: the same, as what gives patches.

    Raises:
        ModelError: it has none.
    """

    def __init__(self, engine: Engine, tokens: TokenEngine) -> None:
        self._source, self._tokens, self._info = engine.source, tokens, tokens.patch_info()

    @property
    def info(self) -> PatchInfo:
        """What it is."""
        return self._info

    def patches(self, pixels: Floats) -> Floats:
        """See `PatchExtractor.patches`."""
        return self._tokens.encode_with_patches(pixels, [self._source] * len(pixels))[1]


def patches_of(engine: Engine) -> PatchExtractor:
    """Return what makes the features of ``features: clip``.

    Raises:
        ModelError: the engine or its model gives no patches; the message says what to do.
    """
    if not isinstance(engine, TokenEngine):
        where = engine.info.provider.partition(":")[0]
        raise ModelError(
            f"features: clip: {engine.info.name} on {where} gives no patches: set engine: onnx or torch, or"
            " features: backbone"
        )
    return EnginePatches(engine, engine)
