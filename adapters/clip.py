"""CLIP as a function of (pictures or tokens, LayerNorms), from whatever open_clip can build."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import open_clip
import torch
from torch import Tensor, nn
from torch.func import functional_call

from adapters import diffclip
from adapters.adapter import Adapter
from adapters.architecture import (
    build_model,
    norm_names,
    preprocess_of,
    preprocess_overrides,
    require_known,
    require_norms,
)
from adapters.attention import fold_attention
from adapters.checkpoint import (
    cached_weights,
    load_weights,
    verified_digest,
    warn_of_other_preprocess,
)
from adapters.class_token import read_class_token
from adapters.engine import ModelError, ModelInfo
from adapters.low_products import lower_products
from adapters.open_tokenizer import open_tokenizer
from adapters.row_norm import allow_rows
from adapters.tokenizer import ClipTokenizer

Form = Literal["model", "short", "bf16", "fp16"]


@dataclass(frozen=True, eq=False)
class Clip:
    """A model as it was trained, in eval mode.

    Attributes:
        info: what it is.
        model: open_clip's module, which has no types; its own parameters are never changed.
        tokenizer: equal to open_clip's.
        source: its LayerNorms, number 0.
        causal: texts may be encoded at the length they need.
        device: where it is.
        turn: torch lends the module other LayerNorms while a tower is called, so calls that meet take turns.
    """

    info: ModelInfo
    model: Any
    tokenizer: ClipTokenizer
    source: Adapter
    causal: bool
    device: torch.device
    turn: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @cached_property
    def short(self) -> Any:
        """The same module and tensors without what nobody reads; equal to `model` to rounding."""
        return read_class_token(self.model)

    @cached_property
    def bf16(self) -> Any:
        """`short` with products in bf16."""
        return lower_products(self.short, torch.bfloat16)

    @cached_property
    def fp16(self) -> Any:
        """`short` with products in fp16."""
        return lower_products(self.short, torch.float16)

    def encode_image(self, images: Tensor, norms: Mapping[str, Tensor], form: Form = "model") -> Tensor:
        """Return ``(B, D)`` features of ``(B, 3, S, S)``.

        Args:
            images: preprocessed.
            norms: replace LayerNorm tensors by name; ``(C,)`` for all pictures, or ``(B, C)``.
            form: which of the modules; `model` answers as open_clip does, to the last bit.
        """
        return _call(ImageTower(getattr(self, form)), norms, images)

    def encode_text(self, tokens: Tensor, norms: Mapping[str, Tensor], form: Form = "model") -> Tensor:
        """Return ``(N, D)`` features of ``(N, L)``; L is the context unless `causal`, then at most."""
        tables = shortened_tables(self, tokens.shape[1])
        return _call(TextTower(getattr(self, form)), {**norms, **tables}, tokens)

    def norm_names(self, tower: Literal["image", "text"]) -> list[str]:
        """Names of the LayerNorm tensors of one tower."""
        return [name for name in self.source.tensors if name.startswith("visual.") == (tower == "image")]


class ImageTower(nn.Module):
    """`encode_image` as a module's forward, so that torch can call it with other tensors and export it."""

    def __init__(self, clip: Any) -> None:
        super().__init__()
        self.clip = clip

    def forward(self, images: Tensor) -> Tensor:
        """Return ``(B, D)``, not normalised."""
        features: Tensor = self.clip.encode_image(images, normalize=False)
        return features


class TextTower(nn.Module):
    """`encode_text` as a module's forward."""

    def __init__(self, clip: Any) -> None:
        super().__init__()
        self.clip = clip

    def forward(self, tokens: Tensor) -> Tensor:
        """Return ``(N, D)``, not normalised."""
        features: Tensor = self.clip.encode_text(tokens, normalize=False)
        return features


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
    causal = bool(_text_tables(model))
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


def shortened_tables(clip: Clip, length: int | torch.SymInt) -> dict[str, Tensor]:
    """Return position table and causal mask cut to `length`, by name; nothing unless attention is causal."""
    return {
        name: table[:length, :length] if name.endswith("attn_mask") else table[:length]
        for name, table in _text_tables(clip.model).items()
    }


def _text_tables(model: nn.Module) -> dict[str, Tensor]:
    """Return what is as long as the context, or nothing if padding can change an answer."""
    prefix = "text." if hasattr(model, "text") else ""
    text = getattr(model, "text", model)
    pool = getattr(text, "pool_type", getattr(text, "text_pool_type", None))
    mask = getattr(text, "attn_mask", None)
    # A class token stands behind the last position (CoCa) and "last" pools there: both read the padding.
    if mask is None or getattr(text, "cls_emb", None) is not None or pool not in ("argmax", "eos"):
        return {}
    return {f"{prefix}positional_embedding": text.positional_embedding, f"{prefix}attn_mask": mask}


def _call(tower: nn.Module, tensors: Mapping[str, Tensor], argument: Tensor) -> Tensor:
    named = {f"clip.{name}": tensor for name, tensor in tensors.items()}
    answer: Tensor = functional_call(tower, named, (argument,))
    return answer


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
