"""Optimisers on one vector: torch's steps without torch, as pure functions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from adapters.learner.optimizer import Moments, Optimizer

KINDS = ("AdamW", "Adam", "SGD")
RATES = (1e-2, 3e-2, 1e-3, 0.0, 5e-2)
"""One per step, as a proposal's rate changes from step to step."""
SIZE = 257


def problem() -> tuple[np.ndarray, np.ndarray]:
    """Return a vector and one gradient per step, small and large ones and some that are zero."""
    rng = np.random.default_rng(0)
    vector = rng.normal(size=SIZE).astype(np.float32)
    scale = 10.0 ** rng.uniform(-6, 2, SIZE)
    gradients = (scale * rng.normal(size=(len(RATES), SIZE))).astype(np.float32)
    gradients[:, :3] = 0
    return vector, gradients


def descended(
    optimizer: Optimizer, vector: np.ndarray, gradients: np.ndarray
) -> tuple[list[np.ndarray], Moments]:
    """Return the vector after each step, and what is remembered after the last one."""
    memory, passed = None, []
    for rate, gradient in zip(RATES, gradients, strict=True):
        vector, memory = replace(optimizer, rate=rate).descend(vector, gradient, memory)
        passed.append(vector)
    assert memory is not None
    return passed, memory


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("momentum", [0.9, 0.5, 0.0])
def test_every_step_is_torchs_step(kind: str, weight_decay: float, momentum: float) -> None:
    """Five steps with rates that change, to 1e-6 of the largest number: a few roundings of float32."""
    torch = pytest.importorskip("torch")
    vector, gradients = problem()
    found, memory = descended(Optimizer(kind, 1.0, momentum, weight_decay), vector, gradients)
    parameter = torch.nn.Parameter(torch.tensor(vector))
    own = {"momentum": momentum} if kind == "SGD" else {"betas": (momentum, 0.999)}
    theirs = getattr(torch.optim, kind)([parameter], lr=1.0, weight_decay=weight_decay, **own)
    for number, (rate, gradient) in enumerate(zip(RATES, gradients, strict=True)):
        theirs.param_groups[0]["lr"] = rate
        parameter.grad = torch.tensor(gradient)
        theirs.step()
        expected = parameter.detach().numpy()
        assert np.abs(found[number] - expected).max() <= 1e-6 * np.abs(expected).max()
        assert found[number].dtype == np.float32
    assert memory.steps == len(RATES)
    assert np.abs(found[-1] - vector).max() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_weight_decay_and_rate_matter(kind: str) -> None:
    """What the comparison with torch could not tell apart would prove nothing."""
    vector, gradients = problem()
    ends = [descended(Optimizer(kind, 1.0, 0.9, decay), vector, gradients)[0][-1] for decay in (0.0, 0.1)]
    assert np.abs(ends[0] - ends[1]).max() > 1e-4
    slow = Optimizer(kind, 1e-3).descend(vector, gradients[0], None)[0]
    fast = Optimizer(kind, 1e-2).descend(vector, gradients[0], None)[0]
    assert np.abs(fast - vector).max() > 5 * np.abs(slow - vector).max()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_a_step_leaves_its_arguments_as_they_were(kind: str, weight_decay: float) -> None:
    """Vector, gradient and memory; and the same step again is the same to the last bit."""
    vector, gradients = problem()
    optimizer = Optimizer(kind, 1e-2, 0.9, weight_decay)
    first, memory = optimizer.descend(vector, gradients[0], None)
    before = [array.copy() for array in (first, gradients[1], memory.first, memory.second)]
    once, _ = optimizer.descend(first, gradients[1], memory)
    again, after = optimizer.descend(first, gradients[1], memory)
    for kept, array in zip(before, (first, gradients[1], memory.first, memory.second), strict=True):
        assert np.array_equal(kept, array)
    assert np.array_equal(vector, problem()[0])
    assert (memory.steps, after.steps) == (1, 2)
    assert np.array_equal(once, again)


FINITE = st.floats(-1e3, 1e3, width=32)
VECTORS = arrays(np.float32, 5, elements=FINITE)


@given(st.sampled_from(KINDS), st.floats(0, 0.5), st.floats(0, 0.99), VECTORS, st.lists(VECTORS, max_size=4))
def test_a_step_of_rate_zero_moves_nothing(
    kind: str, weight_decay: float, momentum: float, start: np.ndarray, gradients: list[np.ndarray]
) -> None:
    """Whatever came before, and with weight decay: each kind's moves are in proportion to its rate."""
    optimizer = Optimizer(kind, 1e-2, momentum, weight_decay)
    vector, memory = start, None
    for gradient in gradients:
        vector, memory = optimizer.descend(vector, gradient, memory)
    moved, after = replace(optimizer, rate=0.0).descend(vector, start, memory)
    assert np.array_equal(moved, vector)
    assert after.steps == len(gradients) + 1
