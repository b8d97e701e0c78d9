"""A model bundle: a folder of plain files that runs without torch. Verified and opened here, built elsewhere.

``manifest.json`` names every other file with size and hash, so its own digest stands for the whole bundle::

    image.onnx text.onnx    the towers, LayerNorms replaceable from call to call
    *.forward.onnx          the towers once more, and what the way back needs: for the learner
    *.backward.onnx         from the gradient by the features to that by every LayerNorm
    image.int8.onnx         where it was asked for: the image tower with products of whole numbers
    image.weights text.weights  the numbers of these graphs
    norms.safetensors       the LayerNorms as they were trained
    tokenizer.json          the vocabulary
    vectors.npz             pictures and prompts with the features that torch gave for them
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from adapters.adapter import Adapter, NotFinite
from adapters.engine import NO_INT8, Engine, Floats, ModelError, ModelInfo, place
from adapters.manifest import MANIFEST, REMEDY, Manifest, read_manifest, verify
from adapters.norm_vector import NormVector
from adapters.onnx_engine import OnnxEngine
from adapters.onnx_session import open_session
from adapters.onnx_towers import OnnxTower, OnnxTowers
from adapters.tensors import read_tensors
from adapters.tokenizer import ClipTokenizer
from adapters.towers import Towers

NORMS, TOKENIZER, VECTORS = "norms.safetensors", "tokenizer.json", "vectors.npz"
IMAGE, TEXT = "image", "text"
"""Towers: each has three graphs or more and a file of weights."""


def graph(tower: str, use: Literal["", "forward", "backward", "int8"] = "") -> str:
    """Return the name of a tower's graph: to infer, one of the two to learn, or to infer in int8."""
    return f"{tower}.{use}.onnx" if use else f"{tower}.onnx"


def weights(tower: str) -> str:
    """Return the name of the file that holds a tower's numbers."""
    return f"{tower}.weights"


GRAPHS = tuple(graph(tower, use) for tower in (IMAGE, TEXT) for use in ("", "forward", "backward"))

TOLERANCE = 2e-5
"""Largest difference to torch, relative to the largest feature: some hundred roundings of float32."""

GRADIENT_TOLERANCE = 1e-4
"""The same for the gradient by the LayerNorms, each relative to its own largest number."""

GRADIENT_FLOOR = 1e-3
"""Or to this share of the largest number of all, if that is more: the rest is below one rounding of float32.

A gradient may be nothing but roundings: no answer depends on the bias of a LayerNorm of keys.
"""

SHIPPED = Path(__file__).parent / "models"


def bundle_path(bundle: str) -> Path:
    """Return the folder of a shipped bundle by name, or of any bundle by path.

    Raises:
        ModelError: there is no such bundle.
    """
    for folder in (SHIPPED / bundle, Path(bundle).expanduser()):
        if (folder / MANIFEST).is_file():
            return folder
    shipped = ", ".join(sorted(path.parent.name for path in SHIPPED.glob(f"*/{MANIFEST}"))) or "none"
    raise ModelError(f"{bundle}: no such model bundle; shipped: {shipped}; `mekiki model build` makes others")


def open_bundle(
    folder: Path,
    *,
    sha256: str | None = None,
    device: str = "auto",
    threads: int | None = None,
    precision: Literal["fp32", "int8"] = "fp32",
) -> OnnxEngine:
    """Verify every file of a bundle and open it on ONNX Runtime.

    Args:
        folder: the bundle.
        sha256: what manifest.json must hash to.
        device: ``auto``, ``cpu`` or ``cuda``; int8 runs on the CPU.
        threads: CPU threads of the model; None leaves it to ONNX Runtime.
        precision: of the image tower.

    Raises:
        ModelError: a file is missing, altered or too many, or nothing here can run the model.
    """
    bundle = read_bundle(folder, sha256)
    int8 = precision == "int8"
    if int8 and not bundle.has_int8:
        raise ModelError(NO_INT8.format(folder, graph(IMAGE, "int8")))
    device = "cpu" if int8 else device
    image = open_session(folder / graph(IMAGE, "int8" if int8 else ""), device, threads)
    text = open_session(folder / graph(TEXT), device, threads)
    info = bundle.info(place(f"onnx:{image.get_providers()[0]}", precision))
    # The numbers of a batch are scaled to int8 together: what a picture gets would depend on the others.
    return OnnxEngine(image, text, info, bundle.source, bundle.tokenizer, alone=int8)


def open_towers(
    folder: Path, *, sha256: str | None = None, device: str = "auto", threads: int | None = None
) -> OnnxTowers:
    """Verify every file of a bundle and open what learns; arguments and errors are those of `open_bundle`."""
    bundle = read_bundle(folder, sha256)
    image, text = (
        OnnxTower(
            open_session(folder / graph(tower, "forward"), device, threads, takes_turns=True),
            open_session(folder / graph(tower, "backward"), device, threads, takes_turns=True),
        )
        for tower in (IMAGE, TEXT)
    )
    return OnnxTowers(bundle.info(image.provider), bundle.source, image, text)


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """A verified bundle but for its graphs.

    Attributes:
        digest: ``sha256:...`` of the manifest.
        source: the LayerNorms as they were trained.
    """

    manifest: Manifest
    digest: str
    source: Adapter
    tokenizer: ClipTokenizer

    @property
    def has_int8(self) -> bool:
        """Whether the image tower is there in int8 too."""
        return graph(IMAGE, "int8") in self.manifest.files

    def info(self, provider: str) -> ModelInfo:
        """Return what the model is where it runs on `provider`."""
        return ModelInfo(
            name=self.manifest.name,
            weights=self.manifest.weights,
            embed_dim=self.manifest.embed_dim,
            logit_scale=self.manifest.logit_scale,
            context_length=self.manifest.context_length,
            preprocess=self.manifest.preprocess,
            provider=provider,
            bundle=self.digest,
        )


def read_bundle(folder: Path, sha256: str | None = None) -> Bundle:
    """Verify every file of a bundle and read all but its graphs.

    Raises:
        ModelError: a file is missing, altered or too many, or the bundle is not the one that `sha256` names.
    """
    manifest, digest = read_manifest(folder, sha256)
    verify(folder, manifest, {*GRAPHS, NORMS, TOKENIZER, VECTORS})
    try:
        source = Adapter(read_tensors(folder / NORMS)[1])
    except (NotFinite, ValueError) as error:
        raise ModelError(f"{folder / NORMS}: {error}; {REMEDY}") from error
    if source.shapes != manifest.image_norms | manifest.text_norms:
        raise ModelError(f"{folder / NORMS}: not what {MANIFEST} lists; {REMEDY}")
    vocabulary = (folder / TOKENIZER).read_text(encoding="utf-8")
    tokenizer = ClipTokenizer(vocabulary, manifest.tokenizer, manifest.context_length, trim=manifest.causal)
    bundle = Bundle(manifest, digest, source, tokenizer)
    try:
        bundle.info("not running yet")
    except ModelError as error:
        raise ModelError(f"{folder / MANIFEST}: {error}") from error
    return bundle


def vectors_error(engine: Engine, file: Path) -> float:
    """Return how far an engine is from the torch features in a bundle's vectors.npz; see `TOLERANCE`."""
    return max(_difference(answer.found, answer.expected) for answer in vector_answers(engine, file))


class Answer(NamedTuple):
    """Features ``(N, D)`` of an engine, those that torch gave for the same, and for another adapter."""

    found: Floats
    expected: Floats
    otherwise: Floats


def vector_answers(engine: Engine, file: Path, *, few: bool = False) -> Iterator[Answer]:
    """Ask an engine what a bundle's vectors.npz knows the answers to.

    Both towers, with the source adapter and with another one, and both adapters mixed in one batch.

    Args:
        engine: to ask.
        file: the vectors.
        few: two pictures and two texts, a third of the work.
    """
    with np.load(file, allow_pickle=False) as vectors:
        some = slice(0, 2) if few else slice(None)
        images, texts = vectors["images"][some], [str(text) for text in vectors["texts"][some]]
        norms = {name: vectors[f"norms/{name}"] for name in engine.source.tensors}
        adapters = (engine.source, Adapter(norms, number=1))
        of_images, of_texts = (
            [vectors[f"{what}/{which}"][some] for which in ("source", "other")]
            for what in ("images", "texts")
        )
    tokens = engine.tokenize(texts)
    for number, adapter in enumerate(adapters):
        part = slice(number, number + 1) if few else slice(None)
        features = engine.encode_image(images[part], [adapter] * len(images[part]))
        yield Answer(features, of_images[number][part], of_images[1 - number][part])
        yield Answer(engine.encode_text(tokens, adapter), of_texts[number], of_texts[1 - number])
    mixed = [adapters[number % 2] for number in range(len(images))]
    own, crossed = (np.array(of_images[first]) for first in (0, 1))
    own[1::2], crossed[1::2] = of_images[1][1::2], of_images[0][1::2]
    yield Answer(engine.encode_image(images, mixed), own, crossed)


def gradient_error(towers: Towers, file: Path) -> float:
    """Return how far towers are from torch's gradient in a bundle's vectors.npz; see `GRADIENT_TOLERANCE`."""
    with np.load(file, allow_pickle=False) as vectors:
        norms = NormVector(towers.source)
        vector = norms.join({name: vectors[f"norms/{name}"] for name in norms.names})
        encoded = towers.encode(vector, vectors["images"], vectors["tokens"])
        found = encoded.pull(vectors["pulled/images"], vectors["pulled/texts"])
        expected = norms.named(vectors["gradient"])
        floor = GRADIENT_FLOOR * float(np.abs(vectors["gradient"]).max())
        return max(_difference(part, expected[name], floor) for name, part in norms.named(found).items())


def _difference(features: Floats, expected: Floats, floor: float = 0.0) -> float:
    if not (np.isfinite(features).all() and np.isfinite(expected).all()):
        return math.inf
    gap = float(np.abs(features - expected).max())
    largest = max(float(np.abs(expected).max()), floor)
    return gap / largest if largest else math.inf if gap else 0.0
