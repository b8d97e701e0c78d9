"""The figures of an NVIDIA card, with one command: ``make bench-gpu``, or ``python -m benchmarks.gpu``.

Writes ``results/gpu.json`` and ``.md`` with the card's name: ViT-B-16 (random weights, time does not depend on
them) on torch in fp16 and bf16 beside the roofline of this card, sixteen adapters in a batch beside one, the update
step beside the authors' (``--official CHECKOUT`` of sarthaxxxxx/BATCLIP; ViT-B-32 as in `step_time`), latency of
inspection while another process learns, and ONNX Runtime's CUDA provider where onnxruntime-gpu is installed.

The project had no card while this was written: the script has run on a processor only, with ``--device cpu
--small``, a tiny model and few rounds, which says that it runs and nothing about speed.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import open_clip
import torch
from safetensors.torch import save_file

from adapters.build.bundle import build_bundle
from adapters.bundle.reader import bundle_path
from adapters.core.adapter import Adapter
from adapters.core.protocol import Precision
from adapters.encoders.torch_encoders import TorchEncoders
from adapters.engines.open_bundle import open_bundle
from adapters.engines.torch_engine import TorchEngine
from adapters.learner.losses import Words
from adapters.torch_model.architecture import fresh_model
from adapters.torch_model.clip import Clip
from adapters.torch_model.loader import load_clip
from benchmarks import roofline, step_time
from benchmarks.floor import gflop_of_a_picture
from benchmarks.gpu_beside import STEP_BATCH, beside
from benchmarks.gpu_report import markdown
from benchmarks.machine import RESULTS, describe, in_turn
from benchmarks.official_batclip import Official
from benchmarks.roofline import DTYPES, Roof, waiter
from benchmarks.ship_line import WEIGHTS

PRECISIONS: tuple[Precision, ...] = ("fp16", "bf16")
LINE = "mekiki-line"


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured.

    Attributes:
        model: that inspects.
        step_model: that is adapted.
        batches: of pictures.
        adapters: in one batch.
        step_batches: of an update step.
        beside_batch: of the learner beside inspection.
        beside_s: of each way of it in each round.
        rounds: of everything else; inspection beside learning has three or as many, whichever is less.
        side: of the matrices for the roofline.
        copied_bytes: for the roofline.
    """

    model: str = "ViT-B-16"
    step_model: str = step_time.MODEL
    batches: tuple[int, ...] = (1, 8, 32, 128)
    adapters: int = 16
    step_batches: tuple[int, ...] = step_time.BATCHES
    beside_batch: int = STEP_BATCH
    beside_s: float = 10.0
    rounds: int = 30
    side: int = 8192
    copied_bytes: int = 2**30


SMALL = Size(LINE, LINE, (1, 2), 2, (2, 3), 2, 0.3, 1, 128, 2**20)


def main() -> None:
    """Measure all of it in one run."""
    arguments = _arguments()
    size = SMALL if arguments.small else Size()
    device = torch.device(arguments.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        sys.exit("torch sees no CUDA card here; `--device cpu --small` tries the script on a processor")
    sys.setswitchinterval(0.0005)  # as `mekiki run` does
    clip = _opened(size.model, arguments.device)
    roof = roofline.measure(device, ("fp32", *PRECISIONS), size.side, size.copied_bytes)
    figures: dict[str, Any] = {
        "card": _card(device),
        "machine": describe("torch", "numpy"),
        "small": arguments.small,
        "model": size.model,
        "step_model": size.step_model,
        "roofline": asdict(roof),
        "pictures": _pictures(clip, roof, device, size),
        "adapters": _adapters(clip, device, size),
        "steps": _steps(device, size, arguments.official),
        "beside": _beside(clip, device, size),
        "onnxruntime": _onnx(arguments.bundle, device, size),
    }
    text = markdown(figures)
    print(text)
    folder = arguments.out or (None if arguments.small else RESULTS)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "gpu.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
        (folder / "gpu.md").write_text(text, encoding="utf-8")


def _pictures(clip: Clip, roof: Roof, device: torch.device, size: Size) -> list[dict[str, Any]]:
    """Return pictures a second of the tower alone, pictures already there, and of the engine's whole call."""
    gflop = gflop_of_a_picture(_opened(size.model, "cpu"))
    numbers = sum(parameter.numel() for parameter in clip.model.visual.parameters())
    rows = []
    for precision in PRECISIONS:
        engine = TorchEngine(clip, None, precision)
        for batch in size.batches:
            given = _random(batch, clip)
            there = torch.tensor(given, device=device, dtype=DTYPES[precision])
            ways: dict[str, Callable[[], Any]] = {
                "tower": partial(_tower, engine.clip, there),
                "call": partial(engine.encode_image, given, [engine.source] * batch),
            }
            seconds = {way: float(np.median(times)) for way, times in _timed(ways, device, size).items()}
            # Each weight and each picture is read once, in 16 bits.
            floor_s = roof.seconds(gflop * batch, 2 * (numbers + given.size) / 1e6, precision)
            rows.append(
                {
                    "precision": precision,
                    "batch": batch,
                    "per_s": round(batch / seconds["tower"], 1),
                    "per_s of the whole call": round(batch / seconds["call"], 1),
                    "roofline per_s": round(batch / floor_s, 1),
                    "of the roofline": round(floor_s / seconds["tower"], 3),
                    "whole call of the roofline": round(floor_s / seconds["call"], 3),
                }
            )
            print(rows[-1], flush=True)
    return rows


def _adapters(clip: Clip, device: torch.device, size: Size) -> list[dict[str, Any]]:
    """Return what a batch with an adapter for each picture takes of the same batch with one."""
    rng, rows = np.random.default_rng(0), []
    adapters = [
        Adapter({name: t * np.float32(rng.uniform(0.9, 1.1)) for name, t in clip.source.tensors.items()}, n)
        for n in range(1, size.adapters + 1)
    ]
    given = _random(size.adapters, clip)
    for precision in PRECISIONS:
        engine = TorchEngine(clip, None, precision)
        ways: dict[str, Callable[[], Any]] = {
            "one": partial(engine.encode_image, given, adapters[:1] * size.adapters),
            "many": partial(engine.encode_image, given, adapters),
        }
        times = _timed(ways, device, size)
        one, many = (1e3 * float(np.median(times[way])) for way in ways)
        rows.append(
            {
                "precision": precision,
                "adapters": size.adapters,
                "one_ms": round(one, 3),
                "many_ms": round(many, 3),
                "many / one": round(many / one, 3),
            }
        )
    return rows


def _steps(device: torch.device, size: Size, official: Path | None) -> list[dict[str, Any]]:
    """Return seconds and memory of one update step each way."""
    clip = _opened(size.step_model, device.type)
    words = Words.of(TorchEngine(clip), step_time.PROMPTS)
    ways: dict[str, Callable[[torch.Tensor], Any]] = {
        "ours, fp32": step_time.Stepper(TorchEncoders(clip), words).step,
        "ours, bf16": step_time.Stepper(TorchEncoders(clip, "bf16"), words).step,
    }
    if official is not None:
        tokenizer = open_clip.get_tokenizer(size.step_model)
        ways["official"] = Official(official, copy.deepcopy(clip.model), tokenizer, step_time.NAMES).step
    rows = []
    for batch in size.step_batches:
        images = torch.tensor(_random(batch, clip), device=device)
        times = _timed({way: partial(call, images) for way, call in ways.items()}, device, size)
        medians = {way: float(np.median(of_way)) for way, of_way in times.items()}
        for way, call in ways.items():
            rows.append(
                {
                    "batch": batch,
                    "way": way,
                    "ms": round(1e3 * medians[way], 2),
                    "of official": round(medians[way] / medians["official"], 3) if official else None,
                    "peak_mib": _peak_mib(partial(call, images), device),
                }
            )
            print(rows[-1], flush=True)
    return rows


def _beside(clip: Clip, device: torch.device, size: Size) -> dict[str, Any]:
    """Inspect in fp16 while a model of its own learns in fp32, as in the agent."""
    engine = TorchEngine(clip, None, "fp16")
    make = partial(_stepper, size.model, device.type)
    rounds = min(3, size.rounds)
    return beside(engine, make, size.beside_batch, size.beside_s, rounds, cuda=device.type == "cuda")


def _stepper(model: str, device: str) -> step_time.Stepper:
    clip = _opened(model, device)
    return step_time.Stepper(TorchEncoders(clip), Words.of(TorchEngine(clip), step_time.PROMPTS))


def _onnx(bundle: Path, device: torch.device, size: Size) -> dict[str, Any] | str:
    """Return pictures a second by batch, or why there are none."""
    if device.type == "cuda" and "CUDAExecutionProvider" not in ort.get_available_providers():
        return "not measured: the onnxruntime here has no CUDA provider; install onnxruntime-gpu in its place"
    if size.model == LINE:
        bundle = bundle_path(LINE)
    elif not bundle.exists():
        build_bundle(_opened(size.model, "cpu"), bundle)
    engine = open_bundle(bundle, device=device.type)
    side = engine.info.preprocess.size
    rows: dict[str, float] = {}
    for batch in size.batches:
        given = np.random.default_rng(0).standard_normal((batch, 3, side, side), dtype=np.float32)
        (times,) = _timed(
            {"call": partial(engine.encode_image, given, [engine.source] * batch)}, device, size
        ).values()
        rows[str(batch)] = round(batch / float(np.median(times)), 1)
    return {"provider": engine.info.provider, "per_s": rows}


def _opened(name: str, device: str) -> Clip:
    """Return `mekiki-line`, or another model with the same random weights each time."""
    if name == LINE:
        return load_clip(name, checkpoint=WEIGHTS, device=device)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "weights.safetensors"
        save_file(fresh_model(name).state_dict(), file)
        return load_clip(name, checkpoint=file, device=device)


@torch.inference_mode()
def _tower(clip: Clip, pictures: torch.Tensor) -> torch.Tensor:
    return clip.encode_image(pictures, {})


def _timed(ways: dict[str, Callable[[], Any]], device: torch.device, size: Size) -> dict[str, list[float]]:
    return in_turn(ways, size.rounds, waiter(device))


def _random(batch: int, clip: Clip) -> np.ndarray[Any, np.dtype[np.float32]]:
    side = clip.info.preprocess.size
    return np.random.default_rng(batch).standard_normal((batch, 3, side, side), dtype=np.float32)


def _peak_mib(call: Callable[[], Any], device: torch.device) -> float | None:
    """Return how far a call raises what is allocated on a card; None on a processor, see `step_time`."""
    if device.type != "cuda":
        return None
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    return round((torch.cuda.max_memory_allocated() - before) / 2**20)


def _card(device: torch.device) -> dict[str, Any]:
    if device.type != "cuda":
        return {"name": "no card: a processor"}
    facts = torch.cuda.get_device_properties(device)
    return {
        "name": facts.name,
        "memory_gib": round(facts.total_memory / 2**30, 1),
        "capability": f"{facts.major}.{facts.minor}",
        "cuda": torch.version.cuda,
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument(
        "--small", action="store_true", help="a tiny model, few rounds; writes only into --out"
    )
    parser.add_argument("--official", type=Path, help="checkout of sarthaxxxxx/BATCLIP")
    parser.add_argument("--bundle", type=Path, default=Path("out/gpu/bundle"), help="made if absent")
    parser.add_argument("--out", type=Path, help="folder of the figures; without it benchmarks/results")
    return parser.parse_args()


if __name__ == "__main__":
    main()
