"""Build a model bundle from a checkpoint. Needs torch, open_clip and onnx; the line PC does not."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
import safetensors.numpy
import torch
from torch import Tensor, nn

from adapters.build.backward_graph import export_step
from adapters.build.build_memory import require_memory
from adapters.build.export_failure import explained
from adapters.build.forward_graph import (
    IMAGES,
    TOKENS,
    ShortTextTower,
    example_tokens,
    export_image,
    export_text,
)
from adapters.build.norm_probe import require_picture_norms
from adapters.build.weights import Weights
from adapters.bundle.manifest import MANIFEST, BundledFile, BundleManifest, file_digest
from adapters.bundle.reader import IMAGE, NORMS, TEXT, TOKENIZER, VECTORS, graph, weights
from adapters.core.adapter import Adapter
from adapters.core.norm_vector import NormVector
from adapters.core.protocol import Floats, ModelError
from adapters.core.tokenizer import ClipTokenizer
from adapters.encoders.torch_encoders import TorchEncoders
from adapters.engines.known_answers import GRADIENT_TOLERANCE, TOLERANCE, gradient_error, vectors_error
from adapters.engines.onnx_engine import OnnxEngine
from adapters.engines.open_bundle import open_bundle, open_encoders
from adapters.engines.self_check import check_bundle
from adapters.engines.torch_engine import TorchEngine
from adapters.torch_model.architecture import sketch
from adapters.torch_model.clip import Clip, ImageTower
from adapters.torch_model.convert_tokenizer import open_tokenizer
from adapters.torch_model.loader import load_clip

TOOLS = ("torch", "open_clip_torch", "timm", "onnx", "onnxscript", "onnxruntime", "tokenizers")

PICTURES = 4
BLOCKS = 8
TEXTS = (
    "",
    "a photo of a flawless metal part",
    "a photo of a part with a long, thin scratch.",
    "une pièce ébréchée (3/4) — 42 %",
    "目利き",
)
"""Prompts of the vectors, one longer than the others; a short context gets their first words."""


@dataclass(frozen=True)
class Built:
    """What came of a build.

    Attributes:
        folder: the bundle.
        digest: ``sha256:...`` of its manifest.
        size: bytes of all its files.
        error: largest difference to torch, relative; see `adapters.engines.known_answers.TOLERANCE`.
        gradient_error: of the gradient by a LayerNorm; see `GRADIENT_TOLERANCE` there.
    """

    folder: Path
    digest: str
    size: int
    error: float
    gradient_error: float


def build(
    model: str,
    out: Path,
    *,
    name: str | None = None,
    checkpoint: Path | None = None,
    pretrained: str | None = None,
    sha256: str | None = None,
    int8: bool = False,
    patches: bool = False,
) -> Built:
    """Load a model and make its bundle: ``mekiki model build NAME|FILE --out DIR``.

    Args:
        model: a weights file, which needs `name`; or a name, which needs `checkpoint` or `pretrained`.
        out: folder to make.
        name: model name as open_clip knows it.
        checkpoint: weights file.
        pretrained: open_clip's tag of weights in the hub's cache.
        sha256: what the weights file must hash to.
        int8: add the image tower in int8.
        patches: add the image tower with its patches, for references of ``features: clip``.

    Raises:
        ModelError: the model cannot be loaded or exported, takes more memory than there is, or the bundle
            differs from torch.
    """
    if Path(model).is_file():
        if name is None or checkpoint is not None or pretrained is not None:
            raise ModelError(f"{model}: a weights file needs a name such as ViT-B-32, and no other weights")
        checkpoint = Path(model)
    elif name not in (None, model):
        raise ModelError(f"{model}: no such file, and not the name {name}")
    name = name or model
    # What cannot become a bundle is refused before gigabytes of it are read.
    sketched = sketch(name)
    open_tokenizer(name, trim=True)
    require_memory(name, sum(tensor.numel() for tensor in sketched.parameters()))
    clip = load_clip(name, checkpoint=checkpoint, pretrained=pretrained, sha256=sha256, device="cpu")
    return build_bundle(clip, out, int8=int8, patches=patches)


def build_bundle(clip: Clip, out: Path, *, int8: bool = False, patches: bool = False) -> Built:
    """Export a model, check the result against torch and move it to `out` in one step.

    Args:
        clip: the model.
        out: folder to make.
        int8: add the image tower in int8.
        patches: add the image tower with its patches.

    Raises:
        ModelError: `out` exists, the model cannot be exported, or the bundle differs from torch.
    """
    if out.exists():
        raise ModelError(f"{out}: exists; remove it or choose another folder")
    name = clip.info.name
    require_picture_norms(clip)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as temporary:
        folder = Path(temporary) / "bundle"
        folder.mkdir()
        with explained(name, "cannot be exported to ONNX"):
            _write_graphs(clip, folder, int8=int8, patches=patches)
        # save_file makes it readable for its owner only; a bundle is built by one user and run by another.
        (folder / NORMS).write_bytes(safetensors.numpy.save(dict(clip.source.tensors)))
        (folder / TOKENIZER).write_text(clip.tokenizer.vocabulary, encoding="utf-8")
        with explained(name, "torch cannot learn with it"):
            _write_vectors(clip, folder / VECTORS)
        files = {
            file.name: BundledFile(sha256=file_digest(file), size=file.stat().st_size)
            for file in sorted(folder.iterdir())
        }
        manifest = _manifest(clip, files).model_dump_json(indent=1)
        (folder / MANIFEST).write_text(f"{manifest}\n", encoding="utf-8")

        with explained(name, "ONNX Runtime cannot run what was exported"):
            engine = open_bundle(folder, device="cpu")
            error = vectors_error(engine, folder / VECTORS)
            astray = gradient_error(open_encoders(folder, device="cpu"), folder / VECTORS)
        if not error <= TOLERANCE:
            raise ModelError(
                f"{name}: differs from torch by {error:.1e}, allowed {TOLERANCE:.0e}; take another model"
            )
        if not astray <= GRADIENT_TOLERANCE:
            raise ModelError(
                f"{name}: its gradient differs from torch's by {astray:.1e}, allowed"
                f" {GRADIENT_TOLERANCE:.0e}; take another model"
            )
        if patches:
            _require_patches(engine, TorchEngine(clip), name)
        if int8:
            with explained(name, "ONNX Runtime cannot run it in int8"):
                check_bundle(open_bundle(folder, precision="int8"), folder, "onnx", "int8")
        assert engine.info.bundle is not None
        size = sum(file.stat().st_size for file in folder.iterdir())
        shutil.move(folder, out)
    return Built(out, engine.info.bundle, size, error, astray)


def _require_patches(engine: OnnxEngine, torch_engine: TorchEngine, name: str) -> None:
    """Make sure that patches are torch's, with the source adapter and with another."""
    images, source = _pictures(engine.info.preprocess.size), engine.source
    for adapter in (source, other_adapter(source)):
        adapters = [adapter] * len(images)
        both = engine.encode_with_patches(images, adapters)
        error = max(
            float(np.abs(found - expected).max() / np.abs(expected).max())
            for found, expected in zip(both, torch_engine.encode_with_patches(images, adapters), strict=True)
        )
        if not error <= TOLERANCE:
            raise ModelError(
                f"{name}: its patches differ from torch's by {error:.1e}, allowed {TOLERANCE:.0e}; build it"
                " without --patches"
            )
    if engine.patch_info() != torch_engine.patch_info():
        raise ModelError(f"{name}: its patches have another form than torch's; build it without --patches")


def _write_graphs(clip: Clip, folder: Path, *, int8: bool, patches: bool) -> None:
    """Write what a tower infers and learns with; its graphs share their numbers."""
    images = torch.zeros(2, 3, clip.info.preprocess.size, clip.info.preprocess.size)
    encoders: tuple[tuple[str, nn.Module, Tensor, int], ...] = (
        (IMAGE, ImageTower(clip.short), images, 1),
        (TEXT, ShortTextTower(clip), example_tokens(clip), 2 if clip.causal else 1),
    )
    for name, tower, example, free in encoders:
        with Weights(folder / weights(name)) as numbers:
            if name == IMAGE:
                small = folder / graph(IMAGE, "int8") if int8 else None
                both = folder / graph(IMAGE, "patches") if patches else None
                export_image(clip, folder / graph(IMAGE), numbers, int8=small, patches=both)
            else:
                export_text(clip, folder / graph(TEXT), numbers)
            argument = IMAGES if name == IMAGE else TOKENS
            forward, backward = folder / graph(name, "forward"), folder / graph(name, "backward")
            norms = clip.norm_names("image" if name == IMAGE else "text")
            export_step(tower, norms, example, argument, free, forward, backward, numbers)


def _manifest(clip: Clip, files: dict[str, BundledFile]) -> BundleManifest:
    shapes = clip.source.shapes
    return BundleManifest(
        format="mekiki.bundle.v2",
        name=clip.info.name,
        weights=clip.info.weights,
        embed_dim=clip.info.embed_dim,
        logit_scale=clip.info.logit_scale,
        context_length=clip.info.context_length,
        causal=clip.causal,
        preprocess=clip.info.preprocess,
        tokenizer=clip.tokenizer.spec,
        image_norms={name: shapes[name] for name in clip.norm_names("image")},
        text_norms={name: shapes[name] for name in clip.norm_names("text")},
        tools={tool: metadata.version(tool) for tool in TOOLS},
        files=files,
    )


def _write_vectors(clip: Clip, file: Path) -> None:
    """Write inputs of many kinds and what torch makes of them, with the source adapter and with another."""
    engine = TorchEngine(clip)
    images = _pictures(clip.info.preprocess.size)
    texts = [fitting(text, clip.tokenizer) for text in TEXTS]
    tokens = engine.tokenize(texts)
    other = other_adapter(clip.source)
    arrays = {"images": images, "texts": np.array(texts)}
    for which, adapter in (("source", clip.source), ("other", other)):
        arrays[f"images/{which}"] = engine.encode_image(images, [adapter] * len(images))
        arrays[f"texts/{which}"] = engine.encode_text(tokens, adapter)
    arrays |= {f"norms/{name}": tensor for name, tensor in other.tensors.items()}
    random = np.random.default_rng(2)
    for which in ("images", "texts"):
        shape = arrays[f"{which}/other"].shape
        arrays[f"pulled/{which}"] = random.standard_normal(shape, dtype=np.float32)
    encoded = TorchEncoders(clip).encode(NormVector(clip.source).read(other), images, tokens)
    arrays["tokens"] = tokens
    arrays["gradient"] = encoded.backward(arrays["pulled/images"], arrays["pulled/texts"])
    np.savez_compressed(file, **arrays)  # type: ignore[arg-type]  # a keyword could be meant for allow_pickle


def fitting(text: str, tokenizer: ClipTokenizer) -> str:
    """Return the first words of a text, as many as the model's context holds with start and end."""
    while len(tokenizer.encode(text)) > tokenizer.context_length:
        text = " ".join(text.split()[:-1])
    return text


def _pictures(side: int) -> Floats:
    """Return ``(4, 3, S, S)`` normalised pictures of coloured blocks, which compress to almost nothing."""
    blocks = np.random.default_rng(0).uniform(-2, 2, (PICTURES, 3, BLOCKS, BLOCKS)).astype(np.float32)
    at = np.arange(side) * BLOCKS // side
    return blocks[:, :, at][:, :, :, at]


def other_adapter(source: Adapter) -> Adapter:
    """Return an adapter in which every LayerNorm differs, as far as learning ever moves it."""
    random = np.random.default_rng(1)
    moved = {
        name: np.float32(random.uniform(0.9, 1.1, tensor.shape)) * tensor
        + np.float32(random.uniform(-0.05, 0.05, tensor.shape))
        for name, tensor in source.tensors.items()
    }
    return Adapter(moved, number=1, parent=source.digest)
