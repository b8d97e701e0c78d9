"""A value as it has to be written where its reference stands: a password stands in its file as it is.

Within the address of a camera:

* in the user part, and right behind a ``=`` of path or query, it is one value: all but letters, digits and
  ``-._~`` is percent-encoded. Where it is the whole user part, its first ``:`` ends the user's name.
* elsewhere behind the host it may be several pieces of path and query: what no address can hold is encoded.
* where the host stands it is taken as it is.

In a GStreamer pipeline it is put in quotes where that is needed. In every other text it is taken as it is.
"""

from __future__ import annotations

import re
from urllib.parse import quote

from agent.base.errors import AgentError
from camera.core.address import SCHEMES

_ADDRESS = re.compile(rf"(?:^|[\s\"'=])((?:{'|'.join(SCHEMES)})://[^\s\"']*)$", re.IGNORECASE)
_PIECES = "/?=&;:,!$'()*+~%"
"""What may stand between the pieces of path and query."""
_PLAIN = re.compile(r"[\w.:/@%+,~-]*")
_NO_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


class UnfitError(AgentError):
    """A value cannot be written where its reference stands; says what to do about it."""


def fitted(value: str, before: str, after: str) -> str:
    """Return `value` as it is to be written between `before` and `after`.

    Args:
        value: what a reference stands for.
        before: the text before it; letters in place of other references.
        after: the text behind it, likewise.

    Raises:
        UnfitError: there is no way to write it.
    """
    begun = _ADDRESS.search(before)
    if begun is not None:
        return _in_address(value, begun[1], re.split(r"[\s\"']", after, maxsplit=1)[0])
    return _in_pipeline(value, before, after) if " ! " in f"{before}x{after}" else value


def _in_address(value: str, head: str, tail: str) -> str:
    start = len(head) - head.index("://") - 3
    place = re.split(r"[/?#]", f"{head}x{tail}".partition("://")[2], maxsplit=1)[0]
    user_ends = place.rfind("@")
    if start < user_ends:
        if (start, user_ends) == (0, 1) and ":" in value:
            user, _, password = value.partition(":")
            return f"{quote(user, safe='')}:{quote(password, safe='')}"
        return quote(value, safe="")
    if start < len(place):
        return value
    if head.endswith("="):
        return quote(value, safe="")
    return quote(_NO_ESCAPE.sub("%25", value), safe=_PIECES)


def _in_pipeline(value: str, before: str, after: str) -> str:
    if _PLAIN.fullmatch(value):
        return value
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    if before.count('"') % 2:
        return escaped
    if before.endswith("=") and (not after or after[0].isspace()):
        return f'"{escaped}"'
    raise UnfitError("holds what a pipeline takes apart: let the reference be the whole value of a property")
