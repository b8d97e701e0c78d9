"""From scores to a verdict: pure, total, and never confident about a picture that cannot be judged."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config.recipes import PartClass, Recipe, Votes
from agent.domain.verdict import Decision, Outcome, decide, vote
from camera.core.frame import Fault, Quality

GOOD = Quality(100.0, 100.0)


def a_recipe(threshold: float = 0.5, margin: float = 0.0) -> Recipe:
    return Recipe(
        templates=("a photo of {}",),
        threshold=threshold,
        abstain_margin=margin,
        classes={
            "ok": PartClass(verdict="pass", phrases=("a good part",)),
            "scratch": PartClass(verdict="fail", severity="minor", phrases=("a scratched part",)),
            "dent": PartClass(verdict="fail", severity="critical", phrases=("a dented part",)),
        },
    )


def a_decision(verdict: Outcome, label: str | None = "ok") -> Decision:
    if verdict is Outcome.NOT_INSPECTED:
        return Decision(verdict, "black")
    return Decision(verdict, "class", label, None, 0.9, 0.4, {"ok": 0.5, "scratch": 0.3, "dent": 0.2})


def test_the_most_probable_class_of_the_verdict_is_named() -> None:
    """A clear scratch fails as a scratch, with its severity."""
    decision = decide([0.06, 0.91, 0.03], GOOD, a_recipe())

    assert (decision.verdict, decision.label, decision.severity) == (Outcome.FAIL, "scratch", "minor")
    assert decision.score == 0.91
    assert decision.margin == pytest.approx(0.44)


def test_two_kinds_of_defect_do_not_hide_each_other() -> None:
    """Probability shared by two defects is still a defect, though `ok` is the single largest."""
    decision = decide([0.4, 0.25, 0.35], GOOD, a_recipe())

    assert (decision.verdict, decision.label) == (Outcome.FAIL, "dent")


def test_close_to_the_threshold_it_abstains() -> None:
    """Within the margin the answer is `unsure`, and still names what it looks like."""
    decision = decide([0.52, 0.48, 0.0], GOOD, a_recipe(margin=0.05))

    assert (decision.verdict, decision.reason, decision.label) == (Outcome.UNSURE, "low_margin", "ok")


@pytest.mark.parametrize("fault", list(Fault))
def test_a_faulty_picture_is_never_judged(fault: Fault) -> None:
    """Whatever the scores say, a picture with a fault is not inspected and its reason is the fault."""
    decision = decide([0.0, 1.0, 0.0], Quality(fault=fault), a_recipe())

    assert decision == Decision(Outcome.NOT_INSPECTED, fault.value)


def test_a_recipe_of_defects_only_always_fails_with_the_likeliest() -> None:
    """A sorting recipe has no pass class: the label is the answer, however flat the scores."""
    recipe = Recipe(
        templates=("{}",),
        threshold=1.0,
        abstain_margin=0.5,
        classes={name: PartClass(verdict="fail", phrases=(name,)) for name in ("a", "b")},
    )

    assert decide([0.51, 0.49], GOOD, recipe).label == "a"
    assert decide([0.51, 0.49], GOOD, recipe).verdict is Outcome.FAIL


probabilities = st.lists(st.floats(0.0, 1.0), min_size=3, max_size=3).filter(lambda p: sum(p) > 0.01)


@given(probabilities, st.floats(0.0, 1.0), st.floats(0.0, 0.5))
def test_every_decision_is_consistent(raw: list[float], threshold: float, margin: float) -> None:
    """For any scores: the label is on the verdict's side, the score is its own, the numbers are in range."""
    scores = [p / sum(raw) for p in raw]
    recipe = a_recipe(threshold, margin)

    decision = decide(scores, GOOD, recipe)

    assert decision.label is not None
    assert decision.scores is not None
    assert decision.score == decision.scores[decision.label]
    assert 0.0 <= (decision.margin or 0.0) <= 1.0
    if decision.verdict is Outcome.FAIL:
        assert recipe.classes[decision.label].verdict == "fail"
        assert decision.severity == recipe.classes[decision.label].severity
    if decision.verdict is Outcome.PASS:
        assert recipe.classes[decision.label].verdict == "pass"
        assert 1 - scores[0] < threshold + 1e-9
    if margin == 0.0:
        assert decision.verdict is not Outcome.UNSURE


@given(probabilities, probabilities, st.floats(0.0, 1.0))
def test_more_defect_never_turns_a_fail_into_a_pass(
    one: list[float], other: list[float], threshold: float
) -> None:
    """The verdict is monotone in the summed probability of the failing classes."""
    low, high = sorted(([p / sum(raw) for p in raw] for raw in (one, other)), key=lambda s: s[1] + s[2])
    recipe = a_recipe(threshold)

    if decide(low, GOOD, recipe).verdict is Outcome.FAIL:
        assert decide(high, GOOD, recipe).verdict is Outcome.FAIL


def test_votes_carry_what_enough_pictures_say() -> None:
    """One odd picture does not stop the line; three of five do."""
    votes = Votes(k=3, n=5)
    passes, fails = a_decision(Outcome.PASS), a_decision(Outcome.FAIL, "dent")

    assert vote([passes, passes, passes, fails], votes).verdict is Outcome.PASS
    assert vote([passes, passes, passes, fails], votes).reason == "votes"
    third = vote([passes, fails, passes, fails, fails], votes)
    assert (third.verdict, third.label) == (Outcome.FAIL, "dent")


def test_votes_abstain_until_enough_agree() -> None:
    """The first pictures of a part cannot carry three votes."""
    assert vote([a_decision(Outcome.PASS)], Votes(k=3, n=5)).verdict is Outcome.UNSURE


def test_a_fail_outvotes_a_pass_where_both_have_enough() -> None:
    """With k at most half of n both can be carried: the safe side wins."""
    history = [a_decision(v) for v in (Outcome.FAIL, Outcome.FAIL, Outcome.PASS, Outcome.PASS)]

    assert vote(history, Votes(k=2, n=4)).verdict is Outcome.FAIL


def test_a_picture_that_was_not_inspected_neither_votes_nor_is_outvoted() -> None:
    """A black picture stays a black picture, and the next good one is decided by good ones."""
    votes = Votes(k=2, n=3)
    good, black = a_decision(Outcome.PASS), a_decision(Outcome.NOT_INSPECTED)

    assert vote([good, good, black], votes) == black
    assert vote([good, black, good], votes).verdict is Outcome.PASS
