"""A model's weights file: found without a network, verified before it is read, read without running code."""

from __future__ import annotations

import hashlib
import logging
import os
import pickle
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import huggingface_hub
import open_clip
import torch
from open_clip.factory import load_checkpoint
from safetensors import SafetensorError, safe_open
from torch import nn

from adapters.core.protocol import ModelError
from adapters.files.file_kind import wrong_kind

logger = logging.getLogger(__name__)

# What torch, safetensors and open_clip raise between them for a file that is cut, garbled or another model's.
_UNREADABLE = (
    SafetensorError,
    OSError,
    EOFError,
    RuntimeError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
    StopIteration,
)

PREPROCESS_KEYS = ("mean", "std", "interpolation", "resize_mode")


def stay_offline() -> None:
    """Keep the hub's libraries to the cache on this disk, unless HF_HUB_OFFLINE=0 is in the environment."""
    if "HF_HUB_OFFLINE" not in os.environ:
        huggingface_hub.constants.HF_HUB_OFFLINE = True


def cached_weights(name: str, tag: str) -> tuple[Path, dict[str, Any]]:
    """Return the cached weights of a pretrained tag and how its pictures are preprocessed.

    Raises:
        ModelError: open_clip has no such tag, or its weights are not on this disk.
    """
    config = open_clip.get_pretrained_cfg(name, tag)
    if not config:
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(name)) or "none"
        raise ModelError(f"{name}: open_clip knows no pretrained tag {tag}; its tags: {tags}")
    if bool(config.get("quick_gelu")) != bool(open_clip.get_model_config(name).get("quick_gelu")):
        raise ModelError(f"{name}: {tag} has the other GELU; add or drop -quickgelu in the model's name")
    for file in _cache_candidates(config):
        if file.is_file():
            return file, {key: config[key] for key in PREPROCESS_KEYS if config.get(key) is not None}
    raise ModelError(
        f"{name}: {tag} is not in this machine's hub cache; where there is a network run"
        f" python -c \"import open_clip; open_clip.create_model('{name}', '{tag}')\" and copy the cache here"
    )


def _cache_candidates(config: Mapping[str, Any]) -> Iterator[Path]:
    """Yield where open_clip would have put the weights of a tag, the safest form first."""
    repository, _, file = str(config.get("hf_hub", "")).rpartition("/")
    if repository:
        default = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
        for candidate in (f"{Path(file).stem}.safetensors", file) if file else default:
            found = huggingface_hub.try_to_load_from_cache(repository, candidate)
            if isinstance(found, str):
                yield Path(found)
    if config.get("url"):
        yield Path.home() / ".cache" / "clip" / Path(config["url"]).name


def warn_of_other_preprocess(name: str, preprocess: Mapping[str, Any]) -> None:
    """Log it when all published weights of a model want pictures other than a plain file gets (SigLIP)."""
    tags = open_clip.list_pretrained_tags_by_model(name)
    for config in (open_clip.get_pretrained_cfg(name, tag) for tag in tags):
        if all(config.get(key) in (None, preprocess[key]) for key in PREPROCESS_KEYS):
            return
    if tags:
        logger.warning(
            "%s: a checkpoint file gets open_clip's default preprocessing, its published weights use another;"
            " use pretrained instead if the file is one of them",
            name,
        )


def verified_digest(file: Path, sha256: str | None) -> str:
    """Return ``sha256:...`` of a file, compared with `sha256` where that is given.

    Raises:
        ModelError: the file cannot be read, is no file of weights, or is not the expected one.
    """
    try:
        if (what := wrong_kind(file)) is not None:
            raise ModelError(f"{file}: {what}")
        with file.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"{file}: cannot be read: {error.strerror}") from error
    if sha256 is not None and digest != sha256.removeprefix("sha256:"):
        raise ModelError(f"{file}: has sha256 {digest}, not {sha256}: another or a damaged file")
    return f"sha256:{digest}"


def load_weights(model: nn.Module, name: str, file: Path) -> None:
    """Fill a model from safetensors or from a torch file that holds tensors and plain values only.

    Raises:
        ModelError: the file could run code, is damaged, or holds another model.
    """
    try:
        with warnings.catch_warnings():
            # torch warns of a pickle's protocol before it refuses the pickle.
            warnings.simplefilter("ignore", UserWarning)
            load_checkpoint(model, str(file), strict=True, weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{file}: refused: not a torch file of tensors only, and reading anything else could run code;"
            " save its state_dict as safetensors"
        ) from error
    except _UNREADABLE as error:
        raise ModelError(f"{file}: not weights of {name}, or damaged: {_why(error, file)}") from error
    for parameter, tensor in model.state_dict().items():
        if not torch.isfinite(tensor).all():
            raise ModelError(f"{file}: damaged: {parameter} holds a number that is not finite")


def _why(error: BaseException, file: Path) -> str:
    """Return what is wrong with a file: the library's words, but for those about code, not about the file."""
    held = _held(file)
    about_code = isinstance(error, AttributeError | LookupError | TypeError | StopIteration | ValueError)
    return f"it holds {held}" if about_code or held == "no tensors" else first_words(error)


def _held(file: Path) -> str:
    try:
        if file.suffix == ".safetensors":
            with safe_open(file, framework="np") as tensors:
                names = list(tensors.keys())
        else:
            content = torch.load(file, map_location="cpu", weights_only=True)
            content = content.get("state_dict", content) if isinstance(content, dict) else content
            if not isinstance(content, dict):
                return f"a {type(content).__name__}, not tensors by name"
            names = [name for name, one in content.items() if isinstance(one, torch.Tensor)]
    except (pickle.UnpicklingError, *_UNREADABLE):
        return "something else"
    return f"{len(names)} tensors, {names[0]!r} first" if names else "no tensors"


def first_words(error: BaseException) -> str:
    """Return an error's words on one line of readable length."""
    words = " ".join(str(error).split()) or type(error).__name__
    return words if len(words) <= 200 else f"{words[:197]}..."
