"""The same picture through neighbours' code: ``python -m benchmarks.peers`` writes ``results/peers.json``, ``.md``.

ViT-B-32 shapes with random weights, six classes of one sentence, one thread, a 1280x720 picture in memory to class
probabilities: ours on the line PC's engine and on torch, open_clip as its README has it, and, where it is
installed, the zero-shot pipeline of transformers. Then the frame loops of Roboflow's supervision around our engine
beside our own camera loop, over the same clip.

This project needs neither; `make bench` puts them into a folder of their own::

    python -m pip install --target out/peers --no-deps -r benchmarks/peers.txt

``--peers`` names that folder. It is searched last, so that numpy, OpenCV and torch are this project's; what is
not there is left out, saying so.
"""

from __future__ import annotations

import argparse
import site
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from PIL import Image
from safetensors.torch import save_file

from adapters.build.bundle import build_bundle
from adapters.bundle.reader import TOKENIZER
from adapters.core.prompts import Prompts, class_features, probabilities
from adapters.core.protocol import Engine
from adapters.engines.open_bundle import open_bundle
from adapters.engines.torch_engine import TorchEngine
from adapters.torch_model.loader import load_clip
from benchmarks.machine import describe, in_turn, in_words, table, write
from benchmarks.peer_loops import HEIGHT, OURS, WIDTH, loops
from benchmarks.step_time import MODEL, NAMES, TEMPLATE
from camera.core.frame import Image as Picture
from camera.pictures.preprocess import InputSpec, prepare

FRAMES = 150
"""Of the clip."""


def main() -> None:
    """Measure whatever is there, in turn."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--bundle", type=Path, default=Path("out/step_time/bundle"), help="made if absent")
    parser.add_argument(
        "--peers", type=Path, default=Path("out/peers"), help="where neighbours are installed"
    )
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    site.addsitedir(str(arguments.peers.absolute()))
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model, _, transform = open_clip.create_model_and_transforms(MODEL)
    with tempfile.TemporaryDirectory() as folder:
        save_file(model.state_dict(), Path(folder) / "weights.safetensors")
        clip = load_clip(MODEL, checkpoint=Path(folder) / "weights.safetensors", device="cpu")
    if not arguments.bundle.exists():
        build_bundle(clip, arguments.bundle)
    picture = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    line = open_bundle(arguments.bundle, device="cpu", threads=1)
    ways: dict[str, Callable[[], Any]] = {
        "Mekiki, ONNX Runtime fp32": _ours(line, picture),
        "Mekiki, torch fp32": _ours(TorchEngine(clip, threads=1), picture),
        "open_clip, README": _readme(model.eval(), transform, picture),
        **_transformers(arguments.bundle / TOKENIZER, picture),
    }
    times = in_turn(ways, arguments.rounds)
    base = float(np.median(times["Mekiki, ONNX Runtime fp32"]))
    rows = [
        [way, f"{1e3 * np.median(seconds):.1f}", f"{np.median(seconds) / base:.2f}"]
        for way, seconds in times.items()
    ]
    figures: dict[str, Any] = {
        "machine": describe(
            "torch", "open_clip_torch", "onnxruntime", *_installed("transformers", "supervision")
        ),
        "ms": {way: round(1e3 * float(np.median(seconds)), 2) for way, seconds in times.items()},
        "loops": loops(FRAMES, max(1, arguments.rounds // 3)),
    }
    _write(figures, rows, arguments.rounds)


def _write(figures: dict[str, Any], rows: list[list[str]], rounds: int) -> None:
    loop_rows = [
        [model, way, f"{one['wall_ms']:.2f}", _spread(one["wall of ours"]), f"{one['cpu_ms']:.2f}"]
        for model, of_model in figures["loops"].items()
        for way, one in of_model.items()
    ]
    write(
        "peers",
        figures,
        "# Neighbours on the same picture\n\nWritten by `python -m benchmarks.peers`."
        f" {MODEL} shapes, random weights, {len(NAMES)} classes, one thread, CPU time, median of"
        f" {rounds} rounds in turn. Machine: {in_words(figures['machine'])}.\n\n"
        + table(["from a 1280x720 picture to probabilities", "ms", "of ours"], rows)
        + "\nopen_clip's README and the pipeline encode the six sentences with every picture; a class's features are"
        " cached here per adapter.\n\n## The frame loop\n\n"
        f"{FRAMES} frames of {WIDTH}x{HEIGHT} from a clip through the same engine on one thread, ms a frame, median of"
        f" {max(1, rounds // 3)} rounds in turn. {OURS}: every frame is also assessed for quality and compared with the"
        " one before. supervision reads ahead in a thread of its own too; process_video always writes a clip.\n\n"
        + table(["model", "loop", "wall ms", "of ours (range)", "CPU ms"], loop_rows),
    )


def _spread(ratios: list[float]) -> str:
    return f"{np.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"


def _installed(*packages: str) -> list[str]:
    found = {(distribution.name or "").lower() for distribution in metadata.distributions()}
    return [package for package in packages if package in found]


def _ours(engine: Engine, picture: Picture) -> Callable[[], Any]:
    spec = InputSpec(**asdict(engine.info.preprocess))
    words = class_features(engine, Prompts(tuple((n, (n,)) for n in NAMES), (TEMPLATE,)), engine.source)

    def call() -> Any:
        features = engine.encode_image(prepare(picture, spec)[None], [engine.source])
        return probabilities(features, words, engine.info.logit_scale)

    return call


def _readme(model: Any, transform: Callable[[Any], torch.Tensor], picture: Picture) -> Callable[[], Any]:
    tokenizer = open_clip.get_tokenizer(MODEL)

    def call() -> Any:
        image = transform(Image.fromarray(picture)).unsqueeze(0)
        text = tokenizer([TEMPLATE.format(name) for name in NAMES])
        with torch.no_grad():
            image_features, text_features = model.encode_image(image), model.encode_text(text)
            image_features /= image_features.norm(dim=-1, keepdim=True)
            text_features /= text_features.norm(dim=-1, keepdim=True)
            return (100.0 * image_features @ text_features.T).softmax(dim=-1)

    return call


def _transformers(tokenizer_file: Path, picture: Picture) -> dict[str, Callable[[], Any]]:
    try:
        from transformers import (
            CLIPConfig,
            CLIPImageProcessor,
            CLIPModel,
            PreTrainedTokenizerFast,
            pipeline,
        )
    except ImportError as error:
        print(f"transformers is left out: {error}")
        return {}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(tokenizer_file), pad_token="<end_of_text>", model_max_length=77
    )
    pipe = pipeline(
        "zero-shot-image-classification",
        model=CLIPModel(CLIPConfig()).eval(),
        tokenizer=tokenizer,
        image_processor=CLIPImageProcessor(),
    )
    image = Image.fromarray(picture)
    return {"transformers, pipeline": lambda: pipe(image, candidate_labels=NAMES)}


if __name__ == "__main__":
    main()
