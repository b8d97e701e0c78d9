"""A model bundle: a folder of plain files that runs without torch. Verified and opened here, built elsewhere.

``manifest.json`` names every other file with size and hash, so its own digest stands for the whole bundle::

    image.onnx text.onnx    the towers, LayerNorms replaceable from call to call
    norms.safetensors       the LayerNorms as they were trained
    tokenizer.json          the vocabulary
    vectors.npz             pictures and prompts with the features that torch gave for them
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import safetensors.numpy
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from adapters.adapter import Adapter
from adapters.engine import Engine, Floats, ModelError, Preprocess
from adapters.onnx_engine import OnnxEngine
from adapters.tokenizer import ClipTokenizer, TokenizerSpec

FORMAT = "mekiki.bundle.v1"
MANIFEST = "manifest.json"
IMAGE, TEXT, NORMS, TOKENIZER, VECTORS = (
    "image.onnx", "text.onnx", "norms.safetensors", "tokenizer.json", "vectors.npz",
)  # fmt: skip

TOLERANCE = 2e-5
"""Largest difference to torch, relative to the largest feature: some hundred roundings of float32."""

SHIPPED = Path(__file__).parent / "models"

_REMEDY = "fetch or build the bundle again"

Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]


class BundledFile(BaseModel):
    """What a file must be."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size: int = Field(ge=0)


class Manifest(BaseModel):
    """What stands in manifest.json."""

    # Not strict: JSON has no tuples.
    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["mekiki.bundle.v1"]
    name: str
    weights: Digest
    embed_dim: int = Field(gt=0)
    logit_scale: float = Field(gt=0)
    context_length: int = Field(gt=1)
    causal: bool = Field(description="texts may be encoded at the length they need")
    preprocess: Preprocess
    tokenizer: TokenizerSpec
    image_norms: dict[str, tuple[int, ...]] = Field(description="LayerNorm tensors of the image tower")
    text_norms: dict[str, tuple[int, ...]]
    tools: dict[str, str] = Field(description="versions of what built it")
    files: dict[str, BundledFile]


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
    folder: Path, *, sha256: str | None = None, device: str = "auto", threads: int | None = None
) -> OnnxEngine:
    """Verify every file of a bundle and open it.

    Args:
        folder: the bundle.
        sha256: what manifest.json must hash to.
        device: ``auto``, ``cpu`` or ``cuda``.
        threads: CPU threads of the model; None leaves it to ONNX Runtime.

    Raises:
        ModelError: a file is missing, altered or too many, or nothing here can run the model.
    """
    manifest, digest = read_manifest(folder, sha256)
    _verify(folder, manifest)
    source = Adapter(safetensors.numpy.load_file(folder / NORMS))
    if source.shapes != manifest.image_norms | manifest.text_norms:
        raise ModelError(f"{folder / NORMS}: not what {MANIFEST} lists; {_REMEDY}")
    vocabulary = (folder / TOKENIZER).read_text(encoding="utf-8")
    tokenizer = ClipTokenizer(vocabulary, manifest.tokenizer, manifest.context_length, trim=manifest.causal)
    return OnnxEngine(
        image_file=folder / IMAGE,
        text_file=folder / TEXT,
        name=manifest.name,
        weights=manifest.weights,
        bundle=digest,
        embed_dim=manifest.embed_dim,
        logit_scale=manifest.logit_scale,
        preprocess=manifest.preprocess,
        tokenizer=tokenizer,
        source=source,
        device=device,
        threads=threads,
    )


def read_manifest(folder: Path, sha256: str | None = None) -> tuple[Manifest, str]:
    """Return a bundle's manifest and the digest that stands for the whole bundle.

    Raises:
        ModelError: it is missing, not of this format, or not the one that `sha256` names.
    """
    file = folder / MANIFEST
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ModelError(f"{file}: cannot be read: {error.strerror}") from error
    digest = hashlib.sha256(content).hexdigest()
    if sha256 is not None and digest != sha256.removeprefix("sha256:"):
        raise ModelError(f"{file}: has sha256 {digest}, not {sha256}: another bundle, or an altered one")
    try:
        fields = json.loads(content)
        found = fields.get("format") if isinstance(fields, dict) else None
        if found != FORMAT:
            raise ModelError(f"{file}: format {found!r}, this version reads {FORMAT}: build the bundle again")
        return Manifest.model_validate(fields), f"sha256:{digest}"
    except (ValueError, RecursionError) as error:
        problem = error.errors()[0] if isinstance(error, ValidationError) else None
        reason = f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" if problem else "not JSON"
        raise ModelError(f"{file}: damaged: {reason}; {_REMEDY}") from error


def vectors_error(engine: Engine, file: Path) -> float:
    """Return how far an engine is from the torch features in a bundle's vectors.npz; see `TOLERANCE`.

    Both towers, with the source adapter and with another one, and both adapters mixed in one batch.
    """
    with np.load(file, allow_pickle=False) as vectors:
        images, tokens = vectors["images"], engine.tokenize([str(text) for text in vectors["texts"]])
        norms = {name: vectors[f"norms/{name}"] for name in engine.source.tensors}
        adapters = (engine.source, Adapter(norms, number=1))
        error = 0.0
        for adapter, which in zip(adapters, ("source", "other"), strict=True):
            features = engine.encode_image(images, [adapter] * len(images))
            error = max(error, _difference(features, vectors[f"images/{which}"]))
            error = max(error, _difference(engine.encode_text(tokens, adapter), vectors[f"texts/{which}"]))
        mixed = [adapters[number % 2] for number in range(len(images))]
        expected = vectors["images/source"].copy()
        expected[1::2] = vectors["images/other"][1::2]
        return max(error, _difference(engine.encode_image(images, mixed), expected))


def file_digest(file: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _verify(folder: Path, manifest: Manifest) -> None:
    """Raise ModelError unless the folder holds exactly the files of the manifest, unaltered."""
    listed = set(manifest.files)
    # A name with a path in it would have another folder's file checked and used.
    odd = sorted(name for name in listed if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name))
    if odd:
        raise ModelError(f"{folder / MANIFEST}: {odd[0]!r} is not the plain name of a file; {_REMEDY}")
    missing = sorted({IMAGE, TEXT, NORMS, TOKENIZER, VECTORS} - listed)
    if missing:
        raise ModelError(f"{folder / MANIFEST}: lists no {missing[0]}; {_REMEDY}")
    extra = sorted({file.name for file in folder.iterdir()} - listed - {MANIFEST})
    if extra:
        raise ModelError(f"{folder / extra[0]}: not part of the bundle; remove it")
    for name, expected in manifest.files.items():
        _verify_file(folder / name, expected)


def _verify_file(file: Path, expected: BundledFile) -> None:
    if file.is_symlink() or not file.is_file():
        raise ModelError(f"{file}: missing, or not an ordinary file; {_REMEDY}")
    size = file.stat().st_size
    if size != expected.size:
        raise ModelError(f"{file}: has {size} bytes, not {expected.size}: damaged; {_REMEDY}")
    try:
        digest = file_digest(file)
    except OSError as error:
        raise ModelError(f"{file}: cannot be read: {error.strerror}") from error
    if digest != expected.sha256:
        raise ModelError(f"{file}: altered since the bundle was built; {_REMEDY}")


def _difference(features: Floats, expected: Floats) -> float:
    if not np.isfinite(features).all():
        return float("inf")
    return float(np.abs(features - expected).max() / np.abs(expected).max())
