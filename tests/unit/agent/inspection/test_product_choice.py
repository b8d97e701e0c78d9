"""A part's id says which product it is: by the patterns of the config, and by nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from hypothesis import example, given
from hypothesis import strategies as st

from agent.config.models import PatternedProduct, Station
from agent.inspection.frame_count import FrameCount, InForce, OthersCount
from agent.inspection.product_choice import ProductChoice, product_parts

IDS = st.one_of(st.none(), st.text(max_size=12), st.text("HBL-0*?[]!\n", max_size=12))
PATTERNS = st.lists(st.text("HBL-0*?[]!\n", min_size=1, max_size=8), max_size=6, unique=True)


def patterned(patterns: Sequence[str]) -> list[PatternedProduct]:
    # Not validated: the choice must stand whatever a pattern is.
    return [
        PatternedProduct.model_construct(recipe=f"r{number}", part_id=pattern)
        for number, pattern in enumerate(patterns)
    ]


def station(**products: str) -> Station:
    made = [{"recipe": name, "part_id": pattern} for name, pattern in products.items()]
    camera = {"kind": "simulated"}
    return Station.model_validate({"camera": camera, "recipe": "housing", "products": tuple(made)})


@given(PATTERNS, IDS)
@example(["*a" * 100], "a" * 200)
@example(["[z-a]*", "[", "[!"], "[")
def test_the_first_pattern_that_fits_counts(patterns: list[str], part_id: str | None) -> None:
    """Patterns are those of `fnmatchcase`; none fits what has no id."""
    fitting = [n for n, pattern in enumerate(patterns) if part_id and fnmatchcase(part_id, pattern)]
    expected = f"r{fitting[0]}" if fitting else None
    assert ProductChoice.of(patterned(patterns)).named(part_id) == expected


def test_capitals_and_the_whole_id_count() -> None:
    choice = ProductChoice.of(station(lid="L-?").products)
    assert [choice.named(one) for one in ("L-1", "l-1", "xL-1", "L-12", "", None)] == ["lid", *[None] * 5]


def test_a_baseline_is_measured_on_the_parts_that_it_will_judge() -> None:
    """The station's recipe gets what nobody names; a recipe without a pattern too, as if it were in force."""
    plant = station(lid="L-*", cap="C-*")
    ids = ("L-1", "C-1", "X-1")
    taken = {
        name: [one for one in ids if product_parts(plant, name)(one)]
        for name in ("lid", "cap", "housing", "new")
    }
    assert taken == {"lid": ["L-1"], "cap": ["C-1"], "housing": ["X-1"], "new": ["X-1"]}
    assert product_parts(plant)("X-1")
    # The camera of a triggered station gives no ids while nobody triggers.
    assert all(product_parts(plant, name)(None) for name in taken)


def test_a_pattern_may_name_the_recipe_in_force() -> None:
    """It goes on judging its parts when another one comes into force; until then it gets the rest as well."""
    plant = station(housing="H-*", lid="L-*")
    assert [product_parts(plant, "housing")(one) for one in ("H-1", "X-1", "L-1")] == [True, True, False]


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 3)), max_size=60), st.integers(0, 9))
def test_a_learner_counts_the_frames_of_its_product_alone(
    frames: list[tuple[bool, int]], before: int
) -> None:
    """Whatever comes between, and though frames of before wait when it comes into force."""
    since = InForce("run", before, 0.5) if before else None
    count, others = FrameCount(base=700), OthersCount(since)
    count = count.in_run(since or InForce("run"))
    expected, number = count.frame, 0
    for other, step in frames:
        number += step
        own = others.own(number, other=other)
        assert (own == 0) == other
        at_s = number if number > before else 0.25
        if not other and (news := count.seen(own, at_s)) is not None:
            count = news
        if number > before:
            # Those that the camera numbered and dropped are counted as its own: nobody has seen their ids.
            expected += min(step, number - before) - other
            if not other:
                assert count.frame == expected
        else:
            assert count.frame == 700
