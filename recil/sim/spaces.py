"""What a field may hold, said once: for the check of its first values, and for agents trained elsewhere."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Space(Protocol):
    """The values of a field for one session; fields lead with the batch, spaces do not."""

    @property
    def shape(self) -> tuple[int | None, ...]:
        """Of one session's value; None where the size is not said."""
        ...

    def problem_of(self, values: Tensor) -> str | None:
        """What is wrong with `values` ([B, *shape]) beyond their shape, or None."""
        ...


def _beyond(values: Tensor, low: float, high: float) -> str | None:
    if values.numel() == 0:
        return None
    smallest, largest = (float(extreme) for extreme in torch.aminmax(values.detach()))
    if smallest >= low and largest <= high:
        return None
    return f"values from {smallest:g} to {largest:g}, wanted {low:g} to {high:g}"


@dataclass(frozen=True)
class Reals:
    """Numbers from `low` to `high`."""

    shape: tuple[int | None, ...] = ()
    low: float = -math.inf
    high: float = math.inf

    def problem_of(self, values: Tensor) -> str | None:
        if not values.is_floating_point():
            return f"{values.dtype} where a floating type is wanted"
        if bool(values.isnan().any()):
            return "values that are not numbers"
        return _beyond(values, self.low, self.high)


@dataclass(frozen=True)
class Integers:
    """Whole numbers from `start` to `start + count - 1`."""

    count: int
    shape: tuple[int | None, ...] = ()
    start: int = 0

    def problem_of(self, values: Tensor) -> str | None:
        if values.is_floating_point() or values.dtype == torch.bool:
            return f"{values.dtype} where an integer type is wanted"
        return _beyond(values, self.start, self.start + self.count - 1)


@dataclass(frozen=True)
class Flags:
    """True or false."""

    shape: tuple[int | None, ...] = ()

    def problem_of(self, values: Tensor) -> str | None:
        return None if values.dtype == torch.bool else f"{values.dtype} where bool is wanted"
