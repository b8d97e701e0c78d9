"""A model bundle: a folder of plain files that runs without torch. Verified and opened here, built elsewhere.

``manifest.json`` names every other file with size and hash, so its own digest stands for the whole bundle::

    image.onnx text.onnx    the towers, LayerNorms replaceable from call to call
    *.forward.onnx          the towers once more, and what the way back needs: for the learner
    *.backward.onnx         from the gradient by the features to that by every LayerNorm
    image.int8.onnx         where it was asked for: the image tower with products of whole numbers
    image.patches.onnx      where it was asked for: the image tower with its patches as a second output
    image.weights text.weights  the numbers of these graphs
    norms.safetensors       the LayerNorms as they were trained
    tokenizer.json          the vocabulary
    vectors.npz             pictures and prompts with the features that torch gave for them
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from adapters.bundle.manifest import MANIFEST, REMEDY, BundleManifest, read_manifest, verify
from adapters.core.adapter import Adapter, NotFinite
from adapters.core.protocol import ModelError, ModelInfo
from adapters.core.tokenizer import ClipTokenizer
from adapters.files.tensors import read_tensors

NORMS, TOKENIZER, VECTORS = "norms.safetensors", "tokenizer.json", "vectors.npz"
IMAGE, TEXT = "image", "text"
"""Towers: each has three graphs or more and a file of weights."""


def graph(tower: str, use: Literal["", "forward", "backward", "int8", "patches"] = "") -> str:
    """Return the name of a tower's graph: to infer, one of the two to learn, in int8, or with patches."""
    return f"{tower}.{use}.onnx" if use else f"{tower}.onnx"


def weights(tower: str) -> str:
    """Return the name of the file that holds a tower's numbers."""
    return f"{tower}.weights"


GRAPHS = tuple(graph(tower, use) for tower in (IMAGE, TEXT) for use in ("", "forward", "backward"))

SHIPPED = Path(__file__).parents[1] / "models"


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


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """A verified bundle but for its graphs.

    Attributes:
        digest: ``sha256:...`` of the manifest.
        source: the LayerNorms as they were trained.
    """

    manifest: BundleManifest
    digest: str
    source: Adapter
    tokenizer: ClipTokenizer

    @property
    def has_int8(self) -> bool:
        """Whether the image tower is there in int8 too."""
        return graph(IMAGE, "int8") in self.manifest.files

    @property
    def has_patches(self) -> bool:
        """Whether the image tower is there with its patches too."""
        return graph(IMAGE, "patches") in self.manifest.files

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
