"""How well a policy guesses the logged item: measures of cloning, never of a policy's value."""

from __future__ import annotations

import torch
from torch import Tensor


def rank_of(logits: Tensor, item: Tensor) -> Tensor:
    """Rank of `item` among the logits, 0 for the best; half of the ties stand before it.

    logits: [..., A]; item: int64 [...]. Returns float [...]. Counting ties half keeps a constant score from looking
    perfect.
    """
    if logits.shape[:-1] != item.shape:
        raise ValueError(f"rank_of: logits {tuple(logits.shape)} against item {tuple(item.shape)}")
    own = logits.gather(-1, item[..., None])
    return (logits > own).sum(-1) + ((logits == own).sum(-1) - 1) / 2


def hit_rate(rank: Tensor, k: int) -> Tensor:
    """Share of ranks (0 is best) among the first k. rank: float [N]."""
    return (rank < k).double().mean()


def ndcg(rank: Tensor, k: int) -> Tensor:
    """NDCG@k with one relevant item per row: 1 / log2(rank + 2) among the first k, else 0. rank: float [N].

    Source: Järvelin & Kekäläinen (2002), "Cumulated gain-based evaluation of IR techniques".
    """
    gain = 1.0 / torch.log2(rank.double() + 2.0)
    return torch.where(rank < k, gain, 0.0).mean()


def coverage(items: Tensor, catalogue: int) -> float:
    """Share of the catalogue's items that stand anywhere in `items` (int64, -1 pad)."""
    return len(items[items >= 0].unique()) / catalogue
