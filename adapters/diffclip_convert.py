"""A DiffCLIP checkpoint as a training run pickled it, made into safetensors that say `lambda_init`.

The one place where a pickle with more than tensors in it is read, by torch's restricted reader and a list of
what may be in it (`_IGNORED`). The agent itself reads what comes out of here and never a pickle.
"""

from __future__ import annotations

import pickle
import re
import struct
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor
from torch.serialization import safe_globals

from adapters.architecture import fresh_model
from adapters.checkpoint import first_words, verified_digest
from adapters.diffclip import METADATA_KEY, MODEL_NAME, LambdaInit, differentiate
from adapters.durable import write_durably
from adapters.engine import ModelError

SOURCE_KEY = "source"
"""Metadata of the file that is written: digest of the checkpoint it was made from."""

_IGNORED = (
    "argparse.Namespace",  # the run's options, under "args"
    "pathlib.PosixPath",  # a folder among them
    "pathlib._local.PosixPath",  # as Python 3.13 calls it
    "numpy.dtype",  # with the next ones a metric such as "best_acc1" that nobody turned into a float
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",  # as numpy 2 calls it
)
"""What a training checkpoint holds beside what torch's reader makes by itself: tensors, numbers, strings,
lists and dicts. No weights are in it, so none of it is made (`_Ignored`); numpy's dtype, for one, reads its
state in C without looking, and a changed byte there ends the process.
"""

# What torch's reader raises for a file that is cut or garbled.
_UNREADABLE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
    zipfile.BadZipFile,
)

PROJECTION = "visual.head.proj.weight"
"""Of the image tower. The authors call it image_projection and multiply from its other side."""

_RENAMED = (
    ("visual.trunk.", "visual."),
    (".attn.proj.", ".attn.out_proj."),
    (".attn.sub_norm.", ".attn.diff_norm."),
)
"""Parts of our names and what they are in the authors'; the other names are alike."""


class _Ignored:
    """Stands in a pickle where a thing of `_IGNORED` would be made, and keeps nothing of it."""

    def __new__(cls, *_: object) -> _Ignored:
        return super().__new__(cls)

    def __setstate__(self, state: object) -> None:
        """Forget it."""


@dataclass(frozen=True, slots=True)
class Converted:
    """What came of a conversion.

    Attributes:
        source: ``sha256:...`` of the checkpoint.
        numbers: how many parameters the file holds.
    """

    file: Path
    source: str
    lambda_init: LambdaInit
    tensors: int
    numbers: int


def convert(
    checkpoint: Path,
    out: Path,
    *,
    lambda_init: LambdaInit,
    model: str = MODEL_NAME,
    overwrite: bool = False,
) -> Converted:
    """Convert a checkpoint; afterwards `out` is complete, or as it was before.

    Args:
        checkpoint: torch file with a ``state_dict`` under the authors' names, with or without ``module.``.
        out: safetensors file to make.
        lambda_init: what the model was trained with; no checkpoint says it.
        model: name of the architecture as open_clip knows it.
        overwrite: replace `out` if it is there.

    Raises:
        ModelError: the checkpoint could run code, is damaged or of another model, or `out` cannot be written.
    """
    if out.suffix != ".safetensors":
        raise ModelError(f"{out}: the name of what is written must end in .safetensors")
    if out.exists() and not overwrite:
        raise ModelError(f"{out}: exists; --force replaces it")
    source = verified_digest(checkpoint, None)
    theirs = read_state(checkpoint)
    fresh = fresh_model(model)
    differentiate(fresh, lambda_init)
    ours = renamed(theirs, fresh.state_dict(), f"{checkpoint}: not {model}")
    metadata = {METADATA_KEY: str(lambda_init), SOURCE_KEY: source}
    _write(out, safetensors.torch.save(ours, metadata))
    numbers = sum(tensor.numel() for tensor in ours.values())
    return Converted(out, source, lambda_init, len(ours), numbers)


def read_state(checkpoint: Path) -> dict[str, Tensor]:
    """Return the ``state_dict`` of a training checkpoint, by the authors' names without ``module.``.

    Raises:
        ModelError: there is something in the file that is not allowed, or no ``state_dict``.
    """
    try:
        with safe_globals([(_Ignored, name) for name in _IGNORED]), warnings.catch_warnings():
            # torch warns of a pickle's protocol before it refuses the pickle.
            warnings.simplefilter("ignore", UserWarning)
            # Mapped, the optimiser's two thirds of the file are never read.
            content = torch.load(
                checkpoint, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(checkpoint)
            )
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{checkpoint}: refused, and nothing in it was run: it holds {_culprit(error)}; where you trust"
            " it, load it and save its state_dict alone with torch.save, then convert that"
        ) from error
    except _UNREADABLE as error:
        raise ModelError(f"{checkpoint}: not a torch checkpoint, or damaged: {first_words(error)}") from error
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not state:
        raise ModelError(f"{checkpoint}: holds no state_dict")
    for name, tensor in state.items():
        ordinary = isinstance(tensor, Tensor) and tensor.layout is torch.strided and not tensor.is_meta
        if not isinstance(name, str) or not ordinary:
            raise ModelError(
                f"{checkpoint}: {name!r} in its state_dict is not an ordinary tensor with a name"
            )
    return {name.removeprefix("module."): tensor.detach() for name, tensor in state.items()}


def renamed(theirs: dict[str, Tensor], fresh: dict[str, Tensor], trouble: str) -> dict[str, Tensor]:
    """Return the authors' tensors under our names, each checked.

    Args:
        theirs: tensors by the authors' names.
        fresh: tensors by our names, for their shapes.
        trouble: how the message begins.

    Raises:
        ModelError: a tensor is missing, too many, of another shape or not finite; names the first one.
    """
    left = dict(theirs)
    ours = {}
    for name, like in fresh.items():
        sources = _their_names(name)
        missing = next((source for source in sources if source not in left), None)
        if missing is not None:
            raise ModelError(f"{trouble}: has no {missing}")
        parts = [left.pop(source) for source in sources]
        turned = name == PROJECTION
        likes = [like.T] if turned else like.chunk(3) if len(sources) == 3 else [like]
        for source, part, wanted in zip(sources, parts, likes, strict=True):
            if part.shape != wanted.shape or not part.is_floating_point():
                found = f"{tuple(part.shape)} of {part.dtype}"
                raise ModelError(f"{trouble}: {source} is {found}, not {tuple(wanted.shape)} of floats")
            if not part.isfinite().all():
                raise ModelError(f"{trouble}, or damaged: {source} holds a number that is not finite")
        whole = parts[0].T if turned else torch.cat(parts) if len(parts) > 1 else parts[0]
        ours[name] = whole.to(like.dtype).contiguous()
    if left:
        raise ModelError(f"{trouble}: does not know {next(iter(left))}")
    return ours


def _their_names(name: str) -> list[str]:
    """Return the names of the authors' tensors that ours is made of."""
    if name == PROJECTION:
        return ["image_projection"]
    for mine, their in _RENAMED:
        name = name.replace(mine, their)
    if ".attn.qkv." in name:
        return [name.replace(".qkv.", f".{part}_proj.") for part in "qkv"]
    return [name]


def _culprit(error: pickle.UnpicklingError) -> str:
    """Return the type that torch's reader stopped at, from its message: nothing else says it."""
    found = re.search(r"GLOBAL ([\w.]+)|<class '([\w.]+)'>", str(error))
    if found is not None:
        return found[1] or found[2]
    reason = str(error).rpartition("WeightsUnpickler error: ")[2].partition("\n")[0]
    return f"a pickle that is no checkpoint ({reason[:100]})"


def _write(file: Path, content: bytes) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_durably(file, content)
    except OSError as error:
        raise ModelError(f"{file}: cannot be written: {error.strerror}") from error
