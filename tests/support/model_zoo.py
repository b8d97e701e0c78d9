"""Small models of open_clip's families, with random weights: what the tests of `mekiki model build` name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

VISION = {"image_size": 32, "patch_size": 8, "width": 32, "head_width": 16, "layers": 1}
TEXT = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}


def _timm(name: str, pool: str = "", proj: str = "linear") -> dict[str, Any]:
    return {
        "timm_model_name": name,
        "timm_model_pretrained": False,
        "timm_pool": pool,
        "timm_proj": proj,
        "image_size": 160,
    }


def _model(vision: dict[str, Any] = VISION, **text: Any) -> dict[str, Any]:
    return {"embed_dim": 16, "custom_text": True, "vision_cfg": vision, "text_cfg": TEXT | text}


POOLED = {"attentional_pool": True, "attn_pooler_heads": 2, "attn_pooler_queries": 8, "output_tokens": True}
COCA: dict[str, Any] = {
    **_model(VISION | POOLED, context_length=76, embed_cls=True, output_tokens=True),
    "multimodal_cfg": {"context_length": 76, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}

ZOO: dict[str, dict[str, Any]] = {
    "zoo-coca": COCA,
    "zoo-convnext": _model(_timm("test_convnext")),
    "zoo-timm-vit": _model(_timm("test_vit")),
    "zoo-short": _model(context_length=16),
    "zoo-norm-act": _model(_timm("test_efficientnet_ln")),
    "zoo-oblong": _model({**VISION, "image_size": [32, 48]}),
    "zoo-no-norm": _model(_timm("test_nfnet")),
    "zoo-no-room": _model(context_length=2),
    "zoo-broken": _model({**VISION, "block_type": "custom", "scaled_cosine_attn": True}),
    "zoo-nobody": _model(_timm("nobody_knows_it")),
    "zoo-hugging": {
        **_model(),
        "text_cfg": {"hf_model_name": "roberta-base", "hf_tokenizer_name": "roberta-base"},
    },
    "zoo-tokenizer": _model(hf_tokenizer_name="timm/ViT-B-16-SigLIP"),
    "zoo-captions": {
        **COCA,
        "embed_dim": 32,
        "vision_cfg": VISION | POOLED | {"attentional_pool": "parallel"},
    },
}


def register(folder: Path) -> None:
    """Make the zoo known to open_clip."""
    import open_clip

    folder.mkdir(exist_ok=True)
    for name, config in ZOO.items():
        (folder / f"{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder)


def checkpoint(name: str, file: Path) -> Path:
    """Write random weights of a model; every LayerNorm has numbers of its own."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    model = open_clip.create_model(name)
    for part, tensor in model.named_parameters():
        if part.startswith("text_decoder."):  # not all of which open_clip fills
            torch.nn.init.zeros_(tensor)
    for module in model.modules():
        if isinstance(module, torch.nn.LayerNorm):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.bias, -0.5, 0.5)
    save_file({key: tensor.clone() for key, tensor in model.state_dict().items()}, file)
    return file
