"""Text to tokens, exactly as open_clip does it, without torch.

open_clip's own tokenizer cleans and splits in Python and merges bytes in Python. Cleaning and splitting are
done here with the same libraries, so that their Unicode tables cannot differ; merging, the slow part, is left
to `tokenizers` with the model's vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

import numpy as np
import regex  # type: ignore[import-untyped]
from tokenizers import Tokenizer

from adapters.core.clean_text import CLEAN, Clean
from adapters.core.protocol import ModelError, PromptTooLong, Tokens

_WORDS = r"""'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"""


@dataclass(frozen=True, slots=True)
class TokenizerSpec:
    """What a vocabulary file does not say.

    Attributes:
        kind: ``clip`` for open_clip's own byte pairs, ``hf`` where the file is a whole tokenizer.
        clean: how open_clip cleans a text before it is split.
        special: texts that are one token each; the first starts and the second ends a clip text.
        pad_id: fills a text up to the length of its batch.
        dropped_id: a token that open_clip replaces by 0 (CLIPA's separator), or None.
    """

    kind: Literal["clip", "hf"]
    clean: Clean
    special: tuple[str, ...] = ()
    pad_id: int = 0
    dropped_id: int | None = None


class ClipTokenizer:
    """The tokenizer of one model; a value, callable from any thread.

    Args:
        vocabulary: content of a tokenizer.json.
        spec: how the model uses it.
        context_length: longest text in tokens, start and end included.
        trim: shorten a batch to its longest text, which causal attention allows.
    """

    def __init__(self, vocabulary: str, spec: TokenizerSpec, context_length: int, *, trim: bool) -> None:
        self.vocabulary = vocabulary
        self.spec = spec
        self.context_length = context_length
        self.trim = trim
        self._tokenizer = Tokenizer.from_str(vocabulary)
        self._special = {text: self._id(text) for text in spec.special}
        # Like open_clip the pattern ignores case and the table of special texts does not: after cleaning
        # only oddities such as a long s tell them apart, and then the text is ordinary.
        self._words = regex.compile("|".join([*spec.special, _WORDS]), regex.IGNORECASE)

    def __call__(self, texts: Sequence[str]) -> Tokens:
        """Return ``(N, L)`` token ids; L is the context, or with `trim` what the longest text needs.

        Raises:
            PromptTooLong: a text does not fit into the context; it is never cut silently.
        """
        if isinstance(texts, str):
            raise TypeError("tokenize takes a sequence of texts, not one text")
        ids = [self.encode(text) for text in texts]
        for text, one in zip(texts, ids, strict=True):
            if len(one) > self.context_length:
                raise PromptTooLong(
                    f"{_shortened(text)!r} has {len(one)} tokens with start and end, the model takes"
                    f" {self.context_length}: use fewer words"
                )
        length = max(map(len, ids), default=0) if self.trim else self.context_length
        tokens = np.full((len(ids), length), self.spec.pad_id, np.int64)
        for row, one in zip(tokens, ids, strict=True):
            row[: len(one)] = one
        if self.spec.dropped_id is not None:
            tokens[tokens == self.spec.dropped_id] = 0
        return tokens

    def encode(self, text: str) -> list[int]:
        """Return the ids of one text with start and end, however many they are."""
        text = CLEAN[self.spec.clean](text)
        if self.spec.kind == "hf":
            return list(self._tokenizer.encode(text).ids)
        start, end = (self._special[text] for text in self.spec.special[:2])
        ids = [start]
        for special, words in groupby(self._words.findall(text), self._special.__contains__):
            if special:
                ids += [self._special[word] for word in words]
            else:
                ids += self._tokenizer.encode(list(words), is_pretokenized=True, add_special_tokens=False).ids
        ids.append(end)
        return ids

    def _id(self, special: str) -> int:
        number = self._tokenizer.token_to_id(special)
        if number is None:
            raise ModelError(f"tokenizer.json: has no {special}: not this model's vocabulary")
        return number


def _shortened(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."
