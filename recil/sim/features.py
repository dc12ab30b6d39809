"""Side columns of a log (of users, items, contexts) as additive effects."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from recil.policies.inputs import Feature


class Effects(nn.Module):
    """The sum of the effects of some columns, each of `width` numbers; it starts at zero.

    A missing category or number has no effect; a set of categories has the mean of their effects.
    """

    def __init__(self, features: tuple[Feature, ...], width: int) -> None:
        super().__init__()
        self.features, self.width = features, width
        self.tables = nn.ParameterList(torch.zeros(feature.categories or 1, width) for feature in features)

    def forward(self, columns: Mapping[str, Tensor], like: Tensor) -> Tensor:
        """[n, width]. columns: name -> [n] float32 or codes, [n, M] codes of sets; like: [n], for size and device."""
        total = like.new_zeros((*like.shape, self.width), dtype=torch.get_default_dtype())
        for feature, table in zip(self.features, self.tables, strict=True):
            values = columns[feature.name]
            if feature.categories is None:
                known = torch.nan_to_num((values - feature.mean) / feature.scale, nan=0.0, posinf=0.0, neginf=0.0)
                total = total + known[..., None] * table[0]
            elif values.ndim > like.ndim:
                present = (values >= 0).unsqueeze(-1)
                chosen = table[values.clamp(min=0)] * present
                total = total + chosen.sum(-2) / present.sum(-2).clamp(min=1)
            else:
                total = total + table[values.clamp(min=0)] * (values >= 0).unsqueeze(-1)
        return total
