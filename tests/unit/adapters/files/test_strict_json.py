"""No number that is not finite goes into a text that calls itself JSON, and none comes out of one."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.files.strict_json import loads
from tests.support.places import ROOT

PRODUCT = [
    *(ROOT / "adapters").rglob("*.py"),
    *(ROOT / "agent").rglob("*.py"),
    *(ROOT / "camera").rglob("*.py"),
]


@pytest.mark.parametrize(
    "text",
    [
        "NaN",
        "Infinity",
        "-Infinity",
        '{"a": NaN}',
        "[1e999]",
        "-1e999",
        "1" * 400,
        "[" * 100_000,
        '{"a":' * 100_000,
        "nan",
    ],
)
def test_what_is_no_json_is_refused(text: str) -> None:
    """Python takes NaN for JSON, makes 1e999 infinite, and runs out of stack: here all are ValueError."""
    with pytest.raises(ValueError):  # noqa: PT011 - json's own words for what is no JSON at all
        loads(text)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_finite_number_comes_back(number: float) -> None:
    assert loads(repr(number)) == number


def calls(file: Path) -> Iterator[ast.Call]:
    """Yield the calls of functions of `json` in a file."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and isinstance(node.func.value, ast.Name)
            and node.func.value.id == "json"
        ):
            yield node


@pytest.mark.parametrize("file", PRODUCT, ids=lambda file: str(file.relative_to(ROOT)))
def test_all_json_of_the_product_is_strict(file: Path) -> None:
    """What is written says ``allow_nan=False``; `strict_json.loads` reads, or who refuses NaN itself."""
    for call in calls(file):
        assert isinstance(call.func, ast.Attribute)
        if call.func.attr in ("dump", "dumps"):
            strict = [one.value for one in call.keywords if one.arg == "allow_nan"]
            assert [ast.unparse(one) for one in strict] == ["False"], f"{file}:{call.lineno}"
        elif file.name != "strict_json.py":
            refuses = any(one.arg == "parse_constant" for one in call.keywords)
            assert refuses or call.func.attr not in ("load", "loads"), f"{file}:{call.lineno}"
