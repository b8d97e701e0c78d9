"""The demo's story: chapters, what they are counted for, and when its operator goes back."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.demo.config import STATION, demo_config
from agent.demo.main import DemoSubscriber
from agent.demo.story import CHAPTERS, PARTS, ROLLBACK_PART, Operator, Score, chapter_of
from camera.core.settings import SimulatedCamera
from camera.simulation.source import SimulatedLine

VERDICTS = {"ok": "pass", "scratch": "fail"}


def result(verdict: str, frozen: str | None) -> dict:
    return {"verdict": verdict, "source": None if frozen is None else {"label": frozen, "score": 0.9}}


def event(kind: str, number: int) -> dict:
    return {"event": kind, "after": {"number": number, "offset": 1.0}}


def test_the_line_does_what_the_chapters_say(tmp_path: Path) -> None:
    """Clean chapters are clean from their first part to their last, the others are not at their end."""
    camera = demo_config(tmp_path, None).config.stations[STATION].camera
    assert isinstance(camera, SimulatedCamera)
    line = SimulatedLine(camera)
    ends = [*(chapter.first - 1 for chapter in CHAPTERS[1:]), PARTS]
    found = [(line.conditions(c.first), line.conditions(end)) for c, end in zip(CHAPTERS, ends, strict=True)]
    assert [bool(last) for _, last in found] == [False, True, False, True, False]
    assert all(not first for (first, last) in found if not last)
    assert found[1][1] == (("dim", 4.0),)
    assert found[3][1] == (("dirt", 2.0),)


def test_a_part_belongs_to_the_chapter_that_began_last() -> None:
    """The first part of a chapter and the one before it are in different ones."""
    assert [chapter_of(chapter.first) for chapter in CHAPTERS] == list(range(len(CHAPTERS)))
    assert [chapter_of(chapter.first - 1) for chapter in CHAPTERS[1:]] == list(range(len(CHAPTERS) - 1))


def test_the_frozen_model_and_what_answers_are_counted_apart() -> None:
    """Rejected good parts and missed defects per chapter, for both; what was not inspected counts nowhere."""
    score = Score(VERDICTS)
    score.add(1, result("pass", "scratch"), "ok")
    score.add(2, result("fail", "ok"), "scratch")
    score.add(3, result("pass", "ok"), "scratch")
    score.add(4, result("not_inspected", None), "scratch")
    score.add(CHAPTERS[1].first, result("fail", "ok"), "ok")
    first, second = score.chapters()
    assert (first["good"], first["defective"]) == (1, 2)
    assert first["frozen"] == {"rejected_good": 1, "missed": 2}
    assert first["answering"] == {"rejected_good": 0, "missed": 1}
    assert second["frozen"] == {"rejected_good": 0, "missed": 0}
    assert second["answering"] == {"rejected_good": 1, "missed": 0}


@pytest.mark.parametrize(
    ("events", "number"),
    [
        ([event("promoted", 4), event("reset", 0), event("promoted", 5), event("promoted", 7)], 5),
        ([event("promoted", 4)], 0),
        ([event("promoted", 4), event("reset", 0)], None),
        ([], None),
    ],
)
def test_the_operator_goes_back_once_to_the_version_before(events: list[dict], number: int | None) -> None:
    """Only once, only in its part of the story, and only where something learned answers."""
    operator = Operator()
    for one in events:
        operator.hears(one)
    assert operator.goes_back_to(ROLLBACK_PART - 1) is None
    assert operator.goes_back_to(ROLLBACK_PART) == number
    if number is not None:
        assert operator.goes_back_to(ROLLBACK_PART + 1) is None


def test_what_the_learner_does_is_printed_as_it_arrives(capsys: pytest.CaptureFixture[str]) -> None:
    """One line per event, with the frame, who and why."""
    watch = DemoSubscriber(SimulatedLine(SimulatedCamera()), lambda: None, lambda number: None, as_json=False)
    told = (
        b'{"event":"promoted","actor":"guard","why":"gain on known parts","numbers":{"frame":650.0},'
        b'"after":{"number":3,"offset":1.25,"digest":"x"}}'
    )
    watch.receive("mekiki/demo/line/adapter/event", told)
    line = capsys.readouterr().out
    assert line == "-- part 650: promoted by guard: gain on known parts -> version 3, operating point 1.25\n"
