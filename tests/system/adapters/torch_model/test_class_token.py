"""A last block for the class token alone: the same answers and gradients, with less to compute."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

import open_clip  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from adapters.torch_model.clip import Clip, Form  # noqa: E402
from adapters.torch_model.last_block import read_class_token  # noqa: E402

PICTURES = 3
FORMS: tuple[Form, ...] = ("model", "short")


def pictures(clip: Clip) -> torch.Tensor:
    side = clip.info.preprocess.size
    return torch.randn(PICTURES, 3, side, side, generator=torch.Generator().manual_seed(0))


def operations(clip: Clip, form: Form) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        clip.encode_image(pictures(clip)[:1], {}, form)
    return int(counter.get_total_flops())


def test_the_short_tower_gives_the_answers_of_the_whole_one(tiny_clip: Clip) -> None:
    """Features and the gradient of every LayerNorm, with one adapter for all or one for each picture."""
    norms = tiny_clip.norm_names("image")
    random = torch.Generator().manual_seed(1)
    for rows in (1, PICTURES):
        moved = {
            name: torch.tensor(tiny_clip.source.tensors[name])
            + 0.1 * torch.randn(rows, tiny_clip.source.tensors[name].size, generator=random)
            for name in norms
        }
        leaves = {name: (one[0] if rows == 1 else one).requires_grad_() for name, one in moved.items()}
        found = []
        for form in FORMS:
            features = tiny_clip.encode_image(pictures(tiny_clip), leaves, form)
            gradients = torch.autograd.grad(features.square().sum(), list(leaves.values()))
            found.append([features.detach(), *gradients])
        for whole, brief in zip(*found, strict=True):
            assert torch.allclose(whole, brief, rtol=1e-4, atol=1e-5 * float(whole.abs().max()))


def test_the_short_tower_leaves_work_out(tiny_clip: Clip) -> None:
    assert operations(tiny_clip, "short") < operations(tiny_clip, "model")


def test_the_model_itself_stays_whole(tiny_clip: Clip) -> None:
    """The reference answers to the last bit as it did before the short tower was made."""
    images = pictures(tiny_clip)
    with torch.inference_mode():
        before = tiny_clip.encode_image(images, {})
        assert tiny_clip.short is not tiny_clip.model
        tiny_clip.encode_image(images, {}, "short")
        assert torch.equal(tiny_clip.encode_image(images, {}), before)


def test_a_tower_that_reads_all_tokens_stays_as_it_is(tiny_diffclip: Clip) -> None:
    """Towers of timm's, attention pooling and means over the tokens are not touched."""
    assert tiny_diffclip.short is tiny_diffclip.model
    for pool in ("avg", "none"):
        visual_cfg = {
            "layers": 1,
            "width": 16,
            "head_width": 8,
            "patch_size": 8,
            "image_size": 16,
            "pool_type": pool,
        }
        text_cfg = {"layers": 1, "width": 16, "heads": 2, "context_length": 8, "vocab_size": 16}
        model = open_clip.CLIP(8, visual_cfg, text_cfg)
        assert read_class_token(model) is model
