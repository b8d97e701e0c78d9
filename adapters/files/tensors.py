"""Files of safetensors as numpy has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import safetensors
from numpy.typing import NDArray


def read_tensors(path: Path) -> tuple[dict[str, str], dict[str, NDArray[Any]]]:
    """Return the texts in a file's head, and its tensors. Only lengths and the head are checked.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no such file, is cut, or holds a kind of number that numpy does not have.
    """
    try:
        with safetensors.safe_open(path, framework="np") as file:
            head = dict(file.metadata() or {})
            tensors = {name: np.asarray(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
    # The last two are its own for numbers of 8 or 16 bits that only other libraries know.
    except (safetensors.SafetensorError, TypeError, AttributeError) as error:
        raise ValueError(str(error)) from error
    if odd := next((name for name, tensor in tensors.items() if tensor.dtype.kind not in "biuf"), None):
        raise ValueError(f"{odd} holds no real numbers")
    return head, tensors
