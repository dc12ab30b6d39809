"""Field specs for torch: what a variable's field holds, checked where RecSim NG checks it.

RecSim NG hands every field to its spec (`check_value`, then `sanitize`). A `Field` compares shape, dtype and device
with what it saw before. A `RandomField` takes a distribution and asks the resolver in force for its value: drawn in
simulation, observed for a likelihood. That is the one place where behaviour becomes a number.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

from recsim_ng.core import value as value_lib
from torch import Tensor
from torch.distributions import Distribution


class Resolver(Protocol):
    """Turns the distribution in a random field into its value."""

    def resolve(self, name: str, distribution: Distribution) -> Tensor:
        """The value of the field `variable.field` at the resolver's current step."""
        ...


_RESOLVER: ContextVar[Resolver | None] = ContextVar("recil_resolver", default=None)


@contextmanager
def resolving(resolver: Resolver) -> Iterator[None]:
    """Within the block, random fields are resolved by `resolver`."""
    token = _RESOLVER.set(resolver)
    try:
        yield
    finally:
        _RESOLVER.reset(token)


class Field(value_lib.FieldSpec):
    """A computed field. Tensors keep the shape, dtype and device of the first value; other objects keep their type."""

    def __init__(self) -> None:
        self._seen: tuple[Any, ...] | None = None

    def check_value(self, field_value: Any) -> tuple[bool, str]:
        if isinstance(field_value, Distribution):
            return False, "a distribution in a computed field; declare the field as RandomField"
        if isinstance(field_value, Tensor):
            signature: tuple[Any, ...] = (tuple(field_value.shape), field_value.dtype, field_value.device.type)
        else:
            signature = (type(field_value).__name__,)
        if self._seen is not None and signature != self._seen:
            return False, f"{signature} after {self._seen}; build a fresh story for another batch size, dtype or device"
        self._seen = signature
        return True, ""


class RandomField(value_lib.FieldSpec):
    """A field that is drawn or observed. The runtime binds it to its full name, `variable.field`."""

    def __init__(self) -> None:
        self.name: str | None = None

    def bind(self, name: str) -> None:
        if self.name not in (None, name):
            raise ValueError(
                f"one RandomField stands for '{self.name}' and '{name}': give each field a spec of its own"
            )
        self.name = name

    def check_value(self, field_value: Any) -> tuple[bool, str]:
        if not isinstance(field_value, Distribution):
            kind = type(field_value).__name__
            return False, f"{kind} where a torch distribution is wanted: a draw made outside would falsify likelihoods"
        return True, ""

    def sanitize(self, field_value: Distribution, field_name: str) -> Tensor:
        resolver = _RESOLVER.get()
        if resolver is None or self.name is None:
            raise RuntimeError(
                f"random field '{self.name or field_name}' met outside a TorchRuntime: run the network through one"
            )
        value = resolver.resolve(self.name, field_value)
        expected = field_value.batch_shape + field_value.event_shape
        if value.shape != expected:
            raise ValueError(f"field '{self.name}': value {tuple(value.shape)}, its distribution has {tuple(expected)}")
        return value
