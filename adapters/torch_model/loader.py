"""A model of open_clip, or ours, from a file that was verified first."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import open_clip
import torch
from torch import nn

from adapters.core.adapter import Adapter
from adapters.core.protocol import ModelError, ModelInfo
from adapters.torch_model import diffclip
from adapters.torch_model.architecture import (
    build_model,
    norm_names,
    preprocess_of,
    preprocess_overrides,
    require_known,
    require_norms,
)
from adapters.torch_model.attention import fold_attention
from adapters.torch_model.checkpoint import (
    cached_weights,
    load_weights,
    verified_digest,
    warn_of_other_preprocess,
)
from adapters.torch_model.clip import Clip, text_tables
from adapters.torch_model.convert_tokenizer import open_tokenizer
from adapters.torch_model.per_sample_norm import allow_rows


def load_clip(
    name: str,
    *,
    checkpoint: Path | None = None,
    pretrained: str | None = None,
    sha256: str | None = None,
    device: str = "auto",
) -> Clip:
    """Load a model of open_clip's, or ours, from a file that was verified first.

    Args:
        name: model name as open_clip knows it.
        checkpoint: weights file, safetensors or a torch file that holds tensors only.
        pretrained: instead of `checkpoint`, open_clip's tag of weights in the hub's cache on this disk.
        sha256: what the file must hash to.
        device: ``auto``, ``cpu`` or ``cuda``.

    Raises:
        ModelError: with the name of the file or model and the remedy.
    """
    if (checkpoint is None) == (pretrained is None):
        raise ModelError(f"{name}: needs exactly one of checkpoint and pretrained")
    require_known(name)
    if checkpoint is not None:
        file, overrides = checkpoint, preprocess_overrides(name)
    else:
        file, overrides = cached_weights(name, pretrained or "")
    weights = verified_digest(file, sha256)
    lambda_init = diffclip.stored_lambda_init(name, file)
    target = _device(device)
    model = build_model(name, overrides)
    if lambda_init is not None:
        diffclip.differentiate(model, lambda_init, target)
    preprocess = open_clip.get_model_preprocess_cfg(model)
    if checkpoint is not None:
        warn_of_other_preprocess(name, preprocess)
    causal = bool(text_tables(model))
    tokenizer = open_tokenizer(name, trim=causal)
    load_weights(model, name, file)
    fold_attention(model)
    allow_rows(model)

    # Not requires_grad_(False): torch folds a matrix product by that flag even where no gradient is recorded,
    # and the last bits of an answer would not be open_clip's.
    model = model.to(target).eval()
    source = Adapter(_norms(name, model))
    info = ModelInfo(
        name=name,
        weights=weights,
        embed_dim=int(open_clip.get_model_config(name)["embed_dim"]),
        logit_scale=float(model.logit_scale.exp().item()),
        context_length=tokenizer.context_length,
        preprocess=preprocess_of(name, preprocess),
        provider=f"torch:{target.type}",
    )
    return Clip(info, model, tokenizer, source, causal, target)


def _norms(name: str, model: nn.Module) -> dict[str, np.ndarray]:
    """Return gain and bias of every LayerNorm that an encoder uses, by name in the ``state_dict``."""
    found = norm_names(model)
    require_norms(name, found)
    parameters = dict(model.named_parameters())
    return {norm: parameters[norm].detach().float().cpu().numpy() for norm in found}


def _device(wanted: str) -> torch.device:
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ModelError("device cuda: torch sees no CUDA card here; check the driver, or set device: cpu")
    return torch.device(wanted)
