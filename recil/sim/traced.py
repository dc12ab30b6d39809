"""What a trace of torch operators says about memory: which of its outputs a compiler may put into one buffer."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.fx.node import map_arg

_COPIES = {torch.ops.aten.clone.default, torch.ops.aten._to_copy.default, operator.getitem}
_NEUTRAL = {"add": 0, "sub": 0, "mul": 1, "div": 1, "pow": 1}


def of_its_own(content: Tensor, zero: Tensor) -> Tensor:
    """The same content in a buffer that no compiler takes for another's, since it does not know that `zero` is 0."""
    return content ^ zero.bool() if content.dtype == torch.bool else content + zero.to(content.dtype)


def shared_outputs(trace: GraphModule) -> frozenset[int]:
    """Places of the outputs that may share a buffer with an input or an earlier output.

    They are views or copies of one thing, or computed in the same way.
    """
    numbers: dict[Any, int] = {}
    found: dict[Node, int] = {}
    taken: set[int] = set()
    for node in trace.graph.nodes:
        if node.op == "output":
            break
        source = _source(node)
        if source is not None:
            found[node] = found[source]
            continue
        arguments = map_arg((node.args, node.kwargs), lambda need: ("node", found[need]))
        key = (node.target, repr(arguments)) if node.op == "call_function" else node.name
        found[node] = numbers.setdefault(key, len(numbers))
        if node.op != "call_function":
            taken.add(found[node])
    shared = set()
    for place, output in enumerate(node.args[0]):
        if found[output] in taken:
            shared.add(place)
        taken.add(found[output])
    return frozenset(shared)


def _source(node: Node) -> Node | None:
    """What a node is a view or a copy of, or changes by 0 or by 1 times; None where it makes something new."""
    if node.op != "call_function":
        return None
    if node.target in _COPIES:
        return node.args[0]  # type: ignore[return-value]
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return None
    if schema.returns and schema.returns[0].alias_info is not None:
        return node.args[0]  # type: ignore[return-value]
    neutral = _NEUTRAL.get(schema.name.removeprefix("aten::"))
    if neutral is not None and len(node.args) > 1 and not isinstance(node.args[1], Node) and node.args[1] == neutral:
        return node.args[0]  # type: ignore[return-value]
    return None


def without_shared_memory(trace: GraphModule) -> GraphModule:
    """The trace with copies of those constants that lie in another's memory, which a compiled loop refuses."""
    taken: set[int] = set()
    for name, tensor in (*vars(trace).items(), *trace.named_buffers(recurse=False)):
        if isinstance(tensor, Tensor):
            place = tensor.untyped_storage().data_ptr()
            if place in taken:
                setattr(trace, name, tensor.clone())
            taken.add(place)
    return trace
