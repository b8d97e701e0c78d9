"""A label is about a part of one product: the learner of another one does not hear of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.commands.result_handlers import NoLabel, is_defect
from agent.learning.ipc import Label
from agent.learning.supervisor import LearnerHandle, LearnerSupervisor
from tests.support.learning_site import site

LID = {
    "templates": ["a photo of {}"],
    "classes": {
        "ok": {"verdict": "fail", "phrases": ["an open lid"]},
        "shut": {"verdict": "pass", "phrases": ["a shut lid"]},
    },
}


def test_a_label_reaches_the_learner_of_the_recipe_that_the_part_was_judged_by(tmp_path: Path) -> None:
    """What proves harm of one product's version must not end another one's."""
    loaded = site(tmp_path, commissioned=False)
    handle = LearnerHandle("line", None, None, "lid")  # type: ignore[arg-type]
    handle.gone.set()  # nobody takes them
    learners = LearnerSupervisor(loaded, lambda *told: None)
    learners.use(loaded, {"line": handle})
    learners.label(Label("line", 1, defect=True, actor="eve", recipe="line"))
    learners.label(Label("line", 2, defect=True, actor="eve", recipe="lid"))
    assert [label.number for label in handle.labels] == [2]


def test_what_a_label_means_says_the_recipe_that_the_part_was_judged_by(tmp_path: Path) -> None:
    """Of a recipe that is gone, or not known, the one that is in force counts."""
    config = site(tmp_path, commissioned=False, recipes={"lid": LID}).config
    assert is_defect("ok", "lid", config, "line")
    assert not is_defect("shut", "lid", config, "line")
    assert is_defect("defective", "lid", config, "line")
    for recipe in ("line", "gone", None):
        assert not is_defect("ok", recipe, config, "line")
        with pytest.raises(NoLabel, match="none of good, defective, ok, scratch"):
            is_defect("shut", recipe, config, "line")
