"""Is `adapters.methods.batclip` the authors' BATCLIP? ``python -m benchmarks.parity_batclip --official CHECKOUT``.

Both run on the same seeded models, pictures and class names: loss terms, the gradient of every LayerNorm number,
and twenty steps. The authors' side runs in fp64, so that what is compared with is their formula and not its
rounding. `--record` writes what they give to ``tests/data/batclip_parity.npz``, which the test suite is held to.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from adapters.core.norm_vector import NormVector
from adapters.core.prompts import Prompts
from adapters.methods.batclip import Batclip
from adapters.methods.method import Learned, Outputs, Texts, forward, parameter
from adapters.torch_model.clip import Clip
from adapters.torch_model.differentiable import named
from adapters.torch_model.loader import load_clip
from benchmarks.machine import describe, in_words, table, write
from benchmarks.official_batclip import TEMPLATE, Official

RECORD = Path(__file__).parents[1] / "tests" / "data" / "batclip_parity.npz"
MODEL = "parity-tiny"
CONFIG: dict[str, Any] = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 32, "head_width": 16, "layers": 2},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}
STEPS = 20
TOLERANCES = {"terms": 1e-5, "logits": 1e-5, "gradient": 1e-5, "norm": 1e-3}


@dataclass(frozen=True, slots=True)
class Problem:
    """One comparison.

    Attributes:
        classes: how many.
        batch: pictures in each of the batches.
        alike: pictures differ so little that one class is predicted for all.
    """

    classes: int
    batch: int
    alike: bool = False

    def __str__(self) -> str:
        return f"{self.classes} classes, {self.batch} pictures{', one predicted' if self.alike else ''}"

    @property
    def key(self) -> str:
        """Name in the record."""
        return f"{self.classes}-{self.batch}{'-alike' if self.alike else ''}"

    @property
    def names(self) -> list[str]:
        """Class names: words of a vocabulary that needs no data set."""
        return [f"{a} {b}" for a in _FIRST for b in _SECOND][:: 100 // self.classes][: self.classes]

    @property
    def prompts(self) -> Prompts:
        """The same words as a recipe."""
        return Prompts(tuple((name, (name,)) for name in self.names), (TEMPLATE,))

    def images(self, batch: int) -> NDArray[np.float32]:
        """Draw one batch, ``(B, 3, 32, 32)``."""
        rng = np.random.default_rng([self.classes, self.batch, batch])
        coarse = rng.normal(size=(1 if self.alike else self.batch, 3, 4, 4)).repeat(8, 2).repeat(8, 3)
        noise = rng.normal(size=(self.batch, 3, 32, 32))
        return (2 * coarse + (0.01 if self.alike else 0.5) * noise).astype(np.float32)


_FIRST = ("scratched", "dented", "stained", "chipped", "flawless", "rusty", "bent", "cracked", "dirty", "wet")
_SECOND = ("housing", "flange", "bolt", "nut", "shaft", "gear", "plate", "cap", "ring", "lens")

PROBLEMS = (
    Problem(2, 16), Problem(2, 16, alike=True), Problem(6, 48), Problem(6, 1), Problem(6, 16, alike=True),
    Problem(10, 64), Problem(100, 64), Problem(100, 16, alike=True),
)  # fmt: skip


def draw_weights(folder: Path) -> Path:
    """Write weights drawn by numpy, whose streams do not change between versions; every norm has its own."""
    if MODEL not in open_clip.list_models():
        (folder / f"{MODEL}.json").write_text(json.dumps(CONFIG))
        open_clip.add_model_config(folder / f"{MODEL}.json")
    state = open_clip.create_model(MODEL, load_weights=False).state_dict()
    rng = np.random.default_rng(0)
    for name in sorted(state):
        shape = tuple(state[name].shape)
        if ".ln_" in name or name.startswith("ln_"):
            drawn = rng.uniform(0.5, 1.5, shape) if name.endswith("weight") else rng.uniform(-0.5, 0.5, shape)
        elif name == "logit_scale":
            drawn = np.log(np.asarray(10.0))
        else:
            # Little of what all pictures share, so that they do not all look like one class.
            shared = name in ("visual.class_embedding", "visual.positional_embedding", "positional_embedding")
            scale = 0.1 if shared else 1.0 if "embedding" in name else 2.0 * shape[-1] ** -0.5
            drawn = scale * rng.normal(size=shape)
        state[name] = torch.from_numpy(np.asarray(drawn, np.float32))
    file = folder / f"{MODEL}.safetensors"
    save_file(state, file)
    return file


def ours(clip: Clip, problem: Problem) -> dict[str, NDArray[np.float64]]:
    """Return what `theirs` returns, of our implementation in fp32."""
    texts = Texts.of(clip, problem.prompts)
    method = Batclip()
    found: dict[str, NDArray[np.float64]] = {}
    state = method.start(clip, texts)
    images = torch.from_numpy(problem.images(0))
    for name, tensor in gradients(clip, method, state, images, texts).items():
        found[f"gradient/{name}"] = tensor
    for step in range(STEPS):
        state, answer = method.step(clip, state, torch.from_numpy(problem.images(step)), texts)
        if step == 0:
            found["terms"] = np.array(
                [answer.numbers[name] for name in ("entropy", "matching", "separation", "loss")]
            )
            found["logits"] = answer.logits.double().numpy()
    for name, array in state.adapter.tensors.items():
        found[f"norm/{name}"] = array.astype(np.float64)
    return found


def gradients(
    clip: Clip, method: Batclip, state: Learned, images: torch.Tensor, texts: Texts
) -> dict[str, NDArray[np.float64]]:
    """Return the gradient of the loss by LayerNorm name."""
    norms = NormVector(clip.source, tuple(clip.source.tensors))
    vector = parameter(norms, state.adapter, clip.device)
    outputs: Outputs = forward(clip, named(norms, vector), images, texts)
    (gradient,) = torch.autograd.grad(method.terms(outputs).loss, vector)
    return {name: part.double().numpy() for name, part in named(norms, gradient).items()}


def theirs(checkout: Path, clip: Clip, weights: Path, problem: Problem) -> dict[str, NDArray[np.float64]]:
    """Return loss terms, logits and gradients of the first batch and the LayerNorms after twenty, in fp64."""
    model = open_clip.create_model(MODEL, load_weights=False)
    open_clip.load_checkpoint(model, str(weights))
    # Their wrapper computes with the texts in the model's own precision.
    official = Official(checkout, model.double().eval(), open_clip.get_tokenizer(MODEL), problem.names)
    found: dict[str, NDArray[np.float64]] = {}
    for step in range(STEPS):
        images = torch.from_numpy(problem.images(step)).double()
        if step == 0:
            found["terms"] = np.array(list(official.terms(images).values()))
        logits = official.step(images)
        if step == 0:
            found["logits"] = logits.numpy()
            found |= {f"gradient/{name}": tensor.numpy() for name, tensor in official.gradients().items()}
    return found | {f"norm/{name}": tensor.numpy() for name, tensor in official.norms().items()}


def differences(
    clip: Clip, mine: Mapping[str, NDArray[np.float64]], reference: Mapping[str, NDArray[np.float64]]
) -> dict[str, float]:
    """Return the largest relative difference of each part.

    A term of the loss relative to itself (separation is exactly 0 where one class is predicted); logits relative
    to the logit scale, the largest there can be; a gradient relative to the largest number of its LayerNorm
    tensor; the trajectory relative to the farthest that a number of the tensor moved.
    """
    worst = {"terms": 0.0, "logits": 0.0, "gradient": 0.0, "norm": 0.0}
    for name, expected in reference.items():
        part, _, norm = name.partition("/")
        if part == "terms":
            scale = np.maximum(np.abs(expected), 1e-9)
        elif part == "logits":
            scale = np.asarray(clip.info.logit_scale)
        elif part == "gradient":
            scale = np.abs(expected).max()
        else:
            scale = np.abs(expected - clip.source.tensors[norm]).max()
        off = float((np.abs(mine[name] - expected) / scale).max())
        worst[part] = float(np.maximum(worst[part], off))  # unlike max() it keeps what is not a number
    return worst


def main() -> None:
    """Compare, or record what the authors' code gives."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--official", type=Path, required=True, help="checkout of sarthaxxxxx/BATCLIP")
    parser.add_argument("--record", action="store_true", help=f"write {RECORD.name} for the test suite")
    args = parser.parse_args()
    torch.set_num_threads(1)
    record: dict[str, Any] = {}
    agrees, rows = True, []
    with tempfile.TemporaryDirectory() as folder:
        weights = draw_weights(Path(folder))
        clip = load_clip(MODEL, checkpoint=weights, device="cpu")
        for problem in PROBLEMS:
            reference = theirs(args.official, clip, weights, problem)
            record |= {f"{problem.key}/{name}": array for name, array in reference.items()}
            mine = ours(clip, problem)
            worst = differences(clip, mine, reference)
            present = len(np.unique(mine["logits"].argmax(1)))
            rows.append([str(problem), str(present), *(f"{off:.1e}" for off in worst.values())])
            agrees &= all(worst[part] <= TOLERANCES[part] for part in worst)
    figures = {"machine": describe("torch", "open_clip_torch"), "tolerances": TOLERANCES, "rows": rows}
    machine = in_words(figures["machine"])
    write(
        "parity_batclip",
        figures,
        "# BATCLIP beside the authors' code\n\nWritten by `python -m benchmarks.parity_batclip --official CHECKOUT`."
        f" Largest relative differences, ours in fp32, theirs in fp64; allowed {TOLERANCES}. Machine: {machine}.\n\n"
        + table(
            ["problem", "classes predicted", "loss terms", "logits", "gradients", f"{STEPS} steps"], rows
        ),
    )
    if args.record:
        RECORD.parent.mkdir(exist_ok=True)
        np.savez_compressed(RECORD, **record)
    if not agrees:
        sys.exit(f"beyond {TOLERANCES}")


if __name__ == "__main__":
    main()
