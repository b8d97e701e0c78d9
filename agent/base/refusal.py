"""From pydantic's errors to one sentence for who sent something, in words of ours, without repeating it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, ValidationError

_SENTENCES: dict[str, Callable[[dict[str, Any]], str]] = {
    "value_error": lambda ctx: str(ctx["error"]),
    "missing": lambda _ctx: "is missing",
    "extra_forbidden": lambda _ctx: "is not known here",
    "string_type": lambda _ctx: "should be text",
    "string_unicode": lambda _ctx: "should be text",
    "string_pattern_mismatch": lambda _ctx: "is not of the right form",
    "string_too_short": lambda ctx: f"should have at least {ctx['min_length']} characters",
    "string_too_long": lambda ctx: f"should have at most {ctx['max_length']} characters",
    "too_long": lambda ctx: f"should have at most {ctx['max_length']} characters",
    "bool_type": lambda _ctx: "should be true or false",
    "int_type": lambda _ctx: "should be a whole number",
    "int_from_float": lambda _ctx: "should be a whole number",
    "int_parsing": lambda _ctx: "should be a whole number",
    "int_parsing_size": lambda _ctx: "should be a whole number of usual size",
    "float_type": lambda _ctx: "should be a number",
    "finite_number": lambda _ctx: "should be a number of usual size",
    "greater_than": lambda ctx: f"should be more than {ctx['gt']:g}",
    "greater_than_equal": lambda ctx: f"should be at least {ctx['ge']}",
    "less_than": lambda ctx: f"should be less than {ctx['lt']:g}",
    "less_than_equal": lambda ctx: f"should be at most {ctx['le']}",
    "literal_error": lambda ctx: f"should be {ctx['expected'].replace(chr(39), '')}",
}
"""What to say for pydantic's kinds of error, from its context."""


def refusal(error: ValidationError, model: type[BaseModel]) -> str:
    """Return the first thing that is wrong with what was to be a `model`."""
    problems = error.errors(include_url=False, include_input=False)
    problem = problems[0]
    kind = problem["type"]
    if kind in ("json_invalid", "json_type"):
        return f"no JSON: should be {_object(model)}"
    if kind in ("model_type", "model_attributes_type"):
        return f"should be {_object(model)}"
    place = problem["loc"]
    # Steps into a union, such as "function-after[...]", are of the program, not of what was sent.
    if place and {"bool"} <= {other["loc"][-1] for other in problems if other["loc"][1:]}:
        place = place[:1]
        if kind == "string_type":
            return f"{place[0]}: should be text, true or false"
    sentence = _SENTENCES.get(kind)
    what = sentence(problem.get("ctx", {})) if sentence else "is not as it should be"
    return f"{'.'.join(map(str, place))}: {what}" if place else what


def _object(model: type[BaseModel]) -> str:
    needed = [name for name, field in model.model_fields.items() if field.is_required()]
    return f"an object with {', '.join(needed)}" if needed else "an object, such as {}"
