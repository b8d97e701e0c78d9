"""open_clip's models as a function of (input, adapter), loaded from files that are not trusted."""

from __future__ import annotations

import gzip
import hashlib
import logging
import os
import pickle
import subprocess
import sys
import threading
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import huggingface_hub
import numpy as np
import open_clip
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file

from adapters.core.adapter import Adapter, AdapterMismatch
from adapters.core.protocol import ModelError
from adapters.engines.factory import ModelSettings, default_threads, open_engine
from adapters.engines.torch_engine import TorchEngine
from adapters.files.file_kind import wrong_kind
from adapters.torch_model import checkpoint as checkpoint_module
from adapters.torch_model.loader import load_clip
from tests.support.insides import add_pretrained

if TYPE_CHECKING:
    from adapters.torch_model.clip import Clip

TEXTS = ["a scratch", "a photo of a metal part with a deep scratch", ""]


def pictures(count: int = 3, side: int = 32, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 3, side, side)).astype(np.float32)


def moved(source: Adapter, seed: int) -> Adapter:
    random = np.random.default_rng(seed)
    tensors = {name: tensor + random.normal(0, 0.1, tensor.shape) for name, tensor in source.tensors.items()}
    return Adapter(tensors, number=seed, parent=source.digest)


def reference(name: str, weights: Path, adapter: Adapter | None = None) -> torch.nn.Module:
    """Return open_clip's own model with an adapter copied into it."""
    model = open_clip.create_model(name, pretrained=str(weights)).eval()
    if adapter is not None:
        model.load_state_dict({k: torch.tensor(v) for k, v in adapter.tensors.items()}, strict=False)
    return model


@pytest.mark.parametrize("name", ["tiny", "tiny-custom", "tiny-both-ways"])
def test_the_source_adapter_gives_what_open_clip_gives(name: str, checkpoints: dict[str, Path]) -> None:
    """To the last bit, pictures and texts of the same batch."""
    engine = TorchEngine(load_clip(name, checkpoint=checkpoints[name], device="cpu"))
    model, images = reference(name, checkpoints[name]), pictures()
    tokens = open_clip.get_tokenizer(name)(TEXTS)
    with torch.no_grad():
        expected_images, expected_texts = model.encode_image(torch.tensor(images)), model.encode_text(tokens)
    found = torch.tensor(engine.encode_image(images, [engine.source] * 3))
    assert torch.equal(found, expected_images)
    assert torch.equal(torch.tensor(engine.encode_text(tokens.numpy(), engine.source)), expected_texts)


@pytest.mark.parametrize("name", ["tiny", "tiny-custom", "tiny-both-ways"])
def test_an_adapter_replaces_every_layer_norm(name: str, checkpoints: dict[str, Path]) -> None:
    """The same as copying its numbers into the model, which itself stays as it was."""
    clip = load_clip(name, checkpoint=checkpoints[name], device="cpu")
    engine, images = TorchEngine(clip), pictures()
    adapter = moved(clip.source, 1)
    norms = [module for module in clip.model.modules() if isinstance(module, torch.nn.LayerNorm)]
    assert len(adapter.tensors) == 2 * len(norms)
    before = {key: tensor.clone() for key, tensor in clip.model.state_dict().items()}
    tokens = open_clip.get_tokenizer(name)(TEXTS)
    model = reference(name, checkpoints[name], adapter)
    with torch.no_grad():
        expected_images, expected_texts = model.encode_image(torch.tensor(images)), model.encode_text(tokens)
    assert torch.equal(torch.tensor(engine.encode_image(images, [adapter] * 3)), expected_images)
    assert torch.equal(torch.tensor(engine.encode_text(tokens.numpy(), adapter)), expected_texts)
    assert all(torch.equal(before[key], tensor) for key, tensor in clip.model.state_dict().items())


def test_a_batch_may_mix_adapters(tiny_clip: Clip) -> None:
    """Each picture is seen with its own adapter, in the order of the batch."""
    engine, images = TorchEngine(tiny_clip), pictures(6)
    adapters = [engine.source, moved(engine.source, 1), moved(engine.source, 2)]
    order = [2, 0, 1, 0, 2, 1]  # no palindrome: rows put back in reverse must show
    mixed = engine.encode_image(images, [adapters[which] for which in order])
    for row, which in enumerate(order):
        alone = engine.encode_image(images, [adapters[which]] * 6)[row]
        # Two rows at a time or six: matrix products of other shapes round differently.
        np.testing.assert_allclose(mixed[row], alone, rtol=1e-4, atol=1e-5)
    assert engine.encode_image(images[:0], []).shape == (0, 16)


def test_adapters_of_another_model_are_refused(tiny_clip: Clip) -> None:
    """Never a silent half of one."""
    engine = TorchEngine(tiny_clip)
    stranger = Adapter({"visual.ln_pre.weight": np.ones(32, np.float32)})
    with pytest.raises(AdapterMismatch):
        engine.encode_image(pictures(1), [stranger])
    with pytest.raises(AdapterMismatch):
        engine.encode_text(engine.tokenize(["a"]), stranger)
    with pytest.raises(ValueError, match="2 adapters"):
        engine.encode_image(pictures(1), [engine.source] * 2)


def test_two_threads_never_see_each_others_adapter(tiny_clip: Clip) -> None:
    """The inspector and the learner may call at the same time."""
    engine, images = TorchEngine(tiny_clip), pictures(2)
    adapters = [moved(engine.source, seed) for seed in (1, 2)]
    expected = [engine.encode_image(images, [adapter] * 2) for adapter in adapters]
    wrong = []

    def work(which: int) -> None:
        for _ in range(50):
            if not np.array_equal(engine.encode_image(images, [adapters[which]] * 2), expected[which]):
                wrong.append(which)

    threads = [threading.Thread(target=work, args=(which,)) for which in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong


@pytest.mark.parametrize("name", ["tiny", "tiny-custom"])
def test_short_texts_cost_short_texts_and_mean_the_same(name: str, checkpoints: dict[str, Path]) -> None:
    """Where attention is causal, padding behind the end changes nothing: 12 columns answer like 77."""
    engine = TorchEngine(load_clip(name, checkpoint=checkpoints[name], device="cpu"))
    short, full = engine.tokenize(TEXTS), open_clip.get_tokenizer(name)(TEXTS).numpy()
    assert short.shape == (3, 12)
    assert full.shape == (3, 77)
    for adapter in (engine.source, moved(engine.source, 1)):
        expected = engine.encode_text(full, adapter)
        np.testing.assert_allclose(engine.encode_text(short, adapter), expected, rtol=1e-4, atol=5e-6)


def test_texts_read_both_ways_get_the_whole_context(checkpoints: dict[str, Path]) -> None:
    """Where attention is not causal the padding is part of the answer."""
    engine = TorchEngine(load_clip("tiny-both-ways", checkpoint=checkpoints["tiny-both-ways"], device="cpu"))
    assert engine.tokenize(["a"]).shape == (1, 77)


def test_a_model_with_batch_norm_is_refused(checkpoints: dict[str, Path]) -> None:
    """With the reason and the name of the module, before its weights are read."""
    with pytest.raises(ModelError, match=r"tiny-resnet: visual\.bn1 is a BatchNorm"):
        load_clip("tiny-resnet", checkpoint=checkpoints["tiny-resnet"])


def test_every_file_form_gives_the_same_model(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    """safetensors, a torch state_dict, and a training checkpoint of a distributed run."""
    state = load_file(checkpoints["tiny"])
    torch.save(state, tmp_path / "plain.pt")
    training = {"epoch": 3, "name": "run", "state_dict": {f"module.{key}": state[key] for key in state}}
    torch.save({**training, "optimizer": {"state": {}}}, tmp_path / "training.pt")
    torch.save(state, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    source = load_clip("tiny", checkpoint=checkpoints["tiny"]).source.digest
    for file in ("plain.pt", "training.pt", "old.pt"):
        assert load_clip("tiny", checkpoint=tmp_path / file).source.digest == source


class Bomb:
    """A pickle that writes a file when it is read."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.file}",)


def test_a_malicious_pickle_does_not_run(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    """Neither as torch's archive nor as a bare pickle, and the refusal is one sentence."""
    proof = tmp_path / "ran"
    torch.save({"state_dict": Bomb(proof)}, tmp_path / "zip.pt")
    torch.save(Bomb(proof), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    (tmp_path / "bare.pt").write_bytes(pickle.dumps(Bomb(proof)))
    # The type error inside must not lead to a second, careless attempt.
    (tmp_path / "type.pt").write_bytes(pickle.dumps([torch.Size, Bomb(proof)]))
    for file in ("zip.pt", "old.pt", "bare.pt", "type.pt"):
        with pytest.raises(ModelError, match=rf"{file}: refused: not a torch file of tensors only") as caught:
            load_clip("tiny", checkpoint=tmp_path / file)
        assert "\n" not in str(caught.value)
    assert not proof.exists()


def test_damaged_and_foreign_files_are_named(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    """Cut, empty, garbled, another model's, not finite, not tensors: one clear error each."""
    intact = checkpoints["tiny"].read_bytes()
    state = load_file(checkpoints["tiny"])
    (tmp_path / "cut.safetensors").write_bytes(intact[: len(intact) // 2])
    (tmp_path / "empty.safetensors").write_bytes(b"")
    (tmp_path / "garbled.safetensors").write_bytes(b"\xff" * 1000)
    torch.save(state, tmp_path / "whole.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "whole.pt").read_bytes()[:5000])
    (tmp_path / "empty.pt").write_bytes(b"")
    with zipfile.ZipFile(tmp_path / "zip.pt", "w") as archive:
        archive.writestr("hello", "world")
    torch.save({}, tmp_path / "nothing.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save(torch.ones(3), tmp_path / "tensor.pt")
    (tmp_path / "big_vision.npz").write_bytes(b"PK")
    save_file({**state, "logit_scale": torch.tensor(torch.nan)}, tmp_path / "nan.safetensors")
    save_file({"visual.proj": torch.ones(2)}, tmp_path / "other.safetensors")
    (tmp_path / "whole.pt").unlink()
    for file in sorted(tmp_path.iterdir()):
        with pytest.raises(ModelError, match=rf"{file.name}: ") as caught:
            load_clip("tiny", checkpoint=file)
        assert "\n" not in str(caught.value)
    with pytest.raises(ModelError, match=r"absent\.pt: cannot be read"):
        load_clip("tiny", checkpoint=tmp_path / "absent.pt")


def files_that_are_no_weights(folder: Path) -> dict[str, tuple[Path, str]]:
    """Return what people give for weights -> the file, and what is to be said of it."""
    page = b"\n<!DOCTYPE html><html><head><title>Sign in</title></head></html>"
    plain = {
        "lfs": (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 60\n",
            "git lfs pull",
        ),
        "page": (page, "a web page"),
        "settings": (b'{"model_cfg": {"embed_dim": 512}}', "a text of settings"),
        "nothing": (b"", "empty: copy it again"),
        "packed": (gzip.compress(b"weights"), "a packed archive: unpack it"),
        "keras": (b"\x89HDF\r\n\x1a\n" + bytes(600), "an HDF5 file"),
    }
    found = {}
    for name, (content, said) in plain.items():
        for suffix in (".pt", ".bin", ".safetensors"):
            file = folder / f"{name}{suffix}"
            file.write_bytes(content)
            found[file.name] = file, said
    torch.jit.script(torch.nn.Linear(2, 2)).save(folder / "scripted.pt")
    np.savez(folder / "big_vision.npz", a=np.zeros(2))
    np.save(folder / "array.npy", np.zeros(2))
    with zipfile.ZipFile(folder / "zip.pt", "w") as archive:
        archive.writestr("model.safetensors", "world")
    torch.save([1, 2], folder / "list.pt")
    torch.save({"state_dict": {}}, folder / "none.pt")
    torch.save({"visual.positional_embedding": None, "epoch": 3}, folder / "named.pt")
    for name, said in (
        ("scripted.pt", "a TorchScript archive"),
        ("big_vision.npz", "arrays of numpy"),
        ("array.npy", "arrays of numpy"),
        ("zip.pt", "a packed archive"),
        ("list.pt", "a list, not tensors by name"),
        ("none.pt", "no tensors"),
        ("named.pt", "no tensors"),
    ):
        found[name] = folder / name, said
    (folder / "folder.pt").mkdir()
    return found


def test_what_is_no_weights_is_told_by_what_it_is(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    """In words about the file and what to do, none about our code or Python's."""
    for name, (file, said) in files_that_are_no_weights(tmp_path).items():
        with pytest.raises(ModelError) as caught:
            load_clip("tiny", checkpoint=file)
        told = str(caught.value)
        assert told.startswith(f"{file}: "), name
        assert said in told, (name, told)
        assert "\n" not in told
        assert not any(word in told for word in ("has no attribute", "NoneType", "could run code")), told


@pytest.mark.parametrize("length", [0x20, 0x7B, 0x8B1F, 0x0A0D])
def test_safetensors_are_taken_for_nothing_else(length: int, tmp_path: Path) -> None:
    """Whatever the length of their head, which is what they begin with."""
    file = tmp_path / "weights.safetensors"
    text = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    file.write_bytes(length.to_bytes(8, "little") + text.ljust(length) + bytes(4))
    assert wrong_kind(file) is None


def test_the_hash_is_checked_before_the_file_is_read(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    """A wrong file is not even parsed; the right one is named by its hash."""
    digest = hashlib.sha256(checkpoints["tiny"].read_bytes()).hexdigest()
    for sha256 in (digest, f"sha256:{digest}"):
        clip = load_clip("tiny", checkpoint=checkpoints["tiny"], sha256=sha256)
        assert clip.info.weights == f"sha256:{digest}"
    (tmp_path / "bad.pt").write_bytes(b"no torch file at all")
    with pytest.raises(ModelError, match=r"bad\.pt: has sha256 .* not "):
        load_clip("tiny", checkpoint=tmp_path / "bad.pt", sha256=digest)


def test_unknown_names_get_a_suggestion(tmp_path: Path) -> None:
    """A typing mistake costs one look."""
    with pytest.raises(ModelError, match=r"ViT-B32: open_clip knows no such model; did you mean ViT-B-32\?"):
        load_clip("ViT-B32", checkpoint=tmp_path)
    with pytest.raises(ModelError, match="exactly one of checkpoint and pretrained"):
        load_clip("ViT-B-32")


def test_a_pretrained_tag_comes_from_the_cache_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Absent, the error names tag and remedy; nobody is called."""

    def no_network(*_: object, **__: object) -> None:
        raise AssertionError("called out")

    monkeypatch.setattr("socket.socket.connect", no_network)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match="ViT-B-32: laion2b_s34b_b79k is not in this machine's hub cache"):
        load_clip("ViT-B-32", pretrained="laion2b_s34b_b79k")
    with pytest.raises(ModelError, match=r"knows no pretrained tag nonsense; its tags: .*laion2b_s34b_b79k"):
        load_clip("ViT-B-32", pretrained="nonsense")
    with pytest.raises(ModelError, match="other GELU"):
        load_clip("ViT-B-32", pretrained="openai")


def test_a_cached_tag_brings_its_preprocessing(
    checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mean, resize mode and interpolation are the tag's, as open_clip would have them."""
    tag = {"hf_hub": "someone/tiny/", "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    tag |= {"interpolation": "bilinear", "resize_mode": "squash"}
    add_pretrained(monkeypatch, "tiny", {"web": tag})
    snapshot = tmp_path / "models--someone--tiny" / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    (snapshot / "open_clip_model.safetensors").symlink_to(checkpoints["tiny"])
    (tmp_path / "models--someone--tiny" / "refs").mkdir()
    (tmp_path / "models--someone--tiny" / "refs" / "main").write_text("0123")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    preprocess = load_clip("tiny", pretrained="web").info.preprocess
    assert preprocess.mean == preprocess.std == (0.5, 0.5, 0.5)
    assert (preprocess.size, preprocess.interpolation, preprocess.resize_mode) == (32, "bilinear", "squash")
    plain = load_clip("tiny", checkpoint=checkpoints["tiny"]).info.preprocess
    assert (plain.mean, plain.resize_mode) == (open_clip.OPENAI_DATASET_MEAN, "shortest")


def test_siglip_weights_in_a_plain_file_are_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    """open_clip gives a file its default preprocessing, which no published SigLIP was trained with."""
    default = open_clip.transform.PreprocessCfg().__dict__
    checkpoint_module.warn_of_other_preprocess("ViT-B-32", default)
    checkpoint_module.warn_of_other_preprocess("tiny", default)
    assert not caplog.records
    checkpoint_module.warn_of_other_preprocess("ViT-B-16-SigLIP", default)
    assert "use pretrained instead" in caplog.text


def test_loading_leaves_the_log_alone(checkpoints: dict[str, Path], caplog: pytest.LogCaptureFixture) -> None:
    """No "initialized randomly" about a model whose weights are then loaded, no handler left behind."""
    handlers, filters = list(logging.getLogger().handlers), list(logging.getLogger().filters)
    load_clip("tiny", checkpoint=checkpoints["tiny"])
    assert not caplog.records
    assert (logging.getLogger().handlers, logging.getLogger().filters) == (handlers, filters)


def test_settings_open_the_torch_engine(checkpoints: dict[str, Path]) -> None:
    """What stands in config.yaml under model."""
    settings = ModelSettings(engine="torch", name="tiny", checkpoint=str(checkpoints["tiny"]), device="cpu")
    threads = torch.get_num_threads()
    try:
        engine = open_engine(settings)
        assert torch.get_num_threads() == default_threads() >= 1
    finally:
        torch.set_num_threads(threads)
    assert engine.info.provider == "torch:cpu"
    assert engine.info.name == "tiny"


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"engine": "torch"}, "needs name"),
        ({"engine": "torch", "name": "ViT-B-32"}, "exactly one of checkpoint and pretrained"),
        ({"engine": "torch", "name": "a", "checkpoint": "b", "pretrained": "c"}, "exactly one"),
        (
            {"engine": "torch", "name": "a", "checkpoint": "b", "bundle": "c"},
            "bundle is not for engine: torch",
        ),
        ({"checkpoint": "b"}, "checkpoint is for engine: torch"),
        ({"name": "b"}, "name is for engine: torch"),
        ({"sha256": "abc"}, "pattern"),
        ({"threads": 0}, "greater than or equal to 1"),
        ({"nmae": "b"}, "Extra inputs"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, object], problem: str) -> None:
    """Before anything is opened, with what to do instead."""
    with pytest.raises(ValidationError, match=problem):
        ModelSettings.model_validate(settings)


def test_settings_do_not_import_torch() -> None:
    """The line PC has none: config, tokenizer, prompts, adapters and the bundle's engine load without it."""
    modules = (
        "adapters.engines.factory, adapters.bundle.reader, adapters.core.prompts,"
        " adapters.encoders.installed_runtimes, adapters.core.tokenizer"
    )
    heavy = "{'torch', 'open_clip', 'timm', 'onnx', 'onnxruntime'}"
    code = f"import sys, {modules}; sys.exit(', '.join({heavy} & set(sys.modules)) or 0)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["safetensors", "state_dict", "training"])
def test_vit_b_32_loads_from_every_file_form(form: str, tmp_path: Path) -> None:
    """The size of a real model, randomly initialised: loads, keeps open_clip's answers, encodes."""
    torch.manual_seed(0)
    model = open_clip.create_model("ViT-B-32").eval()
    state = model.state_dict()
    file = tmp_path / ("model.safetensors" if form == "safetensors" else "model.pt")
    if form == "safetensors":
        save_file(state, file)
    elif form == "state_dict":
        torch.save(state, file)
    else:
        torch.save({"epoch": 1, "state_dict": {f"module.{key}": state[key] for key in state}}, file)
    engine = TorchEngine(load_clip("ViT-B-32", checkpoint=file, device="cpu"))
    assert sum(tensor.size for tensor in engine.source.tensors.values()) == 65_536
    images, tokens = pictures(2, 224), engine.tokenize(TEXTS)
    with torch.no_grad():
        expected = model.encode_image(torch.tensor(images))
        texts = model.encode_text(open_clip.get_tokenizer("ViT-B-32")(TEXTS)).numpy()
    assert torch.equal(torch.tensor(engine.encode_image(images, [engine.source] * 2)), expected)
    # 12 columns instead of 77: products of other shapes round differently, on values of about one.
    np.testing.assert_allclose(engine.encode_text(tokens, engine.source), texts, atol=1e-5)
