"""BATCLIP as its authors publish it, out of a checkout of ``sarthaxxxxx/BATCLIP`` (commit ba2e338).

Their modules import a dozen packages that adapting does not need, so the classes are taken out of the files by
name and run as they are; nothing of theirs is in this repository.
"""

from __future__ import annotations

import ast
import copy
import logging
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

WANTED = {
    "utils/losses.py": ("Entropy", "I2TLoss", "InterMeanLoss"),
    "models/model.py": ("ZeroShotCLIP",),
    "methods/base.py": ("TTAMethod",),
    "methods/ours.py": ("OURS",),
}
TEMPLATE = "a photo of a {}."


class Official:
    """The authors' method around one open_clip model, which it changes."""

    def __init__(
        self, checkout: Path, model: Any, tokenizer: Callable[[Sequence[str]], Tensor], names: Sequence[str]
    ) -> None:
        theirs = _classes(checkout, tokenizer, names)
        self._losses = [theirs[name]() for name in WANTED["utils/losses.py"]]
        settings = _settings()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a gradient scaler without CUDA is switched off, and says so
            wrapped = theirs["ZeroShotCLIP"](settings, model, next(model.parameters()).device, nn.Identity())
            self.method = theirs["OURS"](settings, wrapped, len(names))

    def terms(self, images: Tensor) -> dict[str, float]:
        """Return entropy, matching, separation and loss of a batch with the LayerNorms as they are now."""
        logits, _, texts, features, _ = self.method.model(images, return_features=True)
        entropy, matching, separation = self._losses
        values = [entropy(logits).mean(0), matching(logits, features, texts), separation(logits, features)]
        loss = values[0] - values[1] - values[2]
        return dict(
            zip(
                ("entropy", "matching", "separation", "loss"),
                (float(v) for v in (*values, loss)),
                strict=True,
            )
        )

    def step(self, images: Tensor) -> Tensor:
        """Adapt to a batch as they do and return the logits before the update."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            logits: Tensor = self.method.forward_and_adapt([images])
        return logits

    def norms(self) -> dict[str, Tensor]:
        """Return copies of all LayerNorm numbers by the model's own names."""
        return {name: parameter.detach().clone() for name, parameter in self._named()}

    def gradients(self) -> dict[str, Tensor]:
        """Return what the last step left as gradients."""
        return {
            name: parameter.grad.clone() for name, parameter in self._named() if parameter.grad is not None
        }

    def _named(self) -> list[tuple[str, nn.Parameter]]:
        _, names = self.method.collect_params()
        return [(name.removeprefix("model."), p) for name, p in zip(names, self.method.params, strict=True)]


def _classes(
    checkout: Path, tokenizer: Callable[[Sequence[str]], Tensor], names: Sequence[str]
) -> dict[str, Any]:
    """Run the definitions of `WANTED` in one namespace that holds what they use."""
    registry = SimpleNamespace(register=lambda: lambda kind: kind)
    namespace: dict[str, Any] = {
        "torch": torch, "nn": nn, "deepcopy": copy.deepcopy, "logger": logging.getLogger("official"),
        "ADAPTATION_REGISTRY": registry, "ResNetDomainNet126": type(None), "transforms": _transforms(),
        "get_class_names": lambda dataset: list(names), "get_tokenizer": lambda arch: tokenizer,
        "Union": None, "forward_decorator": lambda function: function,
    }  # fmt: skip
    for file, wanted in WANTED.items():
        path = checkout / "classification" / file
        if not path.is_file():
            sys.exit(f"{path}: no such file; --official names a checkout of sarthaxxxxx/BATCLIP")
        tree = ast.parse(path.read_text(encoding="utf-8"))
        kept = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name in wanted]
        exec(compile(ast.Module(kept, []), str(path), "exec"), namespace)
    return namespace


def _transforms() -> Any:
    from torchvision import transforms

    return transforms


def _settings() -> Any:
    """Return what ``cfgs/cifar10_c/ours.yaml`` and the defaults of their ``conf.py`` say."""
    return SimpleNamespace(
        MODEL=SimpleNamespace(ADAPTATION="ours", ARCH="", EPISODIC=False, RESET_AFTER_NUM_UPDATES=0),
        CORRUPTION=SimpleNamespace(DATASET="cifar10_c"),
        OPTIM=SimpleNamespace(METHOD="AdamW", LR=1e-3, STEPS=1, BETA=0.9, WD=0.01),
        TEST=SimpleNamespace(BATCH_SIZE=200, WINDOW_LENGTH=1),
        CLIP=SimpleNamespace(FREEZE_TEXT_ENCODER=False, PROMPT_MODE="custom", PROMPT_TEMPLATE=[TEMPLATE]),
        MIXED_PRECISION=False,
    )
