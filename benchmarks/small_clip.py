"""What training and shipping any of our small CLIPs has in common."""

from __future__ import annotations

import math
from typing import Any

import open_clip
import torch
from torch import Tensor, nn


def encode_text(model: Any, tokens: Tensor) -> Tensor:
    """Return ``(N, D)``: open_clip's `encode_text` without the padding, which causal attention never sees."""
    length = tokens.shape[1]
    x = model.token_embedding(tokens) + model.positional_embedding[:length]
    x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask[:length, :length]))
    features: Tensor = x[torch.arange(len(x)), tokens.argmax(-1)] @ model.text_projection
    return features


def normalise(images: Tensor) -> Tensor:
    """Apply open_clip's default mean and deviation to pictures in 0..1."""
    mean = torch.tensor(open_clip.OPENAI_DATASET_MEAN, device=images.device).view(3, 1, 1)
    std = torch.tensor(open_clip.OPENAI_DATASET_STD, device=images.device).view(3, 1, 1)
    return ((images - mean) / std).contiguous(memory_format=torch.channels_last)


def adamw(model: Any, rate: float, weight_decay: float, undecayed: tuple[str, ...]) -> torch.optim.Optimizer:
    """Return the optimiser; vectors and what has a word of `undecayed` in its name keep their size.

    Tokens that no prompt uses get no gradient; decay would shrink what a user's own words need.
    """
    decayed = [
        parameter
        for name, parameter in model.named_parameters()
        if parameter.ndim > 1 and not any(word in name for word in undecayed)
    ]
    chosen = {id(parameter) for parameter in decayed}
    others = [parameter for parameter in model.parameters() if id(parameter) not in chosen]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98), fused=True)


def cosine(progress: float) -> float:
    """Return the share of the peak learning rate at a progress of 0 to 1: down to a hundredth."""
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


@torch.no_grad()
def move_average(average: Any, model: Any, step: int, decay: float) -> None:
    """Let the averaged weights follow the trained ones, faster at first; they are judged and shipped."""
    share = min(decay, (1 + step) / (10 + step))
    trained = [parameter.detach() for parameter in model.parameters()]
    torch._foreach_lerp_(list(average.parameters()), trained, 1 - share)


def half_precision(model: Any) -> dict[str, Tensor]:
    """Return the state to ship: fp16, except LayerNorms, which the product adapts, and the scale."""
    exact = {"logit_scale"}
    for name, module in model.named_modules():
        if isinstance(module, nn.LayerNorm):
            exact |= {f"{name}.weight", f"{name}.bias"}
    return {
        name: (tensor if name in exact else tensor.half()).detach().cpu().contiguous()
        for name, tensor in model.state_dict().items()
    }
