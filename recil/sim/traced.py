"""What a trace of torch operators tells before it is compiled: outputs that may share a buffer, products that stay."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, GraphModule, Node
from torch.fx.node import map_arg

_COPIES = {torch.ops.aten.clone.default, torch.ops.aten._to_copy.default, operator.getitem}
_PRODUCTS = {getattr(torch.ops.aten, name).default for name in ("mm", "bmm", "addmm", "baddbmm", "mv", "addmv")}
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


def work_out_before(trace: GraphModule, still: slice) -> Callable[[list[Tensor]], None]:
    """Takes matrix products out of a traced step where neither factor changes from step to step.

    still: the places of the inputs that stay. The trace reads those products from buffers of its own afterwards, and
    what is returned fills them from the inputs that stay and from the trace's constants, such as weights, as they are.
    """
    inputs = [node for node in trace.graph.nodes if node.op == "placeholder"][still]
    products = _outermost_products(trace, set(inputs))
    if not products:
        return lambda fixed: None
    before = Graph()
    known: dict[Node, Node] = {node: before.placeholder(node.name) for node in inputs}
    for node in trace.graph.nodes:
        if node in known or not any(node is product or node in _ancestors(product) for product in products):
            continue
        known[node] = before.node_copy(node, lambda need: known[need])
    before.output([known[product] for product in products])
    prelude = GraphModule(trace, before)
    names = [f"_worked_out_{place}" for place in range(len(products))]
    for name, product in zip(names, products, strict=True):
        like = product.meta["val"]
        trace.register_buffer(name, torch.empty(tuple(like.shape), dtype=like.dtype, device=like.device))
        with trace.graph.inserting_before(product):
            product.replace_all_uses_with(trace.graph.get_attr(name))
    trace.graph.eliminate_dead_code()
    trace.recompile()

    def work_out(fixed: list[Tensor]) -> None:
        for name, value in zip(names, prelude(*fixed), strict=True):
            trace.get_buffer(name).copy_(value)

    return work_out


def _outermost_products(trace: GraphModule, still: set[Node]) -> list[Node]:
    """Products that depend on nothing that moves, without those that only other ones need."""
    for node in trace.graph.nodes:
        needs = node.all_input_nodes
        if node.op == "get_attr" or (node.op == "call_function" and needs and all(need in still for need in needs)):
            still.add(node)
    products = [node for node in trace.graph.nodes if node in still and node.target in _PRODUCTS]
    inner = set().union(*(_ancestors(product) for product in products))
    return [product for product in products if product not in inner]


def _ancestors(node: Node) -> set[Node]:
    found: set[Node] = set()
    open_ones = list(node.all_input_nodes)
    while open_ones:
        one = open_ones.pop()
        if one not in found:
            found.add(one)
            open_ones.extend(one.all_input_nodes)
    return found
