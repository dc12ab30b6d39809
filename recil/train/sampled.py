"""Steps over a large catalogue: a batch's own items and a few others in place of all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from recil.logs.history import History
from recil.logs.session_log import SessionLog
from recil.ops.proposal import Proposal
from recil.ops.sampled_pass import Columns, sampled_pass
from recil.policies.encoders import Drop
from recil.policies.softmax import SoftmaxPolicy
from recil.policies.touched import Touched
from recil.random import Streams
from recil.train.rows import Tables

# Logits of held-out sessions after each epoch: some seconds' worth on two cores.
LOGITS_PER_EPOCH = 1 << 30


@dataclass(frozen=True)
class SampledLikelihood:
    """The log-likelihood of slates against a sample of the catalogue, drawn anew for each step."""

    policy: SoftmaxPolicy
    proposal: Proposal
    streams: Streams
    tables: Tables

    def log_prob(self, sessions: History, mask: Tensor, step: int, drop: Drop | None = None) -> Tensor:
        """Sum of log p' over the items at `mask` [B, T, K]; `tables` then knows which rows gather its gradient."""
        sample = self.proposal.draw(self.streams, "negatives", step).to(sessions.items.device)
        touched = Touched.of(self.policy, sessions, sample.items, learn=torch.is_grad_enabled())
        self.tables.touched = touched
        small = touched.relabelled(sessions)
        happened = small.happened & small.shown.any(-1)
        states, (weight, bias) = touched.call(lambda policy: (policy.before_steps(small, drop), policy.head()))
        columns = Columns(touched.places(sample.items), sample.log_weight)
        coefficient = mask[happened].to(weight.dtype)
        return sampled_pass(
            states[happened], small.items[happened], weight, bias, columns, lambda rows, _: coefficient[rows]
        ).loss


def affordable(log: SessionLog, sessions: np.ndarray, catalogue: int, logits: int = LOGITS_PER_EPOCH) -> np.ndarray:
    """As many of these held-out sessions, the same at every call, as can be scored in full after each epoch.

    Scores in full are comparable between epochs, whatever the policy became. An estimate from negatives is not: it is
    too good by the variance of its own sum, so that it flatters a policy for being sure of itself.
    """
    order = Streams(0).numpy("affordable").permutation(len(sessions))
    items = np.cumsum((log.lengths[sessions] * log.slate_size)[order])
    kept = max(int(np.searchsorted(items, logits // catalogue, side="right")), 1)
    return sessions[np.sort(order[:kept])]
