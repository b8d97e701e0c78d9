"""BATCLIP: the authors' numbers, pure steps, any batch, and what `line` does differently."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from torch.nn import functional as F  # noqa: E402

from adapters.core.norm_vector import NormVector  # noqa: E402
from adapters.core.prompts import Prompts  # noqa: E402
from adapters.learner.optimizer import Optimizer  # noqa: E402
from adapters.methods.batclip import Batclip, Prototypes  # noqa: E402
from adapters.methods.method import Learned, Outputs, Texts, entropy, forward  # noqa: E402
from adapters.torch_model.clip import Clip  # noqa: E402
from adapters.torch_model.differentiable import CHUNK  # noqa: E402
from adapters.torch_model.loader import load_clip  # noqa: E402
from benchmarks import parity_batclip as parity  # noqa: E402

PROMPTS = Prompts(
    (("ok", ("a clean part",)), ("scratch", ("a scratch", "a scratched part")), ("dent", ("a dent",))),
    ("a photo of {}", "a close-up of {}"),
)


@pytest.fixture(scope="module")
def parity_clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    """The model whose weights numpy draws, the same everywhere."""
    weights = parity.draw_weights(tmp_path_factory.mktemp("parity"))
    return load_clip(parity.MODEL, checkpoint=weights, device="cpu")


@pytest.fixture(scope="module")
def texts(tiny_clip: Clip) -> Texts:
    """Three classes, one with two phrases, in two templates."""
    return Texts.of(tiny_clip, PROMPTS)


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other / (np.linalg.norm(one) * np.linalg.norm(other)))


def pictures(count: int, seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.normal(size=(count, 3, 32, 32)).astype(np.float32))


@pytest.mark.parametrize("problem", parity.PROBLEMS, ids=str)
def test_a_step_is_the_authors_step(parity_clip: Clip, problem: parity.Problem) -> None:
    """Loss terms, logits and every LayerNorm gradient to 1e-5, twenty steps to 1e-3 of what they move."""
    with np.load(parity.RECORD) as record:
        prefix = f"{problem.key}/"
        theirs = {name.removeprefix(prefix): record[name] for name in record.files if name.startswith(prefix)}
    assert len(theirs) == 2 + 2 * len(parity_clip.source.tensors)
    worst = parity.differences(parity_clip, parity.ours(parity_clip, problem), theirs)
    assert {part: worst[part] for part in worst if not worst[part] <= parity.TOLERANCES[part]} == {}


def test_a_difference_that_is_not_a_number_is_no_agreement(parity_clip: Clip) -> None:
    """The comparison itself: NaN on our side is the worst there can be."""
    one = {"terms": np.ones(4)}
    worst = parity.differences(parity_clip, {"terms": np.array([1, np.nan, 1, 1])}, one)
    assert not worst["terms"] <= parity.TOLERANCES["terms"]
    assert parity.differences(parity_clip, one, one)["terms"] == 0


def test_the_rate_is_the_methods_and_not_the_memorys() -> None:
    """What an optimiser remembers are moments: a method with another rate moves at its own."""
    vector, gradient = np.zeros(3, np.float32), np.ones(3, np.float32)
    moved, memory = Optimizer("SGD", 1.0, momentum=0.0).descend(vector, gradient, None)
    assert np.allclose(moved, -gradient)
    moved, _ = Optimizer("SGD", 0.001, momentum=0.0).descend(vector, gradient, memory)
    assert np.allclose(moved, -0.001 * gradient)


def test_the_recorded_batches_hold_one_predicted_class_and_several() -> None:
    """The comparison covers both kinds of batch for few classes and for many."""
    with np.load(parity.RECORD) as record:
        predicted = {p.key: len(np.unique(record[f"{p.key}/logits"].argmax(1))) for p in parity.PROBLEMS}
        assert all(predicted[p.key] == 1 for p in parity.PROBLEMS if p.alike)
        assert all(record[f"{p.key}/terms"][2] == 0 for p in parity.PROBLEMS if p.alike)
    assert predicted["2-16"] == 2
    assert predicted["10-64"] > 4
    assert predicted["100-64"] > 4


def test_a_step_leaves_its_arguments_as_they_were(tiny_clip: Clip, texts: Texts) -> None:
    """Adapter, optimiser state, model and pictures are the same after a step as before it."""
    method, images = Batclip(), pictures(8)
    first, _ = method.step(tiny_clip, method.start(tiny_clip, texts), images, texts)
    assert first.memory is not None
    moments = first.memory.first.copy(), first.memory.second.copy()
    digest, weights = first.adapter.digest, {n: p.clone() for n, p in tiny_clip.model.named_parameters()}
    second, _ = method.step(tiny_clip, first, images, texts)
    assert first.adapter.digest == digest
    assert first.memory.steps == 1
    assert np.array_equal(first.memory.first, moments[0])
    assert np.array_equal(first.memory.second, moments[1])
    assert all(torch.equal(p, weights[n]) for n, p in tiny_clip.model.named_parameters())
    assert torch.equal(images, pictures(8))
    assert (second.adapter.number, second.adapter.parent) == (2, first.adapter.digest)


def test_equal_arguments_give_equal_steps_to_the_last_bit(tiny_clip: Clip, texts: Texts) -> None:
    """Nothing is remembered outside the state: a repeated step is the same step, whatever came between."""
    method, images = Batclip(), pictures(8)
    state, _ = method.step(tiny_clip, method.start(tiny_clip, texts), images, texts)
    once, answer = method.step(tiny_clip, state, pictures(5, seed=1), texts)
    method.step(tiny_clip, once, pictures(8, seed=2), texts)
    again, same = method.step(tiny_clip, state, pictures(5, seed=1), texts)
    assert again.adapter.digest == once.adapter.digest
    assert torch.equal(answer.logits, same.logits)


def test_a_reset_is_as_good_as_new(tiny_clip: Clip, texts: Texts) -> None:
    """After learning, the start state answers and learns as it did at first, to the last bit."""
    method, images = Batclip(), pictures(8)
    first, answer = method.step(tiny_clip, method.start(tiny_clip, texts), images, texts)
    state: Learned = first
    for seed in range(3):
        state, _ = method.step(tiny_clip, state, pictures(8, seed), texts)
    again, same = method.step(tiny_clip, method.start(tiny_clip, texts), images, texts)
    assert again.adapter.digest == first.adapter.digest
    assert torch.equal(same.logits, answer.logits)


def test_the_answer_is_from_before_the_update(tiny_clip: Clip, texts: Texts) -> None:
    """The logits of a step are those of the adapter it began with."""
    method, images = Batclip(), pictures(8)
    state, _ = method.step(tiny_clip, method.start(tiny_clip, texts), pictures(8, 1), texts)
    norms = {name: torch.tensor(array) for name, array in state.adapter.tensors.items()}
    _, answer = method.step(tiny_clip, state, images, texts)
    with torch.no_grad():
        assert torch.allclose(answer.logits, forward(tiny_clip, norms, images, texts).logits, atol=1e-5)


def test_every_layernorm_of_both_towers_moves_and_nothing_else(tiny_clip: Clip, texts: Texts) -> None:
    """Gains and biases of image and text tower change by about the learning rate; the shapes stay."""
    method = Batclip()
    state, _ = method.step(tiny_clip, method.start(tiny_clip, texts), pictures(16), texts)
    state.adapter.require_shapes_of(tiny_clip.source)
    for name, array in state.adapter.tensors.items():
        moved = np.abs(array - tiny_clip.source.tensors[name]).max()
        assert 0 < moved < 2.1e-3, name


@pytest.mark.parametrize("mode", ["exact", "line"])
@pytest.mark.parametrize("count", [1, 2, 17, CHUNK + 1])
def test_any_number_of_pictures_will_do(tiny_clip: Clip, texts: Texts, mode: str, count: int) -> None:
    """One picture or more than a chunk: an answer for each, and a finite step."""
    method = Batclip(mode=mode)  # type: ignore[arg-type]
    state, answer = method.step(tiny_clip, method.start(tiny_clip, texts), pictures(count), texts)
    assert answer.logits.shape == (count, 3)
    assert state.adapter.number == 1
    assert all(math.isfinite(number) for number in answer.numbers.values())


def test_no_pictures_are_refused(tiny_clip: Clip, texts: Texts) -> None:
    """An empty batch is the caller's mistake and says so."""
    with pytest.raises(ValueError, match="at least one picture"):
        Batclip().step(tiny_clip, Batclip().start(tiny_clip, texts), pictures(0), texts)


def test_chunks_change_nothing(tiny_clip: Clip, texts: Texts, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many pictures go through the tower at once, loss and gradient are the same."""
    method, images = Batclip(), pictures(24)
    found = []
    for chunk in (5, 1000):
        monkeypatch.setattr("adapters.torch_model.differentiable.CHUNK", chunk)
        _, answer = method.step(tiny_clip, method.start(tiny_clip, texts), images, texts)
        found.append(answer.numbers)
    assert found[0] == pytest.approx(found[1], rel=1e-4)


def test_class_texts_are_the_frozen_models_before_the_first_step(tiny_clip: Clip, texts: Texts) -> None:
    """Phrases and templates are averaged as everywhere else in the product."""
    from adapters.core.prompts import class_features
    from adapters.engines.torch_engine import TorchEngine

    expected = class_features(TorchEngine(tiny_clip), PROMPTS, tiny_clip.source)
    assert np.allclose(texts.frozen.numpy(), expected, atol=1e-6)
    with torch.no_grad():
        assert torch.allclose(forward(tiny_clip, {}, pictures(1), texts).texts, texts.frozen, atol=1e-6)


def test_half_precision_learns_the_same_thing(tiny_clip: Clip, texts: Texts) -> None:
    """bf16 and fp16 encoders give a step in the direction of the fp32 one."""
    images, moves = pictures(16), {}
    for precision in ("fp32", "bf16", "fp16"):
        method = Batclip(precision=precision)  # type: ignore[arg-type]
        state, answer = method.step(tiny_clip, method.start(tiny_clip, texts), images, texts)
        assert answer.logits.dtype == torch.float32
        assert answer.numbers["skipped"] == 0
        norms = NormVector(tiny_clip.source, tuple(tiny_clip.source.tensors))
        moves[precision] = norms.read(state.adapter) - norms.read(tiny_clip.source)
    for precision in ("bf16", "fp16"):
        assert cosine(moves["fp32"], moves[precision]) > 0.9


def test_an_overflow_takes_no_step_and_halves_the_scale(tiny_clip: Clip, texts: Texts) -> None:
    """fp16 gradients beyond 65504 become infinite: the adapter stays, the next try is smaller."""
    method = Batclip(precision="fp16")
    state = replace(method.start(tiny_clip, texts), loss_scale=2.0**100)
    after, answer = method.step(tiny_clip, state, pictures(8), texts)
    assert answer.numbers["skipped"] == 1
    assert after.adapter is state.adapter
    assert after.loss_scale == 2.0**99


def test_the_scale_grows_after_many_good_steps(tiny_clip: Clip, texts: Texts) -> None:
    """2000 finite steps in a row double it; fp32 is not scaled at all."""
    method = Batclip(precision="fp16")
    state = replace(method.start(tiny_clip, texts), good_steps=1999)
    after, _ = method.step(tiny_clip, state, pictures(4), texts)
    assert (after.loss_scale, after.good_steps) == (2 * state.loss_scale, 0)
    assert Batclip().start(tiny_clip, texts).loss_scale == 1


def test_a_picture_that_is_not_finite_moves_nothing(tiny_clip: Clip, texts: Texts) -> None:
    """A NaN in one picture of a batch must not get into the LayerNorms."""
    images = pictures(8)
    images[3, 0, 0, 0] = torch.nan
    state = Batclip().start(tiny_clip, texts)
    after, answer = Batclip().step(tiny_clip, state, images, texts)
    assert answer.numbers["skipped"] == 1
    assert after.adapter is state.adapter
    assert after.loss_scale == 1  # what was not scaled stays so


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 10_000))
def test_prototypes_are_the_loop_over_classes(batch: int, classes: int, seed: int) -> None:
    """The vectorised terms equal the paper's loops for any batch and any number of classes."""
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(rng.normal(size=(batch, classes)))
    features = torch.from_numpy(rng.normal(size=(batch, 5)))
    texts = F.normalize(torch.from_numpy(rng.normal(size=(classes, 5))), dim=1)
    labels = logits.argmax(1)
    occurring = labels.unique().tolist()
    means = [features[labels == label].mean(0) for label in occurring]
    matching = sum(mean @ texts[label] for mean, label in zip(means, occurring, strict=True)) / len(means)
    units = [mean / mean.norm() for mean in means]
    pairs = [1 - a @ b for i, a in enumerate(units) for j, b in enumerate(units) if i != j]
    prototypes = Prototypes.of(logits, features)
    assert float(prototypes.matching(texts)) == pytest.approx(float(matching))
    assert float(prototypes.separation()) == pytest.approx(float(sum(pairs)))
    assert int(prototypes.pairs.sum()) == len(pairs)


def _outputs(classes: int, length: float = 1.0) -> Outputs:
    """One picture of each class in its own direction, `length` long, a little off its text."""
    texts = torch.eye(classes, classes + 1)
    features = length * (texts + 0.3)
    return Outputs(10 * F.normalize(features, dim=1) @ texts.T, features, texts)


def test_line_keeps_its_balance_whatever_the_number_of_classes() -> None:
    """The sum over pairs grows with their number, the mean of `line` does not."""
    exact = [float(Batclip().terms(_outputs(c)).separation) for c in (2, 10)]
    line = [float(Batclip(mode="line").terms(_outputs(c)).separation) for c in (2, 10)]
    assert exact[1] > 20 * exact[0]
    assert line[1] < 2 * line[0]


def test_line_gains_nothing_from_longer_features() -> None:
    """Longer features change no answer: `exact` calls that better matching, `line` does not."""
    short, long = _outputs(4), _outputs(4, length=5)
    assert torch.allclose(short.logits, long.logits, atol=1e-5)
    assert float(Batclip().terms(long).matching) > 4 * float(Batclip().terms(short).matching)
    line = Batclip(mode="line")
    assert float(line.terms(long).loss) == pytest.approx(float(line.terms(short).loss), abs=1e-5)


def test_line_weighs_separation_as_told() -> None:
    """The loss is entropy - matching - weight x mean separation."""
    outputs = _outputs(5)
    terms = Batclip(mode="line", separation_weight=3.0).terms(outputs)
    expected = terms.entropy - terms.matching - 3.0 * terms.separation
    assert float(terms.loss) == pytest.approx(float(expected))
    assert float(terms.entropy) == pytest.approx(float(entropy(outputs.logits).mean()))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA card")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_card_learns_what_the_processor_learns(
    checkpoints: dict[str, object], texts: Texts, tiny_clip: Clip, precision: str
) -> None:
    """A step on CUDA points where the step on the CPU points."""
    card = load_clip("tiny", checkpoint=checkpoints["tiny"], device="cuda")  # type: ignore[arg-type]
    method = Batclip(precision=precision)  # type: ignore[arg-type]
    there = Texts.of(card, PROMPTS)
    on_card, _ = method.step(card, method.start(card, there), pictures(16).cuda(), there)
    here, _ = Batclip().step(tiny_clip, Batclip().start(tiny_clip, texts), pictures(16), texts)
    norms = NormVector(tiny_clip.source, tuple(tiny_clip.source.tensors))
    source = norms.read(tiny_clip.source)
    assert cosine(*(norms.read(state.adapter) - source for state in (on_card, here))) > 0.9
