"""References while the agent runs: a new one is taken over, and what cannot be used is said."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from adapters.backbone.wordless_engine import WordlessEngine
from adapters.core.protocol import ModelError
from adapters.reference.reference import Reference
from agent.app.live_references import LOOK_EVERY_S, LiveReferences
from agent.audit.agent_log import Trail
from agent.base.errors import ConfigError
from agent.config.loader import Loaded
from agent.telemetry.health import level
from agent.versions.products import product
from agent.versions.station_plans import check_prompts
from agent.versions.station_reference import facts_of
from camera.feed.stats import FeedStats
from tests.support.configs import load_text
from tests.support.small_backbone import INFO, SmallBackbone, a_reference

TEXT = """\
version: 1
agent: {data_dir: data}
recipes:
  alone: {reference: {}}
  both:
    reference: {}
    templates: ["a {}"]
    classes: {ok: {verdict: pass, phrases: [good]}, bad: {verdict: fail, phrases: [bad]}}
stations:
  top: {camera: {kind: simulated}, recipe: alone}
  side: {camera: {kind: simulated}, recipe: both}
"""
TOP, SIDE = ("top", "alone"), ("side", "both")


class Plant:
    """The references of two stations; a test says when it is looked."""

    def __init__(self, folder: Path) -> None:
        self.loaded: Loaded = load_text(folder, TEXT)
        self.backbone = SmallBackbone()
        self.trail = Trail(folder / "data")
        self.references = LiveReferences(lambda features: self.backbone, self.trail)
        self.live, self.plans = self.references.prepare(self.loaded, ["top", "side"])
        self.references.use(self.live)
        self._now = 0.0

    def file(self, of: tuple[str, str]) -> Path:
        return product(self.loaded.config, *of).reference

    def make(self, of: tuple[str, str], seed: int) -> Reference:
        return a_reference(self.file(of), seed=seed, facts=facts_of(self.loaded.config, *of, INFO))

    def look(self) -> None:
        self._now += LOOK_EVERY_S
        self.references.look(self._now)

    def problems(self) -> dict[str, str]:
        return {one.subject: one.message for one in self.references.conditions()}


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    (tmp_path / "data").mkdir()
    return Plant(tmp_path)


def test_without_references_the_stations_say_what_they_do(plant: Plant) -> None:
    """Words go on; where there are none, nothing is inspected, and the station is blind."""
    said = plant.problems()
    assert said["top"].endswith("with pictures of good parts; parts of recipe alone are not inspected")
    assert said["side"].endswith(
        "with pictures of good parts; parts of recipe both are judged by words alone"
    )
    found = plant.references.conditions()
    feeds = [
        FeedStats(
            name, connected=True, ended=False, fps=1.0, frames=1, dropped=0, reconnects=0, stalls=0,
            last_fault=None, luma=100.0, sharpness=100.0,
        )
        for name in ("top", "side")
    ]  # fmt: skip
    assert level(found, feeds[:1]) == "down"
    assert level(found, feeds) == "degraded"


def test_a_new_reference_is_in_force_at_once_and_recorded(
    plant: Plant, caplog: pytest.LogCaptureFixture
) -> None:
    """The plans ask for it; journal and audit trail say which, and which was before."""
    plan = plant.plans["top"]["alone"]
    assert plan.answering() is None
    with caplog.at_level(logging.INFO, "agent"):
        first = plant.make(TOP, 1)
        plant.look()
        in_use = plan.answering()
        assert in_use is not None
        assert in_use.digest == first.digest
        assert "top" not in plant.problems()
        second = plant.make(TOP, 2)
        plant.look()
        plant.look()
    assert plan.answering().digest == second.digest  # type: ignore[union-attr]
    told = [line for line in caplog.messages if line.startswith("station top: recipe alone: reference")]
    assert [one.split()[5] for one in told] == [f"{each.digest[:19]}..." for each in (first, second)]
    rows = (plant.loaded.path.parent / "data" / "audit.jsonl").read_text().splitlines()
    assert len(rows) == 2
    assert first.digest in rows[1]
    assert second.digest in rows[1]


def test_one_that_is_taken_away_is_gone_and_one_that_is_damaged_is_not(plant: Plant) -> None:
    """A file that somebody is half through with is no reason to judge by nothing."""
    good = plant.make(TOP, 1)
    plant.look()
    plant.file(TOP).write_bytes(b"damaged")
    plant.look()
    answering = plant.plans["top"]["alone"].answering
    assert answering().digest == good.digest  # type: ignore[union-attr]
    assert plant.problems()["top"].endswith("; the one before goes on")
    plant.file(TOP).unlink()
    plant.look()
    assert answering() is None
    assert plant.problems()["top"].endswith("are not inspected")


def test_a_config_that_changes_the_picture_takes_the_reference_out_of_force(plant: Plant) -> None:
    """What was made of other pictures says nothing of these."""
    plant.make(SIDE, 1)
    plant.look()
    assert "side" not in plant.problems()
    cropped = TEXT.replace("recipe: both}", "recipe: both, roi: {crop: [0, 0, 0.5, 1]}}")
    changed = load_text(plant.loaded.path.parent, cropped)
    live, plans = plant.references.prepare(changed, ["top", "side"])
    assert plant.plans["side"]["both"].answering() is not None, "nothing has changed before it is used"
    plant.references.use(live)
    assert plans["side"]["both"].answering() is None
    assert "set stations.side.roi.crop back" in plant.problems()["side"]


def test_a_backbone_that_cannot_be_opened_is_a_mistake_of_the_config(plant: Plant) -> None:
    """Said with its place, so that a running agent refuses the edit and goes on."""

    def nowhere(features: str) -> SmallBackbone:
        raise ModelError(f"{features}: no manifest: fetch it again")

    with pytest.raises(ConfigError) as caught:
        LiveReferences(nowhere).prepare(plant.loaded, ["top"])
    (problem,) = caught.value.problems
    assert problem.endswith(":4: recipes.alone.reference.features: backbone: no manifest: fetch it again")


def test_words_need_a_restart_where_no_model_is_loaded(plant: Plant) -> None:
    """One line for each recipe, with its place; what is in force goes on."""
    with pytest.raises(ConfigError) as caught:
        check_prompts(plant.loaded, WordlessEngine(plant.backbone))
    (problem,) = caught.value.problems
    assert "config.yaml:5: recipes.both: no station asked the model by words when this was started" in problem


def test_a_pinned_reference_alone_is_in_force(plant: Plant, tmp_path: Path) -> None:
    """Golden samples that are added change nothing while the agent runs, and it does not start with them."""
    pinned = plant.make(TOP, 1)
    pins = f"adaptation: {{pins: {{reference: '{pinned.digest}'}}}}"
    plant.loaded = load_text(tmp_path, TEXT.replace("recipe: alone}", f"recipe: alone, {pins}}}"))
    plant.live, plant.plans = plant.references.prepare(plant.loaded, ["top"])
    plant.references.use(plant.live)
    plant.make(TOP, 2)
    plant.look()
    answering = plant.live[TOP].answering()
    assert answering is not None
    assert answering.digest == pinned.digest
    (condition,) = plant.references.conditions()
    assert condition.code == "reference_unusable"
    assert f"station top is pinned to {pinned.digest}" in condition.message
    assert condition.message.endswith("the one before goes on")
    with pytest.raises(ConfigError, match=r"pins\.reference.*is pinned to"):
        plant.references.prepare(plant.loaded, ["top"])
