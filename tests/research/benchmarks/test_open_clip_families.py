"""The benchmark of open_clip's families can be interrupted, passes over nothing, and knows families."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("psutil")

import open_clip

from benchmarks.families_report import markdown
from benchmarks.model_families import family
from benchmarks.open_clip_families import (
    Architecture,
    Run,
    append,
    architectures,
    outcome,
    read_records,
    run,
    smallest,
)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ViT-B-32", "ViT, text CLIP"),
        ("ViT-B-32-quickgelu", "ViT quickgelu, text CLIP"),
        ("RN50", "ResNet, text CLIP"),
        ("convnext_base", "ConvNeXt (timm), text CLIP"),
        ("coca_ViT-B-32", "CoCa ViT, text CLIP"),
        ("coca_roberta-ViT-B-32", "CoCa ViT, text Hugging Face roberta"),
        ("EVA02-B-16", "EVA (timm), text CLIP"),
        ("MobileCLIP-B", "ViT mci (timm), text CLIP"),
        ("MobileCLIP-S1", "FastViT (timm), text CLIP"),
        ("PE-Core-B-16", "Perception Encoder (timm), text CLIP"),
        ("ViTamin-S", "ViTamin (timm), text CLIP"),
        ("ViT-B-16-SigLIP", "ViT siglip (timm), text CLIP with tokenizer SigLIP"),
        ("ViT-B-16-SigLIP2", "ViT siglip (timm), text CLIP with tokenizer SigLIP2"),
        ("ViT-L-14-CLIPA", "ViT pooled by avg, text CLIP with tokenizer bert-base-uncased"),
        ("roberta-ViT-B-32", "ViT quickgelu, text Hugging Face roberta"),
        ("xlm-roberta-large-ViT-H-14", "ViT, text Hugging Face xlm-roberta"),
        ("mt5-xl-ViT-H-14", "ViT, text Hugging Face mt5"),
        ("nllb-clip-base", "ViT, text Hugging Face nllb-200"),
    ],
)
def test_a_family_is_the_kind_of_both_towers(name: str, expected: str) -> None:
    """Told from open_clip's config alone."""
    assert family(open_clip.get_model_config(name)) == expected


def test_every_architecture_of_open_clip_has_a_family() -> None:
    """Also those of a newer release: no config is without a name."""
    for name in open_clip.list_models():
        assert ", text " in family(open_clip.get_model_config(name))


def test_a_family_is_tried_with_its_smallest_architecture() -> None:
    """And the smallest of all comes first, so that an interruption costs least."""
    listed = [
        Architecture("large", "a", 300),
        Architecture("small", "a", 100),
        Architecture("other", "b", 50),
        Architecture("not here", "c", None),
    ]
    assert [one.name for one in smallest(listed)] == ["not here", "other", "small"]


def test_sizes_are_known_without_building() -> None:
    """Of those that are refused too; of a text tower that is not on this machine, nothing is."""
    found = {one.name: one.parameters for one in architectures(["ViT-B-32", "RN50", "ViT-e-14"])}
    assert found == {"ViT-B-32": 151277313, "RN50": 102007137, "ViT-e-14": 4581086465}


def test_an_interruption_loses_at_most_the_line_it_tore(tmp_path: Path) -> None:
    """What was found before stays, what is found after is a line of its own."""
    file = tmp_path / "out" / "found.jsonl"
    append(file, {"name": "a"})
    with file.open("a") as torn:
        torn.write('{"name": "b", "outc')
    append(file, {"name": "c"})
    append(file, {"name": "d"})
    assert [record["name"] for record in read_records(file)] == ["a", "c", "d"]


@pytest.mark.parametrize(
    ("ended", "expected"),
    [
        (
            Run(0, "x: 1.0 MB, sha256:0, differs from torch by at most 1.5e-06 of the largest feature,"
                " its gradient by 2.0e-06\n", 1, 1),
            {"outcome": "works", "error": 1.5e-06, "gradient_error": 2e-06},
        ),
        (Run(78, "model: a: no\n", 1, 1), {"outcome": "refused", "code": 78, "sentence": "model: a: no"}),
        (
            Run(70, "Traceback (most recent call last):\nValueError: x\n", 1, 1),
            {"outcome": "broken", "code": 70, "sentence": "ValueError: x"},
        ),
        (Run(None, "", 1, 1), {"outcome": "ended", "sentence": "at the limit of memory or time"}),
    ],
)  # fmt: skip
def test_a_build_works_or_says_why_not(ended: Run, expected: dict[str, Any]) -> None:
    """A traceback is never counted as a refusal."""
    assert outcome(ended) == expected


@pytest.mark.parametrize(
    ("memory", "seconds", "what"),
    [(1e12, 0.5, "import time; time.sleep(60)"), (100e6, 60.0, "x = bytearray(10**9); input()")],
)
def test_a_process_is_ended_at_its_limits(memory: float, seconds: float, what: str) -> None:
    """Of time and of memory."""
    assert run([sys.executable, "-c", what], memory, seconds).code is None


def test_the_report_passes_over_nothing() -> None:
    """Too large ones are in the table as not tried, and each sentence is told."""
    large = {"name": "huge", "family": "ViT, text CLIP", "parameters": 4581093377, "outcome": "not tried"}
    found = [{**large, "sentence": "4,581 million parameters"}]
    text = markdown(json.loads(json.dumps(found)), "this machine", 144, 0)
    assert "| ViT, text CLIP | huge | 4,581 | not tried | - | - | - | - | - |" in text
    assert "1 of open_clip's 144 architectures: 1 not tried" in text
    assert "* huge (not tried): 4,581 million parameters" in text
