"""What a learner needs of a tower as two ONNX files: forward, and back to the LayerNorms. With torch.

torch differentiates the tower once, here, with weights as constants. The graph of both passes is cut where
the features come out: ``forward`` also returns what ``backward`` will need, and between the two any loss can
be computed in whatever language. ``backward`` is a vector-Jacobian product: it takes the gradient by the
features and returns that by every LayerNorm gain and bias.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv, StatelessSymbolicContext
from torch.nn.attention import SDPBackend, sdpa_kernel

from adapters.decompositions import Traceable, decompositions
from adapters.export import forget_origins
from adapters.export_weights import Weights
from adapters.onnx_towers import FEATURES, GRADIENT, SAVED


def export_step(
    tower: nn.Module,
    norms: Sequence[str],
    example: Tensor,
    name: str,
    free: int,
    forward: Path,
    backward: Path,
    weights: Weights,
) -> None:
    """Write both passes of a tower.

    Args:
        tower: ``(N, ...)`` inputs to ``(N, D)`` features; its parameters are constants.
        norms: names of the LayerNorm tensors; the tower's parameters have ``clip.`` before them.
        example: an input; two or more along each free dimension.
        name: of the input.
        free: how many leading dimensions of the input may have any length.
        forward, backward: files to write.
        weights: where the constants go.
    """
    program = _differentiated(tower, norms, example, free)
    names = [name, GRADIENT, *norms]
    with contextlib.redirect_stdout(io.StringIO()):
        exported = torch.onnx.export(
            program,
            dynamo=True,
            input_names=names,
            output_names=[FEATURES, *(f"{GRADIENT}/{norm}" for norm in norms)],
            verbose=False,
        )
    assert exported is not None
    model = exported.model
    forget_origins(model)
    ahead, behind = _passes(model.graph)
    for file, chosen in ((forward, ahead), (backward, behind)):
        part = _part(model.clone(), behind, chosen)
        weights.move_out(part.graph)
        ir.save(part, file)


def _differentiated(
    tower: nn.Module, norms: Sequence[str], example: Tensor, free: int
) -> torch.export.ExportedProgram:
    """Return (input, gradient, LayerNorms) -> (features, gradient of each LayerNorm)."""
    parameters = {**dict(tower.named_parameters()), **dict(tower.named_buffers())}
    gains = [f"clip.{norm}" for norm in norms]
    constants = {name: tensor.detach() for name, tensor in parameters.items() if name not in gains}
    count = len(norms)

    def both(argument: Tensor, gradient: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        moved = [tensor.detach().requires_grad_() for tensor in tensors[:count]]
        named = dict(zip([*gains, *constants], [*moved, *tensors[count:]], strict=True))
        features = functional_call(tower, named, (argument,))
        return features.detach(), *torch.autograd.grad(features, moved, gradient)

    mode = FakeTensorMode(shape_env=ShapeEnv(duck_shape=False), allow_non_fake_inputs=True)
    sizes = [DimDynamic.DYNAMIC] * free + [DimDynamic.STATIC] * (example.dim() - free)
    argument = mode.from_tensor(example, symbolic_context=StatelessSymbolicContext(sizes))
    fixed = [parameters[name].detach() for name in gains], list(constants.values())
    fakes: list[Tensor] = [mode.from_tensor(tensor, static_shapes=True) for part in fixed for tensor in part]
    with mode, Traceable(), torch.no_grad():
        named = dict(zip([*gains, *constants], fakes, strict=True))
        gradient = torch.empty_like(functional_call(tower, named, (argument,)))
    # Attention written out: what a fused kernel saves for its own backward pass no other engine can read.
    with mode, sdpa_kernel(SDPBackend.MATH), Traceable(), torch.enable_grad():
        graph = make_fx(both, decompositions())(argument, gradient, *fakes)
    graph.graph.eliminate_dead_code()
    used = _drop_unused(graph, fixed[1])
    with torch.no_grad():
        width = tower(example).shape[1]
        inputs = (example, torch.zeros(len(example), width), *(part.clone() for part in fixed[0]))
        shapes = (dict.fromkeys(range(free), torch.export.Dim.DYNAMIC), {0: torch.export.Dim.DYNAMIC})
        return torch.export.export(
            _Bound(graph, used), inputs, dynamic_shapes=((*shapes, *({} for _ in norms)),)
        )


def _drop_unused(graph: GraphModule, constants: Sequence[Tensor]) -> dict[int, Tensor]:
    """Take what nobody reads out of a graph, such as the other tower; return the rest, numbered."""
    arguments = [node for node in graph.graph.nodes if node.op == "placeholder"][-len(constants) :]
    used = {}
    for number, (node, tensor) in enumerate(zip(arguments, constants, strict=True)):
        if node.users:
            used[number] = tensor
        else:
            graph.graph.erase_node(node)
    graph.recompile()
    return used


class _Bound(nn.Module):
    """A graph whose last arguments are constants."""

    def __init__(self, graph: nn.Module, constants: Mapping[int, Tensor]) -> None:
        super().__init__()
        self.graph = graph
        for number, tensor in constants.items():
            self.register_buffer(f"constant_{number}", tensor)

    def forward(self, *inputs: Tensor) -> Any:
        return self.graph(*inputs, *self.buffers())


def _passes(graph: ir.Graph) -> tuple[list[bool], list[bool]]:
    """Return which nodes the way there consists of, and which the way back; some views are in both.

    On the way back is what needs the gradient. What can be had without it, such as the slope of a GELU, is
    made on the way there: an engine, which orders nodes as it likes, would otherwise make it for all layers
    first, and keep it. What is the same for all pictures, such as a turned weight, an engine makes once.
    """
    features = graph.outputs[0]
    (gradient,) = (value for value in graph.inputs if value.name == GRADIENT)
    nodes = list(graph)
    behind = _descendants(gradient)
    fixed = set(nodes).difference(*(_descendants(value) for value in graph.inputs))
    while more := {
        node
        for value in _handed(nodes, behind)
        if (node := value.producer()) and (node in fixed or _waits(node, behind))
    }:
        behind |= more
    ahead = _ancestors([features, *_handed(nodes, behind)])
    return [node in ahead for node in nodes], [node in behind for node in nodes]


def _waits(node: ir.Node, behind: set[ir.Node]) -> bool:
    """Tell whether the way back had better have what a node takes than what it gives."""
    if node.op_type in ("Reshape", "Squeeze", "Unsqueeze"):
        return True  # a view; as an output of its own it would be a copy
    # Engines make one operation of a matrix product and what turned its arguments.
    return node.op_type == "Transpose" and all(user in behind for user, _ in node.outputs[0].uses())


def _descendants(value: ir.Value) -> set[ir.Node]:
    """Return the nodes that are computed by a value."""
    found: set[ir.Node] = set()
    waiting = [value]
    while waiting:
        for node, _ in waiting.pop().uses():
            if node not in found:
                found.add(node)
                waiting += node.outputs
    return found


def _ancestors(values: Sequence[ir.Value]) -> set[ir.Node]:
    """Return the nodes that values are computed by."""
    found: set[ir.Node] = set()
    waiting = [value.producer() for value in values]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in found:
            found.add(node)
            waiting += [source.producer() for source in node.inputs if source is not None]
    return found


def _part(model: ir.Model, behind: Sequence[bool], chosen: Sequence[bool]) -> ir.Model:
    """Return one of the two passes; the first hands the second what it needs.

    Args:
        model: both; changed in place.
        behind: which nodes are of the second pass.
        chosen: which are of the wanted one; `behind`, or the first.
    """
    graph = model.graph
    nodes = list(graph)
    back = {node for node, is_back in zip(nodes, behind, strict=True) if is_back}
    mine = {node for node, is_mine in zip(nodes, chosen, strict=True) if is_mine}
    features, *gradients = graph.outputs
    handed = [value for value in _handed(nodes, back) if value is not features]
    for number, value in enumerate(handed):
        value.name = f"{SAVED}{number}"
    inputs = list(graph.inputs)
    if chosen is behind:
        for value in (features, *handed):
            given = ir.Value(name=value.name, type=value.type, shape=value.shape)
            inputs.append(given)
            for user, index in list(value.uses()):
                if user in mine:
                    user.replace_input_with(index, given)
    graph.outputs[:] = gradients if chosen is behind else [features, *handed]
    graph.remove([node for node in nodes if node not in mine])
    used = {value for node in graph for value in node.inputs}
    graph.inputs[:] = [value for value in inputs if value in used]
    for name, value in list(graph.initializers.items()):
        if value not in used:
            del graph.initializers[name]
    return model


def _handed(nodes: Sequence[ir.Node], behind: set[ir.Node]) -> Iterator[ir.Value]:
    """Yield each value that a node of `behind` needs and none of them makes, once; in order."""
    seen = set()
    for node in nodes:
        if node not in behind:
            continue
        for value in node.inputs:
            producer = None if value is None else value.producer()
            if value is not None and producer is not None and producer not in behind and value not in seen:
                seen.add(value)
                yield value
