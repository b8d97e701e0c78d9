"""CLIP as a function of (pictures or tokens, LayerNorms), from whatever open_clip can build."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call

from adapters.core.adapter import Adapter
from adapters.core.protocol import ModelInfo
from adapters.core.tokenizer import ClipTokenizer
from adapters.torch_model.last_block import read_class_token
from adapters.torch_model.mixed_precision import use_mixed_precision
from adapters.torch_model.patch_tokens import PatchTap, PatchTower, taps_of

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
        return use_mixed_precision(self.short, torch.bfloat16)

    @cached_property
    def fp16(self) -> Any:
        """`short` with products in fp16."""
        return use_mixed_precision(self.short, torch.float16)

    @cached_property
    def taps(self) -> tuple[PatchTap, ...]:
        """Where the patches of the image tower are read; raises ModelError where that is not known."""
        return taps_of(self.info.name, self.model)

    def encode_image(self, images: Tensor, norms: Mapping[str, Tensor], form: Form = "model") -> Tensor:
        """Return ``(B, D)`` features of ``(B, 3, S, S)``.

        Args:
            images: preprocessed.
            norms: replace LayerNorm tensors by name; ``(C,)`` for all pictures, or ``(B, C)``.
            form: which of the modules; `model` answers as open_clip does, to the last bit.
        """
        return _call(ImageTower(getattr(self, form)), norms, images)

    def encode_with_patches(self, images: Tensor, norms: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return ``(B, D)`` features and ``(B, h, w, P)`` patches; arguments are those of `encode_image`.

        Raises:
            ModelError: where the tower has patches is not known.
        """
        tower = PatchTower(self.model, self.taps)
        named = {f"clip.{name}": tensor for name, tensor in norms.items()}
        features, patches = functional_call(tower, named, (images,))
        return features, patches

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


def shortened_tables(clip: Clip, length: int | torch.SymInt) -> dict[str, Tensor]:
    """Return position table and causal mask cut to `length`, by name; nothing unless attention is causal."""
    return {
        name: table[:length, :length] if name.endswith("attn_mask") else table[:length]
        for name, table in text_tables(clip.model).items()
    }


def text_tables(model: nn.Module) -> dict[str, Tensor]:
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
