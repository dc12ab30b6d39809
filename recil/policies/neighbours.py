"""Session-kNN: what stood in the sessions that share items with this one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from recil.errors import InputError
from recil.logs.history import History
from recil.logs.session_log import SessionLog
from recil.policies.folder import checked_tensor
from recil.policies.scored import ScoredPolicy
from recil.policies.sparse import SparseRows


@dataclass(frozen=True)
class NeighboursConfig:
    """How neighbours are found and used.

    shown    weight of an item that was shown without reward, where a rewarded one has 1
    recency  what an item's weight is multiplied by for each step it lies back
    steps    only this many last steps of the session are looked at
    mixture  probability given to items by popularity, whatever the neighbours say
    nearest  neighbours kept for each item
    """

    shown: float = 0.1
    recency: float = 0.8
    steps: int = 20
    mixture: float = 0.1
    nearest: int = 500

    def __post_init__(self) -> None:
        for name in ("shown", "recency", "mixture"):
            if not 0 < getattr(self, name) <= 1:
                raise InputError(f"knn.{name}", f"{getattr(self, name)} is not in (0, 1]", "give such a number")
        for name in ("steps", "nearest"):
            if getattr(self, name) < 1:
                raise InputError(f"knn.{name}", f"{getattr(self, name)} is below 1", "give a positive integer")


@dataclass(frozen=True, eq=False)
class Neighbours:
    """similar: [A, A], what each item of the session says for the others; popularity: float32 [A], sums to 1."""

    config: NeighboursConfig
    similar: SparseRows
    popularity: Tensor
    kind = "neighbours"

    @property
    def catalogue(self) -> int:
        return len(self.popularity)

    def log_weights(self, history: History) -> Tensor:
        config, popularity = self.config, self.popularity.to(history.items.device)
        age = history.length[:, None] - 1 - torch.arange(history.steps, device=history.items.device)
        recent = (age >= 0) & (age < config.steps)
        weight = config.recency ** age.clamp(min=0).to(popularity.dtype) * recent
        item_weight = torch.where(history.reward > 0, 1.0, config.shown) * history.shown * weight[..., None]
        seen = history.items.clamp(min=0).flatten(1)
        score = self.similar.to(seen.device).weighted_sum(seen, item_weight.flatten(1))
        total = score.sum(1, keepdim=True)
        likely = torch.where(total > 0, score / total.clamp(min=torch.finfo(score.dtype).tiny), popularity)
        return ((1 - config.mixture) * likely + config.mixture * popularity).log()

    def parts(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        config = {"catalogue": self.catalogue} | asdict(self.config)
        return config, {"popularity": self.popularity} | self.similar.parts("similar")

    @staticmethod
    def from_parts(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Neighbours:
        settings = dict(config)
        catalogue = settings.pop("catalogue")
        popularity = checked_tensor(tensors, "popularity", (catalogue,))
        return Neighbours(
            NeighboursConfig(**settings), SparseRows.from_parts(tensors, "similar", catalogue), popularity
        )


def knn(log: SessionLog, config: NeighboursConfig | None = None) -> ScoredPolicy:
    """Items by the sessions that share items with this one, mixed with popularity so that every item is possible.

    A logged session counts by the cosine of its items' weights with this session's; summed over the logged sessions,
    that is one similarity between items. Source: Jannach & Ludewig (2017), "When recurrent neural networks meet the
    neighborhood for session-based recommendation".
    """
    config = config or NeighboursConfig()
    shown = log.items >= 0
    session = np.repeat(np.arange(log.sessions), log.lengths)[:, None].repeat(log.slate_size, 1)[shown]
    weight = np.where(log.reward[shown] > 0, 1.0, config.shown)
    held = sparse.coo_matrix((weight, (session, log.items[shown])), (log.sessions, log.catalogue)).tocsr()
    count = np.asarray(held.sum(0)).ravel() + config.shown
    length = np.sqrt(np.asarray(held.multiply(held).sum(1)).ravel())
    similar = (held.T @ sparse.diags(1.0 / length) @ held).tocsr()
    # An item is no evidence for itself: with it, every session would be told to go on with what it had.
    similar.setdiag(0.0)
    similar.eliminate_zeros()
    popularity = torch.from_numpy((count / count.sum()).astype(np.float32))
    return ScoredPolicy(Neighbours(config, _nearest(similar, config.nearest), popularity), log.item_ids)


def _nearest(similar: sparse.csr_matrix, nearest: int) -> SparseRows:
    """The largest entries of each row, ties to the lower column."""
    row = np.repeat(np.arange(similar.shape[0]), np.diff(similar.indptr))
    order = np.lexsort((similar.indices, -similar.data, row))
    place = np.arange(len(order)) - similar.indptr[row]
    kept = np.sort(order[place < nearest])
    start = np.searchsorted(row[kept], np.arange(similar.shape[0] + 1))
    return SparseRows(
        torch.from_numpy(start.astype(np.int64)),
        torch.from_numpy(similar.indices[kept].astype(np.int64)),
        torch.from_numpy(similar.data[kept].astype(np.float32)),
        similar.shape[1],
    )
