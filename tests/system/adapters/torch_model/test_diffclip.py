"""DiffCLIP: equal to its authors' code, adapts its LayerNorms alone, and shows who looked at whom."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import open_clip
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from timm.layers import DiffAttention
from torch import Tensor, nn

from adapters.core.adapter import Adapter
from adapters.core.protocol import ModelError
from adapters.engines.known_answers import TOLERANCE, vectors_error
from adapters.engines.open_bundle import open_bundle
from adapters.engines.torch_engine import TorchEngine
from adapters.torch_model import diffclip
from adapters.torch_model.architecture import fresh_model
from adapters.torch_model.diffclip import METADATA_KEY, MODEL_NAME, LambdaInit, attention_maps, differentiate
from adapters.torch_model.loader import load_clip
from benchmarks.parity_diffclip import PUBLISHED, RECORD, SCHEDULE, TINY, Size, difference, ours, register
from tests.support.insides import hooks_before

if TYPE_CHECKING:
    from adapters.torch_model.clip import Clip

KINDS = {"published": PUBLISHED, "schedule": SCHEDULE}

TEXTS = ["a scratch", "a photo of a metal part with a deep scratch", ""]


@pytest.fixture(scope="module")
def record() -> dict[str, Tensor]:
    """What the authors' code made of seeded inputs; `benchmarks.parity_diffclip --record` wrote it."""
    with np.load(RECORD) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


@pytest.fixture(scope="module")
def authors_model(record: dict[str, Tensor]) -> Callable[[str], Clip]:
    """The recorded weights as our model, with a `lambda_init` of `KINDS`."""
    state = {
        name.removeprefix("weights/"): tensor
        for name, tensor in record.items()
        if name.startswith("weights/")
    }
    models = {kind: ours(state, TINY, lambda_init) for kind, lambda_init in KINDS.items()}
    return models.__getitem__


def moved(source: Adapter, seed: int) -> Adapter:
    random = np.random.default_rng(seed)
    tensors = {name: tensor + random.normal(0, 0.1, tensor.shape) for name, tensor in source.tensors.items()}
    return Adapter(tensors, number=seed, parent=source.digest)


@pytest.mark.parametrize("kind", KINDS)
def test_features_equal_the_authors(
    kind: str, record: dict[str, Tensor], authors_model: Callable[[str], Clip]
) -> None:
    """Within 1e-5 of the largest feature, pictures and texts, texts also at the length they need."""
    clip, tokens = authors_model(kind), record["tokens"]
    texts = record[f"text_features/{kind}"]
    needed = int(tokens.argmax(dim=1).max()) + 1
    assert needed < TINY.context_length
    with torch.inference_mode():
        assert difference(clip.encode_image(record["images"], {}), record[f"image_features/{kind}"]) < 1e-5
        assert difference(clip.encode_text(tokens, {}), texts) < 1e-5
        assert difference(clip.encode_text(tokens[:, :needed], {}), texts) < 1e-5


def test_lambda_init_is_part_of_the_model(
    record: dict[str, Tensor], authors_model: Callable[[str], Clip]
) -> None:
    """The same weights with another `lambda_init` are another model: it must travel with them."""
    with torch.inference_mode():
        found = authors_model("schedule").encode_image(record["images"], {})
    assert difference(found, record["image_features/published"]) > 0.01


def test_layer_norms_adapt_and_nothing_else(authors_model: Callable[[str], Clip]) -> None:
    """Two per block and one at the end of each tower; RMSNorm gains and lambda are not in the adapter."""
    clip = authors_model("published")
    names = set(clip.source.tensors)
    assert len(names) == 2 * 2 * (2 * 2 + 1)
    assert not [name for name in names if "sub_norm" in name or "lambda" in name]
    assert clip.norm_names("image")[-1].startswith("visual.trunk.norm.")


@pytest.mark.parametrize("tower", ["image", "text"])
def test_every_layer_norm_of_a_tower_gets_a_gradient(
    tower: str, record: dict[str, Tensor], authors_model: Callable[[str], Clip]
) -> None:
    """Through replaced LayerNorms, as a learner calls it; the model's own parameters stay as they are."""
    clip = authors_model("published")
    norms = {
        name: torch.tensor(clip.source.tensors[name], requires_grad=True) for name in clip.norm_names(tower)
    }
    if tower == "image":
        features = clip.encode_image(record["images"], norms)
    else:
        features = clip.encode_text(record["tokens"], norms)
    gradients = torch.autograd.grad(features.square().sum(), list(norms.values()))
    assert all(gradient.abs().max() > 0 for gradient in gradients)
    assert all(parameter.grad is None for parameter in clip.model.parameters())


def test_an_adapter_does_what_copied_numbers_do(tiny_diffclip: Clip) -> None:
    """Replacing LayerNorms from call to call equals putting them into the model, at whole context too."""
    engine = TorchEngine(tiny_diffclip)
    adapter = moved(engine.source, 1)
    images = np.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype(np.float32)
    short, full = engine.tokenize(TEXTS), open_clip.get_tokenizer(tiny_diffclip.info.name)(TEXTS)
    assert short.shape[1] < full.shape[1] == 77
    other = fresh_model(tiny_diffclip.info.name).eval()
    differentiate(other, SCHEDULE)
    other.load_state_dict(tiny_diffclip.model.state_dict())
    other.load_state_dict({k: torch.tensor(v) for k, v in adapter.tensors.items()}, strict=False)
    other.eval()
    with torch.inference_mode():
        pictures, texts = other.encode_image(torch.tensor(images)), other.encode_text(full)
    assert torch.equal(torch.tensor(engine.encode_image(images, [adapter] * 2)), pictures)
    # 12 columns instead of 77: products of other shapes round differently.
    np.testing.assert_allclose(engine.encode_text(short, adapter), texts, rtol=1e-4, atol=5e-6)


@pytest.mark.slow
def test_a_bundle_answers_like_torch(tiny_diffclip: Clip, tiny_diffclip_bundle: Path) -> None:
    """Exported, checked by the builder, and opened without torch's help: other adapters, short texts."""
    bundle, engine = open_bundle(tiny_diffclip_bundle, device="cpu", threads=1), TorchEngine(tiny_diffclip)
    assert vectors_error(bundle, tiny_diffclip_bundle / "vectors.npz") <= TOLERANCE
    images = np.random.default_rng(0).normal(size=(3, 3, 32, 32)).astype(np.float32)
    adapter, tokens = moved(engine.source, 2), engine.tokenize(TEXTS)
    for found, expected in (
        (bundle.encode_image(images, [adapter] * 3), engine.encode_image(images, [adapter] * 3)),
        (bundle.encode_text(tokens, adapter), engine.encode_text(tokens, adapter)),
    ):
        assert np.abs(found - expected).max() < TOLERANCE * np.abs(expected).max()


@pytest.mark.parametrize("tower", ["image", "text"])
def test_attention_maps_are_what_attention_does(
    tower: str, record: dict[str, Tensor], authors_model: Callable[[str], Clip]
) -> None:
    """Rows sum to 1 - lambda, and values weighted by them give each module's output; with replaced norms."""
    clip = authors_model("schedule")
    norms = {name: torch.tensor(array) for name, array in moved(clip.source, 3).tensors.items()}
    inputs = record["images"] if tower == "image" else record["tokens"]
    encode = clip.encode_image if tower == "image" else clip.encode_text
    part = clip.model.visual if tower == "image" else clip.model.transformer
    attentions = [module for module in part.modules() if isinstance(module, DiffAttention)]
    seen: list[tuple[Tensor, Tensor]] = []

    def watch(_: nn.Module, arguments: tuple[Tensor, ...], answer: Tensor | tuple[Tensor, None]) -> None:
        seen.append((arguments[0], answer if isinstance(answer, Tensor) else answer[0]))

    hooks = [attention.register_forward_hook(watch) for attention in attentions]
    with torch.inference_mode():
        expected = encode(inputs, norms)
        for hook in hooks:
            hook.remove()
        maps = attention_maps(clip, inputs, norms)
        assert torch.equal(encode(inputs, norms), expected)
        count = inputs.shape[1] if tower == "text" else 17
        assert maps.shape == (2, len(inputs), 2, count, count)
        for attention, (x, answer), weights in zip(attentions, seen, maps, strict=True):
            first = (attention.lambda_q1 * attention.lambda_k1).sum().exp()
            scale = first - (attention.lambda_q2 * attention.lambda_k2).sum().exp() + attention.lambda_init
            torch.testing.assert_close(weights.sum(-1), (1 - scale).expand(weights.shape[:-1]))
            values = attention.qkv(x)[..., -x.shape[2] :].unflatten(2, (2, -1)).transpose(1, 2)
            pairs = attention.sub_norm(weights @ values) * (1 - attention.lambda_init)
            torch.testing.assert_close(attention.proj(pairs.transpose(1, 2).flatten(2)), answer)
    assert not any(hooks_before(attention) for attention in attentions)


def test_no_text_token_looks_ahead(tiny_diffclip: Clip) -> None:
    """Above the diagonal every map is exactly zero, at the length that the text needs."""
    tokens = torch.tensor(TorchEngine(tiny_diffclip).tokenize(TEXTS))
    maps = attention_maps(tiny_diffclip, tokens, {})
    assert torch.equal(maps, maps.tril())
    assert maps.shape[-1] == tokens.shape[1] < 77


def test_ordinary_attention_has_no_maps(tiny_clip: Clip) -> None:
    """The refusal names the model."""
    with pytest.raises(ModelError, match="tiny: has no differential attention"):
        attention_maps(tiny_clip, torch.zeros(1, 3, 32, 32), {})


def test_both_forms_of_attention_agree(tiny_diffclip: Clip) -> None:
    """A CPU computes the maps, a GPU is left to the fused kernels: the same numbers."""
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    tokens = torch.tensor(TorchEngine(tiny_diffclip).tokenize(TEXTS))
    fused = fresh_model(tiny_diffclip.info.name)
    differentiate(fused, SCHEDULE, "cuda")
    fused.load_state_dict(tiny_diffclip.model.state_dict())
    fused.eval()
    forms = {m.fused_attn for m in fused.modules() if isinstance(m, DiffAttention)}
    assert forms == {True}
    with torch.inference_mode():
        assert difference(fused.encode_image(images), tiny_diffclip.encode_image(images, {})) < 1e-5
        padded = torch.nn.functional.pad(tokens, (0, 77 - tokens.shape[1]))
        assert difference(fused.encode_text(padded), tiny_diffclip.encode_text(tokens, {})) < 1e-5


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_weights_that_do_not_say_lambda_init_are_refused(suffix: str, tmp_path: Path) -> None:
    """Nothing guesses the number that the file does not hold; the remedy is in the message."""
    file = tmp_path / f"checkpoint_best.{suffix}"
    save = torch.save if suffix == "pt" else save_file
    save({"logit_scale": torch.tensor(1.0)}, file)
    with pytest.raises(
        ModelError, match=rf"best\.{suffix}: does not say .* mekiki convert diffclip checkpoint"
    ):
        load_clip(MODEL_NAME, checkpoint=file)


def test_a_garbled_lambda_init_is_refused(tmp_path: Path) -> None:
    """A number that is none is never guessed at."""
    save_file({"a": torch.ones(1)}, tmp_path / "a.safetensors", {METADATA_KEY: "zero point eight"})
    with pytest.raises(ModelError, match="'zero point eight': neither a number"):
        load_clip(MODEL_NAME, checkpoint=tmp_path / "a.safetensors")


@given(st.floats(0, 0.999), st.floats(0, 0.999), st.floats(0, 100))
def test_lambda_init_survives_its_text(base: float, part: float, rate: float) -> None:
    """What a file says is read back as the same numbers."""
    lambda_init = LambdaInit(base, base * part, rate if base * part else 0.0)
    assert LambdaInit.parse(str(lambda_init)) == lambda_init


def test_lambda_init_is_a_number_or_the_papers_schedule() -> None:
    """0.2 in the first layer of the schedule, 0.8 in the limit; spaces do not matter."""
    assert [LambdaInit.parse("0.8").at(layer) for layer in (0, 11)] == [0.8, 0.8]
    schedule = LambdaInit.parse("0.8 - 0.6 * exp(-0.3 * l)")
    assert schedule == SCHEDULE
    assert [round(schedule.at(layer), 4) for layer in (0, 1, 11)] == [0.2, 0.3555, 0.7779]


@pytest.mark.parametrize("text", ["", "0,8", "8", "1.0", "-0.1", "0.5-0.6*exp(-0.3*l)", "nan", "0.8*l"])
def test_impossible_lambda_inits_are_refused(text: str) -> None:
    """Attention is multiplied by 1 - lambda_init: 8 for 0.8 would turn the model around."""
    with pytest.raises(ModelError, match="lambda_init"):
        LambdaInit.parse(text)


def test_models_that_cannot_be_differential_are_refused(checkpoints: dict[str, Path]) -> None:
    """open_clip's own ViT, and heads that make no pairs."""
    with pytest.raises(ModelError, match="needs a timm ViT"):
        differentiate(fresh_model("tiny"), PUBLISHED)
    odd = Size("tiny-diffclip-odd", 16, 32, 8, (30, 1, 3), (16, 1, 2), 12, 64)
    register(odd)
    with pytest.raises(ModelError, match="in pairs; 3 is odd"):
        differentiate(fresh_model(odd.name), PUBLISHED)


def test_pictures_are_normalised_as_the_published_models_saw_them() -> None:
    """With ImageNet's mean and deviation; other models keep theirs."""
    assert diffclip.preprocess_overrides(MODEL_NAME) == {
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
    }
    assert diffclip.preprocess_overrides("ViT-B-16") == {}


@pytest.mark.slow
def test_the_published_size_has_the_published_numbers() -> None:
    """149 629 185 parameters, 6 144 of them lambda; 64 000 LayerNorm numbers adapt.

    The authors' 517 tensors are 421 here: queries, keys and values of 24 blocks are one matrix and one bias.
    """
    model = fresh_model(MODEL_NAME)
    differentiate(model, PUBLISHED)
    state = model.state_dict()
    norms = [module for module in model.modules() if isinstance(module, nn.LayerNorm)]
    assert len(state) == 517 - 24 * 4
    assert sum(tensor.numel() for tensor in state.values()) == 149_629_185
    assert sum(tensor.numel() for name, tensor in state.items() if "lambda" in name) == 6_144
    assert sum(norm.weight.numel() + norm.bias.numel() for norm in norms) == 64_000
    assert {norm.eps for norm in norms} == {1e-5}
    assert open_clip.get_model_preprocess_cfg(model)["mean"] == (0.485, 0.456, 0.406)
