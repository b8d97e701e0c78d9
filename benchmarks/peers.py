"""The same picture through neighbours' code: ``python -m benchmarks.peers`` writes ``results/peers.json``, ``.md``.

ViT-B-32 shapes with random weights, six classes of one sentence, one thread, a 1280x720 picture in memory to class
probabilities: ours on the line PC's engine and on torch, open_clip as its README has it, and, where they are
installed (`pip install transformers supervision`; this project does not need them), the zero-shot pipeline of
transformers, and the frame loop of Roboflow's supervision around our engine beside our own camera loop.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import open_clip
import torch
from PIL import Image
from safetensors.torch import save_file

from adapters.bundle import TOKENIZER, open_bundle
from adapters.bundle_build import build_bundle
from adapters.clip import load_clip
from adapters.engine import Engine
from adapters.prompts import Prompts, class_features, probabilities
from adapters.torch_engine import TorchEngine
from benchmarks.machine import describe, in_turn, in_words, table, write
from benchmarks.step_time import MODEL, NAMES, TEMPLATE
from camera.frame import Image as Picture
from camera.preprocess import Preprocess, prepare
from camera.region import Region
from camera.settings import RegionOfInterest

WIDTH, HEIGHT = 1280, 720
FRAMES = 40


def main() -> None:
    """Measure whatever is there, in turn."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--bundle", type=Path, default=Path("out/step_time/bundle"), help="made if absent")
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
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
        "machine": describe("torch", "open_clip_torch", "onnxruntime"),
        "ms": {way: round(1e3 * float(np.median(seconds)), 2) for way, seconds in times.items()},
        "loop": _loops(picture),
    }
    write(
        "peers",
        figures,
        "# Neighbours on the same picture\n\nWritten by `python -m benchmarks.peers`."
        f" {MODEL} shapes, random weights, {len(NAMES)} classes, one thread, CPU time, median of"
        f" {arguments.rounds} rounds in turn. Machine: {in_words(figures['machine'])}.\n\n"
        + table(["from a 1280x720 picture to probabilities", "ms", "of ours"], rows)
        + "\nopen_clip's README and the pipeline encode the six sentences with every picture; a class's features are"
        " cached here per adapter.\n\nThe frame loop alone, without a model, ms a frame: "
        + ", ".join(f"{way} {ms:.2f}" for way, ms in figures["loop"].items())
        + ".\n",
    )


def _ours(engine: Engine, picture: Picture) -> Callable[[], Any]:
    spec = Preprocess(**asdict(engine.info.preprocess))
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


def _loops(picture: Picture) -> dict[str, float]:
    """Return ms a frame of reading a clip and handing frames on, without a model."""
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        clip = Path(name) / "clip.mp4"
        writer = cv2.VideoWriter(str(clip), cv2.VideoWriter.fourcc(*"mp4v"), 25, (WIDTH, HEIGHT))
        for _ in range(FRAMES):
            writer.write(picture)
        writer.release()
        ways: dict[str, Callable[[], Any]] = {"Mekiki (read, region, model input)": lambda: _our_loop(clip)}
        try:
            import supervision
        except ImportError as error:
            print(f"supervision is left out: {error}")
        else:
            target = str(Path(name) / "out.mp4")
            ways["supervision process_video (read, write)"] = lambda: supervision.process_video(
                source_path=str(clip), target_path=target, callback=lambda frame, _: frame
            )
        for way, seconds in in_turn(ways, 3).items():
            found[way] = round(1e3 * float(np.median(seconds)) / FRAMES, 2)
    return found


def _our_loop(clip: Path) -> None:
    spec = Preprocess(224, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    region, capture = Region(RegionOfInterest()), cv2.VideoCapture(str(clip))
    while True:
        there, frame = capture.read()
        if not there:
            return
        image, _ = region.cut(np.ascontiguousarray(frame[:, :, ::-1]))
        prepare(image, spec)


if __name__ == "__main__":
    main()
