"""Train the small CLIP or the small DiffCLIP of the photo benchmark: ``python -m benchmarks.train_clip --kind clip``.

Both kinds get the same recipe and the same number of photos; only attention differs. Each photo is contrasted
against the captions of all ten classes, in a template drawn anew for each step. Augmentation is mild: flips,
crops, and light variety of colour; none of the 15 kinds that the benchmark corrupts with.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import logging
import math
import time
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from adapters.torch_model.diffclip import METADATA_KEY
from benchmarks import machine, photo_model
from benchmarks.photo_model import CLASSES, KINDS, TEMPLATES
from benchmarks.photos import Photos, read_photos
from benchmarks.small_clip import adamw, cosine, encode_text, half_precision, move_average, normalise

log = logging.getLogger("train_clip")

TRAINING_TEMPLATES = (*TEMPLATES, "a photo of the {}.", "a small photo of a {}.", "a picture of one {}.")
BATCH = 128
PEAK_RATE = 1.5e-3
WEIGHT_DECAY = 0.05
WARM_UP_STEPS = 300
AVERAGE_DECAY = 0.998
LARGEST_LOGIT_SCALE = 100.0
LARGEST_FILE = 12 * 2**20


def main() -> None:
    """Train, with `--resume` from the state in `--out`, and write the weights and beside them how they came about."""
    args = _arguments()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    training, test = read_photos("train"), read_photos("test-dev")
    torch.manual_seed(args.seed)
    model = photo_model.build(args.kind).to(device, memory_format=torch.channels_last)
    attend_explicitly(model, device.type == "cpu")
    average = copy.deepcopy(model).requires_grad_(False)
    optimizer = adamw(model, PEAK_RATE, WEIGHT_DECAY, undecayed=("embed", "cls_token"))
    state_file = args.out / f"{args.kind}-{args.seed}.pt"
    epoch, spent_s, history = 0, 0.0, []
    if args.resume and state_file.exists():
        state = torch.load(state_file, map_location=device, weights_only=True)
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        epoch, spent_s, history = state["epoch"], state["spent_s"], state["history"]
    tokens = tokenise(TRAINING_TEMPLATES).to(device)  # (T, C, L)
    batches = len(training.labels) // BATCH
    total = args.epochs * batches
    while epoch < args.epochs:
        began, losses = time.monotonic(), 0.0
        random = torch.Generator().manual_seed(1000 * args.seed + epoch)
        order = torch.randperm(len(training.labels), generator=random)[: batches * BATCH]
        for number, chosen in enumerate(order.split(BATCH)):
            step = epoch * batches + number
            for group in optimizer.param_groups:
                group["lr"] = PEAK_RATE * min(1.0, (step + 1) / WARM_UP_STEPS) * cosine(step / total)
            images = augment(torch.from_numpy(training.images[chosen.numpy()]), random).to(device)
            labels = torch.from_numpy(training.labels[chosen.numpy()]).to(device)
            drawn = tokens[int(torch.randint(len(tokens), (1,), generator=random))]
            losses += descend(model, optimizer, images, labels, drawn)
            move_average(average, model, step, AVERAGE_DECAY)
        epoch += 1
        spent_s += time.monotonic() - began
        history.append(
            {"epoch": epoch, "loss": round(losses / batches, 4), "test-dev": accuracy(average, test)}
        )
        log.info("%s %.1f min %s", args.kind, spent_s / 60, history[-1])
        state = {
            "model": model.state_dict(),
            "average": average.state_dict(),
            "optimizer": optimizer.state_dict(),
        }
        torch.save({**state, "epoch": epoch, "spent_s": spent_s, "history": history}, state_file)
    ship(average, args, history, spent_s)


def descend(
    model: Any, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor, tokens: Tensor
) -> float:
    """Take one step down the loss of one batch and return it.

    Args:
        images: ``(B, 3, 32, 32)`` in 0..1.
        labels: ``(B,)``.
        tokens: ``(C, L)``, one caption per class.
    """
    with torch.autocast(images.device.type, torch.bfloat16):
        features = model.encode_image(normalise(images)).float()
    texts = F.normalize(encode_text(model, tokens), dim=-1)  # (C, D)
    logits = model.logit_scale.exp() * F.normalize(features, dim=-1) @ texts.T  # (B, C)
    loss = F.cross_entropy(logits, labels)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    with torch.no_grad():
        model.logit_scale.clamp_(max=math.log(LARGEST_LOGIT_SCALE))
    return float(loss.detach())


def augment(images: Tensor, random: torch.Generator) -> Tensor:
    """Flip, shift by up to 4 pixels, and vary colour lightly: gains, gamma, saturation.

    Args:
        images: ``(B, 32, 32, 3)`` uint8.
        random: the only source of chance.

    Returns:
        ``(B, 3, 32, 32)`` in 0..1.
    """
    count = len(images)
    x = images.permute(0, 3, 1, 2).float() / 255
    x = torch.where(_uniform(count, 0, 1, random) < 0.5, x.flip(3), x)
    padded = F.pad(x, (4, 4, 4, 4), mode="reflect")
    at = torch.randint(9, (2, count, 1), generator=random) + torch.arange(32)  # (2, B, 32)
    x = padded[torch.arange(count)[:, None, None], :, at[0][:, :, None], at[1][:, None, :]].permute(
        0, 3, 1, 2
    )
    x = x * (0.85 + 0.3 * torch.rand(count, 3, 1, 1, generator=random))
    x = x.clamp(0, 1) ** _uniform(count, 0.8, 1.25, random)
    grey = x.mean(1, keepdim=True)
    return (grey + (x - grey) * _uniform(count, 0.6, 1.3, random)).clamp(0, 1)


def attend_explicitly(model: Any, explicitly: bool) -> None:
    """Let the image tower attend in the form that trains faster: in bf16 on a CPU that is the explicit one."""
    for block in model.visual.trunk.blocks:
        block.attn.fused_attn = not explicitly


def tokenise(templates: tuple[str, ...]) -> Tensor:
    """Return ``(templates, classes, L)`` tokens without common padding."""
    tokenizer = open_clip.get_tokenizer(photo_model.NAME)
    tokens = torch.stack([tokenizer([template.format(name) for name in CLASSES]) for template in templates])
    return tokens[:, :, : int((tokens != 0).sum(-1).max())]


@torch.no_grad()
def accuracy(model: Any, photos: Photos) -> float:
    """Return the share of photos that zero-shot answers name right."""
    device = model.logit_scale.device
    texts = F.normalize(encode_text(model, tokenise(TEMPLATES)[0].to(device)), dim=-1)
    right = 0
    for start in range(0, len(photos.labels), 500):
        images = torch.from_numpy(photos.images[start : start + 500]).to(device).permute(0, 3, 1, 2) / 255
        answers = (model.encode_image(normalise(images)) @ texts.T).argmax(1).cpu()
        right += int((answers == torch.from_numpy(photos.labels[start : start + 500])).sum())
    return round(right / len(photos.labels), 4)


def ship(model: Any, args: argparse.Namespace, history: list[dict[str, float]], spent_s: float) -> None:
    """Write the averaged weights, fp16 except LayerNorms and the scale, and how they came about."""
    state = half_precision(model)
    lambda_init = KINDS[args.kind]
    file = photo_model.weights(args.kind, args.seed)
    file.parent.mkdir(exist_ok=True)
    save_file(state, file, metadata={METADATA_KEY: str(lambda_init)} if lambda_init else None)
    file.chmod(0o644)  # safetensors writes for the owner alone
    if file.stat().st_size > LARGEST_FILE:
        raise SystemExit(f"{file}: {file.stat().st_size} bytes, more than the repository takes")
    facts = {
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "kind": args.kind,
        "seed": args.seed,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "logit_scale": round(model.logit_scale.exp().item(), 2),
        "epochs": args.epochs,
        "batch": BATCH,
        "threads": args.threads,
        "minutes": round(spent_s / 60, 1),
        "history": history,
        "machine": machine.describe("torch", "open_clip_torch", "timm"),
    }
    file.with_suffix(".json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def _uniform(count: int, low: float, high: float, random: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(count, 1, 1, 1, generator=random)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kind", choices=list(KINDS), required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder for the state to go on from")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true", help="go on from the state in --out")
    return parser.parse_args()


if __name__ == "__main__":
    main()
