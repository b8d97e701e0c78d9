"""An open_clip architecture by its name: what it consists of, before any weights are read."""

from __future__ import annotations

import contextlib
import difflib
import logging
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import Any

import huggingface_hub
import open_clip
import torch
from torch import nn

from adapters import diffclip, line_tower
from adapters.checkpoint import first_words, stay_offline
from adapters.engine import ModelError, Preprocess

FILL_THE_CACHE = (
    'where there is a network run python -c "import open_clip; open_clip.create_model({name!r},'
    ' pretrained_text=False); open_clip.get_tokenizer({name!r})" and copy {cache} here'
)
"""How to get what comes from the Hugging Face hub; the folder of its cache is the same on both machines."""


def fresh_model(name: str) -> Any:
    """Return open_clip's module of a model that it or we know, with random weights.

    Raises:
        ModelError: nobody knows the name, or the model cannot be built or adapted here.
    """
    require_known(name)
    return build_model(name, preprocess_overrides(name))


def sketch(name: str) -> Any:
    """Return `fresh_model` without numbers, on torch's meta device: of any size it takes no memory.

    Raises:
        ModelError: as for `fresh_model`, or no bundle can be made of such a model.
    """
    require_known(name)
    with torch.device("meta"):
        model = build_model(name, preprocess_overrides(name), device="meta")
    require_norms(name, norm_names(model))
    preprocess_of(name, open_clip.get_model_preprocess_cfg(model))
    return model


def require_known(name: str) -> None:
    """Make our own models known to open_clip, and refuse a name that it does not know then.

    Raises:
        ModelError: with the most similar name.
    """
    stay_offline()
    line_tower.register()
    diffclip.register()
    if name not in open_clip.list_models():
        close = difflib.get_close_matches(name, open_clip.list_models(), n=1, cutoff=0.0)
        raise ModelError(f"{name}: open_clip knows no such model; did you mean {close[0]}?")


def preprocess_overrides(name: str) -> dict[str, Any]:
    """Return what pictures of our own models need beyond open_clip's defaults."""
    return line_tower.preprocess_overrides(name) | diffclip.preprocess_overrides(name)


def build_model(name: str, preprocess: dict[str, Any], device: str = "cpu") -> Any:
    """Return open_clip's module of a known model, with random weights.

    Raises:
        ModelError: it cannot be built on this machine, or has a BatchNorm.
    """
    try:
        with _without_open_clips_log():
            model = open_clip.create_model(
                name,
                load_weights=False,
                pretrained_text=False,
                force_preprocess_cfg=preprocess,
                device=device,
            )
    # Whatever open_clip, timm and transformers raise between them: a name in their configs is at fault.
    except Exception as error:
        raise ModelError(_why_not_built(name, error)) from error
    for module_name, module in model.named_modules():
        # By name as well: frozen and fused variants are classes of their own.
        if isinstance(module, nn.modules.batchnorm._BatchNorm) or "BatchNorm" in type(module).__name__:
            raise ModelError(
                f"{name}: {module_name} is a BatchNorm: it carries statistics of the training pictures that"
                " adapting cannot move; take a model with LayerNorm, such as ViT-B-32"
            )
    return model


def norm_names(model: nn.Module) -> list[str]:
    """Return the names of all gains and biases of LayerNorms that an encoder uses, in the module's order."""
    return [
        f"{module_name}.{name}"
        for module_name, module in model.named_modules()
        # CoCa's decoder writes captions: no feature comes from it.
        if isinstance(module, nn.LayerNorm) and not module_name.startswith("text_decoder.")
        for name, _ in module.named_parameters(recurse=False)
    ]


def require_norms(name: str, norms: list[str]) -> None:
    """Refuse a model in which there is nothing to adapt.

    Raises:
        ModelError: a tower has no LayerNorm.
    """
    in_image = [norm.startswith("visual.") for norm in norms]
    for tower, present in (("image", any(in_image)), ("text", not all(in_image))):
        if not present:
            raise ModelError(
                f"{name}: its {tower} tower has no LayerNorm with gain and bias: there is nothing to adapt;"
                " take a model with LayerNorm in both towers, such as ViT-B-32"
            )


def preprocess_of(name: str, config: Mapping[str, Any]) -> Preprocess:
    """Return what a model's pictures have to be, from open_clip's words for it.

    Raises:
        ModelError: they are not square.
    """
    size = config["size"]
    height, width = (size, size) if isinstance(size, int) else size
    if height != width:
        raise ModelError(
            f"{name}: takes pictures of {width}x{height}; only square ones are supported;"
            " take a model with square pictures, such as ViT-B-32"
        )
    return Preprocess(
        size=int(height),
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        interpolation=config["interpolation"],
        resize_mode=config["resize_mode"],
        fill=int(config["fill_color"]),
    )


def fill_the_cache(name: str) -> str:
    """Return how a model's files of the Hugging Face hub come to this machine."""
    return FILL_THE_CACHE.format(name=name, cache=huggingface_hub.constants.HF_HUB_CACHE)


def _why_not_built(name: str, error: Exception) -> str:
    tower = (open_clip.get_model_config(name) or {}).get("text_cfg", {}).get("hf_model_name")
    if not tower:
        return f"{name}: cannot be built: {first_words(error)}; take another model"
    if find_spec("transformers") is None:
        return f"{name}: its text tower {tower} needs the package transformers: pip install transformers"
    if isinstance(error, OSError):
        return (
            f"{name}: the configuration of its text tower {tower} is not in this machine's hub cache;"
            f" {fill_the_cache(name)}"
        )
    return f"{name}: its text tower {tower} cannot be built: {first_words(error)}; take another model"


@contextlib.contextmanager
def _without_open_clips_log() -> Iterator[None]:
    """Hold back what open_clip tells the root logger: "initialized randomly", before weights are loaded."""
    root = logging.getLogger()
    silence = logging.NullHandler()
    hold = logging.Filter("nobody")
    # With no handler at all the first logging.info() would install one for the whole process.
    root.addHandler(silence)
    root.addFilter(hold)
    try:
        yield
    finally:
        root.removeFilter(hold)
        root.removeHandler(silence)
