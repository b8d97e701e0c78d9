"""Which backbone a config means, opened once for all stations."""

from __future__ import annotations

from pathlib import Path

from adapters.core.patches import PatchExtractor


def open_backbone(
    name: str, cache: Path, *, device: str = "auto", threads: int | None = None
) -> PatchExtractor:
    """Open a backbone.

    Args:
        name: ``backbone`` for the one of the profile (EfficientNet-Lite0), or the folder of an ONNX file with
            its manifest.
        cache: folder where graphs that are made once are kept; made if it is not there.
        device: ``auto``, ``cpu`` or ``cuda``.
        threads: CPU threads; None leaves it to the runtime.

    Raises:
        ModelError: a file is missing, has another hash, is damaged, or cannot be run here.
    """
    raise NotImplementedError
