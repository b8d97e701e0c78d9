"""DiffCLIP beside its authors' code: ``python -m benchmarks.parity_diffclip --official DIR``.

DIR is a checkout of github.com/hammoudhasan/DiffCLIP (read at commit f6bd3ff). Their model gets seeded random
weights, gains and biases of every norm included, and is saved the way a training run saves it; `mekiki convert`
and `load_clip` make ours of the file. Features of both are compared relative to the largest one; more than 1e-5
in any of them is exit code 1. ``--record`` writes what the tests compare without the authors' code.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import timm.models
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from adapters.torch_model.clip import Clip
from adapters.torch_model.diffclip import MODEL_NAME, LambdaInit
from adapters.torch_model.diffclip_convert import convert
from adapters.torch_model.loader import load_clip
from benchmarks.machine import describe, in_words, table, write

TOLERANCE = 1e-5
RECORD = Path(__file__).parent.parent / "tests" / "data" / "diffclip_parity.npz"
PUBLISHED, SCHEDULE = LambdaInit(0.8), LambdaInit.parse("0.8-0.6*exp(-0.3*l)")
SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Size:
    """How large both towers are; heads are counted before they are paired."""

    name: str
    embed_dim: int
    image_size: int
    patch_size: int
    vision: tuple[int, int, int]
    """Width, layers, heads of the image tower."""
    text: tuple[int, int, int]
    context_length: int
    vocab_size: int


TINY = Size("tiny-diffclip", 16, 32, 8, (32, 2, 4), (16, 2, 4), 12, 64)
SIZES = (
    TINY,
    Size("small-diffclip", 24, 48, 16, (48, 5, 6), (64, 3, 2), 20, 1000),
    Size(MODEL_NAME, 512, 224, 16, (768, 12, 12), (512, 12, 8), 77, 49408),
)


def register(size: Size) -> None:
    """Make a size known to timm and open_clip; again is as good as once."""
    if size.name in open_clip.list_models() or size.name == MODEL_NAME:
        return
    width, layers, heads = size.text
    tower = f"{size.name.replace('-', '_')}_tower"
    text = {"context_length": size.context_length, "vocab_size": size.vocab_size}
    config = {
        "embed_dim": size.embed_dim,
        "quick_gelu": True,
        "vision_cfg": {
            "image_size": size.image_size,
            "timm_model_name": tower,
            "timm_pool": "token",
            "timm_proj": "linear",
        },
        "text_cfg": {**text, "width": width, "layers": layers, "heads": heads},
    }

    def build(pretrained: bool = False, **_: Any) -> VisionTransformer:
        vision = VisionTransformer(**_vision(size))
        vision.default_cfg = {}
        return vision

    build.__name__ = tower
    timm.models.register_model(build)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{size.name}.json"
        file.write_text(json.dumps(config))
        open_clip.add_model_config(file)


def checkpoint(file: Path, state: dict[str, Tensor]) -> Path:
    """Write a state the way a distributed training run does, with everything else that is in such a file."""
    wrapped = {f"module.{name}": tensor for name, tensor in state.items()}
    options = argparse.Namespace(model="DiffCLIP", lr=5e-4, betas=(0.9, 0.98), output_dir="runs/1")
    moments = {0: {"step": torch.tensor(9.0), "exp_avg": torch.zeros(3)}}
    optimizer = {"state": moments, "param_groups": [{"lr": 5e-4, "params": [0]}]}
    scaler = {"scale": 65536.0, "growth_factor": 2.0}
    best = np.float64(33.8)
    run = {"epoch": 40, "optimizer": optimizer, "scaler": scaler, "best_acc1": best, "args": options}
    torch.save({**run, "state_dict": wrapped}, file)
    return file


def ours(state: dict[str, Tensor], size: Size, lambda_init: LambdaInit) -> Clip:
    """Return our model of the authors' weights, by way of a checkpoint and the converter."""
    register(size)
    with tempfile.TemporaryDirectory() as folder:
        trained = checkpoint(Path(folder) / "checkpoint_best.pt", state)
        out = Path(folder) / "out.safetensors"
        convert(trained, out, lambda_init=lambda_init, model=size.name)
        return load_clip(size.name, checkpoint=out, device="cpu")


def inputs(size: Size, seed: int, count: int = 3) -> tuple[Tensor, Tensor]:
    """Return pictures and token sequences of random lengths, each with the largest id at its end."""
    random = torch.Generator().manual_seed(seed)
    images = torch.randn(count, 3, size.image_size, size.image_size, generator=random)
    tokens = torch.randint(1, size.vocab_size - 1, (count, size.context_length), generator=random)
    ends = torch.randint(2, size.context_length - 2, (count,), generator=random)
    for row, length in enumerate(ends.tolist()):
        tokens[row, length] = size.vocab_size - 1
        tokens[row, length + 1 :] = 0
    return images, tokens


def difference(found: Tensor, expected: Tensor) -> float:
    """Return the largest difference, relative to the largest number."""
    return float((found - expected).abs().max() / expected.abs().max())


def main() -> int:
    """Compare, print, and record if asked; 1 beyond the tolerance."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--official", type=Path, required=True, metavar="DIR", help="the authors' checkout")
    parser.add_argument("--record", action="store_true", help=f"write {RECORD.name}")
    parser.add_argument("--small", action="store_true", help="leave the published size out")
    arguments = parser.parse_args()
    authors = Authors(arguments.official)
    rows, worst = [], 0.0
    for size in SIZES[: -1 if arguments.small else None]:
        for seed in SEEDS if size.name != MODEL_NAME else SEEDS[:1]:
            for lambda_init in (PUBLISHED, SCHEDULE):
                row, found = _compare(authors, size, seed, lambda_init)
                rows.append(row)
                worst = float(np.maximum(worst, found))  # unlike max() it keeps what is not a number
    heads = ["size", "seed", "lambda_init", "tensors", "parameters", "image", "text", "text, needed length"]
    figures = {"machine": describe("torch", "open_clip_torch", "timm"), "largest": worst, "rows": rows}
    machine = in_words(figures["machine"])
    write(
        "parity_diffclip",
        figures,
        "# DiffCLIP beside the authors' code\n\nWritten by `python -m benchmarks.parity_diffclip --official DIR`,"
        " random weights. Largest difference of a feature, relative to the largest feature:"
        f" {worst:.1e}, allowed {TOLERANCE:.0e}. Machine: {machine}.\n\n" + table(heads, rows),
    )
    if arguments.record:
        _record(authors)
    return int(not worst <= TOLERANCE)


class Authors:
    """The authors' modules, imported from their checkout, which is no package."""

    def __init__(self, folder: Path) -> None:
        sys.path.insert(0, str(folder.resolve(strict=True)))
        try:
            self._clip = importlib.import_module("diff_clip")
            self._vision = importlib.import_module("diff_attention")
        finally:
            del sys.path[0]

    def model(self, size: Size, seed: int, lambda_init: LambdaInit) -> Any:
        """Return their model with random weights that leave no number at a default."""
        torch.manual_seed(seed)
        width, layers, heads = size.text
        model = self._clip.DiffCLIP(
            embed_dim=size.embed_dim,
            vision_width=size.vision[0],
            vision_model=self._vision.DifferentialVisionTransformer(**_vision(size)),
            context_length=size.context_length,
            vocab_size=size.vocab_size,
            transformer_width=width,
            transformer_heads=heads,
            transformer_layers=layers,
        ).eval()
        for name, parameter in model.named_parameters():
            if name.endswith("weight") and parameter.ndim == 1:
                nn.init.uniform_(parameter, 0.5, 1.5)
            elif "lambda" in name:
                nn.init.normal_(parameter, std=0.3)
            elif parameter.ndim == 1 or "cls_token" in name or "pos_embed" in name:
                nn.init.normal_(parameter, std=0.2)
        for blocks in (model.visual.blocks, model.transformer.resblocks):
            for layer, block in enumerate(blocks):
                block.attn.lambda_init = lambda_init.at(layer)
        return model


@torch.inference_mode()
def _compare(authors: Authors, size: Size, seed: int, lambda_init: LambdaInit) -> tuple[list[str], float]:
    theirs = authors.model(size, seed, lambda_init)
    state = theirs.state_dict()
    mine = ours(state, size, lambda_init)
    images, tokens = inputs(size, seed)
    expected = theirs.encode_text(tokens)
    needed = int(tokens.argmax(dim=1).max()) + 1
    found = [
        difference(mine.encode_image(images, {}), theirs.encode_image(images)),
        difference(mine.encode_text(tokens, {}), expected),
        difference(mine.encode_text(tokens[:, :needed], {}), expected),
    ]
    numbers = sum(tensor.numel() for tensor in state.values())
    row = [size.name, f"{seed}", f"{lambda_init}", f"{len(state)}", f"{numbers}"]
    # nan is larger than nothing: it must not get past max().
    return row + [f"{each:.1e}" for each in found], float(np.max(found))


@torch.inference_mode()
def _record(authors: Authors) -> None:
    """Write weights, inputs and what the authors' code makes of them, with both kinds of `lambda_init`."""
    images, tokens = inputs(TINY, 0)
    arrays = {"images": images, "tokens": tokens}
    for kind, lambda_init in (("published", PUBLISHED), ("schedule", SCHEDULE)):
        model = authors.model(TINY, 0, lambda_init)
        arrays |= {f"weights/{name}": tensor for name, tensor in model.state_dict().items()}
        arrays[f"image_features/{kind}"] = model.encode_image(images)
        arrays[f"text_features/{kind}"] = model.encode_text(tokens)
    RECORD.parent.mkdir(exist_ok=True)
    np.savez(RECORD, **{name: tensor.numpy() for name, tensor in arrays.items()})
    print(f"{RECORD.name}: {RECORD.stat().st_size / 1000:.0f} kB")


def _vision(size: Size) -> dict[str, Any]:
    width, layers, heads = size.vision
    picture = {"img_size": size.image_size, "patch_size": size.patch_size, "num_classes": 0}
    return {**picture, "embed_dim": width, "depth": layers, "num_heads": heads}


if __name__ == "__main__":
    sys.exit(main())
