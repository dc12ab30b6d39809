"""What worlds do with their parameters: refuse numbers that cannot be, keep those that may be learned."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor

from recil.sim.entity import Entity


def refuse(world: str, settings: Any, wanted: str, good: Iterable[tuple[str, bool]]) -> None:
    """Raises ValueError at the first name that is not good, with its value in the settings and what is wanted."""
    for name, fits in good:
        if not fits:
            raise ValueError(f"{world}: {name} = {getattr(settings, name)}: wanted {wanted}")


def keep(entity: Entity, name: str, values: Tensor | float, batch: int) -> None:
    """Keep what all users share, or one number per user, under this name.

    values: a number, which stays one and so is exact in every precision; or a tensor or parameter of shape [] or
    [batch], through which gradients flow. ValueError for other shapes.
    """
    if not isinstance(values, Tensor):
        setattr(entity, name, float(values))
        return
    if values.shape not in ((), (batch,)):
        raise ValueError(
            f"{type(entity).__name__}: {name} of shape {list(values.shape)}; wanted one number, or [{batch}], one per"
            " user"
        )
    entity.constant(name, values)
