"""What state models have in common in keeping their parameters and using them session by session."""

from __future__ import annotations

import torch
from recsim_ng.core.value import Value
from torch import Tensor, nn

from recil.sim.entity import Entity


def check_lead(name: str, values: Tensor, batch: int, dimensions: int) -> None:
    """Refuse parameters that have other than `dimensions` dimensions or do not lead with 1 or the batch."""
    if values.ndim != dimensions or values.shape[0] not in (1, batch):
        raise ValueError(
            f"{name}: shape {list(values.shape)}; wanted {dimensions} dimensions, first of size 1 or {batch} (batch)"
        )


def adopt_precision(entity: Entity) -> None:
    """Make new tensors in the floating type and on the device of the first parameter that is more than one number."""
    for values in (*entity.parameters(), *entity.buffers()):
        if values.is_floating_point() and values.ndim and values.numel():
            entity.like = values.detach().new_empty(0)
            return


def pick(parts: Tensor, index: Tensor) -> Tensor:
    """The part of each session that its index names, [*batch, ...].

    parts: [*lead, N, ...], where each size of lead is that of the batch or 1; index: int64 [*batch]. Parts that
    sessions share are not copied for each of them.
    """
    right = index.ndim - 1
    rows = [
        torch.arange(size, device=index.device).reshape(-1, *(1,) * (right - axis))
        for axis, size in enumerate(parts.shape[: index.ndim])
    ]
    return parts[(*rows, index)]


def field_of(inputs: Value | None, name: str, model: nn.Module) -> Tensor:
    """A field of the inputs that the model cannot do without."""
    if inputs is None or name not in inputs.as_dict:
        raise ValueError(f"{type(model).__name__}.next_state: wanted inputs with the field '{name}'")
    return inputs.get(name)
