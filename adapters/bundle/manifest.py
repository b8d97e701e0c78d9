"""manifest.json: names every other file of a bundle with size and hash, so its digest stands for all."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from adapters.core.protocol import LEAST_LOGIT_SCALE, MOST_LOGIT_SCALE, ModelError, Preprocess
from adapters.core.tokenizer import TokenizerSpec
from adapters.files.formats import mismatch
from adapters.files.strict_json import loads

FORMAT = "mekiki.bundle.v2"
MANIFEST = "manifest.json"

REMEDY = "fetch or build the bundle again"

Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]


class BundledFile(BaseModel):
    """What a file must be."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size: int = Field(ge=0)


class BundleManifest(BaseModel):
    """What stands in manifest.json."""

    # Not strict: JSON has no tuples.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    format: Literal["mekiki.bundle.v2"]
    name: str
    weights: Digest
    embed_dim: int = Field(gt=0)
    logit_scale: float = Field(ge=LEAST_LOGIT_SCALE, le=MOST_LOGIT_SCALE)
    context_length: int = Field(gt=1)
    causal: bool = Field(description="texts may be encoded at the length they need")
    preprocess: Preprocess
    tokenizer: TokenizerSpec
    image_norms: dict[str, tuple[int, ...]] = Field(description="LayerNorm tensors of the image tower")
    text_norms: dict[str, tuple[int, ...]]
    tools: dict[str, str] = Field(description="versions of what built it")
    files: dict[str, BundledFile]


def read_manifest(folder: Path, sha256: str | None = None) -> tuple[BundleManifest, str]:
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
        fields = loads(content)
        found = fields.get("format") if isinstance(fields, dict) else None
        if found != FORMAT:
            release = fields.get("release") if isinstance(fields, dict) else None
            raise ModelError(f"{file}: {mismatch(found, FORMAT, release, 'build the bundle again')}")
        return BundleManifest.model_validate_json(content, strict=True), f"sha256:{digest}"
    except (ValueError, RecursionError) as error:
        problem = error.errors()[0] if isinstance(error, ValidationError) else None
        where = "" if problem is None else ".".join(map(str, problem["loc"]))
        reason = f"not JSON: {error}" if problem is None else f"{where}: {problem['msg']}"
        raise ModelError(f"{file}: damaged: {reason}; {REMEDY}") from error


def verify(folder: Path, manifest: BundleManifest, needed: Collection[str]) -> None:
    """Make sure that a folder holds exactly the files of its manifest, unaltered.

    Args:
        folder: the bundle.
        manifest: of it.
        needed: files that it must list.

    Raises:
        ModelError: names the first file that is missing, altered or too many.
    """
    listed = set(manifest.files)
    # A name with a path in it would have another folder's file checked and used.
    odd = sorted(name for name in listed if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name))
    if odd:
        raise ModelError(f"{folder / MANIFEST}: {odd[0]!r} is not the plain name of a file; {REMEDY}")
    missing = sorted(set(needed) - listed)
    if missing:
        raise ModelError(f"{folder / MANIFEST}: lists no {missing[0]}; {REMEDY}")
    extra = sorted({file.name for file in folder.iterdir()} - listed - {MANIFEST})
    if extra:
        raise ModelError(f"{folder / extra[0]}: not part of the bundle; remove it")
    for name, expected in manifest.files.items():
        _verify_file(folder / name, expected)


def file_digest(file: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _verify_file(file: Path, expected: BundledFile) -> None:
    if file.is_symlink() or not file.is_file():
        raise ModelError(f"{file}: missing, or not an ordinary file; {REMEDY}")
    size = file.stat().st_size
    if size != expected.size:
        raise ModelError(f"{file}: has {size} bytes, not {expected.size}: damaged; {REMEDY}")
    try:
        digest = file_digest(file)
    except OSError as error:
        raise ModelError(f"{file}: cannot be read: {error.strerror}") from error
    if digest != expected.sha256:
        raise ModelError(f"{file}: altered since the bundle was built; {REMEDY}")
