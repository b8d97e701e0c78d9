"""Zero-shot answers of `mekiki-line` through torch and open_clip: prompts to tokens, pictures to logits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from adapters.torch_model import line_encoder
from benchmarks.line_data import Recipe
from benchmarks.small_clip import encode_text, normalise

RECIPES = {"line": "line", "neu": "steel-neu", "xsdd": "steel-xsdd"}
"""Data set -> the recipe with its words."""


@dataclass(frozen=True, slots=True, eq=False)
class Words:
    """The prompts of all recipes, tokenised once.

    Attributes:
        tokens: per class of the union of all recipes ``(prompts, L)`` token ids.
        span: recipe -> first and last + 1 of its classes within the union.
        used: every token id that occurs.
    """

    tokens: tuple[Tensor, ...]
    span: dict[str, tuple[int, int]]
    used: Tensor

    @classmethod
    def of(cls, recipes: dict[str, Recipe], device: torch.device) -> Words:
        """Combine every template with every phrase and cut the padding off."""
        tokenizer = open_clip.get_tokenizer(line_encoder.MODEL_NAME)
        tokens: list[Tensor] = []
        span = {}
        for name, recipe in recipes.items():
            span[name] = (len(tokens), len(tokens) + len(recipe.labels))
            for phrases in recipe.phrases:
                tokens.append(tokenizer([t.format(p) for t in recipe.templates for p in phrases]))
        length = max(int((t != 0).sum(1).max()) for t in tokens)
        used = torch.from_numpy(np.unique(torch.cat([t.flatten() for t in tokens]))).to(device)
        return cls(tuple(t[:, :length].to(device) for t in tokens), span, used)

    def draw(self, rng: np.random.Generator) -> Tensor:
        """Return one prompt per class, ``(C, L)``."""
        return torch.stack([t[int(rng.integers(len(t)))] for t in self.tokens])


@torch.no_grad()
def class_texts(model: open_clip.CLIP, words: Words, name: str) -> Tensor:
    """Return ``(C, D)`` unit-length class texts of one recipe: open_clip's mean over all prompts."""
    first, last = words.span[name]
    means = [F.normalize(encode_text(model, t), dim=-1).mean(0) for t in words.tokens[first:last]]
    return F.normalize(torch.stack(means), dim=-1)


@torch.no_grad()
def zero_shot_logits(model: open_clip.CLIP, texts: Tensor, images: NDArray[np.uint8]) -> Tensor:
    """Return ``(N, C)`` scaled cosine similarities of ``(N, 128, 128, 3)`` uint8 pictures."""
    chunks = []
    for chunk in np.array_split(images, max(1, len(images) // 100)):
        batch = torch.tensor(chunk, device=texts.device).permute(0, 3, 1, 2) / 255
        chunks.append(F.normalize(model.encode_image(normalise(batch)), dim=-1))
    logits: Tensor = model.logit_scale.exp() * torch.cat(chunks) @ texts.T
    return logits


def guess(model: open_clip.CLIP, words: Words, name: str, images: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the class that the prompts of one recipe give each picture, ``(N,)``."""
    logits = zero_shot_logits(model, class_texts(model, words, name), images)
    return logits.argmax(1).cpu().numpy()


def balanced_accuracy(guesses: NDArray[np.int64], labels: NDArray[np.int64]) -> float:
    """Return the mean over classes of the share that is named right."""
    right = guesses == labels
    return float(np.mean([right[labels == c].mean() for c in np.unique(labels)]))
