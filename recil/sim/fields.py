"""Field specs for torch: what a variable's field holds, checked where RecSim NG checks it.

RecSim NG hands every field to its spec (`check_value`, then `sanitize`). A `Field` merges what it was told with what it
sees, and refuses what does not fit. A `RandomField` takes a distribution and asks the resolver in force for its value:
drawn in simulation, observed for a likelihood. That is the one place where behaviour becomes a number.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

from recsim_ng.core import value as value_lib
from torch import Tensor
from torch.distributions import Distribution

from recil.sim.spaces import Space

Shape = tuple[int | None, ...]


class Resolving(Protocol):
    """Turns the distribution in a random field into its value, within one step."""

    def resolve(self, name: str, distribution: Distribution) -> Tensor:
        """The value of the field `variable.field`."""
        ...


_RESOLVING: ContextVar[Resolving | None] = ContextVar("recil_resolving", default=None)


@contextmanager
def resolving(step: Resolving) -> Iterator[None]:
    """Within the block, random fields are resolved by `step`."""
    token = _RESOLVING.set(step)
    try:
        yield
    finally:
        _RESOLVING.reset(token)


class _Checked:
    """What a field's tensors have in common: shape (None: not known, or not fixed), dtype, device."""

    def __init__(self, space: Space | None, dynamic: tuple[int, ...]) -> None:
        self._space, self._dynamic = space, frozenset(dynamic)
        self._told: Shape | None = None if space is None else (None, *space.shape)
        self.forget()

    def forget(self) -> None:
        """Back to what was told: for a story that moves to another device, precision or batch."""
        self._shape = self._told
        self._kind: tuple[Any, Any] | None = None

    def problem_of(self, values: Tensor) -> str | None:
        shape, kind = tuple(values.shape), (values.dtype, values.device)
        if self._shape is not None and not _fits(shape, self._shape):
            return (
                f"shape {list(shape)} after {_written(self._shape)}; name the dimension as dynamic, or build a fresh"
                " story for another batch size"
            )
        if self._kind is not None and kind != self._kind:
            return f"{kind[0]} on {kind[1]} after {self._kind[0]} on {self._kind[1]}; build a fresh story, or move it"
        problem = None if self._space is None else self._space.problem_of(values)
        if problem is None:
            self._shape = tuple(None if place in self._dynamic else size for place, size in enumerate(shape))
            self._kind = kind
        return problem

    @property
    def shape(self) -> Shape | None:
        return self._shape


def _fits(shape: tuple[int, ...], known: Shape) -> bool:
    return len(shape) == len(known) and all(b is None or a == b for a, b in zip(shape, known, strict=True))


def _written(shape: Shape) -> str:
    return "[" + ", ".join("?" if size is None else str(size) for size in shape) + "]"


class Field(value_lib.FieldSpec):
    """A computed field. Tensors keep shape, dtype and device; other objects keep their type.

    space: what a session's value may be. dynamic: dimensions that may change from step to step (0 is the batch).
    """

    def __init__(self, space: Space | None = None, dynamic: tuple[int, ...] = ()) -> None:
        self.space = space
        self._tensors = _Checked(space, dynamic)
        self._type: type | None = None

    def forget(self) -> None:
        """Forget what was seen: the next value is the first."""
        self._tensors.forget()
        self._type = None

    @property
    def shape(self) -> Shape | None:
        """What is known of the shape so far; None in the place of a dimension that is not fixed."""
        return self._tensors.shape

    def check_value(self, field_value: Any) -> tuple[bool, str]:
        if isinstance(field_value, Distribution):
            return False, "a distribution in a computed field; declare the field as RandomField"
        kind = Tensor if isinstance(field_value, Tensor) else type(field_value)
        if self._type not in (None, kind):
            return False, f"{kind.__name__} after {self._type.__name__}"  # type: ignore[union-attr]
        problem = self._tensors.problem_of(field_value) if isinstance(field_value, Tensor) else None
        self._type = kind
        return problem is None, problem or ""

    def invariant(self) -> Shape | None:
        return self.shape


class RandomField(value_lib.FieldSpec):
    """A field that is drawn or observed. The runtime binds it to its full name, `variable.field`."""

    def __init__(self, space: Space | None = None) -> None:
        self.name: str | None = None
        self.space = space
        self._tensors = _Checked(space, ())

    def bind(self, name: str) -> None:
        if self.name not in (None, name):
            raise ValueError(
                f"one RandomField stands for '{self.name}' and '{name}': give each field a spec of its own"
            )
        self.name = name

    def forget(self) -> None:
        """Forget what was seen: the next value is the first."""
        self._tensors.forget()

    @property
    def shape(self) -> Shape | None:
        return self._tensors.shape

    def check_value(self, field_value: Any) -> tuple[bool, str]:
        if not isinstance(field_value, Distribution):
            kind = type(field_value).__name__
            return False, f"{kind} where a torch distribution is wanted: a draw made outside would falsify likelihoods"
        return True, ""

    def sanitize(self, field_value: Distribution, field_name: str) -> Tensor:
        step = _RESOLVING.get()
        if step is None or self.name is None:
            raise RuntimeError(
                f"random field '{self.name or field_name}' met outside a TorchRuntime: run the network through one"
            )
        value = step.resolve(self.name, field_value)
        problem = self._tensors.problem_of(value)
        if problem is not None:
            raise ValueError(f"random field '{self.name}': {problem}")
        return value

    def invariant(self) -> Shape | None:
        return self.shape
