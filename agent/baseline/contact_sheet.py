"""The samples of a baseline as pictures in folders, with a page to look at them all at once.

The folders are sorted by who named the samples and by class, as `mekiki commission --golden` takes them: a
person moves what is in the wrong one, and by that confirms the rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from pathlib import Path
from urllib.parse import quote

from PIL import Image

from adapters.baseline.baseline import Commissioning
from adapters.baseline.reference_samples import NamedBy
from adapters.core.observation import Bytes
from agent.base.errors import StoreError, UsageError
from agent.baseline import report
from camera.core.kept_region import KeptRegion

FOLDERS = {NamedBy.PERSON: "confirmed", NamedBy.MODEL: "guessed", NamedBy.UNKNOWN: "unknown"}
"""Where samples lie, by who named them."""
GOOD = "good-parts"
"""Where the good parts of the stream lie."""

_HEADS = {
    "confirmed": "Confirmed by a person",
    "guessed": "Guessed by the model, confirmed by nobody",
    "unknown": "Of which an older release did not say who named them",
    GOOD: "Good parts of the line that was watched",
}
_STYLE = """
body{font-family:sans-serif;margin:2em;max-width:80em}
h2{border-bottom:1px solid #888}
figure{display:inline-block;margin:4px;text-align:center}
figcaption{font-size:70%}
img{width:128px;height:128px;image-rendering:auto;border:3px solid #2a7}
.guessed img,.unknown img{border:3px dashed #c60}
"""


def write(clean: Commissioning, folder: Path, region: KeptRegion) -> Path:
    """Write all samples below a new or empty folder, and the page; return the page.

    Args:
        clean: the baseline.
        folder: made where it is missing.
        region: what the pictures show, so that they are not cut again.

    Raises:
        UsageError: the folder is none, or holds something.
        StoreError: the disk does not take it.
    """
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UsageError(f"{folder}: give a new or empty folder")
        odd = [label for label in clean.labels if "/" in label or label in (".", "..")]
        if odd:
            raise UsageError(f"class {odd[0]!r}: no folder can have this name: rename it in the recipe")
        pictures = list(_pictures(clean))
        for path, picture in pictures:
            place = folder / path
            place.parent.mkdir(parents=True, exist_ok=True)
            # Without subsampling and almost without loss: it is to be judged again as it was.
            Image.fromarray(picture).save(
                place, quality=100, subsampling=0, comment=region.comment(), format="JPEG"
            )
        page = folder / "index.html"
        page.write_text(html(clean, [path for path, _ in pictures]), encoding="utf-8")
    except OSError as error:
        raise StoreError(f"{folder}: cannot be written: {error.strerror or error}") from error
    return page


def html(clean: Commissioning, pictures: list[Path]) -> str:
    """Return the page about a baseline and its pictures, by their paths beside it."""
    name = escape(f"{clean.station}, {clean.made_at}")
    said = "".join(f"<li>{escape(line)}</li>\n" for line in report.lines(clean))
    groups = "".join(_group(top, [one for one in pictures if one.parts[0] == top]) for top in _HEADS)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{name}</title>'
        f"<style>{_STYLE}</style></head><body>\n<h1>Baseline of {name}</h1>\n<ul>\n{said}</ul>\n{groups}"
        "</body></html>\n"
    )


def _group(top: str, pictures: list[Path]) -> str:
    if not pictures:
        return ""
    parts = [f'<section class="{top}"><h2>{escape(_HEADS[top])}</h2>\n']
    label = ""
    for path in pictures:
        if path.parent.name not in (label, top):
            label = path.parent.name
            parts.append(f"<h3>{escape(label)}</h3>\n")
        link = quote(path.as_posix())
        parts.append(
            f'<figure><img src="{link}" alt=""><figcaption>{escape(path.name)}</figcaption></figure>\n'
        )
    return "".join([*parts, "</section>\n"])


def _pictures(clean: Commissioning) -> Iterator[tuple[Path, Bytes]]:
    """Yield where each picture goes, and the picture."""
    known = clean.known
    for by, folder in FOLDERS.items():
        for row, label in enumerate(clean.labels):
            found = known.pictures[(known.named_by == by) & (known.classes == row)]
            yield from ((Path(folder, label, f"{n:03}.jpg"), one) for n, one in enumerate(found, 1))
    yield from ((Path(GOOD, f"{n:03}.jpg"), one) for n, one in enumerate(clean.good, 1))
