"""One proposal: the loss that is written down, LayerNorms alone, the same each time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from adapters.core.adapter import Adapter  # noqa: E402
from adapters.core.observation import Labelled  # noqa: E402
from adapters.core.prompts import Prompts, class_features  # noqa: E402
from adapters.encoders.torch_encoders import TorchEncoders  # noqa: E402
from adapters.engines.torch_engine import TorchEngine  # noqa: E402
from adapters.learner.losses import Words  # noqa: E402
from adapters.learner.rehearsal_update import Proposer, RehearsalUpdate  # noqa: E402
from adapters.torch_model.clip import Clip  # noqa: E402

PROMPTS = Prompts(
    (("ok", ("a clean part",)), ("scratch", ("a scratch", "a scratched part")), ("dent", ("a dent",))),
    ("a photo of {}", "a close-up of {}"),
)
EACH, PICTURES = 4, 6
ONCE = RehearsalUpdate(
    steps=1, anchors=3 * EACH, pictures=PICTURES, smoothing=0.3, matching=0.7, separation=1.3, entropy=0.4
)
"""Everything that there is in one step, so that what is drawn does not matter."""
ALONE = replace(ONCE, matching=0.0, separation=0.0, entropy=0.0)


def pictures(classes: list[int], seed: int) -> Labelled:
    """Noise around one colour per class: something to learn."""
    rng = np.random.default_rng(seed)
    owners = np.array(classes, np.int64)
    colours = np.eye(3, dtype=np.float32)[owners][:, :, None, None]
    return (colours + rng.normal(0, 0.5, (len(classes), 3, 32, 32))).astype(np.float32), owners


KNOWN = pictures([0] * EACH + [1] * EACH + [2] * EACH, seed=0)
STREAM = pictures([0] * PICTURES, seed=1)


@pytest.fixture(scope="module")
def texts(tiny_clip: Clip) -> Words:
    return Words.of(TorchEngine(tiny_clip), PROMPTS)


def proposed(
    clip: Clip,
    texts: Words,
    update: RehearsalUpdate,
    *,
    known: Labelled = KNOWN,
    stream: Labelled = STREAM,
    seed=0,
) -> tuple[Adapter, dict[str, float]]:
    return update.propose(TorchEncoders(clip), texts, clip.source, known, stream, seed)


def by_hand(clip: Clip) -> dict[str, float]:
    """The terms at the source in numpy, class by class and picture by picture."""
    engine = TorchEngine(clip)
    words = class_features(engine, PROMPTS, engine.source).astype(np.float64)
    pixels, owners = (np.concatenate(pair) for pair in zip(KNOWN, STREAM, strict=True))
    features = engine.encode_image(pixels, [engine.source] * len(pixels)).astype(np.float64)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    logits = engine.info.logit_scale * features @ words.T
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    count = len(KNOWN[1])
    right = np.log(chances[:count])[np.arange(count), KNOWN[1]]
    smoothing = ONCE.smoothing
    anchor = -((1 - smoothing) * right + smoothing * np.log(chances[:count]).mean(axis=1)).mean()
    prototypes = np.stack([features[owners == c].mean(axis=0) for c in range(3)])
    prototypes /= np.linalg.norm(prototypes, axis=1, keepdims=True)
    apart = [1 - prototypes[a] @ prototypes[b] for a in range(3) for b in range(3) if a != b]
    return {
        "anchor": anchor,
        "matching": float(np.mean([prototypes[c] @ words[c] for c in range(3)])),
        "separation": float(np.mean(apart)),
        "entropy": float(-(chances[count:] * np.log(chances[count:])).sum(axis=1).mean()),
    }


def test_the_loss_is_the_one_that_is_written_down(tiny_clip: Clip, texts: Words) -> None:
    """Every term equals its formula on twelve known parts and six good ones; the loss is their sum."""
    _, numbers = proposed(tiny_clip, texts, ONCE)
    expected = by_hand(tiny_clip)
    for name, value in expected.items():
        assert numbers[name] == pytest.approx(value, rel=1e-4, abs=1e-5), name
    loss = expected["anchor"] - 0.7 * expected["matching"] - 1.3 * expected["separation"]
    assert numbers["loss"] == pytest.approx(loss + 0.4 * expected["entropy"], rel=1e-4)


@pytest.mark.parametrize("without", ["matching", "separation", "entropy"])
def test_a_weight_of_zero_leaves_its_term_out(tiny_clip: Clip, texts: Words, without: str) -> None:
    """Out of the loss, and out of what moves."""
    weights = {"matching": -0.7, "separation": -1.3, "entropy": 0.4, without: 0.0}
    learned, numbers = proposed(tiny_clip, texts, replace(ONCE, **{without: 0.0}))
    expected = numbers["anchor"] + sum(weight * numbers[name] for name, weight in weights.items())
    assert numbers["loss"] == pytest.approx(expected, rel=1e-5)
    assert learned.digest != proposed(tiny_clip, texts, ONCE)[0].digest


def test_with_the_anchor_alone_the_stream_is_not_looked_at(tiny_clip: Clip, texts: Words) -> None:
    """Rehearsal of known parts needs no picture of the stream: none changes a bit of it."""
    learned, numbers = proposed(tiny_clip, texts, ALONE)
    other, _ = proposed(tiny_clip, texts, ALONE, stream=pictures([0] * 9, seed=8))
    assert other.digest == learned.digest
    assert numbers["loss"] == pytest.approx(numbers["anchor"])
    assert not {"matching", "separation", "entropy"} & set(numbers)


def test_learning_on_known_parts_tells_them_apart(tiny_clip: Clip, texts: Words) -> None:
    """The anchor's loss falls from step to step, with the other terms beside it and without."""
    for update in (ALONE, ONCE):
        losses = [proposed(tiny_clip, texts, replace(update, steps=n))[1]["anchor"] for n in (1, 8, 24)]
        assert losses[0] > losses[1] > losses[2]


def test_a_proposal_leaves_its_arguments_as_they_were(tiny_clip: Clip, texts: Words) -> None:
    """State, pictures, words and the model itself: a refused proposal is simply forgotten."""
    start, _ = proposed(tiny_clip, texts, ONCE)
    numbers = {name: tensor.copy() for name, tensor in start.tensors.items()}
    weights = {name: tensor.clone() for name, tensor in tiny_clip.model.state_dict().items()}
    known, stream = tuple(a.copy() for a in KNOWN), tuple(a.copy() for a in STREAM)
    tokens = texts.tokens.copy()
    ONCE.propose(TorchEncoders(tiny_clip), texts, start, KNOWN, STREAM, 0)
    assert all(np.array_equal(start.tensors[name], tensor) for name, tensor in numbers.items())
    assert all(torch.equal(tensor, weights[name]) for name, tensor in tiny_clip.model.state_dict().items())
    assert all(np.array_equal(a, b) for a, b in zip(KNOWN + STREAM, known + stream, strict=True))
    assert np.array_equal(texts.tokens, tokens)


def test_one_seed_gives_one_proposal_to_the_last_bit(tiny_clip: Clip, texts: Words) -> None:
    """Whatever came between; another seed draws other parts."""
    few = replace(ONCE, steps=3, anchors=6, pictures=3)
    once, numbers = proposed(tiny_clip, texts, few, seed=1)
    other, _ = proposed(tiny_clip, texts, few, seed=2)
    again, same = proposed(tiny_clip, texts, few, seed=1)
    assert (again.digest, same) == (once.digest, numbers)
    assert other.digest != once.digest


def test_only_layer_norms_move_and_the_proposal_knows_where_it_comes_from(
    tiny_clip: Clip, texts: Words
) -> None:
    """Names and shapes are the source's, every tensor has moved, its parent is what it was made from."""
    adapter = proposed(tiny_clip, texts, replace(ONCE, steps=3))[0]
    source = tiny_clip.source
    adapter.require_shapes_of(source)
    assert all(".ln_" in f".{name}" for name in adapter.tensors)
    moved = [
        name for name in source.tensors if not np.array_equal(source.tensors[name], adapter.tensors[name])
    ]
    assert moved == list(source.tensors)
    assert (adapter.number, adapter.parent) == (1, source.digest)


def test_a_step_may_read_only_some_of_a_recipes_texts(tiny_clip: Clip, texts: Words) -> None:
    """More than there are is all of them, to the last bit; fewer still leave every class its words."""
    whole, numbers = proposed(tiny_clip, texts, replace(ONCE, texts=4))
    assert proposed(tiny_clip, texts, replace(ONCE, texts=99))[0].digest == whole.digest
    some, others = proposed(tiny_clip, texts, replace(ONCE, texts=1))
    assert some.digest != whole.digest
    assert others["matching"] == pytest.approx(numbers["matching"], abs=0.3)


def test_pictures_that_are_no_numbers_move_nothing_and_say_so(tiny_clip: Clip, texts: Words) -> None:
    """A loss that is not finite takes no step; the guard is shown that loss."""
    broken = (np.full_like(KNOWN[0], np.nan), KNOWN[1])
    learned, numbers = proposed(tiny_clip, texts, replace(ONCE, steps=2), known=broken)
    assert learned.digest == tiny_clip.source.digest
    assert not np.isfinite(numbers["loss"])
    assert numbers["skipped"] == 1


def test_every_class_that_is_known_is_rehearsed_alike(tiny_clip: Clip, texts: Words) -> None:
    """Forty good parts beside four of each defect weigh no more in the loss than those do.

    The parts of a class are all one picture here, so that what is drawn does not matter.
    """
    rows = [0] * 40 + [EACH] * EACH + [2 * EACH] * EACH
    many = KNOWN[0][rows], KNOWN[1][rows]
    loss = [
        proposed(tiny_clip, texts, ALONE, known=(many[0][many[1] == c], many[1][many[1] == c]))[1]["anchor"]
        for c in range(3)
    ]
    assert np.ptp(loss) > 0.01
    together = proposed(tiny_clip, texts, ALONE, known=many)[1]["anchor"]
    assert together == pytest.approx(np.mean(loss), rel=1e-5)


def test_the_learners_update_is_the_same_from_an_adapter_to_an_adapter(tiny_clip: Clip, texts: Words) -> None:
    """`Proposer` starts from whatever adapter it is given, with no memory of its own."""
    update = Proposer(TorchEncoders(tiny_clip), texts, ONCE)
    adapter, numbers = update(tiny_clip.source, KNOWN, STREAM, 0)
    learned, same = proposed(tiny_clip, texts, ONCE)
    assert (adapter.digest, numbers) == (learned.digest, same)
    update(adapter, KNOWN, STREAM, 5)
    assert update(tiny_clip.source, KNOWN, STREAM, 0)[0].digest == adapter.digest
