"""manifest.json of a backbone that a user brings: what is in the ONNX file beside it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from adapters.core.protocol import ModelError, Preprocess
from adapters.files.formats import mismatch
from adapters.files.strict_json import loads

FORMAT = "mekiki.backbone.v1"
MANIFEST = "manifest.json"
_REMEDY = "correct it, see docs/reference.md"

Name = Annotated[str, Field(min_length=1, max_length=200)]
Channels = tuple[float, float, float]
Patches = Annotated[int, Field(ge=1, le=512)]


class BackboneManifest(BaseModel):
    """What the file is, what it takes, and which of its outputs holds the patches."""

    # Not strict: JSON has no tuples.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    format: Literal["mekiki.backbone.v1"]
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$", description="what results call it")
    file: str = Field(
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$", description="the ONNX file, a plain name in the same folder"
    )
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="of the file")
    input: Name = Field(description="which takes (N, 3, size, size) float32")
    size: int = Field(ge=16, le=2048, description="side of the pictures in pixels")
    mean: Channels = Field(description="per channel in RGB, of pictures in 0..1")
    std: Channels
    interpolation: Literal["bicubic", "bilinear"]
    resize_mode: Literal["shortest", "squash", "longest"] = "squash"
    output: Name = Field(description="which gives float32 features")
    layout: Literal["nchw", "tokens"] = Field(description="(N, D, h, w), or (N, prefix_tokens + h w, D)")
    prefix_tokens: int = Field(default=0, ge=0, le=64, description="such as the class token; of tokens alone")
    grid: tuple[Patches, Patches] = Field(description="h and w: rows and columns of the patches")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.layout == "nchw" and self.prefix_tokens:
            raise ValueError("layout nchw has no prefix_tokens")
        if min(self.std) <= 0:
            raise ValueError("std must be above 0")
        return self

    @property
    def preprocess(self) -> Preprocess:
        """How a picture becomes its input."""
        return Preprocess(self.size, self.mean, self.std, self.interpolation, self.resize_mode)


def read_backbone_manifest(folder: Path) -> tuple[BackboneManifest, Path]:
    """Return the manifest of a backbone's folder, and its file, verified.

    Raises:
        ModelError: one of them is missing, altered or damaged, or there are other files.
    """
    file = folder / MANIFEST
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ModelError(
            f"{file}: cannot be read: {error.strerror}; a backbone is 'backbone', or a folder"
            f" with an ONNX file and its {MANIFEST}"
        ) from error
    manifest = _manifest(file, content)
    # Weights beside the file, which the format allows, would be read without being verified.
    extra = sorted({one.name for one in folder.iterdir()} - {MANIFEST, manifest.file})
    if extra:
        raise ModelError(f"{folder / extra[0]}: not part of the backbone; remove it, all is in one ONNX file")
    return manifest, _verified(folder / manifest.file, manifest.sha256)


def _manifest(file: Path, content: bytes) -> BackboneManifest:
    try:
        fields = loads(content)
        if not isinstance(fields, dict):
            raise ModelError(f"{file}: not an object of JSON; {_REMEDY}")
        if "format" in fields and fields["format"] != FORMAT:
            reason = mismatch(fields["format"], FORMAT, fields.get("release"), _REMEDY)
            raise ModelError(f"{file}: {reason}")
        return BackboneManifest.model_validate_json(content)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part)[:60] for part in problem["loc"]) or "fields"
        where = where if where.isprintable() else ascii(where)
        raise ModelError(f"{file}: {where}: {problem['msg']}; {_REMEDY}") from error
    except ValueError as error:
        raise ModelError(f"{file}: not JSON: {error}; {_REMEDY}") from error


def _verified(file: Path, sha256: str) -> Path:
    if file.is_symlink() or not file.is_file():
        raise ModelError(
            f"{file}: missing, or not an ordinary file; put the file there that {MANIFEST} names"
        )
    try:
        with file.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"{file}: cannot be read: {error.strerror}; let the agent read it") from error
    if digest != sha256:
        raise ModelError(
            f"{file}: has sha256 {digest}, not {sha256}: damaged or another one; copy it again, or write"
            f" its own into {MANIFEST}"
        )
    return file
