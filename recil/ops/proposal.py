"""A few items that stand for a large catalogue: which are drawn, and how much each counts for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from recil.errors import InputError
from recil.random import Streams

# Half of the draws go by frequency, which is near a trained policy's own; the other half keeps the weight of whatever
# is rare from growing beyond twice that of uniform draws.
UNIFORM_SHARE = 0.5


class Sample(NamedTuple):
    """Items that stand for all: items int64 [k], each once and in order; log_weight float64 [k].

    The sum of weight * f over the items has the mean sum of f over the whole catalogue, whatever f.
    """

    items: Tensor
    log_weight: Tensor

    def to(self, device: torch.device) -> Sample:
        return Sample(self.items.to(device), self.log_weight.to(device))


@dataclass(frozen=True, eq=False)
class Proposal:
    """Draws of about `negatives` items, a frequent one more often; those that would be drawn anyway always are.

    certain  int64 [C], items in every sample, with weight 1: all of them where `negatives` is the catalogue
    others   int64 [A - C], in order
    edges    float64 [A - C], expected draws of the others, summed up to each
    draws    draws of the others: one in each part of equal expectation, so none is far from what was expected of it

    An item that was expected q times and drawn n times has weight n / q (Hansen & Hurwitz 1943; with certain items as
    in sampling in proportion to size).
    """

    certain: np.ndarray
    others: np.ndarray
    edges: np.ndarray
    draws: int

    @staticmethod
    def of(counts: np.ndarray, negatives: int, uniform: float = UNIFORM_SHARE) -> Proposal:
        """By a mixture of frequencies and a uniform choice. counts: [A], how often each item occurs."""
        if negatives < 1 or not len(counts):
            raise InputError("negatives", f"{negatives} of {len(counts)} items", "give 1 or more of 1 or more")
        frequency = counts.astype(np.float64) / max(float(counts.sum()), 1.0)
        share = (1 - uniform) * frequency + uniform / len(counts)
        certain = np.full(len(counts), negatives >= len(counts))
        while True:
            draws = negatives - int(certain.sum())
            expected = np.where(certain, 0.0, share)
            expected *= draws / max(float(expected.sum()), 1e-12)
            if certain.all() or not (expected >= 1).any():
                break
            certain |= expected >= 1
        others = np.flatnonzero(~certain)
        return Proposal(np.flatnonzero(certain), others, expected[others].cumsum(), draws if len(others) else 0)

    def draw(self, streams: Streams, purpose: str, *address: int) -> Sample:
        """The sample at this address."""
        if not self.draws:
            return Sample(torch.from_numpy(self.certain), torch.zeros(len(self.certain), dtype=torch.float64))
        aim = np.arange(self.draws) + streams.numpy(purpose, *address).random(self.draws)
        aim *= self.edges[-1] / self.draws
        place = np.searchsorted(self.edges, aim, side="right").clip(max=len(self.others) - 1)
        place, times = np.unique(place, return_counts=True)
        expected = self.edges[place] - np.where(place > 0, self.edges[place - 1], 0.0)
        items = np.concatenate([self.certain, self.others[place]])
        log_weight = np.concatenate([np.zeros(len(self.certain)), np.log(times / expected)])
        order = items.argsort(kind="stable")
        return Sample(torch.from_numpy(items[order]), torch.from_numpy(log_weight[order]))
