"""Matrix products of a traced step that do not change from step to step: worked out before the loop, once a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, GraphModule, Node

_PRODUCTS = {getattr(torch.ops.aten, name).default for name in ("mm", "bmm", "addmm", "baddbmm", "mv", "addmv")}


def work_out_before(trace: GraphModule, still: slice) -> Callable[[list[Tensor]], None]:
    """Takes matrix products out of a traced step where neither factor changes from step to step.

    still: the places of the inputs that stay. The trace reads those products from buffers of its own afterwards, and
    what is returned fills them from the inputs that stay and from the trace's constants, such as weights, as they are.
    """
    inputs = [node for node in trace.graph.nodes if node.op == "placeholder"][still]
    products = _outermost_products(trace, set(inputs))
    if not products:
        return lambda fixed: None
    wanted = set(products).union(*(_ancestors(product) for product in products))
    before = Graph()
    known: dict[Node, Node] = {node: before.placeholder(node.name) for node in inputs}
    for node in trace.graph.nodes:
        if node in wanted and node not in known:
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
    roots, written = _written_over(trace)
    for node in trace.graph.nodes:
        needs = node.all_input_nodes
        stays = node.op == "get_attr" or (node.op == "call_function" and needs and all(need in still for need in needs))
        if stays and roots[node] not in written:
            still.add(node)
    products = [node for node in trace.graph.nodes if node in still and node.target in _PRODUCTS]
    inner = set().union(*(_ancestors(product) for product in products))
    return [product for product in products if product not in inner]


def _written_over(trace: GraphModule) -> tuple[dict[Node, Any], set[Any]]:
    """What memory each node's value lies in, and the memory that some operator writes into: its content may move."""
    roots: dict[Node, Any] = {}
    written: set[Any] = set()
    for node in trace.graph.nodes:
        roots[node] = node.target if node.op == "get_attr" else node
        schema = getattr(node.target, "_schema", None)
        if node.op != "call_function" or schema is None:
            continue
        for argument, given in zip(schema.arguments, node.args, strict=False):
            if isinstance(given, Node) and argument.alias_info is not None:
                roots[node] = roots[given]
                if argument.alias_info.is_write:
                    written.add(roots[given])
    return roots, written


def _ancestors(node: Node) -> set[Node]:
    found: set[Node] = set()
    open_ones = list(node.all_input_nodes)
    while open_ones:
        one = open_ones.pop()
        if one not in found:
            found.add(one)
            open_ones.extend(one.all_input_nodes)
    return found
