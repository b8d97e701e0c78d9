"""A tower as an ONNX file whose LayerNorms can be replaced from call to call. For the builder, with torch."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor, nn

from adapters.build.int8 import export_int8
from adapters.build.weights import Weights
from adapters.core.protocol import ModelError
from adapters.encoders.onnx_encoders import FEATURES
from adapters.engines.onnx_engine import LAYERS, PATCHES
from adapters.torch_model.clip import Clip, ImageTower, TextTower, shortened_tables
from adapters.torch_model.patch_tokens import PatchTower

IMAGES, TOKENS = "images", "tokens"


def export_image(
    clip: Clip, file: Path, weights: Weights, *, int8: Path | None = None, patches: Path | None = None
) -> None:
    """Write the image tower: ``images`` ``(B, 3, S, S)`` to ``features`` ``(B, D)``.

    Its LayerNorm tensors have one row for all pictures, or one for each: ``(1 or B, 1, ..., C)``.

    Args:
        clip: the model.
        file: to make.
        weights: where its numbers go.
        int8: where it is to stand once more, in int8.
        patches: where it is to stand once more, with ``patches`` ``(B, h, w, P)`` as a second output.

    Raises:
        ModelError: a LayerNorm did not arrive in the file, or where the tower has patches is not known.
    """
    side = clip.info.preprocess.size
    example = torch.zeros(2, 3, side, side, device=clip.device)
    free = {0: torch.export.Dim.DYNAMIC}
    model = _exported(clip, ImageTower(clip.short), example, IMAGES, free)
    norms = {name: clip.source.tensors[name] for name in clip.norm_names("image")}
    _finish(model, norms, each=True)
    if int8 is not None:
        export_int8(model, int8, weights)
    weights.move_out(model.graph)
    ir.save(model, file)
    if patches is not None:
        tower = PatchTower(clip.short, clip.taps)
        with torch.inference_mode():
            layers = tower.layers(example)
        both = _exported(clip, tower, example, IMAGES, free, (FEATURES, PATCHES))
        _finish(both, norms, each=True)
        both.metadata_props[LAYERS] = ",".join(str(layer.shape[1]) for layer in layers)
        weights.move_out(both.graph)
        ir.save(both, patches)


def export_text(clip: Clip, file: Path, weights: Weights) -> None:
    """Write the text tower: ``tokens`` ``(N, L)`` to ``features`` ``(N, D)``; L is free where causal.

    Raises:
        ModelError: a LayerNorm did not arrive in the file.
    """
    free = 2 if clip.causal else 1
    dynamic = dict.fromkeys(range(free), torch.export.Dim.DYNAMIC)
    model = _exported(clip, ShortTextTower(clip), example_tokens(clip), TOKENS, dynamic)
    _finish(model, {name: clip.source.tensors[name] for name in clip.norm_names("text")})
    weights.move_out(model.graph)
    ir.save(model, file)


def example_tokens(clip: Clip) -> Tensor:
    """Return tokens to trace the text tower with."""
    length = clip.info.context_length
    # An example as long as the context would make the exporter believe that L is the context.
    return torch.ones(
        2, max(2, length // 2) if clip.causal else length, dtype=torch.int64, device=clip.device
    )


class ShortTextTower(nn.Module):
    """The text tower with tables as long as its tokens."""

    def __init__(self, clip: Clip) -> None:
        super().__init__()
        self._values = clip
        self.clip = clip.model

    def forward(self, tokens: Tensor) -> Tensor:
        """Return ``(N, D)``, not normalised."""
        tables = shortened_tables(self._values, tokens.shape[1])
        names = {f"clip.{name}": table for name, table in tables.items()}
        answer: Tensor = torch.func.functional_call(TextTower(self.clip), names, (tokens,))
        return answer


def _exported(
    clip: Clip,
    tower: nn.Module,
    example: Tensor,
    name: str,
    dynamic: Mapping[int, object],
    outputs: Sequence[str] = (FEATURES,),
) -> ir.Model:
    # torch's progress report goes to stdout, where `--json` output belongs.
    with _distinct_norms(clip), torch.no_grad(), contextlib.redirect_stdout(io.StringIO()):
        program = torch.onnx.export(
            tower.eval(),
            (example,),
            dynamo=True,
            input_names=[name],
            output_names=list(outputs),
            dynamic_shapes=(dict(dynamic),),
            verbose=False,
        )
    assert program is not None
    return program.model


@contextlib.contextmanager
def _distinct_norms(clip: Clip) -> Iterator[None]:
    """Give every LayerNorm numbers of its own for the time of an export.

    The exporter merges equal initialisers, and fresh LayerNorms are all ones and zeros: 2 of 52 survive.
    """
    parameters = dict(clip.model.named_parameters())
    with torch.no_grad():
        for number, (name, tensor) in enumerate(clip.source.tensors.items()):
            steps = torch.arange(1, tensor.size + 1).reshape(tensor.shape) / tensor.size
            parameters[name].copy_(number + steps)
        try:
            yield
        finally:
            for name, tensor in clip.source.tensors.items():
                parameters[name].copy_(torch.tensor(tensor))


def _finish(model: ir.Model, norms: Mapping[str, np.ndarray], *, each: bool = False) -> None:
    """Name the LayerNorms and put their true numbers back; where `each`, a batch may bring a row for each."""
    graph = model.graph
    forget_origins(model)
    for name, tensor in norms.items():
        value = graph.initializers.pop(f"clip.{name}", None)
        if value is None or _numbers(value).shape != tensor.shape:
            raise ModelError(f"{name}: did not arrive in the graph: the exporter merged or folded it")
        value.name = name
        if each:
            tensor = tensor.reshape((1,) * (_rank(value) - 1) + tensor.shape)
            value.shape = ir.Shape(["adapters", *tensor.shape[1:]])
        value.const_value = ir.tensor(tensor, name=name)
        graph.register_initializer(value)
        # An initialiser that is an input as well is a default: a call may bring its own.
        graph.inputs.append(value)


def _rank(gain: ir.Value) -> int:
    """Return of how many dimensions are the maps that a LayerNorm works on."""
    maps = [node.inputs[0] for node, _ in gain.uses()]
    ranks = {len(one.shape) for one in maps if one is not None and one.shape is not None}
    if len(ranks) != 1:
        raise ModelError(f"{gain.name}: is no LayerNorm of one map")
    return int(ranks.pop())


def _numbers(initializer: ir.Value) -> np.ndarray:
    assert initializer.const_value is not None
    return initializer.const_value.numpy()


def forget_origins(model: ir.Model) -> None:
    """Drop the exporter's notes: they hold paths of the machine that built the bundle."""
    model.producer_version = None
    model.metadata_props.clear()
    model.graph.metadata_props.clear()
    model.graph.doc_string = None
    for node in model.graph.all_nodes():
        node.metadata_props.clear()
        node.doc_string = None
    for value in [*model.graph.inputs, *model.graph.initializers.values(), *model.graph.outputs]:
        value.metadata_props.clear()
