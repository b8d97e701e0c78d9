"""Our tokens are open_clip's tokens, without torch."""

# ruff: noqa: RUF001, E501 - look-alikes are what is tested here

from __future__ import annotations

import random

import numpy as np
import open_clip
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

from adapters.core.protocol import PromptTooLong
from adapters.core.tokenizer import ClipTokenizer, TokenizerSpec
from adapters.torch_model.convert_tokenizer import open_tokenizer

THEIRS = open_clip.get_tokenizer("ViT-B-32")
OURS = open_tokenizer("ViT-B-32", trim=True)

HOSTILE = (
    "", " ", "\t\n\r\x0b\x0c\x85\u2028", "\x00", "a\x00b\x1b[31m", "\ufeffbom", "\ufffd\uffff",
    "&amp;amp;lt;b&amp;gt; &#x41; &#0; &#xD800; &#55296; &notanentity; &lt;start_of_text&gt;",
    "<start_of_text>", "a <start_of_text> b <END_OF_TEXT><end_of_text>", "<ſtart_of_text> 'ſ 'S 'T it'ſ",
    "don't I'LL we'RE they'Ve I'm he'd '' 's's's 't", "1234567890 ¼½ ٣٤ Ⅷ ①", "x" * 3000, "ab" * 1500, "!?" * 900,
    "e\u0301 é ﬁ ﬀ Å Å ö́̂̃", "Straße İstanbul ΣΑΣ ǅ ŉ", "目利き ひび割れ 划痕 균열 รอยขีดข่วน שריטה خدش",
    "👍🏽 👩‍👩‍👧‍👦 🇩🇪 ☠️", "\u200b\u200c\u200d\u2060\u00ad", "\u202eabc\u202c", "ÃƒÂ© â€œquotedâ€\x9d â€” Â°",
    "𝕸𝖊𝖐𝖎𝖐𝖎 𝟙𝟚", "\ud800", "a\udfffb", "\ud83d\ude00", "_under_score_ a_b-c.d/e\\f", "</w> a</w> Ġ Ċ",
)  # fmt: skip

ENTITIES = st.sampled_from(
    ["&amp;", "&lt;", "&#39;", "&#x1F600;", "<start_of_text>", "<end_of_text>", "'s", "'LL"]
)


def theirs(text: str) -> list[int]:
    return [THEIRS.sot_token_id, *THEIRS.encode(text), THEIRS.eot_token_id]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_texts_have_open_clips_tokens(text: str) -> None:
    """Control characters, entities, broken encodings, special texts, words of thousands of letters."""
    assert OURS.encode(text) == theirs(text)


@given(st.text(st.characters(), max_size=80))
@example("'ſ")
@settings(max_examples=2000, deadline=None)
def test_any_text_has_open_clips_tokens(text: str) -> None:
    """Whatever Unicode it is made of, lone surrogates included."""
    assert OURS.encode(text) == theirs(text)


@given(
    st.lists(st.one_of(st.text(st.characters(codec="latin-1"), max_size=12), ENTITIES), max_size=12).map(
        "".join
    )
)
@settings(max_examples=2000, deadline=None)
def test_texts_with_entities_have_open_clips_tokens(text: str) -> None:
    """What web texts are full of, in pieces."""
    assert OURS.encode(text) == theirs(text)


def test_the_whole_vocabulary_has_open_clips_tokens() -> None:
    """Every entry as a word, alone and glued to the next: 98 000 texts' worth of merges."""
    words = [THEIRS.decode([number]).strip() for number in range(THEIRS.vocab_size)]
    random.Random(0).shuffle(words)
    for start in range(0, len(words), 64):
        part = words[start : start + 64]
        for text in (" ".join(part), "".join(part)):
            assert OURS.encode(text) == theirs(text)


def test_a_batch_is_as_long_as_its_longest_text() -> None:
    """Trimmed, tokens are the first columns of open_clip's; untrimmed, all of them."""
    texts = ["a scratch", "a photo of a metal part with a deep scratch", ""]
    expected = THEIRS(texts).numpy()
    tokens = OURS(texts)
    assert tokens.dtype == np.int64
    assert tokens.shape == (3, 12)
    assert np.array_equal(tokens, expected[:, :12])
    assert not expected[:, 12:].any()
    assert np.array_equal(open_tokenizer("ViT-B-32", trim=False)(texts), expected)
    assert OURS([]).shape == (0, 0)


def test_a_text_that_does_not_fit_is_named() -> None:
    """75 words fit; one more is refused, never cut."""
    assert OURS(["part " * 75]).shape == (1, 77)
    with pytest.raises(PromptTooLong, match=r"'part part .*\.\.\.' has 78 tokens .* takes 77"):
        OURS(["short", "part " * 76])


def test_one_text_is_not_a_list_of_letters() -> None:
    """A forgotten list is a mistake of the caller's."""
    with pytest.raises(TypeError, match="sequence of texts"):
        OURS("a scratch")


@pytest.mark.parametrize("name", ["ViT-B-32", "ViT-L-14-quickgelu", "coca_ViT-B-32"])
def test_models_keep_their_context(name: str) -> None:
    """The context length is the model's, not always 77."""
    assert open_tokenizer(name, trim=True).context_length == open_clip.get_tokenizer(name).context_length


def test_a_whole_tokenizer_file_is_used_as_it_is() -> None:
    """Hugging Face vocabularies bring their own rules: we clean, pad and drop as open_clip does."""
    tokenizer = Tokenizer(
        WordLevel({"<pad>": 1, "</s>": 2, "<unk>": 3, "a": 4, "scratch": 5}, unk_token="<unk>")
    )
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 2)])
    spec = TokenizerSpec("hf", "canonicalize", pad_id=1, dropped_id=2)
    ours = ClipTokenizer(tokenizer.to_str(), spec, 5, trim=False)
    assert ours(["A  Scratch!", "dent"]).tolist() == [[4, 5, 0, 1, 1], [3, 0, 1, 1, 1]]
    with pytest.raises(PromptTooLong, match="has 6 tokens"):
        ours(["a a a a a"])
