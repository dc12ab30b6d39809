"""Sums over sessions made directly from arrays, for tests that go round a log."""

from __future__ import annotations

import torch
from torch import Tensor

from recil.evaluate.sums import SessionArrays, SessionSums
from recil.exact.enumerate import Enumeration
from recil.ops.importance import cumulative_log_weight, step_log_ratio
from recil.ops.returns import discounts
from recil.policies.protocol import Policy, log_prob_of_sessions


def arrays_from(
    ratio: Tensor, reward: Tensor, happened: Tensor | None = None, predicted=None, expected=None, gamma: float = 1.0
) -> SessionArrays:
    """Per-step ratios and rewards [B, T] of sessions; predictions of a reward model [B, T]."""
    happened = torch.ones_like(ratio, dtype=torch.bool) if happened is None else happened
    discount = discounts(ratio.shape[1], gamma, ratio)
    log_weight = cumulative_log_weight(ratio.log(), happened)
    return SessionArrays(
        log_weight=log_weight,
        reward=torch.where(happened, reward, 0.0) * discount,
        happened=happened,
        capped=torch.zeros_like(happened),
        predicted=None if predicted is None else predicted * discount,
        expected=None if expected is None else expected * discount,
    )


def once(arrays: SessionArrays) -> SessionSums:
    """Every session counts once; no replicates."""
    return SessionSums.of(arrays, torch.ones(1, len(arrays.reward), dtype=torch.float64))


def expectation(listed: Enumeration, target: Policy, gamma: float = 1.0, predicted=None, expected=None) -> SessionSums:
    """Sums in which every listed session counts by its probability: estimators of them are exact expectations."""
    sessions = listed.sessions
    ratio = step_log_ratio(log_prob_of_sessions(target, sessions), sessions.propensity.log(), sessions.shown).exp()
    reward = sessions.reward.double().sum(-1)
    arrays = arrays_from(ratio, reward, sessions.happened, predicted, expected, gamma)
    return SessionSums.of(arrays, listed.probability[None])
