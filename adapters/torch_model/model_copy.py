"""A second module of the same tensors, so that parts of it can be others."""

from __future__ import annotations

import copy
from itertools import chain
from typing import TypeVar

from torch import nn

Module = TypeVar("Module", bound=nn.Module)


def same_tensors(module: Module) -> Module:
    """Return a copy of a module and all its parts; parameters and buffers are the original's own."""
    tensors = chain(module.parameters(), module.buffers())
    return copy.deepcopy(module, {id(tensor): tensor for tensor in tensors})
