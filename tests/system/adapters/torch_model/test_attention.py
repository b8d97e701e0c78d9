"""Attention for the backward pass: torch's numbers, and torch itself where nothing is differentiated."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from adapters.torch_model.attention import FoldedAttention, fold_attention  # noqa: E402
from adapters.torch_model.clip import Clip  # noqa: E402


def both(width: int = 24, heads: int = 3) -> tuple[nn.MultiheadAttention, nn.MultiheadAttention]:
    """Torch's module and the same one folded."""
    torch.manual_seed(0)
    theirs = nn.MultiheadAttention(width, heads, batch_first=True).eval()
    nn.init.normal_(theirs.in_proj_bias)
    ours = nn.MultiheadAttention(width, heads, batch_first=True).eval()
    ours.load_state_dict(theirs.state_dict())
    fold_attention(ours)
    return theirs, ours


@pytest.mark.parametrize("causal", [False, True])
def test_the_folded_pass_gives_torchs_answer_and_gradient(causal: bool) -> None:
    """With a gradient recorded, outputs and input gradients equal torch's to rounding."""
    theirs, ours = both()
    mask = torch.full((7, 7), -torch.inf).triu(1) if causal else None
    found = []
    for module in (theirs, ours):
        x = torch.randn(5, 7, 24, generator=torch.Generator().manual_seed(1), requires_grad=True)
        answer, weights = module(x, x, x, need_weights=False, attn_mask=mask)
        assert weights is None
        (gradient,) = torch.autograd.grad(answer.square().sum(), x)
        found.append((answer.detach(), gradient))
    for mine, reference in zip(found[1], found[0], strict=True):
        assert torch.allclose(mine, reference, rtol=1e-4, atol=1e-5)


def test_without_a_gradient_it_is_torchs_own_pass() -> None:
    """Inference gives the same bits as before, so that answers stay open_clip's."""
    theirs, ours = both()
    x = torch.randn(5, 7, 24)
    with torch.inference_mode():
        expected = theirs(x, x, x, need_weights=False)[0]
        assert torch.equal(ours(x, x, x, need_weights=False)[0], expected)


def test_what_it_does_not_know_goes_to_torch() -> None:
    """Attention weights, other keys, padding, boolean masks and masks per head are answered by torch."""
    theirs, ours = both()
    x = torch.randn(2, 4, 24, requires_grad=True)
    other = torch.randn(2, 6, 24)
    padding = torch.tensor([[False, False, True, True]] * 2)
    for given, options in (
        ((x, x, x), {}),
        ((x, other, other), {"need_weights": False}),
        ((x, x, x), {"need_weights": False, "key_padding_mask": padding}),
        ((x, x, x), {"need_weights": False, "attn_mask": torch.ones(4, 4).triu(1).bool()}),
        ((x, x, x), {"need_weights": False, "attn_mask": torch.randn(6, 4, 4)}),
    ):
        for mine, reference in zip(ours(*given, **options), theirs(*given, **options), strict=True):
            assert mine is reference is None or torch.allclose(mine, reference, atol=1e-6)


def test_a_loaded_model_is_folded(tiny_clip: Clip) -> None:
    """Every attention of both towers, with the names that its weights had."""
    found = [m for m in tiny_clip.model.modules() if isinstance(m, nn.MultiheadAttention)]
    assert len(found) == 4
    assert all(isinstance(module, FoldedAttention) for module in found)
    assert "visual.transformer.resblocks.0.attn.in_proj_weight" in dict(tiny_clip.model.named_parameters())
