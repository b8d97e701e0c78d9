"""What is not finite becomes no verdict: refused where a model is opened, not inspected where it shows."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from adapters.baseline.baseline import Commissioning, CommissioningError
from adapters.bundle.reader import SHIPPED
from adapters.core.adapter import Adapter, AdapterError, NotFinite
from adapters.core.prompts import Prompts, class_features, probabilities
from adapters.core.protocol import MOST_LOGIT_SCALE, Engine, Floats, ModelError, directions
from adapters.core.version import Version, Window
from adapters.engines.factory import ModelSettings, open_engine
from adapters.gate.evaluation import Evaluation
from agent.cli.inspect import _json, judge
from agent.cli.main import main
from agent.config.recipes import PartClass, Recipe, shipped
from agent.domain.active_version import ActiveVersion
from agent.domain.verdict import NOT_FINITE, Decision, Outcome, decide
from agent.inspection.inspector import Inspector, StationPlan
from agent.inspection.sample_queue import InspectedSample
from agent.telemetry.counters import Counters
from agent.telemetry.health import level, not_finite
from agent.versions.commissioned import Commissioned, Uncommissioned, open_station, require_finite
from agent.versions.file_plan import of_recipe
from agent.versions.station_plans import predictors, provenance
from camera.core.frame import Frame, Quality
from camera.core.settings import QualityLimits
from camera.core.source import stamp
from camera.feed.mailbox import Mailbox
from tests.support.learning_site import clean, engine, scorer, site, stream

GOOD = Quality(100.0, 100.0)
ODD = st.sampled_from([math.nan, math.inf, -math.inf, 1e300, -1e300, -0.1, 1.1, -1e-9])
CLASSES = {
    "ok": PartClass(verdict="pass", phrases=("a good part",)),
    "dent": PartClass(verdict="fail", phrases=("a dented part",)),
    "hole": PartClass(verdict="fail", phrases=("a part with a hole",)),
}


def a_recipe(threshold: float = 0.5, margin: float = 0.0) -> Recipe:
    """Return a recipe whose numbers nobody has checked."""
    made = Recipe(templates=("{}",), classes=CLASSES)
    return made.model_copy(update={"threshold": threshold, "abstain_margin": margin})


@settings(deadline=None)
@given(
    st.lists(st.floats(0, 1) | ODD, min_size=3, max_size=3),
    st.floats(0, 1) | ODD,
    st.floats(0, 0.5) | ODD,
)
def test_what_is_not_finite_is_never_a_pass(scores: list[float], threshold: float, margin: float) -> None:
    """Nor a fail, nor unsure: whatever is NaN, infinite or no probability, the part is not inspected."""
    sound = all(0 <= score <= 1 for score in scores) and math.isfinite(threshold) and math.isfinite(margin)
    decision = decide(scores, GOOD, a_recipe(threshold, margin))
    if sound:
        assert decision.verdict is not Outcome.NOT_INSPECTED
        assert decision.score is not None
        assert math.isfinite(decision.score)
    else:
        assert decision == Decision(Outcome.NOT_INSPECTED, NOT_FINITE)


@pytest.mark.parametrize("where", range(3))
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_one_bad_score_among_good_ones_is_enough(where: int, bad: float) -> None:
    """A class that passes, or one that fails: it does not matter whose number it is."""
    scores = [1.0, 0.0, 0.0]
    scores[where] = bad
    assert decide(scores, GOOD, a_recipe()).verdict is Outcome.NOT_INSPECTED
    assert decide(None, GOOD, a_recipe()).reason == NOT_FINITE


@pytest.mark.parametrize(
    "feature", [[0, 0, 0], [math.nan, 1, 1], [math.inf, 0, 0], [math.inf, -math.inf, 0], [1e-30, 0, 0]]
)
def test_a_feature_without_a_direction_is_like_no_class(feature: list[float]) -> None:
    """Its row is NaN, where zeros would have made equal chances of it; the other rows are as ever."""
    good = [3.0, 1.0, 0.0]
    classes = np.eye(3, dtype=np.float32)
    both = probabilities(np.array([feature, good], np.float32), classes, 100.0)
    assert np.isnan(both[0]).all()
    assert np.array_equal(both[1], probabilities(np.array([good], np.float32), classes, 100.0)[0])
    assert not directions(np.array([feature], np.float32)).any()


def test_a_huge_feature_has_its_direction_still() -> None:
    """Lengths are taken in float64: what float32 can hold does not overflow there."""
    found = probabilities(np.array([[3e38, 0, 0]], np.float32), np.eye(3, dtype=np.float32), 100.0)
    np.testing.assert_allclose(found[0], [1, 0, 0], atol=1e-12)


class Odd:
    """An engine whose features of some calls are what a broken model gives."""

    def __init__(self, engine: Engine, odd: Callable[[Floats], Floats], texts: bool = False) -> None:
        self.engine, self.odd, self.texts = engine, odd, texts
        self.info, self.source = engine.info, engine.source

    def encode_image(self, images: Floats, adapters: Sequence[Adapter]) -> Floats:
        features = self.engine.encode_image(images, adapters)
        return features if self.texts else self.odd(features)

    def encode_text(self, tokens: Any, adapter: Adapter) -> Floats:
        features = self.engine.encode_text(tokens, adapter)
        return self.odd(features) if self.texts else features

    def tokenize(self, texts: Sequence[str]) -> Any:
        return self.engine.tokenize(texts)


def with_row(value: float, row: int = 0) -> Callable[[Floats], Floats]:
    """Return what puts a value into one row of features."""

    def odd(features: Floats) -> Floats:
        changed = np.array(features)
        changed[row] = value
        return changed

    return odd


BAD = {"nan": math.nan, "inf": math.inf, "zero": 0.0}


@pytest.mark.parametrize("value", BAD.values(), ids=BAD)
def test_words_that_give_no_numbers_are_named(value: float) -> None:
    """A token embedding that nobody's check uses may be damaged: the class is named, nothing is judged."""
    words = Prompts((("ok", ("a good part",)), ("dent", ("a dented part",))), ("{}",))
    broken = Odd(engine(), with_row(value, 1), texts=True)
    with pytest.raises(NotFinite, match=r"model mekiki-line, .*the words of class dent are not finite"):
        class_features(broken, words, broken.source)


def frame(number: int) -> Frame:
    size = engine().info.preprocess.size
    pixels = np.random.default_rng(number).standard_normal((1, 3, size, size)).astype(np.float32)
    now = datetime.now(UTC)
    image = np.full((size, size, 3), 100, np.uint8)
    return Frame("line", number, now, number * 10**9, image, pixels, GOOD)


@pytest.mark.parametrize("value", BAD.values(), ids=BAD)
def test_one_picture_that_gives_no_numbers_is_not_inspected_alone(value: float, tmp_path: Path) -> None:
    """Its neighbours in the batch are judged as ever, nobody learns from it, and health tells."""
    loaded, recipe = site(tmp_path, commissioned=False), shipped("line")
    seen: list[InspectedSample] = []
    broken = Odd(engine(), with_row(value, 1))
    found = Uncommissioned("line", loaded.config.stations["line"].adaptation, "full",
                           ActiveVersion(0, engine().source, 0.0), "")  # fmt: skip
    frozen, _ = predictors(engine(), recipe, found)
    plan = StationPlan(
        "line", recipe, provenance(loaded, engine(), recipe, found), QualityLimits(stale_s=None), frozen,
        lambda: frozen, seen.append,
    )  # fmt: skip
    inspector = Inspector("agent", broken, {"line": plan}, Mailbox(), lambda verdicts: None, batch=3)
    verdicts = inspector.judge([frame(number) for number in (1, 2, 3)])
    assert [one.decision.reason for one in verdicts] == ["class", NOT_FINITE, "class"]
    assert verdicts[1].decision.verdict is Outcome.NOT_INSPECTED
    assert [one.seen.number for one in seen] == [1, 3]
    tally = Counters()
    tally.add(verdicts[:2])
    assert tally.not_finite("line")
    (told,) = not_finite(["line"])
    assert (told.code, level([told], [])) == ("model_not_finite", "degraded")
    tally.add(verdicts[2:])
    assert not tally.not_finite("line")


@pytest.mark.parametrize("value", BAD.values(), ids=BAD)
def test_inspect_prints_strict_json_whatever_a_model_says(value: float) -> None:
    """The picture is not inspected, and its line is JSON."""
    size = engine().info.preprocess.size
    capture = stamp(np.full((size, size, 3), 100, np.uint8))
    odd = Odd(engine(), with_row(value))
    (judged,) = judge([("a.png", capture)], of_recipe(shipped("line"), odd), odd, [].append)
    line = json.loads(_json(judged), parse_constant=pytest.fail)
    assert (line["verdict"], line["reason"], line["score"]) == ("not_inspected", NOT_FINITE, None)


def altered(folder: Path, change: Callable[[Path], dict[str, Any]]) -> Path:
    """Return a copy of the shipped bundle that says of itself that it is whole.

    Args:
        folder: where to.
        change: changes files of it, and returns what is to be changed in its manifest.
    """
    bundle = Path(shutil.copytree(SHIPPED / "mekiki-line", folder / "bundle"))
    manifest = json.loads((bundle / "manifest.json").read_text()) | change(bundle)
    for name, file in manifest["files"].items():
        content = (bundle / name).read_bytes()
        file |= {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    return bundle


def numbers_of(name: str) -> Callable[[Path], dict[str, Any]]:
    """Return what makes NaN of all numbers of a file of weights."""

    def change(bundle: Path) -> dict[str, Any]:
        file = bundle / name
        file.write_bytes(b"\xff" * file.stat().st_size)  # NaN in 16 bits as in 32
        return {}

    return change


def expected_features(bundle: Path) -> dict[str, Any]:
    with np.load(bundle / "vectors.npz", allow_pickle=False) as file:
        arrays = dict(file)
    arrays["images/source"] = np.full_like(arrays["images/source"], np.nan)
    np.savez(bundle / "vectors.npz", **arrays)
    return {}


PREPROCESS = json.loads((SHIPPED / "mekiki-line" / "manifest.json").read_text())["preprocess"]
DAMAGES: dict[str, Callable[[Path], dict[str, Any]]] = {
    "scale inf": lambda bundle: {"logit_scale": math.inf},
    "scale nan": lambda bundle: {"logit_scale": math.nan},
    "scale huge": lambda bundle: {"logit_scale": 1e300},
    "scale zero": lambda bundle: {"logit_scale": 0},
    "scale text": lambda bundle: {"logit_scale": "inf"},
    "scale number as text": lambda bundle: {"logit_scale": "100"},
    "scale true": lambda bundle: {"logit_scale": True},
    "scale small": lambda bundle: {"logit_scale": 1e-300},
    "mean nan": lambda bundle: {"preprocess": {**PREPROCESS, "mean": [math.nan, 0, 0]}},
    "deviation zero": lambda bundle: {"preprocess": {**PREPROCESS, "std": [0.0, 1, 1]}},
    "pictures": numbers_of("image.weights"),
    "texts": numbers_of("text.weights"),
    "expected": expected_features,
}


@pytest.mark.parametrize(
    ("damage", "kind"),
    [*((damage, "onnx") for damage in DAMAGES), ("scale inf", "openvino"), ("pictures", "openvino")],
)
def test_a_bundle_that_is_not_finite_is_refused_by_name(damage: str, kind: Any, tmp_path: Path) -> None:
    """Scale, preparation, weights of either tower, and what it expects of itself; hashes are right."""
    bundle = altered(tmp_path, DAMAGES[damage])
    with pytest.raises(ModelError) as caught:
        open_engine(ModelSettings(engine=kind, bundle=str(bundle), threads=1, device="cpu"))
    assert str(caught.value).startswith(str(bundle))
    assert "again" in str(caught.value)


def test_a_bundle_that_is_not_finite_ends_every_command_with_78(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """`run` and `inspect` say the same sentence, and print no verdict."""
    bundle = altered(tmp_path, DAMAGES["scale huge"])
    Image.new("RGB", (64, 64), (90, 90, 90)).save(tmp_path / "a.png")
    loaded = site(tmp_path, commissioned=False, model={"bundle": str(bundle)})
    for command in (["run", "--frames", "1"], ["inspect", str(tmp_path / "a.png"), "--recipe", "line"]):
        assert main([*command, "-c", str(loaded.path)]) == 78
        out, err = capfd.readouterr()
        assert out == ""
        assert f"{bundle / 'manifest.json'}: damaged: logit_scale" in err
        assert "Traceback" not in err


@pytest.mark.parametrize("scale", [math.nan, math.inf, 0.0, -1.0, 1e-300, 0.99, MOST_LOGIT_SCALE * 1.01])
def test_no_engine_is_born_with_such_a_scale(scale: float) -> None:
    """All engines, however they come to their model."""
    with pytest.raises(ModelError, match="logit scale"):
        replace(engine().info, logit_scale=scale)


def a_version(factor: float) -> Version:
    """Return a version whose LayerNorms are so many times those of the source."""
    tensors = {name: tensor * np.float32(factor) for name, tensor in engine().source.tensors.items()}
    return Version(
        Adapter(tensors),
        0,
        "learned",
        "2026-01-01T00:00:00Z",
        Window(1, 100, 100),
        1.0,
        clean().recipe,
        {},
        {},
    )


@pytest.fixture(scope="module")
def overflowing() -> Version:
    """A version whose numbers are finite, and what they make of pictures is not."""
    for factor in (1e10, 1e20, 1e30, 1e36):
        version = a_version(factor)
        with np.errstate(over="ignore", invalid="ignore"):
            try:
                require_finite(scorer(), clean(), version)
            except NotFinite:
                return version
    pytest.fail("nothing overflows")


def test_an_adapter_holds_no_number_that_is_not_finite() -> None:
    """A version's file with NaN is not read: it is refused at birth."""
    with pytest.raises(NotFinite, match="holds a number that is not finite"):
        a_version(math.nan)
    with pytest.raises(AdapterError, match="not a finite number"):
        replace(a_version(1.0), offset=math.inf)


@pytest.mark.parametrize("reading", [False, True])
def test_a_version_that_overflows_does_not_answer_after_a_restart(
    reading: bool, overflowing: Version, tmp_path: Path
) -> None:
    """The model as it was trained does, as for a damaged version, and the reason is told."""
    loaded = site(tmp_path)
    found = open_station(loaded, "line", shipped("line"), engine())
    assert isinstance(found, Commissioned)
    found.store.promote(overflowing, "2026-01-02T00:00:00Z")
    again = open_station(loaded, "line", shipped("line"), engine(), reading=reading)
    assert isinstance(again, Commissioned)
    assert again.answering.number == 0
    assert "version 1 is not to answer: model mekiki-line" in again.store.found[0]
    # What goes before it is as good as ever.
    sound = again.store.promote(a_version(1.0), "2026-01-03T00:00:00Z")
    third = open_station(loaded, "line", shipped("line"), engine())
    assert third.answering.number == sound.number


def test_a_proposal_that_overflows_is_refused_by_the_guard(overflowing: Version) -> None:
    """A trial of it ends with what the guard calls not finite, not with an exception."""
    trial = Evaluation.hold(scorer(), clean(), stream(60, "dim"), 8.0, 0)
    hopeless = trial.assess(overflowing.adapter)
    assert not hopeless.finite
    assert not trial.evidence(trial.frozen, hopeless, 0.1).finite
    assert hopeless.error > trial.frozen.error


@pytest.mark.parametrize(
    "change",
    [
        lambda one: {"offset": math.nan},
        lambda one: {"offset": math.inf},
        lambda one: {"numbers": {**one.numbers, "rejects": math.nan}},
        lambda one: {"statistics": replace(one.statistics, power=one.statistics.power * np.float32(np.nan))},
    ],
)
def test_a_commissioning_that_is_not_finite_is_none(
    change: Callable[[Commissioning], dict[str, Any]],
) -> None:
    with pytest.raises(CommissioningError, match="is not a finite number"):
        replace(clean(), **change(clean()))


def test_a_commissioning_file_with_nan_is_unusable_and_the_line_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The model as it was trained answers at offset 0; health says why."""
    loaded = site(tmp_path)
    file = tmp_path / "data" / "stations" / "line" / "commissioning.safetensors"
    content = file.read_bytes()
    offset = f'\\"offset\\": {clean().offset}'.encode()
    assert offset in content
    nan = b'\\"offset\\": NaN'
    file.write_bytes(content.replace(offset, nan.ljust(len(offset))))
    with caplog.at_level(logging.ERROR):
        found = open_station(loaded, "line", shipped("line"), engine())
    assert isinstance(found, Uncommissioned)
    assert found.unusable
    assert found.answering.offset == 0
    assert "damaged" in found.why
    assert "commission the station again" in found.why
