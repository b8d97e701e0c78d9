"""The names of file formats, `mekiki.<kind>.v<n>`, and what is said of a file that is not of ours.

What is added to a file keeps its format: readers pass over fields that they do not know, and whoever writes a
file again keeps them. The number grows only where an older release would read the file wrongly; such a file
names in `release` who wrote it, so that an older release, which leaves it as it is, can say so. What an older
release does with each file: docs/formats.md.
"""

from __future__ import annotations

import re

_RELEASE = re.compile(r"[0-9A-Za-z.+-]{1,40}")


def mismatch(found: object, ours: str, release: object, remedy: str) -> str:
    """Say that a file is of another format than this release reads, and what to do about it.

    Args:
        found: the format that the file names; may be anything.
        ours: the one that is read here.
        release: the one that wrote the file, as the file says; may be anything.
        remedy: where it was no newer release that wrote the file.
    """
    if is_newer(found, ours):
        known = isinstance(release, str) and _RELEASE.fullmatch(release)
        writer = f" (release {release})" if known else ""
        remedy = (
            f"written by a newer version of the agent{writer}: install that version again; the file is left"
            " as it is"
        )
    return f"format {str(found)[:80]!r}, this version reads {ours}: {remedy}"


def is_newer(found: object, ours: str) -> bool:
    """Whether `found` is the name of a later format of the same kind of file."""
    kind, _, number = ours.rpartition(".v")
    later = re.fullmatch(rf"{re.escape(kind)}\.v([0-9]{{1,6}})", found) if isinstance(found, str) else None
    return later is not None and int(later[1]) > int(number)
