"""Towers that learn without torch: the gradients, features and proposals that torch makes."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

import onnx  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from adapters.bundle.reader import bundle_path  # noqa: E402
from adapters.core.adapter import Adapter  # noqa: E402
from adapters.core.norm_vector import NormVector  # noqa: E402
from adapters.core.prompts import Prompts  # noqa: E402
from adapters.encoders.cancellation import CancellableEncoders, Cancelled  # noqa: E402
from adapters.encoders.onnx_encoders import GRADIENT, OnnxEncoders  # noqa: E402
from adapters.encoders.torch_encoders import TorchEncoders  # noqa: E402
from adapters.engines.known_answers import GRADIENT_TOLERANCE, TOLERANCE  # noqa: E402
from adapters.engines.open_bundle import open_bundle, open_encoders  # noqa: E402
from adapters.engines.torch_engine import TorchEngine  # noqa: E402
from adapters.learner import losses as objectives  # noqa: E402
from adapters.learner.losses import Objective, Words  # noqa: E402
from adapters.learner.rehearsal_update import RehearsalUpdate  # noqa: E402
from adapters.methods.batclip import Batclip  # noqa: E402
from adapters.methods.method import Outputs, Texts, entropy, forward  # noqa: E402
from adapters.torch_model.differentiable import Precision, named  # noqa: E402
from adapters.torch_model.loader import load_clip  # noqa: E402
from tests.support.places import ROOT  # noqa: E402

if TYPE_CHECKING:
    from torch import Tensor

    from adapters.torch_model.clip import Clip

CHECKPOINT = ROOT / "benchmarks" / "weights" / "mekiki-line.safetensors"
PROMPTS = Prompts(
    (("ok", ("a clean part",)), ("scratch", ("a scratch", "a scratched part")), ("dent", ("a dent",))),
    ("a photo of {}", "a close-up of {}"),
)
LABELS = np.array([0, 1, 2, 0, 1, 2, 0, 1])
SMOOTHING = 0.1
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")
LOSSES = ("exact", "line", "tent", "anchor")

ASTRAY = 2e-5
"""How far two proposals may be from each other, in lengths of how far they moved; 2e-6 is usual."""


@dataclass(frozen=True)
class Model:
    """The same weights twice."""

    clip: Clip
    folder: Path
    encoders: OnnxEncoders

    @property
    def norms(self) -> NormVector:
        return NormVector(self.clip.source)

    def pictures(self, labels: np.ndarray = LABELS, seed: int = 0) -> np.ndarray:
        """Return noise around one colour per class."""
        rng, side = np.random.default_rng(seed), self.clip.info.preprocess.size
        colours = np.eye(3, dtype=np.float32)[labels][:, :, None, None]
        return (colours + rng.normal(0, 0.5, (len(labels), 3, side, side))).astype(np.float32)

    def moved(self, by: float = 0.02, seed: int = 1) -> Adapter:
        """Return an adapter in which every LayerNorm differs from the source."""
        rng, source = np.random.default_rng(seed), self.clip.source
        tensors = {name: tensor + rng.normal(0, by, tensor.shape) for name, tensor in source.tensors.items()}
        return Adapter(tensors, number=1, parent=source.digest)


@pytest.fixture(scope="module", params=["tiny", pytest.param("diffclip", marks=pytest.mark.slow), "shipped"])
def model(request: pytest.FixtureRequest) -> Model:
    """A tiny CLIP, a tiny DiffCLIP, and the model that is shipped."""
    if request.param == "shipped":
        clip, folder = (
            load_clip("mekiki-line", checkpoint=CHECKPOINT, device="cpu"),
            bundle_path("mekiki-line"),
        )
    else:
        clip = request.getfixturevalue({"tiny": "tiny_clip", "diffclip": "tiny_diffclip"}[request.param])
        bundle = {"tiny": "tiny_bundle", "diffclip": "tiny_diffclip_bundle"}[request.param]
        folder = request.getfixturevalue(bundle)
    return Model(clip, folder, open_encoders(folder, device="cpu", threads=1))


def difference(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def torch_loss(name: str, outputs: Outputs) -> Tensor:
    """Return a loss as the research code has it."""
    if name == "tent":
        return entropy(outputs.logits).mean()
    if name == "anchor":
        labels = torch.from_numpy(LABELS)
        return F.cross_entropy(outputs.logits, labels, label_smoothing=SMOOTHING)
    return Batclip(name).terms(outputs).loss  # type: ignore[arg-type]


def our_loss(name: str, words: Words, scale: float) -> Objective:
    """Return the same loss as the learner has it."""

    def loss(images: objectives.Array, texts: objectives.Array) -> objectives.Array:
        if name in ("exact", "line"):
            return objectives.batclip(images, texts, words, scale, name)  # type: ignore[arg-type]
        scores = objectives.logits(images, objectives.class_texts(texts, words), scale)
        if name == "tent":
            return objectives.entropy(scores).mean()
        return objectives.cross_entropy(scores, LABELS, SMOOTHING).mean()

    return loss


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_by_every_layer_norm_are_torchs(model: Model, name: str) -> None:
    """Each loss of ours, from the pictures to each gain and bias of both towers: to 1e-4 of each tensor."""
    clip, norms, images = model.clip, model.norms, model.pictures()
    vector = norms.read(model.moved())
    leaf = torch.tensor(vector).requires_grad_()
    outputs = forward(clip, named(norms, leaf), torch.from_numpy(images), Texts.of(clip, PROMPTS))
    assert len(outputs.logits.argmax(1).unique()) > 1  # with one class, classes would not be separated
    loss = torch_loss(name, outputs)
    expected = norms.named(torch.autograd.grad(loss, leaf)[0].numpy())
    largest = max(np.abs(gradient).max() for gradient in expected.values())
    # A tensor whose gradient vanishes could not be compared with itself: none here does.
    assert min(np.abs(gradient).max() for gradient in expected.values()) > 1e-4 * largest

    words = Words.of(TorchEngine(clip), PROMPTS)
    encoded = model.encoders.encode(vector, images, words.tokens)
    value, *pulled = objectives.gradients(
        our_loss(name, words, clip.info.logit_scale), encoded.images, encoded.texts
    )
    found = norms.named(encoded.backward(*pulled))

    assert value == pytest.approx(float(loss.detach()), rel=1e-5, abs=1e-5)
    worst = {tensor: difference(found[tensor], expected[tensor]) for tensor in expected}
    assert {tensor: far for tensor, far in worst.items() if not far < 1e-4} == {}


@settings(deadline=None, max_examples=30)
@given(st.sampled_from(LOSSES), st.integers(1, 12), st.integers(2, 6), st.integers(0, 10_000))
def test_a_loss_and_its_gradients_by_the_features_are_torchs(
    name: str, count: int, classes: int, seed: int
) -> None:
    """For any batch, also of one picture or of one predicted class, in double precision to 1e-9."""
    rng = np.random.default_rng(seed)
    images, texts = rng.normal(size=(count, 5)), rng.normal(size=(classes + 3, 5))
    owners = np.concatenate([np.arange(classes), rng.integers(0, classes, 3)])
    words, labels = Words(np.zeros((classes + 3, 4), np.int64), owners), rng.integers(0, classes, count)
    leaves = [torch.tensor(array, requires_grad=True) for array in (images, texts)]
    unit = F.normalize(leaves[1], dim=1)
    means = F.normalize(F.one_hot(torch.from_numpy(owners), classes).T.double() @ unit, dim=1)
    outputs = Outputs(7 * F.normalize(leaves[0], dim=1) @ means.T, leaves[0], means)
    if name == "anchor":
        loss = F.cross_entropy(outputs.logits, torch.from_numpy(labels), label_smoothing=SMOOTHING)
    else:
        loss = torch_loss(name, outputs)
    expected = torch.autograd.grad(loss, leaves)

    def ours(features: objectives.Array, of_texts: objectives.Array) -> objectives.Array:
        if name != "anchor":
            return our_loss(name, words, 7.0)(features, of_texts)
        scores = objectives.logits(features, objectives.class_texts(of_texts, words), 7.0)
        return objectives.cross_entropy(scores, labels, SMOOTHING).mean()

    value, by_both = objectives.value_and_grad(ours, (0, 1))(images, texts)
    assert value == pytest.approx(float(loss.detach()), rel=1e-9, abs=1e-12)
    for found, gradient in zip(by_both, expected, strict=True):
        np.testing.assert_allclose(found, gradient.numpy(), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("count", [1, 3, 9])
@pytest.mark.parametrize("length", [3, 9, None])
def test_any_number_of_pictures_and_texts_will_do(
    model: Model, count: int, length: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One picture, or more than go through the tower at once; texts of any length, one or many."""
    monkeypatch.setattr("adapters.encoders.onnx_encoders.CHUNK", 4)
    rng, norms = np.random.default_rng(2), model.norms
    vector, images = norms.read(model.moved()), model.pictures(np.arange(count) % 3)
    tokens = np.zeros((count, length or model.clip.info.context_length), np.int64)
    tokens[:, :3] = [49406, 320, 49407]
    tokens[:, 1] += np.arange(count)
    encoded = [
        encoders.encode(vector, images, tokens) for encoders in (model.encoders, TorchEncoders(model.clip))
    ]
    ours, theirs = encoded
    assert (ours.images.shape, ours.texts.shape) == (theirs.images.shape, theirs.texts.shape)
    assert difference(ours.images, theirs.images) < TOLERANCE
    assert difference(ours.texts, theirs.texts) < TOLERANCE
    pulled = [rng.normal(size=theirs.images.shape).astype(np.float32) for _ in range(2)]
    found, expected = (norms.named(one.backward(*pulled)) for one in encoded)
    assert all(difference(found[name], expected[name]) < GRADIENT_TOLERANCE for name in expected)


def test_the_layer_norms_are_those_of_the_vector(model: Model) -> None:
    """Features are the engine's with that adapter, of both towers; another adapter gives others."""
    engine = open_bundle(model.folder, device="cpu", threads=1)
    images, tokens = model.pictures(), engine.tokenize(["a scratch", "a photo of a dent", ""])
    answers = []
    for adapter in (engine.source, model.moved(0.1), model.moved(0.1, seed=2)):
        encoded = model.encoders.encode(model.norms.read(adapter), images, tokens)
        assert difference(encoded.images, engine.encode_image(images, [adapter] * len(images))) < 1e-5
        assert difference(encoded.texts, engine.encode_text(tokens, adapter)) < 1e-5
        answers.append(encoded)
    for one, other in ((0, 1), (1, 2)):
        assert difference(answers[one].images, answers[other].images) > 0.01
        assert difference(answers[one].texts, answers[other].texts) > 0.01


def test_passes_that_overlap_keep_to_themselves(model: Model) -> None:
    """What a pass keeps for its way back is its own; vector, pictures and tokens stay as they were."""
    words = Words.of(TorchEngine(model.clip), PROMPTS)
    given_ = [
        (model.norms.read(model.moved(seed=seed)), model.pictures(seed=seed), words.tokens.copy())
        for seed in (1, 2)
    ]
    before = [[array.copy() for array in arrays] for arrays in given_]
    rng = np.random.default_rng(0)
    shapes = (len(LABELS), model.clip.info.embed_dim), (len(words.tokens), model.clip.info.embed_dim)
    pulled = [rng.normal(size=shape).astype(np.float32) for shape in shapes]
    alone = [model.encoders.encode(*arrays).backward(*pulled) for arrays in given_]
    first, second = (model.encoders.encode(*arrays) for arrays in given_)
    later = second.backward(*pulled)
    assert np.array_equal(first.backward(*pulled), alone[0])
    assert np.array_equal(later, alone[1])
    assert not np.array_equal(*alone)
    for arrays, kept in zip(given_, before, strict=True):
        assert all(np.array_equal(*pair) for pair in zip(arrays, kept, strict=True))


@pytest.mark.parametrize("steps", [4, pytest.param(RehearsalUpdate().steps, marks=pytest.mark.slow)])
def test_a_proposal_is_the_one_that_torch_makes(model: Model, steps: int) -> None:
    """From one seed both end at the same adapter, up to roundings that grow from step to step."""
    clip, words = model.clip, Words.of(TorchEngine(model.clip), PROMPTS)
    known = model.pictures(), LABELS
    stream = model.pictures(np.zeros(6, np.int64), seed=3), np.zeros(6, np.int64)
    (ours, numbers), (theirs, expected) = (
        RehearsalUpdate(steps=steps).propose(encoders, words, clip.source, known, stream, 0)
        for encoders in (model.encoders, TorchEncoders(clip))
    )
    start, here, there = (model.norms.read(adapter) for adapter in (clip.source, ours, theirs))
    assert np.linalg.norm(here - there) < ASTRAY * np.linalg.norm(there - start)
    assert np.linalg.norm(there - start) > 0.01 * np.linalg.norm(start)
    assert numbers == pytest.approx(expected, rel=1e-3, abs=1e-4)
    assert (ours.number, ours.parent) == (theirs.number, theirs.parent) == (1, clip.source.digest)


@pytest.mark.slow
def test_a_proposal_in_bf16_ends_near_that_in_fp32(model: Model) -> None:
    """After all steps of an update they are apart by a small part of how far they came."""
    clip, words = model.clip, Words.of(TorchEngine(model.clip), PROMPTS)
    known = model.pictures(), LABELS
    stream = model.pictures(np.zeros(6, np.int64), seed=3), np.zeros(6, np.int64)
    fine, coarse = (
        RehearsalUpdate().propose(TorchEncoders(clip, precision), words, clip.source, known, stream, 0)[0]
        for precision in PRECISIONS
    )
    start, here, there = (model.norms.read(adapter) for adapter in (clip.source, coarse, fine))
    assert 0 < np.linalg.norm(here - there) < 0.1 * np.linalg.norm(there - start)


def test_a_thread_that_is_to_end_ends_at_its_next_pass(tiny_clip: Clip, tiny_bundle: Path) -> None:
    """Until then the towers answer as they are; the proposal that is half done is left."""
    encoders, asked = open_encoders(tiny_bundle, device="cpu", threads=1), []
    halting = CancellableEncoders(encoders, lambda: asked.append(1) or len(asked) > 3)
    words = Words.of(TorchEngine(tiny_clip), PROMPTS)
    images, vector = np.zeros((1, 3, 32, 32), np.float32), NormVector(encoders.source).read(encoders.source)
    assert (halting.info, halting.source) == (encoders.info, encoders.source)
    expected = encoders.encode(vector, images, words.tokens)
    assert np.array_equal(halting.encode(vector, images, words.tokens).images, expected.images)
    known = images, np.zeros(1, np.int64)
    with pytest.raises(Cancelled):
        RehearsalUpdate(steps=16).propose(halting, words, encoders.source, known, known, 0)
    assert len(asked) == 4


def test_torchs_towers_wait_for_their_turn(tiny_clip: Clip) -> None:
    """A pass lends the module other LayerNorms: an engine of the same model must not see them."""
    encoders, done = TorchEncoders(tiny_clip), threading.Event()
    vector = NormVector(encoders.source).read(encoders.source)
    images, tokens = np.zeros((1, 3, 32, 32), np.float32), np.full((1, 3), 49407)

    def encode() -> None:
        encoders.encode(vector, images, tokens)
        done.set()

    thread = threading.Thread(target=encode)
    with tiny_clip.turn:
        thread.start()
        assert not done.wait(0.3)
    thread.join(30)
    assert done.is_set()


def test_the_way_back_makes_only_what_needs_the_gradient(model: Model) -> None:
    """Anything else an engine would make for all layers first and keep; views and constants cost nothing."""
    graph = onnx.load(model.folder / "image.backward.onnx", load_external_data=False).graph
    fixed = {value.name for value in graph.initializer}
    late = {GRADIENT}
    for node in graph.node:
        if late.intersection(node.input):
            late.update(node.output)
        elif fixed.issuperset(node.input):
            fixed.update(node.output)
        else:
            assert node.op_type in ("Reshape", "Squeeze", "Unsqueeze", "Transpose"), node.name
    assert all(value.name in late for value in graph.output)


def test_products_in_bf16_point_the_same_way(model: Model) -> None:
    """The gradient's cosine to fp32 is 0.999 and more, in each tower."""
    images, words = model.pictures(), Words.of(TorchEngine(model.clip), PROMPTS)
    vector, found = model.norms.read(model.moved()), []
    for precision in PRECISIONS:
        encoded = TorchEncoders(model.clip, precision).encode(vector, images, words.tokens)
        scale = model.clip.info.logit_scale
        _, *pulled = objectives.gradients(our_loss("exact", words, scale), encoded.images, encoded.texts)
        found.append(model.norms.named(encoded.backward(*pulled)))
    encoders: tuple[Literal["image", "text"], ...] = ("image", "text")
    for tower in encoders:
        exact, coarse = (
            np.concatenate([of[name].ravel() for name in model.clip.norm_names(tower)]) for of in found
        )
        assert exact @ coarse > 0.999 * np.linalg.norm(exact) * np.linalg.norm(coarse)
        assert not np.array_equal(exact, coarse)
