"""What BATCLIP is compared with: methods as their papers say, without the bugs and without hidden state."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adapters.core.adapter import Adapter
from adapters.core.prompts import Prompts
from adapters.methods.method import FIRST_LOSS_SCALE, Learned, Method, Texts
from benchmarks.rivals.cache import Cache
from benchmarks.rivals.frozen import Frozen
from benchmarks.rivals.rdumb import Period, RDumb
from benchmarks.rivals.sar import Sar, Watched, lower_norms
from benchmarks.rivals.tda import Caches, Tda, Use
from benchmarks.rivals.tent import Tent

if TYPE_CHECKING:
    from adapters.torch_model.clip import Clip

CLASSES = 4
EVERY_METHOD: list[Method[Any]] = [Frozen(), Tent(), Sar(margin=2), RDumb(margin=2, redundant=2), Tda()]
"""With filters so wide that every picture of the tiny model, which is sure of nothing, is learned from."""

LEARNERS = EVERY_METHOD[1:4]


def named(method: object) -> str:
    return type(method).__name__


def pictures(count: int = 12, seed: int = 0) -> Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def texts(tiny_clip: Clip) -> Texts:
    """Four classes among which the tiny model hesitates."""
    words = ("good", "a deep scratch", "a dent", "some rust")
    prompts = Prompts(tuple((word, (word,)) for word in words), ("a photo of {}",))
    told = Texts.of(tiny_clip, prompts)
    return replace(told, frozen=directions(tiny_clip))


def directions(clip: Clip) -> Tensor:
    """Return ``(C, D)`` class features that pictures lie along: the tiny model's words are all alike."""
    with torch.no_grad():
        features = F.normalize(clip.encode_image(pictures(64, seed=9), {}), dim=1)
    return F.normalize(features[:CLASSES] - features.mean(0), dim=1)


def surer(clip: Clip, scale: float) -> Clip:
    """Return the model with another logit scale: the larger, the surer it is of everything."""
    return replace(clip, info=replace(clip.info, logit_scale=scale))


def content(state: Any) -> Any:
    """Return everything that a state holds, as bytes and plain values."""
    if isinstance(state, Adapter):
        return state.digest
    if isinstance(state, Tensor):
        return state.detach().numpy().tobytes()
    if isinstance(state, np.ndarray):
        return state.tobytes()
    if isinstance(state, dict) or hasattr(state, "items"):
        return {key: content(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return [content(value) for value in state]
    if hasattr(state, "__dataclass_fields__"):
        return {name: content(getattr(state, name)) for name in state.__dataclass_fields__}
    return state


def run(method: Method[Any], clip: Clip, texts: Texts, batches: int) -> tuple[Any, list[Any]]:
    """Return the state after some batches of different pictures, and the answers."""
    state, answers = method.start(clip, texts), []
    for seed in range(batches):
        state, answer = method.step(clip, state, pictures(seed=seed), texts)
        answers.append(answer)
    return state, answers


# --- what all have in common ----------------------------------------------------------------------


@pytest.mark.parametrize("method", EVERY_METHOD, ids=named)
def test_a_step_changes_none_of_its_arguments(method: Method[Any], tiny_clip: Clip, texts: Texts) -> None:
    """State, pictures, texts and model are, to the last bit, what they were; a second call says the same."""
    state, _ = run(method, tiny_clip, texts, 3)
    images, weights = pictures(seed=7), tiny_clip.model.state_dict()
    before = content([state, images, texts.tokens, texts.frozen, weights])
    first, answer = method.step(tiny_clip, state, images, texts)
    assert content([state, images, texts.tokens, texts.frozen, weights]) == before
    second, again = method.step(tiny_clip, state, images, texts)
    assert content(first) == content(second)
    assert torch.equal(answer.logits, again.logits)
    assert answer.numbers == again.numbers
    assert not answer.logits.requires_grad


@pytest.mark.parametrize("method", LEARNERS, ids=named)
def test_starting_again_forgets_everything(method: Method[Any], tiny_clip: Clip, texts: Texts) -> None:
    """After learning, `start` answers as the frozen model; it learns as the first time, to the last bit."""
    learned, answers = run(method, tiny_clip, texts, 4)
    assert content(learned) != content(method.start(tiny_clip, texts))
    frozen = Frozen().step(tiny_clip, None, pictures(), texts)[1].logits
    again, replayed = run(method, tiny_clip, texts, 4)
    # Without a gradient to record, torch multiplies in another order: the last bits differ.
    torch.testing.assert_close(replayed[0].logits, frozen, rtol=1e-5, atol=1e-5)
    moved = method.step(tiny_clip, learned, pictures(), texts)[1].logits
    assert (moved - frozen).abs().max() > 1e-4
    assert content(again) == content(learned)
    assert all(torch.equal(one.logits, two.logits) for one, two in zip(answers, replayed, strict=True))


@pytest.mark.parametrize("method", LEARNERS, ids=named)
def test_learning_moves_the_image_tower_only(method: Method[Any], tiny_clip: Clip, texts: Texts) -> None:
    """Text LayerNorms are the source's, number for number."""
    state, _ = run(method, tiny_clip, texts, 2)
    adapter = (state if isinstance(state, Learned) else state.learned).adapter
    moved = {
        name for name, array in adapter.tensors.items() if (array != tiny_clip.source.tensors[name]).any()
    }
    assert moved
    assert moved <= set(tiny_clip.norm_names("image"))
    assert adapter.number == 2


@pytest.mark.parametrize("method", EVERY_METHOD, ids=named)
def test_one_picture_is_a_batch(method: Method[Any], tiny_clip: Clip, texts: Texts) -> None:
    """Its answer and state are finite."""
    _, answer = method.step(tiny_clip, method.start(tiny_clip, texts), pictures(1), texts)
    assert answer.logits.shape == (1, CLASSES)
    assert answer.logits.isfinite().all()
    assert answer.numbers.get("skipped", 0.0) == 0.0


@pytest.mark.parametrize("method", LEARNERS, ids=named)
def test_half_precision_learns_about_the_same(method: Method[Any], tiny_clip: Clip, texts: Texts) -> None:
    """bf16 has 8 bits: the loss is right to a percent or so."""
    _, answers = run(method, tiny_clip, texts, 1)
    _, coarse = run(replace(method, precision="bf16"), tiny_clip, texts, 1)
    assert coarse[0].numbers["loss"] == pytest.approx(answers[0].numbers["loss"], rel=0.02)
    assert coarse[0].logits.dtype == torch.float32


# --- TENT -----------------------------------------------------------------------------------------


def plain_copy(clip: Clip, names: list[str]) -> tuple[nn.Module, list[nn.Parameter]]:
    """Return open_clip's own model, of which only the named parameters ask for a gradient."""
    model = copy.deepcopy(clip.model)
    model.requires_grad_(False)
    parameters = [parameter for name, parameter in model.named_parameters() if name in names]
    for parameter in parameters:
        parameter.requires_grad_()
    return model, parameters


def plain_entropy(clip: Clip, model: Any, images: Tensor, texts: Texts) -> tuple[Tensor, Tensor]:
    """Return logits and entropies by another way than ours."""
    features = model.encode_image(images)
    logits = clip.info.logit_scale * (features / features.norm(dim=1, keepdim=True)) @ texts.frozen.T
    return logits, torch.distributions.Categorical(logits=logits).entropy()


def assert_same_way(adapter: Adapter, model: nn.Module, source: Adapter, tolerance: float = 1e-5) -> None:
    """Assert that both went the same way from the source, to `tolerance` of its length."""
    arrived = {name: tensor.detach().numpy() for name, tensor in model.state_dict().items()}
    apart = [adapter.tensors[name] - arrived[name] for name in source.tensors]
    way = [arrived[name] - array for name, array in source.tensors.items()]
    length = math.sqrt(sum(float((part**2).sum()) for part in way))
    assert length > 0
    assert math.sqrt(sum(float((part**2).sum()) for part in apart)) < tolerance * length


def test_tent_makes_a_batch_surer(tiny_clip: Clip, texts: Texts) -> None:
    """On one batch again and again entropy falls at every step."""
    state, losses = Tent().start(tiny_clip, texts), []
    for _ in range(6):
        state, answer = Tent().step(tiny_clip, state, pictures(), texts)
        losses.append(answer.numbers["loss"])
    assert losses == sorted(losses, reverse=True)
    assert losses[0] - losses[-1] > 0.005


def test_tent_goes_the_way_of_torchs_own_adam(tiny_clip: Clip, texts: Texts) -> None:
    """Five steps of a module with parameters and an optimiser with hidden state end at the same numbers."""
    state, answers = run(Tent(), tiny_clip, texts, 5)
    model, parameters = plain_copy(tiny_clip, tiny_clip.norm_names("image"))
    optimizer = torch.optim.Adam(parameters, lr=1e-3, betas=(0.9, 0.999))
    for seed, answer in enumerate(answers):
        logits, uncertainty = plain_entropy(tiny_clip, model, pictures(seed=seed), texts)
        torch.testing.assert_close(answer.logits, logits.detach(), rtol=1e-5, atol=1e-5)
        assert answer.numbers["loss"] == pytest.approx(uncertainty.mean().item(), rel=1e-5)
        optimizer.zero_grad()
        uncertainty.mean().backward()
        optimizer.step()
    assert_same_way(state.adapter, model, tiny_clip.source)


# --- SAR ------------------------------------------------------------------------------------------


def vision(blocks: list[str], *around: str) -> list[str]:
    """Names of LayerNorm tensors in the order of a tower: before the blocks, the blocks, behind them."""
    return [f"{name}.{part}" for name in (around[0], *blocks, *around[1:]) for part in ("weight", "bias")]


class Named:
    """As much of a model as has names."""

    def __init__(self, names: list[str]) -> None:
        self._names = names
        self.model = self

    def named_parameters(self) -> list[tuple[str, None]]:
        return [("visual.conv1.weight", None), *((name, None) for name in self._names)]

    def norm_names(self, tower: str) -> list[str]:
        return sorted(self._names)


@pytest.mark.parametrize(
    ("names", "kept"),
    [
        # open_clip's own ViT-B
        (
            vision(
                [f"visual.transformer.resblocks.{n}.ln_1" for n in range(12)],
                "visual.ln_pre",
                "visual.ln_post",
            ),
            vision([f"visual.transformer.resblocks.{n}.ln_1" for n in range(9)], "visual.ln_pre"),
        ),
        # timm's, with attention pooling behind the norm
        (
            vision(
                [f"visual.trunk.blocks.{n}.norm1" for n in range(24)],
                "visual.trunk.norm_pre",
                "visual.trunk.norm",
                "visual.trunk.attn_pool.norm",
            ),
            vision([f"visual.trunk.blocks.{n}.norm1" for n in range(18)], "visual.trunk.norm_pre"),
        ),
        # three blocks behind convolutions: mekiki-line
        (
            vision(
                [f"visual.trunk.blocks.{n}.norm1" for n in range(3)],
                "visual.trunk.stages.2.norm",
                "visual.trunk.norm",
            ),
            vision([f"visual.trunk.blocks.{n}.norm1" for n in range(2)], "visual.trunk.stages.2.norm"),
        ),
        # a single block is not a top quarter
        (
            vision(["visual.transformer.resblocks.0.ln_1"], "visual.ln_pre", "visual.ln_post"),
            vision(["visual.transformer.resblocks.0.ln_1"], "visual.ln_pre"),
        ),
        # ConvNeXt: blocks of stages start again at 0
        (
            vision(
                [f"visual.trunk.stages.{s}.blocks.{n}.norm" for s in range(4) for n in range(3)],
                "visual.trunk.stem.1",
                "visual.trunk.head.norm",
            ),
            vision(
                [f"visual.trunk.stages.{s}.blocks.{n}.norm" for s in range(4) for n in range(3)],
                "visual.trunk.stem.1",
            ),
        ),
    ],
    ids=["open_clip", "timm", "mekiki-line", "one-block", "convnext"],
)
def test_sar_leaves_the_upper_blocks_alone(names: list[str], kept: list[str]) -> None:
    """The top quarter of the blocks and every norm behind them stay; of other towers the last norm does."""
    assert lower_norms(Named(names)) == kept


def test_sar_moves_the_lower_block_of_a_real_tower(tiny_clip: Clip, texts: Texts) -> None:
    """Of two blocks the lower one and what is before it."""
    state, _ = run(Sar(margin=2), tiny_clip, texts, 1)
    tensors = state.learned.adapter.tensors
    moved = {name for name, array in tensors.items() if (array != tiny_clip.source.tensors[name]).any()}
    assert moved == set(lower_norms(tiny_clip))
    assert {name.split(".ln_")[0] for name in moved} == {"visual", "visual.transformer.resblocks.0"}
    assert "visual.ln_post.weight" not in moved


def test_sar_goes_the_way_of_a_plain_sam(tiny_clip: Clip, texts: Texts) -> None:
    """Three steps up to the worst point, back, and down with its gradient, by moving parameters in place."""
    margin = 0.9  # between the surest and the least sure of these pictures
    state, answers = run(Sar(margin=margin), tiny_clip, texts, 3)
    model, parameters = plain_copy(tiny_clip, lower_norms(tiny_clip))
    optimizer = torch.optim.SGD(parameters, lr=1e-3, momentum=0.9)
    limit, average = margin * math.log(CLASSES), None
    for seed, answer in enumerate(answers):
        logits, uncertainty = plain_entropy(tiny_clip, model, pictures(seed=seed), texts)
        torch.testing.assert_close(answer.logits, logits.detach(), rtol=1e-5, atol=1e-5)
        sure = uncertainty < limit
        assert 0 < sure.sum() < len(sure)
        uncertainty[sure].mean().backward()
        length = torch.cat([parameter.grad.flatten() for parameter in parameters]).norm()
        places = [parameter.detach().clone() for parameter in parameters]
        with torch.no_grad():
            for parameter in parameters:
                parameter += 0.05 * parameter.grad / length
        optimizer.zero_grad()
        uncertainty = plain_entropy(tiny_clip, model, pictures(seed=seed), texts)[1][sure]
        loss = uncertainty[uncertainty < limit].mean()
        loss.backward()
        with torch.no_grad():
            for parameter, place in zip(parameters, places, strict=True):
                parameter.copy_(place)
        optimizer.step()
        optimizer.zero_grad()
        average = loss.item() if average is None else 0.9 * average + 0.1 * loss.item()
        assert answer.numbers["loss"] == pytest.approx(loss.item(), rel=1e-5)
        assert answer.numbers["ema"] == pytest.approx(average, rel=1e-5)
        assert answer.numbers["reliable"] == int((uncertainty < limit).sum())
    assert_same_way(state.learned.adapter, model, tiny_clip.source)


def test_sar_learns_from_sure_pictures_only(tiny_clip: Clip, texts: Texts) -> None:
    """Pictures over the margin might as well not be there."""
    with torch.no_grad():
        uncertainty = plain_entropy(tiny_clip, tiny_clip.model, pictures(), texts)[1]
    method = Sar(margin=0.9)
    sure = uncertainty < 0.9 * math.log(CLASSES)
    assert 1 < sure.sum() < len(sure)
    start = method.start(tiny_clip, texts)
    all_of_them, answer = method.step(tiny_clip, start, pictures(), texts)
    the_sure_ones, _ = method.step(tiny_clip, start, pictures()[sure], texts)
    for name, array in all_of_them.learned.adapter.tensors.items():
        # The same arithmetic in other batches: a few bits.
        np.testing.assert_allclose(array, the_sure_ones.learned.adapter.tensors[name], rtol=1e-6, atol=1e-7)
    assert answer.numbers["reliable"] <= int(sure.sum())


@pytest.mark.parametrize("method", [Sar(margin=1e-3), RDumb(margin=1e-3)], ids=named)
def test_a_batch_without_a_sure_picture_changes_nothing(
    method: Method[Any], tiny_clip: Clip, texts: Texts
) -> None:
    """No step, not even by momentum, and nothing enters an average."""
    taught, _ = run(replace(method, margin=2), tiny_clip, texts, 2)
    after, answer = method.step(tiny_clip, taught, pictures(seed=5), texts)
    assert content(after.learned) == content(taught.learned)
    assert answer.numbers["skipped"] == 1.0
    assert answer.numbers["reliable"] == 0.0
    assert math.isnan(answer.numbers["loss"])
    if isinstance(after, Watched):
        assert after.ema == taught.ema
    else:
        assert torch.equal(after.probabilities, taught.probabilities)


def test_sar_recovers_once(tiny_clip: Clip, texts: Texts) -> None:
    """When the model is sure of everything it is as good as new, and the next batch is judged by itself.

    The published code writes the old average back after the reset, and would reset again and again.
    """
    method, sure_of_all = Sar(margin=2), surer(tiny_clip, 2000.0)
    state, _ = run(method, tiny_clip, texts, 2)
    assert state.ema is not None
    low = replace(state, ema=0.02 * math.log(CLASSES))
    recovered, answer = method.step(sure_of_all, low, pictures(seed=3), texts)
    assert answer.numbers["ema"] < 0.029 * math.log(CLASSES)
    assert answer.numbers["resets"] == 1.0
    assert content(recovered) == content(replace(method.start(tiny_clip, texts), resets=1))
    # 0.088 ln C: enough by itself, but with the old average it would come to 0.025 ln C.
    after, answer = method.step(surer(tiny_clip, 500.0), recovered, pictures(seed=4), texts)
    assert 0.029 < answer.numbers["loss"] / math.log(CLASSES) < 0.1
    assert after.resets == 1
    assert after.ema == answer.numbers["loss"]
    assert after.learned.adapter.number == 1


def test_sar_recovers_below_a_share_of_the_largest_entropy(tiny_clip: Clip, texts: Texts) -> None:
    """The average, not the batch, is compared, and with what 0.2 is of 1000 classes."""
    method = Sar(margin=2)
    state, _ = run(method, tiny_clip, texts, 1)
    loss = method.step(tiny_clip, state, pictures(seed=3), texts)[1].numbers["loss"]
    average = 0.9 * state.ema + 0.1 * loss
    share = average / math.log(CLASSES)
    assert method.collapsed == pytest.approx(0.2 / math.log(1000), rel=0.01)
    above, below = replace(method, collapsed=share * 0.999), replace(method, collapsed=share * 1.001)
    assert above.step(tiny_clip, state, pictures(seed=3), texts)[0].resets == 0
    assert below.step(tiny_clip, state, pictures(seed=3), texts)[0].resets == 1


def test_sar_survives_a_gradient_that_fp16_cannot_hold(tiny_clip: Clip, texts: Texts) -> None:
    """No step, a smaller loss scale, and no NaN in the average: the next batch learns again."""
    method = Sar(margin=2)
    state, _ = run(method, tiny_clip, texts, 1)
    too_much = replace(state, learned=replace(state.learned, loss_scale=math.inf))
    after, answer = method.step(tiny_clip, too_much, pictures(seed=1), texts)
    assert answer.numbers["skipped"] == 1.0
    assert after.ema == state.ema
    assert content(after.learned.adapter) == content(state.learned.adapter)
    assert (state.learned.good_steps, after.learned.good_steps) == (
        1,
        0,
    )  # so `descend` has seen to the scale
    assert Sar(precision="fp16").start(tiny_clip, texts).learned.loss_scale == FIRST_LOSS_SCALE


# --- RDumb ----------------------------------------------------------------------------------------


def test_rdumb_begins_again_every_so_many_batches(tiny_clip: Clip, texts: Texts) -> None:
    """Batches 1, 4 and 7 meet the model as it was trained, everything else of it included."""
    method = RDumb(reset_every=3, margin=2, redundant=2)
    state, answers = run(method, tiny_clip, texts, 7)
    fresh = [
        method.step(tiny_clip, method.start(tiny_clip, texts), pictures(seed=n), texts) for n in range(7)
    ]
    as_new = [torch.equal(answers[n].logits, fresh[n][1].logits) for n in range(7)]
    assert as_new == [True, False, False, True, False, False, True]
    assert [answer.numbers["resets"] for answer in answers] == [0, 0, 0, 1, 1, 1, 2]
    assert content(state) == content(replace(fresh[6][0], resets=2))  # optimiser and average too


def test_rdumb_goes_the_way_of_a_plain_eta(tiny_clip: Clip, texts: Texts) -> None:
    """Sure and new pictures, the surest count most, by moving parameters in place with torch's SGD."""
    margin, redundant = 0.9, 0.9
    method = RDumb(margin=margin, redundant=redundant)
    state, answers = run(method, tiny_clip, texts, 4)
    model, parameters = plain_copy(tiny_clip, tiny_clip.norm_names("image"))
    optimizer = torch.optim.SGD(parameters, lr=2.5e-4, momentum=0.9)
    limit, average, left_out = margin * math.log(CLASSES), None, 0
    for seed, answer in enumerate(answers):
        logits, uncertainty = plain_entropy(tiny_clip, model, pictures(seed=seed), texts)
        probabilities = torch.exp(logits.detach() - logits.detach().logsumexp(1, keepdim=True))
        rows = []
        for row in range(len(logits)):
            if uncertainty[row] >= limit:
                continue
            if average is not None:
                cosine = average @ probabilities[row] / (average.norm() * probabilities[row].norm())
                if abs(cosine) >= redundant:
                    left_out += 1
                    continue
            rows.append(row)
        assert answer.numbers["chosen"] == len(rows) > 0
        losses = [uncertainty[row] * math.exp(limit - uncertainty[row].item()) for row in rows]
        loss = torch.stack(losses).mean()
        assert answer.numbers["loss"] == pytest.approx(loss.item(), rel=1e-5)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        mean = probabilities[rows].mean(0)
        average = mean if average is None else 0.9 * average + 0.1 * mean
    assert left_out > 0
    torch.testing.assert_close(state.probabilities, average, rtol=1e-5, atol=1e-6)
    assert_same_way(state.learned.adapter, model, tiny_clip.source)


def test_rdumb_learns_nothing_from_more_of_the_same(tiny_clip: Clip, texts: Texts) -> None:
    """A batch whose classes are the average's is left out; one with another class is learned from."""
    method = RDumb(margin=2)
    with torch.no_grad():
        logits = plain_entropy(surer(tiny_clip, 2000.0), tiny_clip.model, pictures(), texts)[0]
    labels = logits.argmax(1)
    usual, other = pictures()[labels == labels[0]], pictures()[labels != labels[0]]
    assert len(usual)
    assert len(other)
    clip = surer(tiny_clip, 2000.0)
    known = Period(Learned.start(clip), F.one_hot(labels[0], CLASSES).float(), steps=5)
    same, answer = method.step(clip, known, usual, texts)
    assert (answer.numbers["reliable"], answer.numbers["chosen"]) == (len(usual), 0)
    assert content(same) == content(replace(known, steps=6))
    _, answer = method.step(clip, known, torch.cat([usual, other]), texts)
    assert answer.numbers["chosen"] == len(other)
    assert answer.numbers["skipped"] == 0.0


# --- TDA ------------------------------------------------------------------------------------------


def stream(count: int, classes: int = 10, width: int = 128, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return ``(B, C)`` logits and ``(B, D)`` unit-length features of pictures near ten directions."""
    random = torch.Generator().manual_seed(seed)
    texts = F.normalize(torch.randn(classes, width, generator=random), dim=1)
    owner = torch.randint(classes, (count,), generator=random)
    features = F.normalize(texts[owner] + 0.3 * torch.randn(count, width, generator=random), dim=1)
    return 20 * features @ texts.T, features


def by_the_formula(logits: Tensor, features: Tensor, method: Tda) -> Tensor:
    """Answer one picture after another with lists and loops, in float64, after the published loop."""
    count = logits.shape[1]
    positive: dict[int, list[tuple[float, Tensor, Tensor]]] = {}
    negative: dict[int, list[tuple[float, Tensor, Tensor]]] = {}
    answers = []
    for row, feature in zip(logits.double(), features.double(), strict=True):
        chances = torch.exp(row - row.logsumexp(0))
        uncertainty = -float((chances * chances.log()).sum())
        label = int(row.argmax())
        shelves = [(positive, method.positive, F.one_hot(torch.tensor(label), count))]
        if method.unsure[0] < uncertainty / math.log2(count) < method.unsure[1]:
            shelves.append((negative, method.negative, (chances > 0.03) & (chances < 1.0)))
        for cache, use, classes in shelves:
            shelf = cache.setdefault(label, [])
            if len(shelf) < use.capacity:
                shelf.append((uncertainty, feature, classes))
            elif uncertainty < shelf[-1][0]:
                shelf[-1] = (uncertainty, feature, classes)
            shelf.sort(key=lambda entry: entry[0])
        answer = row.clone()
        for cache, use, sign in ((positive, method.positive, 1), (negative, method.negative, -1)):
            for entry in (entry for shelf in cache.values() for entry in shelf):
                answer += sign * use.alpha * math.exp(-use.beta * (1 - float(feature @ entry[1]))) * entry[2]
        answers.append(answer)
    return torch.stack(answers)


def tda_start(method: Tda, classes: int = 10, width: int = 128) -> Caches:
    return Caches(
        Cache.empty(classes, method.positive.capacity, width),
        Cache.empty(classes, method.negative.capacity, width),
    )


@pytest.mark.parametrize("method", [Tda(), Tda(Use(1, 2.0, 3.0), Use(5, 0.5, 2.0), unsure=(0.1, 0.6))])
def test_tda_answers_as_the_published_loop(method: Tda) -> None:
    """Two hundred pictures in batches of 50, compared with lists, loops and float64."""
    logits, features = stream(200)
    state, answers = tda_start(method), []
    for part in range(0, 200, 50):
        state, answer = method.answer(state, logits[part : part + 50], features[part : part + 50])
        answers.append(answer)
    expected = by_the_formula(logits, features, method)
    torch.testing.assert_close(torch.tensor(np.concatenate(answers)).double(), expected, rtol=1e-5, atol=1e-4)
    assert len(state.negative) > 0
    assert (expected.argmax(1) != logits.argmax(1)).any()  # the caches did matter


def test_tda_does_not_care_how_a_stream_is_cut(tiny_clip: Clip, texts: Texts) -> None:
    """Pictures are answered one after another: the caches after five batches are those after one."""
    logits, features = stream(60)
    method = Tda()
    at_once, answer = method.answer(tda_start(method), logits, features)
    state, answers = tda_start(method), []
    for part in range(0, 60, 12):
        state, some = method.answer(state, logits[part : part + 12], features[part : part + 12])
        answers.append(some)
    assert content(state.positive) == content(at_once.positive)
    np.testing.assert_array_equal(np.concatenate(answers), answer)


def test_tda_depends_on_the_order_as_published() -> None:
    """A picture sees what came before it and itself, nothing that comes later."""
    logits, features = stream(40)
    _, forwards = Tda().answer(tda_start(Tda()), logits, features)
    _, backwards = Tda().answer(tda_start(Tda()), logits.flip(0), features.flip(0))
    assert np.abs(forwards[0] - backwards[-1]).max() > 0.01
    alone = logits[0].numpy().copy()
    alone[alone.argmax()] += 2.0  # itself at distance 0, with weight alpha
    np.testing.assert_allclose(forwards[0], alone, rtol=1e-6)


def test_a_cache_keeps_the_surest_pictures() -> None:
    """Three per class, ascending; a surer one takes the place of the least sure, an equal one does not."""
    cache = Cache.empty(2, 3, 1)
    alone = np.array([0, 1], np.float32)
    for number, uncertainty in enumerate([0.5, 0.9, 0.7, 0.9]):
        cache.offer(1, np.array([number], np.float32), np.float32(uncertainty), alone)
    assert cache.features[1].ravel().tolist() == [0.0, 2.0, 1.0]
    for number, uncertainty in enumerate([1.0, 0.1, 0.6], start=4):
        cache.offer(1, np.array([number], np.float32), np.float32(uncertainty), alone)
    np.testing.assert_allclose(cache.entropies[1], [0.1, 0.5, 0.6], rtol=1e-6)
    assert cache.features[1].ravel().tolist() == [5.0, 0.0, 6.0]
    assert np.isinf(cache.entropies[0]).all()
    assert len(cache) == 3
    cache.offer(0, np.array([1], np.float32), np.float32(np.nan), alone)
    assert len(cache) == 3


def test_what_tda_remembers_cannot_be_changed() -> None:
    """Whoever tries is told so at once."""
    state, _ = Tda().answer(tda_start(Tda()), *stream(5))
    with pytest.raises(ValueError, match="read-only"):
        state.positive.offer(0, np.zeros(128, np.float32), np.float32(0), np.zeros(10, np.float32))


def test_tda_counts_its_pictures(tiny_clip: Clip, texts: Texts) -> None:
    """The numbers of a step are the sizes of the caches, at most capacity times classes."""
    state, answers = run(Tda(), tiny_clip, texts, 8)
    assert answers[-1].numbers == {
        "positive": float(len(state.positive)),
        "negative": float(len(state.negative)),
    }
    assert CLASSES < len(state.positive) <= 3 * CLASSES
    assert len(state.negative) <= 2 * CLASSES
