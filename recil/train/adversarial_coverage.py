"""How much of a catalogue sessions show: what is lost where a learner seeks modes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from recil.logs.history import PAD


@dataclass(frozen=True)
class Coverage:
    """Items shown at all grow with the number of sessions: compare only what was counted on as many.

    share      of the catalogue that was shown at least once
    effective  exp of the entropy of what was shown: as many items, shown equally often, would be as varied
    shown      items shown in all, repetitions counted
    """

    share: float
    effective: float
    shown: int

    @staticmethod
    def of(items: Tensor, catalogue: int) -> Coverage:
        """items: int64 of any shape, -1 pad; catalogue: A."""
        count = torch.bincount(items[items != PAD], minlength=catalogue).double()
        rate = count / count.sum().clamp(min=1)
        entropy = -torch.special.xlogy(rate, rate).sum()
        return Coverage(float((count > 0).double().mean()), float(entropy.exp()), int(count.sum()))
