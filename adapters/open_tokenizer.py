"""open_clip's tokenizer of a model, turned into one that runs without open_clip and torch."""

from __future__ import annotations

from importlib.util import find_spec

import open_clip
from open_clip.tokenizer import HFTokenizer, SimpleTokenizer
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel

from adapters.architecture import fill_the_cache
from adapters.checkpoint import first_words
from adapters.clean_text import Clean
from adapters.engine import ModelError
from adapters.tokenizer import ClipTokenizer, TokenizerSpec

_CLEAN: dict[str, Clean] = {
    "_clean_lower": "lower",
    "_clean_whitespace": "whitespace",
    "_clean_canonicalize": "canonicalize",
}


LEAST_CONTEXT = 3
"""Tokens: start, one word, end."""


def open_tokenizer(name: str, *, trim: bool) -> ClipTokenizer:
    """Return the tokenizer of an open_clip model.

    Args:
        name: model name as open_clip knows it.
        trim: shorten batches to their longest text.

    Raises:
        ModelError: the model's tokenizer cannot be had on this machine or cannot leave open_clip.
    """
    try:
        theirs = open_clip.get_tokenizer(name)
    except (ImportError, NameError) as error:
        if find_spec("transformers") is not None:
            raise ModelError(_broken(name, error)) from error
        raise ModelError(
            f"{name}: its tokenizer {_source(name)} needs the package transformers: pip install transformers"
        ) from error
    except OSError as error:
        raise ModelError(
            f"{name}: its tokenizer {_source(name)} is not in this machine's hub cache;"
            f" {fill_the_cache(name)}"
        ) from error
    # A damaged file of the cache, or a tokenizer that needs another package: transformers has many words.
    except Exception as error:
        raise ModelError(_broken(name, error)) from error
    if theirs.context_length < LEAST_CONTEXT:
        raise ModelError(
            f"{name}: its context of {theirs.context_length} tokens has no room for a word between start and"
            f" end; take a model with a context of {LEAST_CONTEXT} or more"
        )
    if isinstance(theirs, SimpleTokenizer) and theirs.reduction_fn is None:
        return ClipTokenizer(*_byte_pairs(theirs), theirs.context_length, trim=trim)
    if isinstance(theirs, HFTokenizer) and not theirs.tokenizer_mode and theirs.tokenizer.is_fast:
        return ClipTokenizer(*_whole(theirs), theirs.context_length, trim=trim)
    raise ModelError(f"{name}: its tokenizer has no form that runs without open_clip; take another model")


def _source(name: str) -> str:
    """Return where a tokenizer comes from: its repository, where open_clip's config names one."""
    return str(open_clip.get_model_config(name)["text_cfg"].get("hf_tokenizer_name") or "of SigLIP")


def _broken(name: str, error: Exception) -> str:
    return (
        f"{name}: its tokenizer {_source(name)} cannot be read: {first_words(error)}; {fill_the_cache(name)}"
    )


def _byte_pairs(theirs: SimpleTokenizer) -> tuple[str, TokenizerSpec]:
    model = BPE(vocab=theirs.encoder, merges=list(theirs.bpe_ranks), end_of_word_suffix="</w>")
    tokenizer = Tokenizer(model)
    # Words are split before they get here, by open_clip's own pattern: only bytes become letters.
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False, use_regex=False)
    special = tuple(theirs.decoder[number] for number in theirs.all_special_ids)
    return tokenizer.to_str(), TokenizerSpec("clip", _CLEAN[theirs.clean_fn.__name__], special)


def _whole(theirs: HFTokenizer) -> tuple[str, TokenizerSpec]:
    tokenizer = Tokenizer.from_str(theirs.tokenizer.backend_tokenizer.to_str())
    tokenizer.no_padding()
    tokenizer.no_truncation()
    spec = TokenizerSpec(
        "hf",
        _CLEAN[theirs.clean_fn.__name__],
        pad_id=theirs.tokenizer.pad_token_id,
        dropped_id=theirs.tokenizer.sep_token_id if theirs.strip_sep_token else None,
    )
    return tokenizer.to_str(), spec
