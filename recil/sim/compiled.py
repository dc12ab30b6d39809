"""Steps of a plan as compiled code: one step is traced, a loop around it compiled, and no Python runs in between.

The trace records the torch operators of an eager step, so compiled and eager steps compute the same up to rounding.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FunctionType
from typing import Any

import torch
from torch import Tensor
from torch._higher_order_ops.while_loop import while_loop
from torch.distributions import Distribution
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx

from recil.sim.invariants import work_out_before
from recil.sim.pack import Layout
from recil.sim.plan import NetworkValue, Plan
from recil.sim.resolvers import Resolver
from recil.sim.stepping import Step, advance, begin
from recil.sim.traced import of_its_own, shared_outputs, without_shared_memory

# Below so many numbers in a state, threads wait for each other longer than they work.
FEW_NUMBERS = 16_384

_noticed: set[str] = set()


@contextmanager
def _as_torch_compiles() -> Iterator[None]:
    """Within the block: no validation of distributions, which looks at values, and torch's own deprecations unsaid."""
    validated = Distribution._validate_args
    Distribution.set_default_validate_args(False)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        Distribution.set_default_validate_args(validated)


def _notice(reason: str) -> None:
    """Says once per reason and process why steps are not compiled."""
    if reason not in _noticed:
        _noticed.add(reason)
        warnings.warn(f"steps run eagerly, not compiled: {reason}", RuntimeWarning, stacklevel=4)


def loop_options(numbers: int) -> dict[str, Any]:
    """How a loop whose state is so many numbers is compiled."""
    return {
        # The wrapper in C++ as well: with few sessions a loop in Python would take longer than the steps.
        "cpp_wrapper": True,
        # Slates and topics are few, so that nearly all vectors are the rests of rows, and masked loads are dear.
        "cpp.enable_loop_tail_vec": False,
        # Two threads share loops of half the size that they do by default.
        "cpp.min_chunk_size": 256,
        **({"cpp.threads": 1} if numbers < FEW_NUMBERS else {}),
    }


def compile_loop(step: GraphModule, numbers: int) -> Callable[..., list[Tensor]]:
    """A function (number, last, zeros, still, moving) -> moving that repeats a traced step while number < last.

    numbers: how many the moving state holds.
    """

    def loop(number: Tensor, last: Tensor, zeros: Tensor, still: list[Tensor], moving: list[Tensor]) -> list[Tensor]:
        def goes_on(number: Tensor, *moving: Tensor) -> Tensor:
            return number < last

        def body(number: Tensor, *moving: Tensor) -> tuple[Tensor, ...]:
            return (number + 1, *step(number, zeros, still, list(moving)))

        return list(while_loop(goes_on, body, (number, *moving))[1:])

    # A code object of its own: torch counts compilations by it, and gives up after a few of what it takes for one.
    code = loop.__code__.replace(co_name=f"loop_{id(step)}")
    own = FunctionType(code, loop.__globals__, closure=loop.__closure__)
    return torch.compile(own, fullgraph=True, dynamic=False, options=loop_options(numbers))


class Compiled:
    """Compiled steps of a plan. Compiles at the first call, anew for other shapes, and never if that failed once.

    The story must have been run eagerly before, so that it is checked and its draws have their keys.
    """

    def __init__(self, plan: Plan, resolver: Resolver | None) -> None:
        self._plan, self._resolver = plan, resolver
        self._loops: dict[Any, tuple[Layout, Callable[[list[Tensor]], None], Callable[..., list[Tensor]]]] = {}
        self._begin: tuple[Layout, Callable[..., list[Tensor]]] | None = None
        self._refused = False

    def begin(self, at: int) -> NetworkValue:
        """The value at step number `at`, as a story's first."""
        return self._or_eagerly(self._begin_compiled, lambda at: begin(self._plan, self._step(at), checked=False), at)

    def run(self, value: NetworkValue, at: int, num_steps: int) -> NetworkValue:
        """The value `num_steps` steps after `value`, which is step number `at`."""
        return self._or_eagerly(self._run_compiled, self._run_eagerly, value, at, num_steps)

    def _or_eagerly(
        self, compiled: Callable[..., NetworkValue], eagerly: Callable[..., NetworkValue], *arguments: Any
    ) -> NetworkValue:
        if not self._refused:
            try:
                with torch.no_grad(), _as_torch_compiles():
                    return compiled(*arguments)
            except Exception as error:  # whatever a compiler can fail at must not stop a simulation
                self._refused = True
                _notice(_reason(error))
        return eagerly(*arguments)

    def _step(self, number: int | Tensor) -> Step:
        return Step(self._resolver, number)

    def _run_eagerly(self, value: NetworkValue, at: int, num_steps: int) -> NetworkValue:
        for number in range(at + 1, at + num_steps + 1):
            value = advance(self._plan, value, self._step(number))
        return value

    def _begin_compiled(self, at: int) -> NetworkValue:
        if self._begin is None:
            layout = Layout.of(begin(self._plan, self._step(at), checked=False), self._plan.names)

            def first(number: Tensor) -> list[Tensor]:
                return layout.flat(begin(self._plan, self._step(number), checked=False))

            trace = make_fx(first, tracing_mode="real")(torch.tensor(at, device=layout.device))
            self._begin = layout, torch.compile(trace, fullgraph=True, dynamic=False)
        layout, compiled = self._begin
        return layout.unflat(compiled(torch.tensor(at, device=layout.device)), numbers=True)

    def _run_compiled(self, value: NetworkValue, at: int, num_steps: int) -> NetworkValue:
        if not num_steps:
            return value
        still = Layout.of(value, sorted(self._plan.still))
        moving = Layout.of(value, (node.name for node in self._plan.moving))
        fixed, state = still.flat(value), moving.flat(value)
        key = tuple((tensor.shape, tensor.dtype, tensor.device) for tensor in (*fixed, *state))
        number = torch.tensor(at + 1, device=moving.device)
        zeros = torch.zeros(len(state), dtype=torch.int64, device=moving.device)
        if key not in self._loops:
            traced = self._traced(still, moving, number, zeros, fixed, state)
            before = work_out_before(traced, slice(2, 2 + len(fixed)))
            self._loops[key] = moving, before, compile_loop(traced, sum(tensor.numel() for tensor in state))
        moving, work_out, loop = self._loops[key]
        work_out(fixed)
        state = loop(number, number + num_steps, zeros, fixed, state)
        return {**{name: value[name] for name in still.names}, **moving.unflat(state, numbers=True)}

    def _traced(
        self, still: Layout, moving: Layout, number: Tensor, zeros: Tensor, fixed: list[Tensor], state: list[Tensor]
    ) -> GraphModule:
        """A step as torch operators, every output in a buffer of its own: C++ loops move a buffer to one place only."""
        shared: frozenset[int] = frozenset()

        def step(number: Tensor, zeros: Tensor, fixed: list[Tensor], state: list[Tensor]) -> list[Tensor]:
            before = {**still.unflat(fixed), **moving.unflat(state)}
            after = moving.flat(advance(self._plan, before, self._step(number)))
            return [
                of_its_own(content, zeros[place]) if place in shared else content for place, content in enumerate(after)
            ]

        arguments = (number, zeros, fixed, state)
        shared = shared_outputs(make_fx(step, tracing_mode="real")(*arguments))
        return without_shared_memory(make_fx(step, tracing_mode="real")(*arguments))


def _reason(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0] if text else ''}"
