"""A log as training material: checked, with propensities, in batches on the policy's device."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from recil.errors import InputError
from recil.logs.history import History
from recil.logs.session_log import SessionLog
from recil.policies.softmax import SoftmaxPolicy
from recil.policies.touched import Touched, log_prob_of_sessions_by_items


@dataclass(frozen=True)
class LoggedSessions:
    """Sessions of a log with propensities: its own, or those of the clone where it has none.

    large: the catalogue is scored by blocks of items, and the clone's propensities are left to whoever trains
    cluster: what is held out whole and counted as one; see `clusters_of`
    """

    log: SessionLog
    clone: SoftmaxPolicy
    large: bool = False
    cluster: str | None = None

    def __post_init__(self) -> None:
        if self.log.catalogue != self.clone.catalogue:
            raise InputError(
                "finetune",
                f"the log has {self.log.catalogue} items and the policy {self.clone.catalogue}",
                "give the log that the policy was cloned from, or one over the same catalogue",
            )
        if self.log.sessions < 2:
            raise InputError(
                "finetune",
                f"the log has {self.log.sessions} session, and one must be held out from learning",
                "give a log with more sessions",
            )
        if not np.isfinite(self.log.reward).all():
            raise InputError("finetune", "the log has rewards that are not finite", "check the reward column")
        if not self.log.reward.any():
            raise InputError(
                "finetune",
                f"none of the {self.log.impressions} items shown has a reward: there is nothing to learn from",
                "name another reward column, or give a log with clicks",
            )

    def scale(self) -> float:
        """Mean absolute reward of an item shown."""
        return float(np.abs(self.log.reward).sum(dtype=np.float64)) / self.log.impressions

    def batch(self, sessions: np.ndarray) -> History:
        """With propensities, unless the log has none and is over a large catalogue."""
        history = self.log.batch(sessions).to(next(self.clone.parameters()).device)
        return history if self.large else self.with_propensities(history)

    def with_propensities(self, history: History) -> History:
        if history.propensity is not None:
            return history
        return replace(history, propensity=self.log_prob(self.clone, history).exp())

    @torch.no_grad()
    def log_prob(self, policy: SoftmaxPolicy, history: History) -> Tensor:
        """Exact, [B, T, K], without gradient."""
        return log_prob_of_sessions_by_items(policy, history) if self.large else policy.log_prob_of_sessions(history)

    @torch.no_grad()
    def encode(self, policy: SoftmaxPolicy, history: History) -> Tensor:
        """The policy's states, [B, T + 1, D], without gradient."""
        if not self.large:
            return policy.encode(history)
        touched = Touched.of(policy, history)
        return touched.call(lambda small: small.encode(touched.relabelled(history)))
