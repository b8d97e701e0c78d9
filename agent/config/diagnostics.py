"""From pydantic's errors to sentences for the process engineer, each at its line.

Values are shown as they are written in the file, so a reference stays a reference, and what belongs
into a secret field is never shown.
"""

from __future__ import annotations

import difflib
import re
import types
from collections.abc import Callable, Iterable, Sized
from dataclasses import dataclass
from typing import Annotated, Any, TypeGuard, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_core import ErrorDetails

from agent.config.yaml_tree import Node, Path, Problem
from camera.core import address

SHARED = "what stations share can stand in station_defaults"
MAX_ERRORS = 10_000  # a hint for each takes 70 us, and nobody reads the last of them

_Sentence = Callable[[dict[str, Any], object, str], str]

_SENTENCES: dict[str, _Sentence] = {
    "value_error": lambda ctx, _value, _seen: str(ctx["error"]),
    "missing": lambda _ctx, _value, _seen: "is missing: add it",
    "union_tag_not_found": lambda ctx, _value, _seen: (
        f"needs the key {ctx['discriminator']}: it says which other keys are allowed here"
    ),
    "greater_than": lambda ctx, _value, seen: f"should be more than {ctx['gt']:g}, is {seen}",
    "greater_than_equal": lambda ctx, _value, seen: f"should be at least {ctx['ge']:g}, is {seen}",
    "less_than": lambda ctx, _value, seen: f"should be less than {ctx['lt']:g}, is {seen}",
    "less_than_equal": lambda ctx, _value, seen: f"should be at most {ctx['le']:g}, is {seen}",
    "float_type": lambda _ctx, _value, seen: f"should be a number, is {seen}",
    "int_type": lambda _ctx, _value, seen: f"should be a whole number, is {seen}",
    "int_from_float": lambda _ctx, _value, seen: f"should be a whole number, is {seen}",
    "bool_type": lambda _ctx, _value, seen: f"should be true or false, is {seen}",
    "string_type": lambda _ctx, value, seen: (
        f"should be text, is {seen}{': put it in quotes' if isinstance(value, int | float) else ''}"
    ),
    "string_too_short": lambda ctx, _value, _seen: (
        "should not be empty"
        if ctx["min_length"] == 1
        else f"should have at least {ctx['min_length']} letters"
    ),
    "string_too_long": lambda ctx, _value, _seen: f"should have at most {ctx['max_length']} letters",
    "model_type": lambda _ctx, value, _seen: f"should be a mapping of keys, is {kind_of(value)}",
    "model_attributes_type": lambda _ctx, value, _seen: f"should be a mapping of keys, is {kind_of(value)}",
    "dict_type": lambda _ctx, value, _seen: f"should be a mapping of keys, is {kind_of(value)}",
    "tuple_type": lambda _ctx, value, _seen: f"should be a list, is {kind_of(value)}",
    "too_short": lambda ctx, _value, _seen: f"has too few entries: at least {ctx['min_length']} are needed",
    "too_long": lambda ctx, _value, _seen: f"has too many entries: at most {ctx['max_length']} are allowed",
    "literal_error": lambda ctx, value, _seen: _choice(value, _words(ctx["expected"])),
}
"""What to say for pydantic's kinds of error, from its context, the written value, and how that is shown."""


def problems_of(error: ValidationError, model: type[BaseModel], tree: Node) -> list[Problem]:
    """Return what `error` says about `tree`, which was validated as `model`; at most `MAX_ERRORS`."""
    details = error.errors(include_url=False, include_input=False)
    found = (_problem(detail, model, tree) for detail in details[:MAX_ERRORS])
    return [problem for problem in found if problem]


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return the hint for a `word` that is not among the `known` ones."""
    known = list(known)
    close = difflib.get_close_matches(word, known, n=1)
    if close:
        return f"did you mean {close[0]}?"
    return (
        f"known here: {', '.join(known[:12])}{', ...' if len(known) > 12 else ''}" if known else "remove it"
    )


def shown(value: object) -> str:
    """Return a written value for a message: short, on one line, without what may be a password."""
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    short = repr(address.shown(value) if isinstance(value, str) else value)
    return short if len(short) <= 60 else f"{short[:28]}...{short[-29:]}"


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an error is: its path in the file, what the model has there, and what that stands in."""

    path: Path
    annotation: object
    holder: object


def kind_of(value: object) -> str:
    """Say what a value is without showing it: what stands where a mapping should may be a secret."""
    if isinstance(value, str):
        return "text"
    return "a number" if isinstance(value, (int, float)) and not isinstance(value, bool) else shown(value)


def _problem(detail: ErrorDetails, model: type[BaseModel], tree: Node) -> Problem | None:
    place = _locate(model, detail["loc"])
    path, kind, ctx = place.path, detail["type"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        what = f"unknown key: {did_you_mean(str(path[-1]), _keys(place.holder))}"
        node = tree.get(path)
        if len(path) == 1 and node is not None and node.anchor:  # a place for an anchor alone
            what += f"; {SHARED}"
    elif kind == "union_tag_invalid":
        path = (*path, ctx["discriminator"].strip("'"))
        what = _choice(_value(tree, path), _words(ctx["expected_tags"]))
    elif kind == "missing" and isinstance(path[-1], int):  # a list of fixed length
        path = path[:-1]
        what = f"has too few entries: {len(get_args(place.holder))} are needed"
    elif kind == "missing" and path == ("version",):
        what = "is missing: add version: 1"
    else:
        value = _value(tree, path)
        if kind == "too_short" and isinstance(value, Sized) and len(value) >= ctx["min_length"]:
            return None  # only because wrong entries do not count, and those have their own problem
        secret = _bare(place.annotation) is SecretStr or path[-1:] == ("username",)
        seen = kind_of(value) if secret else shown(value)
        sentence = _SENTENCES.get(kind)
        what = sentence(ctx, value, seen) if sentence else detail["msg"]
    return tree.problem(path, what)


def _choice(value: object, known: list[str]) -> str:
    close = difflib.get_close_matches(str(value), known, n=1) if len(known) > 1 else []
    hint = f": did you mean {close[0]}?" if close else ""
    return (
        f"should be {', '.join(known[:-1])}{' or ' if known[1:] else ''}{known[-1]}, is {shown(value)}{hint}"
    )


def _words(listed: str) -> list[str]:
    """Return the words of pydantic's ``'a', 'b' or 'c'``."""
    return [word.strip("'") for word in re.split(r", | or ", listed)]


def _value(tree: Node, path: Path) -> object:
    node = tree.get(path)
    return None if node is None else node.value


def _locate(model: type[BaseModel], loc: tuple[str | int, ...]) -> _Place:
    """Follow pydantic's `loc` through the model, leaving out the steps that are not in the file."""
    annotation: object = model
    holder: object = None
    path: list[str | int] = []
    for part in loc:
        bare = _bare(annotation)
        members = [m for m in get_args(bare) if _is_model(m)]
        if get_origin(bare) is not dict and len(members) > 1:  # the tag of a union
            annotation = next(m for m in members if any(f.default == part for f in m.model_fields.values()))
        elif get_origin(bare) is dict or part != "[key]":
            path.append(part)
            holder, annotation = bare, _inside(bare, part)
    return _Place(tuple(path), annotation, holder)


def _bare(annotation: object) -> object:
    """Return `annotation` without Annotated and without `| None`."""
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in (Union, types.UnionType):
        members = [member for member in get_args(annotation) if member is not type(None)]
        return _bare(members[0]) if len(members) == 1 else annotation
    return annotation


def _inside(bare: object, part: str | int) -> object:
    """Return the annotation of `part` in a model, a map or a list, None for an unknown key."""
    if _is_model(bare):
        field = bare.model_fields.get(str(part))
        return field.annotation if field else None
    members = get_args(bare)
    if get_origin(bare) is dict:
        return members[1]
    if get_origin(bare) in (tuple, list) and isinstance(part, int):
        return members[0] if members[-1:] == (...,) else members[min(part, len(members) - 1)]
    return None


def _keys(holder: object) -> Iterable[str]:
    return holder.model_fields if _is_model(holder) else ()


def _is_model(annotation: object) -> TypeGuard[type[BaseModel]]:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
