"""A tower as an ONNX file whose LayerNorms can be replaced from call to call. For the builder, with torch."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx_ir as ir
import torch
from onnx_ir.convenience import replace_all_uses_with
from torch import Tensor, nn

from adapters.clip import Clip, ImageTower, TextTower, shortened_tables
from adapters.engine import ModelError

IMAGES, TOKENS, FEATURES = "images", "tokens", "features"

EXTERNAL_FROM = 1 << 30
"""Bytes of weights from which they get a file of their own: a protobuf file ends at 2 GiB."""

_HALVED_FROM = 1024
"""Smaller tensors are not worth a Cast."""


def export_image(clip: Clip, file: Path) -> None:
    """Write the image tower: ``images`` ``(B, 3, S, S)`` to ``features`` ``(B, D)``.

    Raises:
        ModelError: a LayerNorm did not arrive in the file.
    """
    side = clip.info.preprocess.size
    example = torch.zeros(2, 3, side, side, device=clip.device)
    model = _exported(clip, ImageTower(clip.model), example, IMAGES, {0: torch.export.Dim.DYNAMIC})
    _finish(model, {name: clip.source.tensors[name] for name in clip.norm_names("image")}, file)


def export_text(clip: Clip, file: Path) -> None:
    """Write the text tower: ``tokens`` ``(N, L)`` to ``features`` ``(N, D)``; L is free where causal.

    Raises:
        ModelError: a LayerNorm did not arrive in the file.
    """
    length = clip.info.context_length
    dynamic = {0: torch.export.Dim.DYNAMIC}
    if clip.causal:
        dynamic[1] = torch.export.Dim.DYNAMIC
        # An example as long as the context would make the exporter believe that L is the context.
        length = max(2, length // 2)
    example = torch.ones(2, length, dtype=torch.int64, device=clip.device)
    model = _exported(clip, _ShortTextTower(clip), example, TOKENS, dynamic)
    _finish(model, {name: clip.source.tensors[name] for name in clip.norm_names("text")}, file)


class _ShortTextTower(nn.Module):
    """The text tower with tables as long as its tokens."""

    def __init__(self, clip: Clip) -> None:
        super().__init__()
        self._values = clip
        self.clip = clip.model

    def forward(self, tokens: Tensor) -> Tensor:
        tables = shortened_tables(self._values, tokens.shape[1])
        names = {f"clip.{name}": table for name, table in tables.items()}
        answer: Tensor = torch.func.functional_call(TextTower(self.clip), names, (tokens,))
        return answer


def _exported(
    clip: Clip, tower: nn.Module, example: Tensor, name: str, dynamic: Mapping[int, object]
) -> ir.Model:
    # torch's progress report goes to stdout, where `--json` output belongs.
    with _distinct_norms(clip), torch.no_grad(), contextlib.redirect_stdout(io.StringIO()):
        program = torch.onnx.export(
            tower.eval(),
            (example,),
            dynamo=True,
            input_names=[name],
            output_names=[FEATURES],
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


def _finish(model: ir.Model, norms: Mapping[str, np.ndarray], file: Path) -> None:
    """Name the LayerNorms, put their true numbers back, store what fits in 16 bits and write the file."""
    graph = model.graph
    _forget_origins(model)
    for name, tensor in norms.items():
        value = graph.initializers.pop(f"clip.{name}", None)
        if value is None or _numbers(value).shape != tensor.shape:
            raise ModelError(f"{name} did not arrive in {file.name}: the exporter merged or folded it")
        value.name = name
        value.const_value = ir.tensor(tensor, name=name)
        graph.register_initializer(value)
        # An initialiser that is an input as well is a default: a call may bring its own.
        graph.inputs.append(value)
    _halve(graph, norms)
    weights = sum(_numbers(value).nbytes for value in graph.initializers.values())
    ir.save(model, file, external_data=f"{file.stem}.weights" if weights >= EXTERNAL_FROM else None)


def _numbers(initializer: ir.Value) -> np.ndarray:
    assert initializer.const_value is not None
    return initializer.const_value.numpy()


def _halve(graph: ir.Graph, norms: Mapping[str, np.ndarray]) -> None:
    """Store what a float16 holds exactly as float16 and a Cast, which ONNX Runtime folds when it loads."""
    for name, value in list(graph.initializers.items()):
        numbers = _numbers(value)
        if name in norms or numbers.dtype != np.float32 or numbers.size < _HALVED_FROM:
            continue
        with np.errstate(over="ignore"):
            half = numbers.astype(np.float16)
        if not np.array_equal(half.astype(np.float32), numbers):
            continue
        del graph.initializers[name]
        stored = ir.Value(name=f"{name}.half", const_value=ir.tensor(half, name=f"{name}.half"))
        graph.register_initializer(stored)
        cast = ir.node("Cast", [stored], {"to": ir.DataType.FLOAT})
        replace_all_uses_with(value, cast.outputs[0])
        graph.insert_before(graph[0], cast)


def _forget_origins(model: ir.Model) -> None:
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
