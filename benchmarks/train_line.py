"""Train `mekiki-line`, the embedded default model, from scratch on what `line_data` provides.

Three sets of classes are learned together: each picture is contrasted against the texts of its own data set,
sometimes against all of them. On simulated parts every patch is classified against the same texts as well,
because the simulator knows where the defect is: without it small defects stayed at chance for 1400 steps.
Half of the pictures are mildly degraded, so that the model bends under a bad lamp instead of breaking.

The learning rate follows the clock, so that `--minutes` is what a run takes, on two cores as on a GPU.
"""

from __future__ import annotations

import argparse
import copy
import json
import logging
import math
import socket
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import open_clip
import torch
from torch import Tensor, distributed, multiprocessing, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from adapters.torch_model import line_encoder
from benchmarks.line_batches import BATCH, Batch, draw_batches
from benchmarks.line_data import Pictures, line_pictures, read_recipe, steel_pictures
from benchmarks.line_zero_shot import RECIPES, Words, balanced_accuracy, guess
from benchmarks.small_clip import adamw, cosine, encode_text, move_average, normalise

log = logging.getLogger("train_line")

PEAK_RATE = 1.5e-3
WEIGHT_DECAY = 0.08
WARM_UP_STEPS = 200
AVERAGE_DECAY = 0.998
LINE_PATCH_WEIGHT = 1.0
STEEL_PATCH_WEIGHT = 0.15
LARGEST_LOGIT_SCALE = 40.0
DEFECT_PATCH = (0.005, 0.03)
"""Share of a patch under the defect: below the first it is ok, above the second defective, else not asked.

A thin scratch that crosses a patch covers four hundredths of it.
"""


def main() -> None:
    """Render the pictures, train, and leave state and history in `--out`; `ship_line` makes the weights."""
    args = _arguments()
    args.out.mkdir(parents=True, exist_ok=True)
    write_pictures(args)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    if args.workers == 1:
        train(0, args, port)
    else:
        multiprocessing.spawn(train, (args, port), nprocs=args.workers)


def write_pictures(args: argparse.Namespace) -> None:
    """Render and read what is not there from an earlier run, as files that every worker maps into memory."""
    made: dict[str, Callable[[], Pictures]] = {
        "train-line": lambda: line_pictures(args.parts, args.seed, mild=True, processes=args.processes),
        "train-neu": lambda: steel_pictures("neu", "train", args.variants, args.processes),
        "train-xsdd": lambda: steel_pictures("xsdd", "train", args.variants, args.processes),
        "test-line": lambda: line_pictures(1000, args.seed + 1_000_000, mild=False, processes=args.processes),
        "test-neu": lambda: steel_pictures("neu", "test", 1),
        "test-xsdd": lambda: steel_pictures("xsdd", "test", 1),
    }
    for name, make in made.items():
        if not Pictures.saved(args.out, name):
            make().save(args.out, name)


def train(rank: int, args: argparse.Namespace, port: int) -> None:
    """Train as one of `--workers` processes that average their gradients; the first one keeps the books.

    One single-threaded worker per core beats one process with a thread per core: where other programs run,
    threads wait for the slowest after every operation, workers once in a step.
    """
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    log.setLevel(logging.INFO)
    torch.set_num_threads(args.threads)
    if args.workers > 1:
        address = f"tcp://127.0.0.1:{port}"
        distributed.init_process_group("gloo", address, rank=rank, world_size=args.workers)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    line_encoder.register()
    words = Words.of({name: read_recipe(file) for name, file in RECIPES.items()}, device)
    training = {name: Pictures.load(args.out, f"train-{name}") for name in RECIPES}
    torch.manual_seed(args.seed)
    model = open_clip.create_model(line_encoder.MODEL_NAME, force_preprocess_cfg=line_encoder.PREPROCESS)
    model = model.to(device, memory_format=torch.channels_last)
    average = copy.deepcopy(model).requires_grad_(False)
    optimizer = adamw(model, PEAK_RATE, WEIGHT_DECAY, undecayed=("embedding", "position"))
    step, spent_s, history = 0, 0.0, []
    if args.resume:
        state = torch.load(args.out / "state.pt", map_location=device, weights_only=True)
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        step, spent_s, history = state["step"], state["spent_s"], state["history"]
    # From here on every worker draws pictures, prompts and augmentations of its own.
    torch.manual_seed(args.seed + 1000 * step + rank)
    rng = np.random.default_rng((args.seed, step, rank))
    batches = draw_batches(training, words, rng, device, args.workers)

    began = time.monotonic() - spent_s
    losses: list[float] = []
    progress = 0.0
    while progress < 1:
        for group in optimizer.param_groups:
            group["lr"] = PEAK_RATE * min(1.0, (step + 1) / WARM_UP_STEPS) * cosine(progress)
        losses.append(backward(model, next(batches), words, rng))
        step += 1
        # The first worker's clock is the one that counts, or their learning rates would drift apart.
        clock = max((time.monotonic() - began) / (60 * args.minutes), step / args.steps) if rank == 0 else 0.0
        progress = average_gradients(model, words, clock, args.workers)
        descend(model, optimizer)
        if rank > 0:
            continue
        move_average(average, model, step, AVERAGE_DECAY)
        spent_s = time.monotonic() - began
        if step % 100 == 0:
            loss, scale = float(np.mean(losses[-100:])), model.logit_scale.exp().item()
            log.info("step %d, %.1f min, loss %.3f, scale %.1f", step, spent_s / 60, loss, scale)
        if step % args.look_every == 0 or progress >= 1:
            seen = {n: look(average, words, n, Pictures.load(args.out, f"test-{n}")) for n in RECIPES}
            history.append({"step": step, "minutes": round(spent_s / 60, 1), **seen})
            log.info("held out: %s", history[-1])
            _save(args.out, model, average, optimizer, step, spent_s, history)
    if rank == 0:
        _write_facts(args, device, step, spent_s, history)


def backward(model: open_clip.CLIP, batch: Batch, words: Words, rng: np.random.Generator) -> float:
    """Leave the gradients of one batch in the model and return its loss."""
    images = normalise(batch.images)
    # The fused CPU attention is slow in its bf16 backward pass: 15 % of a step here.
    with torch.autocast(images.device.type, torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
        patches = model.visual.trunk.forward_features(images)
        pooled = model.visual.head(model.visual.trunk.pool(patches))
        patch_features = model.visual.head(patches)
    scale = model.logit_scale.exp()
    texts = F.normalize(encode_text(model, words.draw(rng)), dim=-1)  # (C, D)
    logits = scale * F.normalize(pooled.float(), dim=-1) @ texts.T  # (B, C)
    loss = _cross_entropy(logits, batch.targets, batch.allowed)
    patch_logits = scale * F.normalize(patch_features.float(), dim=-1) @ texts.T  # (B, 64, C)
    loss = loss + patch_loss(patch_logits, batch, words)
    model.zero_grad(set_to_none=True)
    loss.backward()
    return float(loss.detach())


def average_gradients(model: open_clip.CLIP, words: Words, clock: float, workers: int) -> float:
    """Average the gradients over all workers and return the first one's clock."""
    if workers == 1:
        return clock
    # Of 49 408 token embeddings the prompts use a few hundred; only their rows travel.
    embedding = model.token_embedding.weight.grad
    parts = [p.grad for p in model.parameters() if p.grad is not None and p.grad is not embedding]
    rows = embedding[words.used]
    flat = torch.cat([rows.flatten(), *(g.flatten() for g in parts), rows.new_tensor([workers * clock])])
    distributed.all_reduce(flat)
    flat /= workers
    embedding[words.used] = flat[: rows.numel()].view_as(rows)
    at = rows.numel()
    for gradient in parts:
        gradient.copy_(flat[at : at + gradient.numel()].view_as(gradient))
        at += gradient.numel()
    return float(flat[-1])


def descend(model: open_clip.CLIP, optimizer: torch.optim.Optimizer) -> None:
    """Take one step down the gradients."""
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    with torch.no_grad():
        model.logit_scale.clamp_(max=math.log(LARGEST_LOGIT_SCALE))


def patch_loss(logits: Tensor, batch: Batch, words: Words) -> Tensor:
    """Classify each patch: simulated parts by where the defect is, steel as the whole photo.

    Args:
        logits: ``(B, 64, C)`` of every patch.
    """
    first, last = words.span["line"]
    lines = len(batch.patches)
    share = batch.patches.flatten(1)  # (L, 64)
    defective = (share > DEFECT_PATCH[1]).float()
    sound = (share < DEFECT_PATCH[0]).float()
    log_p = logits[:lines, :, first:last].log_softmax(-1)
    label = (batch.labels[:lines] - first)[:, None, None].expand(-1, share.shape[1], 1)
    found = -(log_p.gather(2, label)[..., 0] * defective).sum() / defective.sum().clamp(min=1)
    quiet = -(log_p[..., 0] * sound).sum() / sound.sum().clamp(min=1)
    steel = _cross_entropy(
        logits[lines:].flatten(0, 1),
        batch.targets[lines:].repeat_interleave(logits.shape[1], 0),
        batch.allowed[lines:].repeat_interleave(logits.shape[1], 0),
    )
    return LINE_PATCH_WEIGHT * 0.5 * (found + quiet) + STEEL_PATCH_WEIGHT * steel


def look(model: open_clip.CLIP, words: Words, name: str, pictures: Pictures) -> float:
    """Return zero-shot balanced accuracy on held-out pictures of one data set."""
    answers = guess(model, words, name, pictures.images[:, 0])
    return round(balanced_accuracy(answers, pictures.labels), 4)


def _cross_entropy(logits: Tensor, targets: Tensor, allowed: Tensor) -> Tensor:
    log_p = logits.masked_fill(~allowed, -torch.inf).log_softmax(-1).masked_fill(~allowed, 0.0)
    return -(targets * log_p).sum(-1).mean()


def _save(
    out: Path, model: open_clip.CLIP, average: open_clip.CLIP, optimizer: torch.optim.Optimizer,
    step: int, spent_s: float, history: list[dict[str, float]],
) -> None:  # fmt: skip
    state = {
        "model": model.state_dict(), "average": average.state_dict(), "optimizer": optimizer.state_dict(),
        "step": step, "spent_s": spent_s, "history": history,
    }  # fmt: skip
    torch.save(state, out / "state.tmp")
    (out / "state.tmp").rename(out / "state.pt")


def _write_facts(
    args: argparse.Namespace, device: torch.device, step: int, spent_s: float, history: list[dict[str, float]]
) -> None:
    facts = {
        "seed": args.seed, "steps": step, "minutes": round(spent_s / 60, 1), "batch": BATCH,
        "parts": args.parts, "variants": args.variants, "workers": args.workers, "threads": args.threads,
        "device": str(device), "history": history,
    }  # fmt: skip
    (args.out / "training.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for weights, state and history")
    parser.add_argument("--minutes", type=float, default=66, help="for the steps, pictures not counted")
    parser.add_argument("--steps", type=int, default=10**9, help="stop after so many, if sooner")
    parser.add_argument("--parts", type=int, default=16_000, help="simulated parts to render")
    parser.add_argument("--variants", type=int, default=8, help="degraded copies of a steel photo")
    parser.add_argument("--threads", type=int, default=1, help="of torch, per worker")
    parser.add_argument("--workers", type=int, default=2, help="processes that share a batch; 1 on a GPU")
    parser.add_argument("--processes", type=int, default=2, help="that render pictures")
    parser.add_argument("--look-every", type=int, default=500, help="steps between checkpoints")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true", help="go on from the state in --out")
    return parser.parse_args()


if __name__ == "__main__":
    main()
