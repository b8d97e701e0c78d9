"""config.yaml: large ones, hostile ones, and what accidents make of them."""

from __future__ import annotations

import itertools
import json
import random
import re
import time
from functools import partial

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from agent.base.errors import ConfigError
from agent.config import loader as configfile
from agent.config.loader import load, print_config
from agent.config.yaml_reader import parse
from tests.support.configs import MINIMAL, SHIPPED, load_text, problems_in, uncommented


@pytest.fixture
def config_of(tmp_path):
    """Return a function that loads a config from text."""
    return partial(load_text, tmp_path)


@pytest.fixture
def problems_of(tmp_path):
    """Return a function that gives the problems of a text."""
    return partial(problems_in, tmp_path)


def bombs() -> list[str]:
    """Return texts that are small, and enormous once their aliases are expanded."""
    names = "abcdefghijklm"
    nested = "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
    nested += "".join(f"{n}: &{n} [{', '.join([f'*{m}'] * 10)}]\n" for m, n in itertools.pairwise(names))
    return [nested, f"a: &a {'x' * 1_000_000}\nb: [{'*a, ' * 100_000}]\n"]


@pytest.mark.parametrize("text", bombs(), ids=["nested", "long"])
def test_alias_bombs_are_refused_before_they_grow(problems_of, text):
    """A billion laughs cost no more than a large config."""
    start = time.process_time()
    [problem] = problems_of(text)
    assert "aliases counted each time" in problem
    assert time.process_time() - start < 3


def many_classes(verdict: str) -> str:
    classes = "".join(
        f"      c{i}: {{verdict: {verdict}, phrases: [part {i}, thing {i}, object {i}]}}\n"
        for i in range(10_000)
    )
    return f"{MINIMAL}recipes:\n  big:\n    templates: ['a {{}}']\n    classes:\n{classes}"


def test_ten_thousand_classes_load_in_seconds(config_of):
    """A recipe may be large."""
    start = time.process_time()
    assert len(config_of(many_classes("fail")).config.recipes["big"].classes) == 10_000
    assert time.process_time() - start < 3


def test_ten_thousand_mistakes_are_told_in_a_hundred_lines(problems_of):
    """Many problems come in the order of the file, and end with where to go on."""
    start = time.process_time()
    problems = problems_of(many_classes("fial"))
    assert time.process_time() - start < 5
    assert len(problems) == configfile.MAX_PROBLEMS + 1
    assert problems[0] == (
        "config.yaml:10: recipes.big.classes.c0.verdict: should be pass or fail, is 'fial': "
        "did you mean fail?"
    )
    assert problems[-1] == "config.yaml:110: more problems follow from here: mend these first"


def mutate(text: str, seed: int) -> str:
    """Return `text` after one to four of the accidents that happen to config files."""
    chance = random.Random(seed)
    for _ in range(chance.randint(1, 4)):
        lines = text.split("\n")
        at = chance.randrange(len(lines))
        match chance.randrange(7):
            case 0:
                text = text[: chance.randrange(len(text) + 1)]
            case 1:
                text = "\n".join(lines[:at] + lines[at + 1 :])
            case 2:
                values = [
                    "abc",
                    "-1",
                    "[]",
                    "{}",
                    "null",
                    "true",
                    "1e9",
                    "'",
                    '"\\uD800"',
                    "${env:",
                    "*x",
                    "\u2028",
                ]
                lines[at] = f"{lines[at].partition(':')[0]}: {chance.choice(values)}"
                text = "\n".join(lines)
            case 3:
                junk = "".join(
                    chance.choice("{}[]:,#&*!|>%@`\"'\t\n \x00\x85é\U0001f600ab1-") for _ in range(6)
                )
                where = chance.randrange(len(text) + 1)
                text = text[:where] + junk + text[where:]
            case 4:
                lines.insert(at, lines[chance.randrange(len(lines))])
                text = "\n".join(lines)
            case 5:
                lines[at] = " " * chance.randrange(9) + lines[at].strip()
                text = "\n".join(lines)
            case _:
                lines[at] = re.sub(
                    r"\w", lambda m: chance.choice([m.group(), m.group() * 2]), lines[at], count=2
                )
                text = "\n".join(lines)
    return text


@settings(
    max_examples=300,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(seed=st.integers(0, 10**9), whole=st.booleans())
@example(seed=0, whole=False)
def test_a_broken_config_is_only_ever_a_config_error(tmp_path, seed, whole):
    """300 accidents: either it loads, or every problem is one line that starts with file and line."""
    path = tmp_path / "config.yaml"
    path.write_bytes(
        mutate(uncommented() if whole else SHIPPED.read_text(), seed).encode("utf-8", "surrogatepass")
    )
    try:
        loaded = load(path)
    except ConfigError as error:
        problems = error.problems
    else:
        problems = ()
        path.write_text(print_config(loaded))
        assert load(path).config == loaded.config
    for problem in problems:
        assert re.match(rf"{re.escape(str(path))}:[1-9][0-9]*: \S", problem)
        assert problem.isprintable()


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    text=st.text(
        st.characters(exclude_categories=["Cs"], max_codepoint=0xFFFF, exclude_characters="\x7f"), max_size=60
    )
)
def test_text_written_in_quotes_is_read_back(text):
    """JSON is YAML: text of 16 bit characters that JSON escapes comes back unchanged."""
    tree, problems = parse(json.dumps({"key": text}))
    assert problems or tree.plain() == {"key": text}
