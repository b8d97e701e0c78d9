"""Shared fixtures: small real models that open_clip builds in no time."""

from __future__ import annotations

import gc
import json
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from adapters.torch_model.clip import Clip

pytest_plugins = ["tests.support.agent_conditions", "tests.support.logging_restored"]

# No test asserts a time, and a busy machine breaks no promise: neither may hypothesis.
settings.register_profile("mekiki", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("mekiki")

VISION = {"image_size": 32, "patch_size": 8, "width": 32, "head_width": 16, "layers": 2}
TEXT = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}

TINY_MODELS: dict[str, dict[str, Any]] = {
    "tiny": {"embed_dim": 16, "vision_cfg": VISION, "text_cfg": TEXT},
    "tiny-custom": {"embed_dim": 16, "custom_text": True, "vision_cfg": VISION, "text_cfg": TEXT},
    "tiny-both-ways": {
        "embed_dim": 16,
        "custom_text": True,
        "vision_cfg": VISION,
        "text_cfg": {**TEXT, "no_causal_mask": True, "pool_type": "last"},
    },
    "tiny-resnet": {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 32, "patch_size": None},
        "text_cfg": TEXT,
    },
}


def make_checkpoint(name: str, file: Path) -> Path:
    """Write seeded weights of a model as safetensors; every LayerNorm has numbers of its own."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    model = open_clip.create_model(name)
    for module in model.modules():
        if isinstance(module, torch.nn.LayerNorm):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.bias, -0.5, 0.5)
    save_file({key: tensor.half().float().clone() for key, tensor in model.state_dict().items()}, file)
    return file


@pytest.fixture(autouse=True)
def levels_restored() -> Iterator[None]:
    """An agent sets levels and handlers for the whole process, which here is that of all tests.

    A handler that stayed would write to what the next test has closed. Those of pytest come and go by
    themselves.
    """
    root = logging.getLogger()
    before = root.handlers[:]
    yield
    for handler in root.handlers[:]:
        if handler not in before and not type(handler).__module__.startswith("_pytest"):
            root.removeHandler(handler)
    for name in ("agent", "adapters", "camera"):
        logging.getLogger(name).setLevel(logging.NOTSET)


@pytest.fixture
def sockets_left_behind() -> Iterator[None]:
    """Let the garbage collector close what libraries forget: amqtt failed clients, paho handshakes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        yield
        gc.collect()


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Weights file of each tiny model, which open_clip knows from now on."""
    import open_clip

    folder = tmp_path_factory.mktemp("tiny")
    for name, config in TINY_MODELS.items():
        (folder / f"{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder)
    return {name: make_checkpoint(name, folder / f"{name}.safetensors") for name in TINY_MODELS}


@pytest.fixture(scope="session")
def tiny_clip(checkpoints: dict[str, Path]) -> Clip:
    """The tiny model on the CPU."""
    from adapters.torch_model.loader import load_clip

    return load_clip("tiny", checkpoint=checkpoints["tiny"], device="cpu")


@pytest.fixture(scope="session")
def tiny_bundle(tiny_clip: Clip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model's bundle; tests that alter it take a copy."""
    from adapters.build.bundle import build_bundle

    return build_bundle(tiny_clip, tmp_path_factory.mktemp("bundles") / "tiny").folder


@pytest.fixture(scope="session")
def tiny_diffclip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    """A tiny DiffCLIP that reads sentences, on the CPU."""
    import torch
    from safetensors.torch import save_file

    from adapters.torch_model.architecture import fresh_model
    from adapters.torch_model.diffclip import METADATA_KEY, differentiate
    from adapters.torch_model.loader import load_clip
    from benchmarks.parity_diffclip import SCHEDULE, Size, register

    # With the vocabulary and the context that sentences need.
    words = Size("tiny-diffclip-words", 16, 32, 8, (32, 2, 4), (32, 2, 4), 77, 49408)
    register(words)
    torch.manual_seed(0)
    model = fresh_model(words.name)
    differentiate(model, SCHEDULE)
    for module in model.modules():
        if isinstance(module, torch.nn.LayerNorm):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.bias, -0.5, 0.5)
    file = tmp_path_factory.mktemp("words") / "words.safetensors"
    save_file(model.state_dict(), file, {METADATA_KEY: str(SCHEDULE)})
    return load_clip(words.name, checkpoint=file, device="cpu")


@pytest.fixture(scope="session")
def tiny_diffclip_bundle(tiny_diffclip: Clip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny DiffCLIP's bundle."""
    from adapters.build.bundle import build_bundle

    return build_bundle(tiny_diffclip, tmp_path_factory.mktemp("bundles") / "diffclip").folder


@pytest.fixture(scope="session")
def tiny_int8_bundle(tiny_clip: Clip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model's bundle with its image tower in int8 as well."""
    from adapters.build.bundle import build_bundle

    return build_bundle(tiny_clip, tmp_path_factory.mktemp("bundles") / "int8", int8=True).folder
