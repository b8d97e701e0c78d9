"""Parts beside good ones, through the inspector: words, a reference, both, and what was made for neither."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest

from adapters.backbone.wordless_engine import WordlessEngine
from adapters.core.adapter import Adapter
from adapters.core.patches import PatchInfo
from adapters.core.protocol import Floats, ModelError, PromptError
from adapters.engines.engine_patches import patches_of
from adapters.reference.reference import Reference
from agent.config.loader import Loaded
from agent.config.recipes import Recipe
from agent.domain.active_version import ActiveVersion
from agent.domain.verdict import Outcome, Verdict
from agent.inspection.comparing import compare_parts, place
from agent.inspection.feed_factory import input_spec
from agent.inspection.inspector import Inspector
from agent.inspection.judging import decided_by
from agent.inspection.predictor import Predictor
from agent.inspection.reference_plan import ReferencePlan
from agent.inspection.station_plan import StationPlan
from agent.versions.commissioned import Uncommissioned
from agent.versions.station_plans import predictors, provenance
from camera.core.frame import Frame, Quality, ReferenceInput
from camera.core.settings import QualityLimits, RegionOfInterest
from camera.feed.mailbox import Mailbox
from camera.pictures.framing import Framing, in_picture
from tests.support.configs import MINIMAL, load_text
from tests.support.small_backbone import SPEC, SmallBackbone, a_reference, part
from tests.support.small_line import FAILS, SIDE, SmallEngine, pictures

ALONE = Recipe.model_validate_json('{"reference": {"severity": "critical"}}')
BOTH = Recipe.model_validate_json(
    '{"reference": {}, "templates": ["{}"], "classes": {"good": {"verdict": "pass", "phrases": ["good"]},'
    ' "scratch": {"verdict": "fail", "phrases": ["scratch"]}}}'
)
ENGINE = SmallEngine()


@pytest.fixture
def backbone() -> SmallBackbone:
    return SmallBackbone()


def words() -> Predictor:
    texts = ENGINE.encode_text(np.array([[0], [1]]), ENGINE.source)
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    return Predictor(0, ENGINE.source, texts, FAILS, 0.0)


def plan(recipe: Recipe, backbone: SmallBackbone, answering: Callable[[], Reference | None]) -> StationPlan:
    settings = loaded().config.stations["top"].adaptation
    found = Uncommissioned("top", settings, "full", ActiveVersion(0, ENGINE.source, 0.0), "")
    frozen = words() if recipe.has_words else predictors(ENGINE, recipe, found)[0]
    made_by = provenance(loaded(), ENGINE, recipe, found, backbone.info)
    return StationPlan(
        "own", recipe, made_by, QualityLimits(stale_s=None), frozen, lambda: frozen,
        reference=ReferencePlan("backbone", backbone, answering),
    )  # fmt: skip


@cache
def loaded() -> Loaded:
    with TemporaryDirectory() as folder:
        return load_text(Path(folder), MINIMAL)


def frame(
    number: int,
    spot: tuple[int, int] | None = None,
    *,
    label: str | None = "good",
    tiles: tuple[int, int] = (1, 1),
    crop: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0),
    compared: bool = True,
    station: str = "top",
) -> Frame:
    """Return a frame; `label`: what the words are shown of it, None: nothing."""
    image = part(1000 + number, spot=spot)
    shown = Framing(input_spec(SPEC), "auto", tiles).inputs(image)
    pixels = None
    if label is not None:
        bytes_ = pictures([label] * len(shown.boxes), number)
        pixels = (bytes_.transpose(0, 3, 1, 2).astype(np.float32) / 255 - 0.5) / 0.5
    boxes = tuple(in_picture(box, crop) for box in shown.boxes) if len(shown.boxes) > 1 else ()
    references = {"backbone": ReferenceInput(shown.pixels, shown.view)} if compared else {}
    return Frame(
        station, number, datetime.now(UTC), time.monotonic_ns(), image, pixels, Quality(100.0, 100.0),
        roi=RegionOfInterest(crop=crop), view="fill", tiles=boxes, references=references,
    )  # fmt: skip


def judged(plans: dict[str, StationPlan], *frames: Frame) -> list[Verdict]:
    return Inspector("agent", ENGINE, plans, Mailbox(), list, batch=8).judge(frames)


def test_a_reference_alone_passes_good_parts_and_fails_a_spot(backbone: SmallBackbone) -> None:
    """The label is none of the classes, the box is around the spot, and the backbone made the verdict."""
    reference = a_reference()
    own = plan(ALONE, backbone, lambda: reference)
    good, bad = judged({"top": own}, frame(1, label=None), frame(2, (40, 20), label=None))
    assert (good.decision.verdict, good.decision.reason, good.decision.label) == ("pass", "normal", None)
    assert (bad.decision.verdict, bad.decision.reason, bad.decision.label) == ("fail", "anomaly", "unknown")
    assert bad.decision.severity == "critical"
    assert bad.compared is not None
    assert (bad.compared.digest, bad.compared.samples) == (reference.digest, reference.samples)
    assert bad.compared.score > bad.compared.threshold == reference.threshold
    assert bad.compared.box == pytest.approx((40 / 64, 20 / 48, 50 / 64, 30 / 48), abs=0.13)
    assert (bad.provenance.model, bad.provenance.weights) == ("blocks", backbone.info.digest)
    assert (bad.provenance.adapter, bad.provenance.offset, bad.source) == (0, 0.0, None)
    assert bad.view == "fill"
    assert bad.difference is not None
    assert bad.difference.maps.shape == (1, 8, 8)


def test_words_and_reference_judge_the_same_part(backbone: SmallBackbone) -> None:
    """What the words know they name; what only the reference sees is unknown; the source is words alone."""
    reference = a_reference()
    own = plan(BOTH, backbone, lambda: reference)
    frames = [
        frame(1), frame(2, (40, 20)), frame(3, label="scratch"), frame(4, (40, 20), label="scratch"),
    ]  # fmt: skip
    said = judged({"top": own}, *frames)
    assert [(one.decision.verdict, one.decision.reason, one.decision.label) for one in said] == [
        ("pass", "class", "good"),
        ("fail", "anomaly", "unknown"),
        ("fail", "class", "scratch"),
        ("fail", "class", "scratch"),
    ]
    assert all(one.compared is not None for one in said)
    assert [one.source.label for one in said if one.source] == ["good", "good", "scratch", "scratch"]
    assert said[0].provenance.model == "small"


def test_the_box_lies_in_the_camera_s_whole_picture(backbone: SmallBackbone) -> None:
    """Through the tile that differs most, and through the region of interest."""
    crop = (0.5, 0.25, 1.0, 0.75)
    reference = a_reference(tiles=(2, 1))
    own = replace(plan(ALONE, backbone, lambda: reference), tiles=2)
    (said,) = judged({"top": own}, frame(1, (50, 20), label=None, tiles=(2, 1), crop=crop))
    assert said.compared is not None
    assert said.compared.box is not None
    left, top, right, bottom = said.compared.box
    spot = (0.5 + 50 / 64 / 2, 0.25 + 20 / 48 / 2, 0.5 + 60 / 64 / 2, 0.25 + 30 / 48 / 2)
    assert (left, top, right, bottom) == pytest.approx(spot, abs=0.06)
    assert said.tile is not None
    assert said.tile[0] > 0.7, "the right one of the two tiles"


def test_the_tile_is_of_what_decided(backbone: SmallBackbone) -> None:
    """Of an anomaly the one that differs most, of a class the one that shows it."""
    reference = a_reference(tiles=(2, 1))
    own = replace(plan(BOTH, backbone, lambda: reference), tiles=2)
    odd = frame(1, (50, 20), tiles=(2, 1))
    scratched = frame(2, (50, 20), tiles=(2, 1), label="scratch")
    assert scratched.pixels is not None
    assert odd.pixels is not None
    texts, scale = words(), ENGINE.info.logit_scale
    features = ENGINE.encode_image(odd.pixels, [ENGINE.source] * 2)
    if decided_by(texts, features, scale)[0] == 1:  # of good ones the words name the first
        odd = replace(odd, pixels=odd.pixels[::-1].copy())
    one_tile = np.stack([scratched.pixels[0], odd.pixels[1]])
    said = judged({"top": own}, odd, replace(scratched, pixels=one_tile))
    assert [one.decision.reason for one in said] == ["anomaly", "class"]
    assert [one.tile for one in said] == [odd.tiles[1], odd.tiles[0]]


def test_stations_share_a_call_of_the_backbone(backbone: SmallBackbone) -> None:
    """Two stations, two references, one call; and each part is told its own."""
    first, second = a_reference(seed=0), a_reference(seed=5)
    plans = {"top": plan(ALONE, backbone, lambda: first), "side": plan(ALONE, backbone, lambda: second)}
    frames = [frame(1, label=None), frame(2, label=None, station="side")]
    said = judged(plans, *frames)
    assert [one.compared.digest for one in said if one.compared] == [first.digest, second.digest]
    assert backbone.calls == [2]


def test_a_part_is_never_divided_and_a_call_holds_so_many_pictures(backbone: SmallBackbone) -> None:
    reference = a_reference(tiles=(2, 1))
    one = ReferencePlan("backbone", backbone, lambda: reference)
    frames = [frame(n, label=None, tiles=(2, 1)) for n in range(1, 6)]
    together = compare_parts(frames, [one] * 5)
    assert backbone.calls == [10]
    apart = compare_parts(frames, [one] * 5, most=5)
    assert backbone.calls[1:] == [4, 4, 2]
    scores = [[each.comparison.score for each in found if each] for found in (together, apart)]
    assert scores[0] == pytest.approx(scores[1], rel=1e-6)


def test_without_a_reference_words_go_on_and_nothing_else_is_passed(backbone: SmallBackbone) -> None:
    """A station without words inspects nothing then, and says why."""
    plans = {"top": plan(BOTH, backbone, lambda: None), "side": plan(ALONE, backbone, lambda: None)}
    told, silent = judged(plans, frame(1), frame(2, label=None, station="side"))
    assert (told.decision.verdict, told.decision.reason, told.compared) == ("pass", "class", None)
    assert (silent.decision.verdict, silent.decision.reason) == (Outcome.NOT_INSPECTED, "no_reference")
    assert backbone.calls == []


@pytest.mark.parametrize("recipe", [BOTH, ALONE])
def test_a_picture_of_before_a_reload_is_not_passed_by_the_half_of_what_is_asked(
    backbone: SmallBackbone, recipe: Recipe
) -> None:
    """It was made when nobody compared: the words alone must not pass it."""
    reference = a_reference()
    own = plan(recipe, backbone, lambda: reference)
    (said,) = judged({"top": own}, frame(1, compared=False))
    assert (said.decision.verdict, said.decision.reason) == (Outcome.NOT_INSPECTED, "reload")
    assert (said.compared, said.view) == (None, None)


@pytest.mark.parametrize("tiles", [(1, 1), (2, 1)])
def test_a_picture_of_other_tiles_is_not_inspected(backbone: SmallBackbone, tiles: tuple[int, int]) -> None:
    """It waited while the tiles were set back: the reference knows nothing of it, and the loop goes on."""
    other = (2, 1) if tiles == (1, 1) else (1, 1)
    reference = a_reference(tiles=tiles)
    own = replace(plan(ALONE, backbone, lambda: reference), tiles=tiles[0])
    old, new = judged({"top": own}, frame(1, label=None, tiles=other), frame(2, label=None, tiles=tiles))
    assert (old.decision.verdict, old.decision.reason) == (Outcome.NOT_INSPECTED, "reload")
    assert new.compared is not None


def test_what_is_no_number_is_not_inspected(backbone: SmallBackbone) -> None:
    reference = a_reference()
    own = plan(ALONE, backbone, lambda: reference)
    broken = frame(1, label=None)
    pixels = np.full_like(broken.references["backbone"].pixels, np.nan)
    broken = replace(broken, references={"backbone": ReferenceInput(pixels, "fill")})
    (said,) = judged({"top": own}, broken)
    assert (said.decision.verdict, said.decision.reason) == (Outcome.NOT_INSPECTED, "not_finite")


def test_no_place_stands_out_of_a_flat_map() -> None:
    class Flat:
        box, tile = None, 0

    assert place(Flat(), (64, 48), ((0.0, 0.0, 1.0, 1.0),), (0, 0, 1, 1), "fill") is None  # type: ignore[arg-type]


def test_an_engine_without_words_names_its_backbone_and_encodes_nothing(backbone: SmallBackbone) -> None:
    engine = WordlessEngine(backbone)
    assert (engine.info.name, engine.info.weights) == ("blocks", backbone.info.digest)
    assert engine.info.preprocess == SPEC
    assert engine.source.digest.startswith("sha256:")
    for ask in (
        lambda: engine.tokenize(["a"]),
        lambda: engine.encode_image(np.zeros((1, 3, SIDE, SIDE), np.float32), [engine.source]),
        lambda: engine.encode_text(np.zeros((1, 2), np.int64), engine.source),
    ):
        with pytest.raises(PromptError, match="start it again"):
            ask()


class TokenSmall(SmallEngine):
    """The small engine with patches: of each quarter of the picture its four means."""

    def __init__(self) -> None:
        self.passes = list[tuple[int, list[str]]]()

    def patch_info(self) -> PatchInfo:
        return PatchInfo("small", "sha256:" + "d" * 64, self.info.preprocess, (2, 2), 4)

    def encode_image(self, images: Floats, adapters: Sequence[Adapter]) -> Floats:
        self.passes.append((len(images), ["plain"] * len(images)))
        return super().encode_image(images, adapters)

    def encode_with_patches(self, images: Floats, adapters: Sequence[Adapter]) -> tuple[Floats, Floats]:
        self.passes.append((len(images), [adapter.digest for adapter in adapters]))
        features = super().encode_image(images, adapters)
        cells = features.reshape(len(images), 2, 2, 2, 2).transpose(0, 1, 3, 2, 4)
        return features, np.ascontiguousarray(cells.reshape(len(images), 2, 2, 4))


def clip_plan(engine: TokenSmall, recipe: Recipe, answers: Predictor, reference: Reference) -> StationPlan:
    own = plan(recipe, SmallBackbone(), lambda: reference)
    beside = ReferencePlan("clip", patches_of(engine), lambda: reference)
    return replace(own, reference=beside, answering=lambda: answers)


def clip_reference(engine: TokenSmall) -> Reference:
    shown = [frame(n).pixels for n in range(50, 58)]
    good = np.stack([engine.encode_with_patches(one, [engine.source])[1] for one in shown if one is not None])
    engine.passes.clear()
    return Reference.build(good, engine.patch_info())


BY_CLIP = BOTH.model_copy(
    update={"reference": Recipe.model_validate_json('{"reference": {"features": "clip"}}').reference}
)


def test_words_and_reference_cost_one_pass_of_the_model() -> None:
    """Where the source model answers, its one pass gives features and patches."""
    engine = TokenSmall()
    reference = clip_reference(engine)
    own = clip_plan(engine, BY_CLIP, words(), reference)
    inspector = Inspector("agent", engine, {"top": own}, Mailbox(), list, batch=8)
    said = inspector.judge([frame(1, compared=False), frame(2, label="scratch", compared=False)])
    assert [one.decision.label for one in said] == ["good", "scratch"]
    assert engine.passes == [(2, [engine.source.digest] * 2)]
    scores = [one.compared.score for one in said if one.compared]
    assert scores[0] < scores[1]
    assert scores[1] > reference.threshold


def test_what_a_learned_version_answers_is_compared_as_the_source_model_sees_it() -> None:
    """The reference was made of its patches; features are those of the version that answers."""
    engine = TokenSmall()
    reference = clip_reference(engine)
    moved = Adapter({**ENGINE.source.tensors, "shift": np.full(16, 0.05, np.float32)}, 3)
    learned = replace(words(), number=3, adapter=moved)
    plain, other = (clip_plan(engine, BY_CLIP, one, reference) for one in (words(), learned))
    frames = [frame(1, compared=False)]
    found = [
        Inspector("agent", engine, {"top": replace(one, shadow=0.0)}, Mailbox(), list, batch=8).judge(frames)[
            0
        ]
        for one in (plain, other)
    ]
    assert found[0].compared == found[1].compared
    assert found[1].provenance.adapter == 3
    assert found[1].source is None, "a frame that is not shadowed stays so"
    assert engine.passes[1:] == [(1, ["plain"]), (1, [engine.source.digest])]


def test_a_reference_alone_may_be_of_the_model_s_patches() -> None:
    """Then nobody asks it for words, and nothing is encoded twice."""
    engine = TokenSmall()
    reference = clip_reference(engine)
    alone = ALONE.model_copy(update={"reference": BY_CLIP.reference})
    own = clip_plan(engine, alone, words(), reference)
    inspector = Inspector("agent", engine, {"top": own}, Mailbox(), list, batch=8)
    (said,) = inspector.judge([frame(1, label="scratch", compared=False)])
    assert (said.decision.verdict, said.decision.reason) == ("fail", "anomaly")
    assert len(engine.passes) == 1


def test_an_engine_without_patches_says_what_to_set() -> None:
    with pytest.raises(ModelError, match="features: backbone"):
        patches_of(ENGINE)
