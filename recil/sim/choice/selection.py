"""What was chosen: the features of the items that choices point at."""

from __future__ import annotations

import torch
from recsim_ng.core.value import Value
from torch import Tensor


def chosen(features: Value, choice: Tensor, missing: float = -1) -> Value:
    """Of each field the chosen item's entry, [B, ...], or `missing` where nothing was chosen.

    features: fields [B, K, ...] of the items on the slates; choice: int64 [B], or [B, count] for several, of positions
    with K for no choice; any other number that is no position counts as no choice too. Fields keep their types; raises
    ValueError, naming the field, where a type cannot hold `missing`, or where fields differ in B or K. RecSim NG's
    get_chosen.
    """
    fields = features.as_dict
    sizes = {name: tuple(field.shape[:2]) for name, field in fields.items()}
    if len(set(sizes.values())) > 1:
        raise ValueError(f"chosen: fields of different slates: {sizes}")
    for name, field in fields.items():
        if not _holds(field.dtype, missing):
            raise ValueError(f"chosen: field '{name}' is {field.dtype}, which cannot hold {missing} for no choice")
    sessions = torch.arange(choice.shape[0], device=choice.device).reshape(-1, *[1] * (choice.ndim - 1))

    def pick(items: Tensor) -> Tensor:
        size = items.shape[1]
        entries = items[sessions, choice.clamp(0, size - 1)]
        nothing = ((choice < 0) | (choice >= size)).reshape(choice.shape + (1,) * (entries.ndim - choice.ndim))
        return entries.masked_fill(nothing, missing)

    return features.map(pick)


def _holds(kind: torch.dtype, number: float) -> bool:
    if kind.is_floating_point or kind.is_complex:
        return True
    if kind == torch.bool:
        return number in (0, 1)
    limits = torch.iinfo(kind)
    return float(number).is_integer() and limits.min <= number <= limits.max
