"""To which family an open_clip architecture belongs, by its config: kind of image tower and kind of text tower."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_TIMM = {
    "convnext": "ConvNeXt (timm)",
    "eva": "EVA (timm)",
    "swin": "Swin (timm)",
    "vitamin": "ViTamin (timm)",
    "fastvit": "FastViT (timm)",
    "vit_pe_core": "Perception Encoder (timm)",
    "vit_relpos": "ViT with relative positions (timm)",
}
"""By how timm's name begins, the more special ones before the others."""


def family(config: Mapping[str, Any]) -> str:
    """Return the name of a family from one of open_clip's model configs, such as "ViT, text CLIP"."""
    image = image_family(config["vision_cfg"])
    if config.get("multimodal_cfg"):
        image = f"CoCa {image}"
    if config.get("quick_gelu"):
        image = f"{image} quickgelu"
    return f"{image}, text {text_family(config['text_cfg'])}"


def image_family(config: Mapping[str, Any]) -> str:
    """Return the kind of an image tower."""
    name = str(config.get("timm_model_name") or "")
    if not name:
        return _own_image_family(config)
    for beginning, kind in _TIMM.items():
        if name.startswith(beginning):
            return kind
    if name.startswith("vit"):
        means = re.search("siglip|mci|gap", name)
        return f"ViT {means.group()} (timm)" if means else "ViT (timm)"
    return f"{name.partition('_')[0]} (timm)"


def _own_image_family(config: Mapping[str, Any]) -> str:
    if isinstance(config.get("layers"), list):
        return "ResNet"
    return "ViT" if config.get("pool_type", "tok") == "tok" else f"ViT pooled by {config['pool_type']}"


def text_family(config: Mapping[str, Any]) -> str:
    """Return the kind of a text tower, and of its tokenizer where that is not CLIP's."""
    model = config.get("hf_model_name")
    if model:
        kind = re.sub("-(base|small|large|xl|xxl|distilled|[0-9.]+[MB]).*", "", str(model).rpartition("/")[2])
        return f"Hugging Face {kind}"
    tokenizer = str(config.get("hf_tokenizer_name") or "").rpartition("/")[2]
    if not tokenizer:
        return "CLIP"
    return f"CLIP with tokenizer {_tokenizer_kind(tokenizer)}"


def _tokenizer_kind(tokenizer: str) -> str:
    for kind in ("SigLIP2", "SigLIP-i18n", "SigLIP"):
        if kind.lower() in tokenizer.lower():
            return kind
    return tokenizer
