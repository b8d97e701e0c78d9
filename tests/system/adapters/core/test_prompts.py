"""From words to class features: open_clip's zero-shot recipe, cached per adapter and recipe."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import open_clip
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from adapters.core.adapter import Adapter
from adapters.core.prompts import Prompts, TextCache, class_features, probabilities
from adapters.core.protocol import LEAST_LENGTH, PromptError, PromptTooLong
from adapters.engines.torch_engine import TorchEngine

if TYPE_CHECKING:
    from adapters.torch_model.clip import Clip

TEMPLATES = ("a photo of a {}.", "a close-up of a {} on a metal part", "{}")
CLASSES = (("ok", ("flawless part",)), ("scratch", ("scratch",)), ("dent", ("dent",)))


def moved(source: Adapter) -> Adapter:
    return Adapter({name: tensor + np.float32(0.1) for name, tensor in source.tensors.items()}, number=1)


def test_class_features_are_open_clips(tiny_clip: Clip) -> None:
    """One phrase a class is what open_clip's own zero-shot classifier computes."""
    engine = TorchEngine(tiny_clip)
    found = class_features(engine, Prompts(CLASSES, TEMPLATES), engine.source)
    tokenizer = open_clip.get_tokenizer("tiny")
    names = [phrases[0] for _, phrases in CLASSES]
    expected = open_clip.build_zero_shot_classifier(tiny_clip.model, tokenizer, names, TEMPLATES)
    assert found.dtype == np.float32
    # Theirs at 77 tokens and summed in float32, ours at the length needed and in float64.
    np.testing.assert_allclose(found, expected.numpy().T, atol=1e-6)


def test_every_phrase_and_template_counts_once(tiny_clip: Clip) -> None:
    """Several phrases: each text is normalised, their mean is normalised again; classes differ in number."""
    engine = TorchEngine(tiny_clip)
    prompts = Prompts((("a", ("dent", "deep dent", "bump")), ("b", ("stain",))), TEMPLATES[:2])
    found = class_features(engine, prompts, engine.source)
    for row, texts in zip(found, prompts.texts, strict=True):
        features = engine.encode_text(engine.tokenize(texts), engine.source).astype(np.float64)
        mean = (features / np.linalg.norm(features, axis=1, keepdims=True)).mean(axis=0)
        np.testing.assert_allclose(row, mean / np.linalg.norm(mean), atol=1e-6)
    assert prompts.labels == ("a", "b")
    assert prompts.texts[0][:2] == ("a photo of a dent.", "a close-up of a dent on a metal part")


@pytest.mark.slow
def test_ten_thousand_classes_are_possible(tiny_clip: Clip) -> None:
    """In chunks, so that memory does not grow with them."""
    engine = TorchEngine(tiny_clip)
    prompts = Prompts(tuple((f"part {n}", (f"part number {n}",)) for n in range(10_000)), ("a {}",))
    features = class_features(engine, prompts, engine.source)
    assert features.shape == (10_000, 16)
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, atol=1e-6)
    few = Prompts(prompts.classes[9_998:], ("a {}",))
    np.testing.assert_allclose(class_features(engine, few, engine.source), features[9_998:], atol=1e-5)


@pytest.mark.parametrize(
    ("classes", "templates", "problem"),
    [
        ((), ("{}",), "no classes"),
        ((("a", ()),), ("{}",), "class a: needs a phrase"),
        ((("a", (" ",)),), ("{}",), "class a: needs a phrase"),
        ((("a", ("b",)), ("a", ("c",))), ("{}",), "class a: named twice"),
        ((("a", ("b",)),), (), "no templates"),
        ((("a", ("b",)),), ("a photo",), "template 'a photo': needs {} once"),
        ((("a", ("b",)),), ("{} {}",), "needs {} once"),
        ((("a", ("b",)),), ("{name}",), "needs {} once"),
        ((("a", ("b",)),), ("{0.__class__}",), "needs {} once"),
        ((("a", ("b",)),), ("{!r}",), "needs {} once"),
        ((("a", ("b",)),), ("{:>9}",), "needs {} once"),
        ((("a", ("b",)),), ("{",), "braces that stay are doubled"),
    ],
)
def test_impossible_words_are_refused(
    classes: tuple[tuple[str, tuple[str, ...]], ...], templates: tuple[str, ...], problem: str
) -> None:
    """At birth, with the class or template and what it needs."""
    with pytest.raises(PromptError, match=problem.replace("{", r"\{").replace("}", r"\}")):
        Prompts(classes, templates)


def test_braces_in_a_phrase_are_ordinary() -> None:
    """Only templates have fields."""
    assert Prompts((("a", ("{x} {}",)),), ("{{}} {}",)).texts == (("{} {x} {}",),)


def test_a_prompt_that_does_not_fit_is_named(tiny_clip: Clip) -> None:
    """Never cut silently: the class would mean something else."""
    engine = TorchEngine(tiny_clip)
    with pytest.raises(PromptTooLong, match="'a long long"):
        class_features(engine, Prompts((("a", ("long " * 90,)),), ("a {}",)), engine.source)


def test_digest_covers_every_word_and_their_order() -> None:
    """Equal recipes share a digest; any difference changes it."""
    digest = Prompts(CLASSES, TEMPLATES).digest
    assert Prompts(CLASSES, TEMPLATES).digest == digest
    others = [
        Prompts(CLASSES[::-1], TEMPLATES),
        Prompts(CLASSES, TEMPLATES[::-1]),
        Prompts((("OK", ("flawless part",)), *CLASSES[1:]), TEMPLATES),
        Prompts((("ok", ("flawless", "part")), *CLASSES[1:]), TEMPLATES),
    ]
    assert len({digest, *(other.digest for other in others)}) == 5


def test_the_cache_asks_the_text_tower_once_per_adapter_and_recipe(tiny_clip: Clip) -> None:
    """Hits and misses are counted; what comes back cannot be changed."""
    engine, prompts = TorchEngine(tiny_clip), Prompts(CLASSES, TEMPLATES)
    cache = TextCache(engine)
    first = cache.features(prompts, engine.source)
    again = cache.features(Prompts(CLASSES, TEMPLATES), Adapter(engine.source.tensors, number=9))
    assert again is first
    other = cache.features(prompts, moved(engine.source))
    assert not np.array_equal(other, first)
    assert (cache.hits, cache.misses) == (1, 2)
    with pytest.raises(ValueError, match="read-only"):
        first[0, 0] = 0


def test_the_cache_loses_the_least_recently_used(tiny_clip: Clip) -> None:
    """Its size is bounded, however many adapters a line learns."""
    engine = TorchEngine(tiny_clip)
    recipes = [Prompts(((label, (label,)),), ("{}",)) for label in "abc"]
    cache = TextCache(engine, capacity=2)
    for which in (0, 1, 0, 2, 0, 1):
        cache.features(recipes[which], engine.source)
    assert (cache.hits, cache.misses) == (2, 4)


def test_probabilities_are_a_softmax_of_cosines() -> None:
    """Scaled, stable for large scales, and exact where it can be checked by hand."""
    classes = np.eye(3, dtype=np.float32)
    found = probabilities(np.array([[2, 0, 0], [1, 1, 0]], np.float32), classes, 100.0)
    np.testing.assert_allclose(found[0], [1, 0, 0], atol=1e-7)
    np.testing.assert_allclose(found[1], [0.5, 0.5, 0], atol=1e-7)
    assert found.dtype == np.float32


@given(
    npst.arrays(np.float32, (5, 8), elements=st.floats(-100, 100, width=32)),
    npst.arrays(np.float32, (4, 8), elements=st.floats(-1, 1, width=32)),
)
def test_a_pictures_answer_does_not_depend_on_its_batch(features: np.ndarray, classes: np.ndarray) -> None:
    """To the last bit, whatever it is made of; every row sums to one where a feature has a direction."""
    together = probabilities(features, classes, 50.0)
    sound = np.linalg.norm(features.astype(np.float64), axis=1) > LEAST_LENGTH
    np.testing.assert_allclose(together[sound].sum(axis=1), 1, atol=1e-6)
    assert np.isnan(together[~sound]).all()
    for row, feature in zip(together, features, strict=True):
        assert np.array_equal(probabilities(feature[None], classes, 50.0)[0], row, equal_nan=True)
