"""Baselines that ignore the session: every item alike, or by how often it was clicked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recil.errors import InputError
from recil.logs.history import History
from recil.logs.session_log import SessionLog
from recil.policies.folder import checked_tensor
from recil.policies.scored import ScoredPolicy


@dataclass(frozen=True, eq=False)
class Frequencies:
    """The same weights in every session. weights: log weights, float32 [A]."""

    weights: Tensor
    kind = "frequencies"

    @property
    def catalogue(self) -> int:
        return len(self.weights)

    def log_weights(self, history: History) -> Tensor:
        return self.weights.to(history.items.device).expand(history.batch, -1)

    def parts(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        return {"catalogue": self.catalogue}, {"weights": self.weights}

    @staticmethod
    def from_parts(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Frequencies:
        return Frequencies(checked_tensor(tensors, "weights", (config["catalogue"],)))


def uniform(log: SessionLog) -> ScoredPolicy:
    """Every item of the log's catalogue with the same probability."""
    return ScoredPolicy(Frequencies(torch.zeros(log.catalogue)), log.item_ids)


def popular(log: SessionLog, temperature: float = 0.5, smoothing: float = 1.0) -> ScoredPolicy:
    """Items by their rewarded impressions, drawn in proportion to (count + smoothing) ** (1 / temperature).

    The smoothing keeps every item possible, so that propensities exist. A smaller temperature sticks closer to the most
    popular items. A log without any reward is counted by what it showed.
    """
    if not temperature > 0 or not smoothing > 0:
        raise InputError("popular", f"temperature {temperature}, smoothing {smoothing}", "give numbers above 0")
    shown = log.items >= 0
    counted = shown & (log.reward > 0)
    count = np.bincount(log.items[counted if counted.any() else shown], minlength=log.catalogue)
    weights = np.log(count + smoothing) / temperature
    return ScoredPolicy(Frequencies(torch.from_numpy(weights.astype(np.float32))), log.item_ids)
