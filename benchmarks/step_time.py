"""What one BATCLIP step costs: ``python -m benchmarks.step_time --official CHECKOUT``.

Forward pass alone, the authors' step and ours, in turn in the same run, on ViT-B-32 shapes with random weights
(time does not depend on them), 6 classes: on torch in fp32 and in bf16 (autocast), and on ONNX Runtime in fp32,
which is what a line PC without torch learns with. CPU time where there is no CUDA, so that a busy machine counts
less. Peak memory is that of a process which only takes steps, above what the loaded model needs.
"""

from __future__ import annotations

import argparse
import copy
import ctypes
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from safetensors.torch import save_file

from adapters.build.bundle import build_bundle
from adapters.core.norm_vector import NormVector
from adapters.core.prompts import Prompts
from adapters.core.protocol import Floats
from adapters.encoders.protocol import Encoders
from adapters.encoders.torch_encoders import TorchEncoders
from adapters.engines.open_bundle import open_encoders
from adapters.engines.torch_engine import TorchEngine
from adapters.learner.losses import Words, batclip, gradients
from adapters.methods.batclip import PAPER, Batclip
from adapters.methods.method import Texts
from adapters.torch_model.clip import Clip
from adapters.torch_model.differentiable import CHUNK
from adapters.torch_model.loader import load_clip
from benchmarks.machine import describe, in_turn, in_words, table, write
from benchmarks.official_batclip import TEMPLATE, Official

MODEL = "ViT-B-32"
NAMES = [
    "scratched housing",
    "dented housing",
    "stained housing",
    "chipped edge",
    "missing hole",
    "flawless housing",
]
PROMPTS = Prompts(tuple((name, (name,)) for name in NAMES), (TEMPLATE,))
BATCHES = (16, 64, 200)
WAYS = ("forward", "official", "ours", "ours, bf16", "ours, ONNX Runtime", "image tower")
TITLES = {
    "forward": "forward pass alone",
    "official": "the authors' step",
    "ours": "our step, torch fp32",
    "ours, bf16": "our step, torch bf16",
    "ours, ONNX Runtime": "our step, ONNX Runtime fp32",
    "image tower": "image tower there and back",
}
STEPS = ("official", "ours", "ours, bf16", "ours, ONNX Runtime")


def main() -> None:
    """Measure every batch size and write ``results/step_time``."""
    args = _arguments()
    if args.memory:
        print(peak_memory_mib(args, *args.memory))
        return
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_num_threads(args.threads)
    ways = make_ways(args, device, WAYS)
    figures: dict[str, Any] = {"machine": describe("torch", "open_clip_torch"), "device": _name(device)}
    rows = []
    for batch in args.batches:
        images = torch.randn(batch, 3, 224, 224, generator=torch.Generator().manual_seed(batch)).to(device)
        rounds = args.rounds if batch < 200 else max(2, args.rounds // 3)
        calls = {way: partial(call, images) for way, call in ways.items()}
        times = in_turn(calls, rounds, torch.cuda.synchronize if device.type == "cuda" else None)
        memory = {} if args.no_memory else {way: _memory_of(way, batch, args) for way in ways if way in STEPS}
        medians = {way: float(np.median(of_way)) for way, of_way in times.items()}
        figures[f"batch {batch}"] = {
            "seconds": {way: [round(t, 3) for t in of_way] for way, of_way in times.items()},
            **{f"{way} / official": round(medians[way] / medians["official"], 3) for way in ways},
            **{f"{way} / forward": round(medians[way] / medians["forward"], 3) for way in ways},
            "peak_memory_mib": memory,
        }
        for way in ways:
            ratios = sorted(o / t for o, t in zip(times[way], times["official"], strict=True))
            against = f"{medians[way] / medians['official']:.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f})"
            rows.append(
                [
                    str(batch),
                    TITLES[way],
                    f"{medians[way]:.2f}",
                    against,
                    f"{medians[way] / medians['forward']:.2f}",
                    f"{memory[way]:.0f}" if way in memory else "",
                ]
            )
            print(rows[-1], flush=True)
    figures["gradient cosine to fp32"] = gradient_cosines(args, device)
    heads = ["batch", "", "s", "of the authors' step (range)", "of the forward pass", "peak MiB"]
    machine = in_words(figures["machine"])
    write(
        args.name,
        figures,
        "# Time and memory of one BATCLIP step\n\nWritten by `python -m benchmarks.step_time`."
        f" {MODEL} shapes, {len(NAMES)} classes, {args.threads} thread(s), {_name(device)}, median of"
        f" rounds in turn, {'CPU' if device.type == 'cpu' else 'wall'} time. Machine: {machine}.\n\n"
        + table(heads, rows)
        + "\nThe floor is forward and backward of the image tower's activations plus the six prompts;"
        " gradients of frozen weights are never computed by either side.\n\nCosine of the gradient to that of"
        " torch in fp32, batch 16: "
        + ", ".join(f"{way} {cosine:.6f}" for way, cosine in figures["gradient cosine to fp32"].items())
        + ".\n",
    )


def make_ways(
    args: argparse.Namespace, device: torch.device, wanted: tuple[str, ...]
) -> dict[str, Callable[[torch.Tensor], Any]]:
    """Return one call per way to treat a batch."""
    clip, words = opened(device)
    ways: dict[str, Callable[[], Callable[[torch.Tensor], Any]]] = {
        "forward": lambda: partial(_forward, clip),
        "image tower": lambda: partial(_image_tower, clip),
        "official": lambda: (
            Official(args.official, copy.deepcopy(clip.model), open_clip.get_tokenizer(MODEL), NAMES).step
        ),
        "ours": lambda: Learner(clip, Texts.of(clip, PROMPTS)).step,
        "ours, bf16": lambda: Stepper(TorchEncoders(clip, "bf16"), words).step,
        "ours, ONNX Runtime": lambda: Stepper(_onnx_towers(clip, args, device), words).step,
    }
    return {way: ways[way]() for way in wanted}


def opened(device: torch.device) -> tuple[Clip, Words]:
    """Return the model with the same random weights each time, and the words."""
    torch.manual_seed(0)
    model = open_clip.create_model(MODEL, load_weights=False)
    with tempfile.TemporaryDirectory() as folder:
        save_file(model.state_dict(), Path(folder) / "weights.safetensors")
        clip = load_clip(MODEL, checkpoint=Path(folder) / "weights.safetensors", device=device.type)
    return clip, Words.of(TorchEngine(clip), PROMPTS)


def _onnx_towers(clip: Clip, args: argparse.Namespace, device: torch.device) -> Encoders:
    if not args.bundle.exists():
        build_bundle(clip, args.bundle)
    return open_encoders(args.bundle, device=device.type, threads=args.threads)


class Learner:
    """Our method with the state that it carries from step to step, as theirs does."""

    def __init__(self, clip: Clip, texts: Texts) -> None:
        self._clip, self._texts, self._method = clip, texts, Batclip()
        self._state = self._method.start(clip, texts)

    def step(self, images: torch.Tensor) -> None:
        """Adapt to a batch."""
        self._state, _ = self._method.step(self._clip, self._state, images, self._texts)


class Stepper:
    """The same method on towers: what runs with every engine."""

    def __init__(self, encoders: Encoders, words: Words) -> None:
        self._encoders, self._words = encoders, words
        self._vector, self._moments = NormVector(encoders.source).read(encoders.source), None

    def step(self, images: torch.Tensor) -> None:
        """Adapt to a batch."""
        self._vector, self._moments = PAPER.descend(self._vector, self.gradient(images), self._moments)

    def gradient(self, images: torch.Tensor) -> Floats:
        """Return the gradient by the LayerNorms as they are, ``(P,)``."""
        encoded = self._encoders.encode(self._vector, images.cpu().numpy(), self._words.tokens)
        scale = self._encoders.info.logit_scale
        _, *pulled = gradients(lambda i, t: batclip(i, t, self._words, scale), encoded.images, encoded.texts)
        return encoded.backward(*pulled)


def gradient_cosines(args: argparse.Namespace, device: torch.device) -> dict[str, float]:
    """Return the cosine of each way's first gradient to that of torch in fp32, on 16 pictures."""
    clip, words = opened(device)
    images = torch.randn(16, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    exact = Stepper(TorchEncoders(clip), words).gradient(images)
    encoders = {"bf16": TorchEncoders(clip, "bf16"), "ONNX Runtime": _onnx_towers(clip, args, device)}
    found = {name: Stepper(one, words).gradient(images) for name, one in encoders.items()}
    return {
        name: round(float(exact @ one / np.linalg.norm(exact) / np.linalg.norm(one)), 6)
        for name, one in found.items()
    }


def peak_memory_mib(args: argparse.Namespace, way: str, batch: str) -> float:
    """Return how far memory rose above the loaded model while one batch was treated one way."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_num_threads(args.threads)
    (call,) = make_ways(args, device, (way,)).values()
    images = torch.randn(int(batch), 3, 224, 224, device=device)
    call(images[:1])
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    else:
        # What loading the model took and gave back is not the step's, neither as its peak nor as room for it.
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
        before = _status_bytes("VmRSS")
    call(images)
    peak = torch.cuda.max_memory_allocated() if device.type == "cuda" else _status_bytes("VmHWM")
    return (peak - before) / 2**20


def _memory_of(way: str, batch: int, args: argparse.Namespace) -> float:
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.step_time", "--official", str(args.official)]
    command += ["--bundle", str(args.bundle), "--threads", str(args.threads), "--memory", way, str(batch)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    return round(float(answer.stdout.split()[-1]))


@torch.no_grad()
def _forward(clip: Clip, images: torch.Tensor) -> torch.Tensor:
    return torch.cat([clip.encode_image(chunk, {}) for chunk in images.split(CHUNK)])


def _image_tower(clip: Clip, images: torch.Tensor) -> None:
    """Go through the image tower and back to its LayerNorms, with no texts, loss or optimiser."""
    norms = {
        name: torch.tensor(clip.source.tensors[name], device=images.device, requires_grad=True)
        for name in clip.norm_names("image")
    }
    constants = {name: weight.detach() for name, weight in clip.model.named_parameters()}
    features = [clip.encode_image(chunk, {**constants, **norms}) for chunk in images.split(CHUNK)]
    torch.autograd.grad(torch.cat(features).square().sum(), list(norms.values()))


def _status_bytes(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name() if device.type == "cuda" else "CPU"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--official", type=Path, required=True, help="checkout of sarthaxxxxx/BATCLIP")
    parser.add_argument("--batches", type=int, nargs="+", default=list(BATCHES))
    parser.add_argument(
        "--bundle",
        type=Path,
        default=Path("out/step_time/bundle"),
        help="of the same weights; made if absent",
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--name", default="step_time", help="of the files in results")
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--memory", nargs=2, metavar=("WAY", "BATCH"), help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
