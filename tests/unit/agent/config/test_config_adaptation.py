"""config.yaml about learning: what it may say, and what it is told where that cannot be."""

from __future__ import annotations

import pytest

from agent.config.models_adaptation import Adaptation
from agent.versions.learner_settings import LearnerSettings
from tests.support.configs import MINIMAL, load_text, problems_in

SHA = "sha256:" + 64 * "a"
PINS = f"{{weights: '{SHA}', recipe: '{SHA}', commissioning: '{SHA}', adapter: '{SHA}'}}"


def adaptation(text: str, more: str = "") -> str:
    return f"{MINIMAL}    adaptation: {text}\n{more}"


def test_the_learner_has_the_defaults_that_the_config_shows():
    """A station without the section learns as the learner does by itself."""
    ours, learner = Adaptation(), LearnerSettings()
    assert (ours.mode, ours.every_frames, ours.bound) == (learner.mode, learner.every, learner.bound)
    assert ours.max_shift_per_hour == learner.per_hour
    assert 8 * ours.every_frames == learner.recheck


def test_stations_learn_as_the_defaults_say_unless_they_say_otherwise(tmp_path):
    """The section merges like every other map."""
    text = MINIMAL.replace("    recipe: line\n", "    recipe: line\n    adaptation: {duty: 0.5}\n")
    text += "station_defaults: {adaptation: {mode: frozen, duty: 0.1}}\n"
    found = load_text(tmp_path, text).config.stations["top"].adaptation
    assert (found.mode, found.duty, found.level) == ("frozen", 0.5, "auto")


def test_a_lock_needs_something_to_lock_to(tmp_path):
    """Which pins are missing is said; with all of them it is a lock."""
    assert problems_in(tmp_path, adaptation("{mode: locked}")) == [
        "config.yaml:6: stations.top.adaptation:"
        " mode: locked needs pins for weights, recipe, commissioning, adapter"
    ]
    found = load_text(tmp_path, adaptation(f"{{mode: locked, pins: {PINS}}}")).config.stations["top"]
    assert found.adaptation.pins.weights == SHA


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("{mode: adaptve}", "mode: should be adaptive, shadow, frozen or locked"),
        ("{duty: 0}", "duty: should be more than 0"),
        ("{bound: -1}", "bound: should be at least 0"),
        ("{keep: 0}", "keep: should be at least 1"),
        ("{pins: {weight: x}}", "pins.weight: unknown key: did you mean weights?"),
        ("{pins: {weights: abc}}", "pins.weights: "),
    ],
)
def test_a_slip_is_named_with_its_key(tmp_path, text, key):
    """As everywhere in the config."""
    (problem,) = problems_in(tmp_path, adaptation(text))
    assert f"config.yaml:6: stations.top.adaptation.{key}" in problem
