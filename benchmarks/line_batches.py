"""What one training step of `mekiki-line` looks at: augmented pictures of all data sets, with targets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from benchmarks.line_data import MASK_PX, SIZE_PX, Pictures
from benchmarks.line_zero_shot import Words
from camera.simulation.part import LABELS

BATCH = {"line": 44, "neu": 8, "xsdd": 12}
SCRATCH_WEIGHT = 3.0
"""How much more often a scratched part is drawn than another defect: the thinnest mark is learned last."""

SMOOTHING = 0.05
UNION_SHARE = 0.15
"""Share of pictures that are contrasted against the classes of all data sets."""

PATCHES_ALONG = 8
MIXUP_SHARE = 0.5
MIXUP_ALPHA = 0.4


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """One step's pictures, grouped by data set in the order of `BATCH`.

    Attributes:
        images: ``(B, 3, 128, 128)`` in 0..1.
        targets: ``(B, C)`` over the union of all classes, rows add up to one.
        allowed: ``(B, C)`` the classes a picture is contrasted against.
        patches: ``(L, 8, 8)`` share of defect per patch of the simulated parts, which come first.
        labels: ``(B,)`` index into the union, before mixing.
    """

    images: Tensor
    targets: Tensor
    allowed: Tensor
    patches: Tensor
    labels: Tensor


def draw_batches(
    train: dict[str, Pictures], words: Words, rng: np.random.Generator, device: torch.device, workers: int
) -> Iterator[Batch]:
    """Yield one worker's batches for ever: on steel every class as often, and pictures mixed up."""
    chances = {name: _chances(name, pictures.labels) for name, pictures in train.items()}
    while True:
        parts = []
        for name, count in BATCH.items():
            chosen = rng.choice(len(train[name].labels), count // workers, p=chances[name])
            parts.append(_draw(train[name], name, chosen, words, rng, device))
        yield Batch(
            images=torch.cat([part.images for part in parts]),
            targets=torch.cat([part.targets for part in parts]),
            allowed=torch.cat([part.allowed for part in parts]),
            patches=torch.cat([part.patches for part in parts]),
            labels=torch.cat([part.labels for part in parts]),
        )


def move(images: Tensor, masks: Tensor, steel: bool) -> tuple[Tensor, Tensor]:
    """Flip, turn a little, scale and shift; masks along with their pictures."""
    count, device = len(images), images.device
    # Not by 90 degrees: a strip has a rolling direction, and some defects follow it.
    sign = torch.randint(0, 2, (count, 2), device=device) * 2.0 - 1
    angle = torch.randn(count, device=device) * (0.12 if steel else 0.05)
    scale = torch.empty(count, device=device).uniform_(*((0.65, 1.1) if steel else (0.88, 1.06)))
    room = 0.25 if steel else 0.06
    shift = torch.empty(count, 2, device=device).uniform_(-room, room)
    # Some stay on the pixel grid: resampling blurs, and what is judged later is not resampled twice.
    still = torch.rand(count, device=device) < (0.33 if steel else 0.7)
    angle, scale = angle.masked_fill(still, 0.0), scale.masked_fill(still, 1.0)
    shift = torch.where(still[:, None], (shift * SIZE_PX / 2).round() * 2 / SIZE_PX, shift)
    along, across = scale * angle.cos(), scale * angle.sin()
    right = torch.stack([along * sign[:, 0], -across * sign[:, 1], shift[:, 0]], 1)
    down = torch.stack([across * sign[:, 0], along * sign[:, 1], shift[:, 1]], 1)
    matrix = torch.stack([right, down], 1)  # (B, 2, 3)
    moved = []
    for picture in (images, masks):
        grid = F.affine_grid(matrix, list(picture.shape), align_corners=False)
        moved.append(F.grid_sample(picture, grid, padding_mode="reflection", align_corners=False))
    return moved[0], moved[1]


def recolour(images: Tensor) -> Tensor:
    """Vary brightness, contrast, colour, gamma, sharpness and noise, as mildly as severity 1 does."""
    count, device = len(images), images.device

    def some(share: float, low: float, high: float, width: int = 1, neutral: float = 1.0) -> Tensor:
        value = torch.empty(count, width, 1, 1, device=device).uniform_(low, high)
        return torch.where(torch.rand(count, 1, 1, 1, device=device) < share, value, neutral)

    images = images.clamp(1e-3, 1) ** some(0.4, 0.8, 1.25)
    mean = images.mean((1, 2, 3), keepdim=True)
    images = mean + (images - mean) * some(0.5, 0.75, 1.2)
    images = images * some(0.5, 0.8, 1.15) * some(0.3, 0.93, 1.07, width=3)
    weight = some(0.2, 0.0, 0.6, neutral=0.0)
    images = images + weight * (F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, 1) - images)
    images = images + some(0.4, 0.0, 0.025, neutral=0.0) * torch.randn_like(images)
    return images.clamp(0, 1)


def mix(
    images: Tensor, targets: Tensor, allowed: Tensor, rng: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Blend pictures of one data set, and their targets, pairwise (mixup, Zhang et al., ICLR 2018)."""
    if rng.random() > MIXUP_SHARE:
        return images, targets, allowed
    share = float(rng.beta(MIXUP_ALPHA, MIXUP_ALPHA))
    return (
        share * images + (1 - share) * images.flip(0),
        share * targets + (1 - share) * targets.flip(0),
        allowed | allowed.flip(0),
    )


def _chances(name: str, labels: NDArray[np.int64]) -> NDArray[np.float64]:
    weights = np.ones(len(labels))
    if name == "line":
        weights[labels == LABELS.index("scratch")] = SCRATCH_WEIGHT
    else:
        weights /= np.bincount(labels)[labels]
    return weights / weights.sum()


def _draw(
    pictures: Pictures,
    name: str,
    chosen: NDArray[np.int64],
    words: Words,
    rng: np.random.Generator,
    device: torch.device,
) -> Batch:
    """Return the part of a batch that comes from one data set."""
    count, classes, steel = len(chosen), len(words.tokens), name != "line"
    variants = rng.integers(pictures.images.shape[1], size=count)
    images = torch.tensor(pictures.images[chosen, variants], device=device).permute(0, 3, 1, 2) / 255
    masks = torch.zeros(count, 1, MASK_PX, MASK_PX, device=device)
    if pictures.masks is not None:
        masks = torch.tensor(pictures.masks[chosen], device=device)[:, None] / 255
    images, masks = move(images, masks, steel)
    images = recolour(images)
    first, last = words.span[name]
    labels = torch.tensor(pictures.labels[chosen], device=device) + first
    allowed = torch.zeros(count, classes, dtype=torch.bool, device=device)
    allowed[:, first:last] = True
    allowed |= torch.rand(count, 1, device=device) < UNION_SHARE
    smooth = SMOOTHING * allowed / allowed.sum(1, keepdim=True)
    targets = (1 - SMOOTHING) * F.one_hot(labels, classes) + smooth
    if steel:
        images, targets, allowed = mix(images, targets, allowed, rng)
    # Only simulated parts have a place of the defect; `patches` holds theirs alone.
    shares = F.avg_pool2d(masks, MASK_PX // PATCHES_ALONG)[:, 0]  # (B, 8, 8)
    return Batch(images, targets, allowed, shares[: 0 if steel else count], labels)
