"""Models of any family of open_clip become a bundle that answers as open_clip does, or one sentence."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.model_zoo import ZOO, checkpoint, register

torch = pytest.importorskip("torch")

import open_clip  # noqa: E402
from safetensors.numpy import save_file  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from adapters.build import build_memory  # noqa: E402
from adapters.build import bundle as bundle_build  # noqa: E402
from adapters.build.bundle import TEXTS, build, fitting  # noqa: E402
from adapters.build.export_failure import root_words  # noqa: E402
from adapters.build.graph_decompositions import aten, decompositions  # noqa: E402
from adapters.core.adapter import Adapter  # noqa: E402
from adapters.core.norm_vector import NormVector  # noqa: E402
from adapters.core.protocol import Engine, ModelError  # noqa: E402
from adapters.encoders.protocol import Encoded  # noqa: E402
from adapters.engines.known_answers import GRADIENT_TOLERANCE, TOLERANCE, gradient_error  # noqa: E402
from adapters.engines.open_bundle import open_bundle  # noqa: E402
from adapters.engines.torch_engine import TorchEngine  # noqa: E402
from adapters.torch_model.convert_tokenizer import open_tokenizer  # noqa: E402
from adapters.torch_model.loader import load_clip  # noqa: E402
from agent.base.errors import EXIT_CONFIG, EXIT_OK  # noqa: E402
from agent.cli.main import main  # noqa: E402
from tests.support.places import ROOT  # noqa: E402

BUILT = ["zoo-coca", "zoo-convnext", "zoo-timm-vit", "zoo-short"]


@pytest.fixture(scope="module", autouse=True)
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("zoo")
    register(folder)
    return folder


@pytest.fixture
def any_file(tmp_path: Path) -> Path:
    """A file of weights that no model can read: what is refused is refused before it is read."""
    save_file({"nothing": np.zeros(1, np.float32)}, tmp_path / "any.safetensors")
    return tmp_path / "any.safetensors"


def pictures(engine: Engine, count: int = 3) -> Any:
    side = engine.info.preprocess.size
    return np.random.default_rng(0).normal(size=(count, 3, side, side)).astype(np.float32)


def moved(source: Adapter, seed: int) -> Adapter:
    random = np.random.default_rng(seed)
    tensors = {name: tensor + random.normal(0, 0.1, tensor.shape) for name, tensor in source.tensors.items()}
    return Adapter(tensors, number=seed, parent=source.digest)


def reference(name: str, file: Path, adapter: Adapter) -> Any:
    """Return open_clip's own model with an adapter copied into it."""
    model = open_clip.create_model(name, pretrained=str(file)).eval()
    state = {key: torch.tensor(tensor, dtype=torch.float32) for key, tensor in adapter.tensors.items()}
    assert not model.load_state_dict(state, strict=False).unexpected_keys
    return model


def difference(found: Any, expected: Any) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def answers_as_open_clip(engine: Engine, name: str, file: Path, tolerance: float) -> None:
    """Three pictures with three adapters in one batch, and texts with each: as open_clip has them alone."""
    adapters = [moved(engine.source, 1), engine.source, moved(engine.source, 2)]
    images, texts = pictures(engine), ["", "a deep scratch"]
    mixed = engine.encode_image(images, adapters)
    for row, adapter in enumerate(adapters):
        model = reference(name, file, adapter)
        with torch.no_grad():
            image = model.encode_image(torch.tensor(images[row : row + 1]), normalize=False).numpy()
            tokens = open_clip.get_tokenizer(name)(texts)
            text = model.encode_text(tokens, normalize=False).numpy()
        assert difference(mixed[row : row + 1], image) < tolerance
        assert difference(engine.encode_text(engine.tokenize(texts), adapter), text) < tolerance


def command(name: str, file: Path, out: Path) -> list[str]:
    return ["model", "build", name, "--checkpoint", str(file), "--out", str(out)]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", BUILT)
def test_a_bundle_of_the_family_answers_as_open_clip_does(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Through the command line: exit code 0, and features of both towers within the promised tolerance."""
    file = checkpoint(name, tmp_path / "weights.safetensors")
    assert main(command(name, file, tmp_path / "bundle")) == EXIT_OK
    said = capfd.readouterr().err
    assert "its gradient by" in said
    assert "Traceback" not in said
    answers_as_open_clip(open_bundle(tmp_path / "bundle", device="cpu"), name, file, TOLERANCE)


@pytest.mark.parametrize("name", [*BUILT, "zoo-norm-act"])
def test_pictures_of_a_batch_have_layer_norms_of_their_own(name: str, tmp_path: Path) -> None:
    """On torch too: where channels come first, where an activation follows, and for learnt queries."""
    file = checkpoint(name, tmp_path / "weights.safetensors")
    answers_as_open_clip(TorchEngine(load_clip(name, checkpoint=file, device="cpu")), name, file, 1e-5)


REFUSED = {
    "zoo-oblong": "zoo-oblong: takes pictures of 48x32; only square ones are supported; take a model with"
    " square pictures, such as ViT-B-32",
    "zoo-no-norm": "zoo-no-norm: its image tower has no LayerNorm with gain and bias: there is nothing to"
    " adapt; take a model with LayerNorm in both towers, such as ViT-B-32",
    "zoo-no-room": "zoo-no-room: its context of 2 tokens has no room for a word between start and end; take a"
    " model with a context of 3 or more",
    "zoo-nobody": "zoo-nobody: cannot be built: Unknown model (nobody_knows_it); take another model",
    "RN50": "RN50: visual.bn1 is a BatchNorm: it carries statistics of the training pictures that adapting"
    " cannot move; take a model with LayerNorm, such as ViT-B-32",
    "MobileCLIP-B": "MobileCLIP-B: visual.trunk.patch_embed.backbone.0.bn is a BatchNorm: it carries"
    " statistics of the training pictures that adapting cannot move; take a model with LayerNorm, such as"
    " ViT-B-32",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_a_bundle_is_refused_in_one_sentence(
    name: str, any_file: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Exit code 78, before the weights are read, and nothing is left behind."""
    assert main(command(name, any_file, tmp_path / "bundle")) == EXIT_CONFIG
    assert capfd.readouterr().err == f"model: {REFUSED[name]}\n"
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("zoo-hugging", "zoo-hugging: its text tower roberta-base"),
        ("roberta-ViT-B-32", "roberta-ViT-B-32: its text tower roberta-base"),
        ("zoo-tokenizer", "zoo-tokenizer: its tokenizer timm/ViT-B-16-SigLIP"),
        ("ViT-B-16-SigLIP", "ViT-B-16-SigLIP: its tokenizer timm/ViT-B-16-SigLIP"),
    ],
)
@pytest.mark.parametrize("installed", [False, True], ids=["no transformers", "an empty cache"])
def test_what_hugging_face_has_and_this_machine_has_not_is_named(
    name: str,
    what: str,
    installed: bool,
    any_file: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The package where that is missing; else how to fill the cache. The library's words are its cause."""

    def absent(*_: object, **__: object) -> Any:
        if installed:
            raise OSError("We couldn't connect to 'https://huggingface.co' to load the files")
        raise ImportError("No module named 'transformers'")

    monkeypatch.setattr("open_clip.model.HFTextEncoder", absent)
    monkeypatch.setattr("open_clip.factory.HFTokenizer", absent)
    for module in ("architecture", "convert_tokenizer"):
        monkeypatch.setattr(
            f"adapters.torch_model.{module}.find_spec", lambda _: object() if installed else None
        )
    assert main(command(name, any_file, tmp_path / "bundle")) == EXIT_CONFIG
    said = capfd.readouterr().err
    part = "the configuration of " if installed and "tower" in what else ""
    begun = f"model: {name}: {part}{what.removeprefix(f'{name}: ')}"
    if not installed:
        assert said == f"{begun} needs the package transformers: pip install transformers\n"
        return
    assert said.startswith(
        f"{begun} is not in this machine's hub cache; where there is a network run python -c"
        f" \"import open_clip; open_clip.create_model('{name}', pretrained_text=False);"
        f" open_clip.get_tokenizer('{name}')\" and copy "
    )
    assert said.count("\n") == 1
    with pytest.raises(ModelError) as caught:
        build(name, tmp_path / "bundle", checkpoint=any_file)
    assert isinstance(caught.value.__cause__, OSError)


def test_a_model_that_open_clip_itself_cannot_run_is_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its scaled cosine attention fails in its own code: the sentence says so, with the first words."""
    file = checkpoint("zoo-broken", tmp_path / "weights.safetensors")
    assert main(command("zoo-broken", file, tmp_path / "bundle")) == EXIT_CONFIG
    assert capfd.readouterr().err == (
        "model: zoo-broken: open_clip itself cannot run it: batch1 must be a 3D tensor; take another model:"
        " docs/models.md lists the families that were built\n"
    )


def test_a_layer_norm_that_reaches_no_feature_is_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """By name: CoCa's pooling for captions, beside that for the feature, would have no gradient."""
    file = checkpoint("zoo-captions", tmp_path / "weights.safetensors")
    assert main(command("zoo-captions", file, tmp_path / "bundle")) == EXIT_CONFIG
    assert capfd.readouterr().err == (
        "model: zoo-captions: no feature depends on its LayerNorm tensor visual.attn_pool.ln_k.bias: there is"
        " nothing to learn for it; take another model\n"
    )


def test_a_layer_norm_over_something_else_than_pictures_is_refused(tmp_path: Path) -> None:
    """One that sees windows of pictures, say, could not have a row for each picture: its name is told."""
    file = checkpoint("zoo-short", tmp_path / "weights.safetensors")
    clip = load_clip("zoo-short", checkpoint=file, device="cpu")
    norm = clip.model.visual.ln_pre

    class Windows(type(norm)):  # type: ignore[misc]
        def __call__(self, x: Any) -> Any:
            return super().__call__(x.reshape(-1, 1, x.shape[-1])).reshape(x.shape)

    norm.__class__ = Windows
    with pytest.raises(ModelError, match=r"LayerNorm visual\.ln_pre works on \(51, 1, 32\) for 3 pictures"):
        bundle_build.build_bundle(clip, tmp_path / "bundle")


def test_what_the_exporter_cannot_do_is_one_sentence(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the first words of what it began with, in plain letters; the exporter's error is the cause."""

    def fail(*_: object, **__: object) -> None:
        try:
            raise KeyError("aten.unheard_of")
        except KeyError as cause:
            raise RuntimeError("\x1b[96mThis is step 3/3\x1b[0m of exporting the model to ONNX") from cause

    monkeypatch.setattr("torch.onnx.export", fail)
    file = checkpoint("zoo-short", tmp_path / "weights.safetensors")
    assert main(command("zoo-short", file, tmp_path / "bundle")) == EXIT_CONFIG
    assert capfd.readouterr().err == (
        "model: zoo-short: cannot be exported to ONNX: 'aten.unheard_of'; take another model: docs/models.md"
        " lists the families that were built\n"
    )
    with pytest.raises(ModelError) as caught:
        build("zoo-short", tmp_path / "bundle", checkpoint=file)
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["weights.safetensors"]


def test_a_model_larger_than_the_memory_is_refused_before_it_is_read(
    any_file: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """ViT-e-14 has 4.6 billion parameters; how many it has is known without building it."""
    monkeypatch.setattr(build_memory, "available_bytes", lambda: 16e9)
    assert main(command("ViT-e-14", any_file, tmp_path / "bundle")) == EXIT_CONFIG
    assert capfd.readouterr().err == (
        "model: ViT-e-14: has 4,581 million parameters: building it takes about 97 GB of memory, 16 GB are"
        " free here; end other programs, or build it on a larger machine and copy the bundle\n"
    )


def test_the_free_memory_is_known_here() -> None:
    """By the kernel's word, less than the machine has."""
    free = build_memory.available_bytes()
    assert free is not None
    assert 0 < free < 1e15


def test_no_name_of_open_clip_ends_in_a_traceback(any_file: Path, tmp_path: Path) -> None:
    """As a person types it, in a process of its own."""
    arguments = command("MobileCLIP-S1", any_file, tmp_path / "bundle")
    ended = subprocess.run(
        [sys.executable, "-m", "agent", *arguments], capture_output=True, text=True, cwd=ROOT, timeout=120
    )
    assert ended.returncode == EXIT_CONFIG
    assert ended.stderr.startswith("model: MobileCLIP-S1: visual.trunk")
    assert ended.stderr.count("\n") == 1


def test_texts_of_the_vectors_fit_every_context() -> None:
    """Their first words; texts of an ordinary context stay whole."""
    short = open_tokenizer("zoo-short", trim=True)
    assert [fitting(text, short) for text in TEXTS] != list(TEXTS)
    for text in TEXTS:
        assert text.startswith(fitting(text, short))
        assert len(short.encode(fitting(text, short))) <= 16
    whole = open_tokenizer("ViT-B-32", trim=True)
    assert [fitting(text, whole) for text in TEXTS] == list(TEXTS)


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_the_slope_of_gelu_is_torchs(approximate: str) -> None:
    """Both forms that models have."""
    x = torch.linspace(-6, 6, 1001, requires_grad=True)
    gradient = torch.linspace(-1, 1, 1001)
    (expected,) = torch.autograd.grad(F.gelu(x, approximate=approximate), x, gradient)
    found = decompositions()[aten.gelu_backward.default](gradient, x.detach(), approximate=approximate)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("side", "kernel", "stride", "padding", "ceil", "counts"),
    [
        (8, 2, 2, 0, True, False),
        (9, 3, 2, 1, False, False),
        (8, 3, 2, 1, False, True),
        (9, 2, 2, 0, False, True),
    ],
)
def test_the_way_back_through_a_mean_of_windows_is_torchs(
    side: int, kernel: int, stride: int, padding: int, ceil: bool, counts: bool
) -> None:
    """With and without padding that counts, and where the last pixels are in no window."""
    torch.manual_seed(0)
    x = torch.randn(2, 3, side, side, requires_grad=True)
    pooled = F.avg_pool2d(x, kernel, stride, padding, ceil, counts)
    gradient = torch.randn_like(pooled)
    (expected,) = torch.autograd.grad(pooled, x, gradient)
    sizes = [[size, size] for size in (kernel, stride, padding)]
    found = decompositions()[aten.avg_pool2d_backward.default](
        gradient, x.detach(), *sizes, ceil, counts, None
    )
    torch.testing.assert_close(found, expected)


def test_windows_beyond_the_map_are_refused() -> None:
    """They are smaller than the others, which is not supported and not silently wrong."""
    pooled = F.avg_pool2d(torch.zeros(1, 1, 5, 5), 2, 2, ceil_mode=True)
    with pytest.raises(NotImplementedError, match="beyond the map"):
        decompositions()[aten.avg_pool2d_backward.default](
            pooled, torch.zeros(1, 1, 5, 5), [2, 2], [2, 2], [0, 0], True, True, None
        )


class Noisy:
    """Towers whose gradient by one LayerNorm is nothing but roundings, as by a bias of keys."""

    info: Any = None

    def __init__(self, noise: float) -> None:
        self.source = Adapter({"visual.a": np.ones(2, np.float32), "visual.b": np.ones(2, np.float32)})
        self.gradient = NormVector(self.source).join(
            {"visual.a": np.ones(2, np.float32), "visual.b": np.full(2, noise, np.float32)}
        )

    def encode(self, vector: Any, images: Any, tokens: Any) -> Encoded:
        return Encoded(images, tokens, lambda by_images, by_texts: self.gradient)


@pytest.mark.parametrize(("noise", "good"), [(4e-8, True), (1e-3, False)])
def test_roundings_are_no_wrong_gradient(noise: float, good: bool, tmp_path: Path) -> None:
    """They are compared with the largest gradient; an error that could be learned from is not passed over."""
    towers, none = Noisy(noise), np.zeros(1, np.float32)
    norms = {f"norms/{name}": tensor for name, tensor in towers.source.tensors.items()}
    given = dict.fromkeys(("images", "tokens", "pulled/images", "pulled/texts"), none)
    np.savez(tmp_path / "vectors.npz", gradient=Noisy(-noise).gradient, **given, **norms)
    assert (gradient_error(towers, tmp_path / "vectors.npz") <= GRADIENT_TOLERANCE) is good


def test_the_words_of_an_error_are_those_it_began_with() -> None:
    """Not those of the library that passed it on, and not what torch appends about its own graphs."""
    passed_on = RuntimeError("step 1/3 of exporting")
    passed_on.__cause__ = ValueError("no kernel\n\nWhile executing %mul : [num_users=1] = call_function")
    assert root_words(passed_on) == "no kernel"
    assert root_words(AssertionError()) == "AssertionError"


def test_the_zoo_is_known_to_open_clip() -> None:
    """Its names are no names of open_clip's own."""
    assert set(ZOO) <= set(open_clip.list_models())
