"""config.yaml about products that are told by their part ids, and what it is told where that cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.config.diff import changes
from agent.config.loader import load_text as loaded_of
from agent.config.overrides import OverrideError, with_set
from tests.support.configs import MINIMAL, load_text, problems_in

SHA = "sha256:" + 64 * "a"
VOTED = """\
recipes:
  voted:
    templates: ["a photo of {}"]
    votes: {k: 2, n: 3}
    classes:
      ok: {verdict: pass, phrases: [good]}
      bad: {verdict: fail, phrases: [bad]}
"""


def products(text: str, more: str = "") -> str:
    return f"{MINIMAL}    products: {text}\n{more}"


def test_products_are_kept_in_their_order(tmp_path: Path) -> None:
    """Blanks around a pattern are left out, as they are around a part id."""
    text = products('[{recipe: steel-neu, part_id: " HB-* "}, {recipe: line, part_id: "L[0-9]?"}]')
    found = load_text(tmp_path, text).config.stations["top"].products
    assert [(one.recipe, one.part_id) for one in found] == [("steel-neu", "HB-*"), ("line", "L[0-9]?")]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[{recipe: lime, part_id: 'a'}]", ".0.recipe: no recipe is called 'lime': did you mean line?"),
        ("[{recipe: line}]", ".0.part_id: is missing"),
        ("[{recipe: line, part_id: ''}]", ".0.part_id: should"),
        ("[{recipe: line, part_id: '   '}]", ".0.part_id: holds nothing that can be seen"),
        ("[{recipe: line, part_id: 12}]", ".0.part_id: should be text, is 12"),
        (f"[{{recipe: line, part_id: {'a' * 201}}}]", ".0.part_id: should have at most 200 letters"),
        ("[{recipe: line, pattern: a, part_id: b}]", ".0.pattern: unknown key"),
        ("{recipe: line}", ": should be a list"),
        (
            "[{recipe: line, part_id: a}, {recipe: steel-neu, part_id: a}]",
            ": two products have the pattern 'a'",
        ),
        (
            "[" + ", ".join(f"{{recipe: line, part_id: a{n}}}" for n in range(33)) + "]",
            ": has too many entries: at most 32 are allowed",
        ),
    ],
)
def test_a_slip_is_named_with_its_place(tmp_path: Path, text: str, problem: str) -> None:
    (told,) = problems_in(tmp_path, products(text))
    assert told.startswith(f"config.yaml:6: stations.top.products{problem}")


@pytest.mark.parametrize("pin", ["recipe", "commissioning", "adapter"])
def test_pins_of_one_product_exclude_patterns(tmp_path: Path, pin: str) -> None:
    """Parts of the others would be judged by what nobody has pinned; a pin of the model is of all."""
    text = products("[{recipe: line, part_id: a}]", "    adaptation: {pins: {%s: '%s'}}\n")
    (told,) = problems_in(tmp_path, text % (pin, SHA))
    assert f"products: adaptation.pins.{pin} is of one product alone" in told
    load_text(tmp_path, text % ("weights", SHA))


def test_votes_of_a_product_are_refused_where_triggers_announce_parts(tmp_path: Path) -> None:
    text = VOTED + products("[{recipe: voted, part_id: a}]", "    trigger: {mode: mqtt}\n")
    (told,) = problems_in(tmp_path, text)
    assert "recipes.voted.votes: the last 3 pictures decide together" in told


def test_a_changed_pattern_is_live(tmp_path: Path) -> None:
    """As `recipe` is; and over that another one can be set, not an unknown one."""
    before, after = (
        loaded_of(products(f"[{{recipe: steel-neu, part_id: {pattern}}}]"), tmp_path / "config.yaml")
        for pattern in ("a", "b")
    )
    (change,) = changes(before, after)
    assert (change.key, change.effect) == ("stations.top.products", "live")
    with_set(after, (), "top", "recipe", "steel-neu")
    with pytest.raises(OverrideError):
        with_set(after, (), "top", "recipe", "steal")
