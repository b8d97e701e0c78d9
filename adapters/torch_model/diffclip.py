"""DiffCLIP: open_clip's model with timm's differential attention in every block of both towers.

After Hammoud and Ghanem, "DiffCLIP: Differential Attention Meets CLIP", 2025,
https://arxiv.org/abs/2503.06626, and Ye et al., "Differential Transformer", ICLR 2025,
https://arxiv.org/abs/2410.05258.

``A = softmax(Q1 K1' / sqrt(d)) - lambda softmax(Q2 K2' / sqrt(d))``, d being the width of one of the h heads
that are taken in pairs; values have h/2 heads of width 2d. What comes out is normalised by RMSNorm per pair
and multiplied by ``1 - lambda_init``. LayerNorms adapt as everywhere; RMSNorm gains and lambda stay as they
were trained.

`lambda_init` is not in the weights and cannot be guessed from them: it travels in the metadata of the
safetensors file (`METADATA_KEY`), and a file that has it is a DiffCLIP.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import open_clip
import safetensors
import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.layers.diff_attention import DiffAttention
from torch import Tensor, nn

from adapters.core.protocol import ModelError
from adapters.torch_model.checkpoint import first_words

if TYPE_CHECKING:
    from adapters.torch_model.clip import Clip

METADATA_KEY = "lambda_init"

MODEL_NAME = "DiffCLIP-ViT-B-16"
CONFIG = Path(__file__).parent / "model_configs" / f"{MODEL_NAME}.json"

NORM_EPS = 1e-5
"""Of the image tower's LayerNorms; timm's own ViT has 1e-6."""

PREPROCESS: dict[str, Any] = {"mean": IMAGENET_DEFAULT_MEAN, "std": IMAGENET_DEFAULT_STD}
"""What the published models saw, where open_clip's default is OpenAI's mean and deviation."""

_NUMBER = r"(\d*\.?\d+(?:e-?\d+)?)"
_SCHEDULE = re.compile(rf"{_NUMBER}(?:-{_NUMBER}\*exp\(-{_NUMBER}\*l\))?")


@dataclass(frozen=True, slots=True)
class LambdaInit:
    """``base - drop * exp(-rate * l)`` in layer l = 0, 1, ...; `drop` 0 is the same number in every layer.

    0.8 are the published models; ``0.8-0.6*exp(-0.3*l)`` is the paper's DiffCLIP*.
    """

    base: float = 0.8
    drop: float = 0.0
    rate: float = 0.0

    @classmethod
    def parse(cls, text: str) -> LambdaInit:
        """Read ``0.8`` or ``0.8-0.6*exp(-0.3*l)``.

        Raises:
            ModelError: it is neither, or leaves the range from 0 to below 1 in some layer.
        """
        match = _SCHEDULE.fullmatch(text.replace(" ", ""))
        if match is None:
            raise ModelError(f"lambda_init {text!r}: neither a number like 0.8 nor like 0.8-0.6*exp(-0.3*l)")
        base, drop, rate = (float(number or 0) for number in match.groups())
        # What comes out of attention is multiplied by 1 - lambda_init.
        if not 0 <= base - drop <= base < 1:
            raise ModelError(f"lambda_init {text!r}: every layer needs a number from 0 to below 1")
        return cls(base, drop, rate)

    def __str__(self) -> str:
        return f"{self.base}-{self.drop}*exp(-{self.rate}*l)" if self.drop else f"{self.base}"

    def at(self, layer: int) -> float:
        """Return the number of one layer, counted from 0."""
        return self.base - self.drop * math.exp(-self.rate * layer)


def register() -> None:
    """Make `DiffCLIP-ViT-B-16` known to open_clip; again is as good as once."""
    if MODEL_NAME not in open_clip.list_models():
        open_clip.add_model_config(CONFIG)


def preprocess_overrides(name: str) -> dict[str, Any]:
    """Return what `create_model(name, force_preprocess_cfg=...)` needs; nothing for any other model."""
    return dict(PREPROCESS) if name == MODEL_NAME else {}


def stored_lambda_init(name: str, checkpoint: Path) -> LambdaInit | None:
    """Return what a weights file of the model `name` says of `lambda_init`; nothing if it is no DiffCLIP.

    Raises:
        ModelError: `name` is a DiffCLIP and the file does not say, or the file is damaged.
    """
    text = None
    if checkpoint.suffix == ".safetensors":
        try:
            with safetensors.safe_open(checkpoint, framework="np") as file:
                text = (file.metadata() or {}).get(METADATA_KEY)
        except (OSError, safetensors.SafetensorError) as error:
            words = first_words(error)
            raise ModelError(f"{checkpoint}: not a safetensors file, or damaged: {words}") from error
    if text is not None:
        return LambdaInit.parse(text)
    if name == MODEL_NAME:
        raise ModelError(
            f"{checkpoint}: does not say the lambda_init of a DiffCLIP; run"
            f" mekiki convert diffclip {checkpoint.name} OUT.safetensors and use the file that it writes"
        )
    return None


def differentiate(model: Any, lambda_init: LambdaInit, device: torch.device | str = "cpu") -> None:
    """Put differential attention into an open_clip model with a timm ViT, in place; its weights are fresh.

    Args:
        model: the model, on whatever device.
        lambda_init: its number in each layer, the same in both towers.
        device: where the model will run, which decides the form of attention.

    Raises:
        ModelError: the towers are not a timm ViT and open_clip's text transformer with even numbers of heads.
    """
    trunk: Any = getattr(model.visual, "trunk", None)
    if not hasattr(trunk, "blocks") or not hasattr(model, "transformer"):
        raise ModelError("differential attention needs a timm ViT and open_clip's own text transformer")
    for module in trunk.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = NORM_EPS
    fused = prefers_fused(device)
    for layer, block in enumerate(trunk.blocks):
        width, heads = block.attn.qkv.in_features, block.attn.num_heads
        block.attn = _attention(DiffAttention, width, heads, lambda_init.at(layer), fused)
    for layer, block in enumerate(model.transformer.resblocks):
        width, heads = block.attn.embed_dim, block.attn.num_heads
        block.attn = _attention(TextDiffAttention, width, heads, lambda_init.at(layer), fused)


def prefers_fused(device: torch.device | str) -> bool:
    """Tell whether to take two calls of scaled-dot-product attention and a subtraction, or the explicit form.

    On a CPU the two calls are slower (benchmarks/results/diff_attention.md): they multiply the values twice,
    and torch has no flash kernel there for values wider than queries. On a GPU they are taken because they
    need no room for the maps; their speed is not measured yet.
    """
    return torch.device(device).type != "cpu"


def attention_maps(clip: Clip, inputs: Tensor, norms: Mapping[str, Tensor]) -> Tensor:
    """Return who looked at whom, ``(layers, B, heads, N, N)``: A of every layer, before values and RMSNorm.

    Rows sum to ``1 - lambda`` of their layer, and a number below zero says "away from there". In the image
    tower position 0 is the class token and the others are patches, row by row from the upper left. What the
    model answers stays as it is, but nobody else may call it meanwhile: their maps would mix with these.

    Args:
        clip: a DiffCLIP.
        inputs: ``(B, 3, S, S)`` images, or ``(B, N)`` tokens for the text tower.
        norms: replace LayerNorm tensors by name, as in `Clip.encode_image`.

    Raises:
        ModelError: the model has no differential attention.
    """
    images = inputs.is_floating_point()
    tower = clip.model.visual if images else clip.model.transformer
    attentions = [module for module in tower.modules() if isinstance(module, DiffAttention)]
    if not attentions:
        raise ModelError(f"{clip.info.name}: has no differential attention to show")
    maps: list[Tensor] = []

    def look(attention: nn.Module, arguments: tuple[Tensor, ...], options: dict[str, Tensor | None]) -> None:
        maps.append(_map(attention, arguments[0], options.get("attn_mask")))

    hooks = [attention.register_forward_pre_hook(look, with_kwargs=True) for attention in attentions]
    try:
        (clip.encode_image if images else clip.encode_text)(inputs, norms)
    finally:
        for hook in hooks:
            hook.remove()
    return torch.stack(maps)


class TextDiffAttention(DiffAttention):
    """Differential attention in the place of torch's `MultiheadAttention` in open_clip's text blocks."""

    def forward(  # type: ignore[override]  # as open_clip calls torch's
        self, query: Tensor, key: Tensor, value: Tensor, need_weights: bool, attn_mask: Tensor | None
    ) -> tuple[Tensor, None]:
        """Attend ``(B, L, D)`` to itself; `key` and `value` are the same tensor as `query`."""
        return super().forward(query, attn_mask=attn_mask), None


def _attention(
    kind: type[DiffAttention], width: int, heads: int, lambda_init: float, fused: bool
) -> DiffAttention:
    if heads % 2:
        raise ModelError(f"differential attention takes heads in pairs; {heads} is odd")
    attention = kind(width, num_heads=heads // 2, qkv_bias=True)
    attention.lambda_init = lambda_init
    attention.fused_attn = fused
    return attention


def _map(attention: Any, x: Tensor, mask: Tensor | None) -> Tensor:
    """Return ``(B, heads, N, N)`` of what enters an attention module, ``(B, N, D)``."""
    q, k, _ = (
        part.unflatten(2, (attention.num_heads, 2, attention.head_dim)).permute(0, 2, 3, 1, 4)
        for part in attention.qkv(x).chunk(3, dim=2)
    )  # (B, heads, 2, N, d)
    scores = attention.scale * q @ k.transpose(-2, -1)
    pair = (scores if mask is None else scores + mask).softmax(dim=-1)
    answer: Tensor = pair[:, :, 0] - attention._compute_lambda().type_as(x) * pair[:, :, 1]
    return answer
