"""Importance ratios and weights, in log space: a product over 500 steps stays finite.

A ratio is pi/beta of one slate; a weight is the product of ratios up to a step, after the cap if there is one.
Statistics are float64 whatever the policy computes in.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def step_log_ratio(log_prob: Tensor, log_propensity: Tensor, shown: Tensor) -> Tensor:
    """log rho_t: the whole slate's log ratio, summed over its positions.

    log_prob, log_propensity [B, T, K] (target and logging policy, each item given those before it), shown bool
    [B, T, K] -> float64 [B, T], 0 where nothing was shown; -inf where the target never shows this slate.
    """
    assert log_prob.ndim == 3 and log_prob.shape == log_propensity.shape == shown.shape
    return torch.where(shown, log_prob.double() - log_propensity.double(), 0.0).sum(-1)


def cumulative_log_weight(log_ratio: Tensor, happened: Tensor, cap: float | None = None) -> Tensor:
    """log w_{0:t}, with the absorbing convention: a session that has ended keeps its last weight.

    log_ratio [B, T], happened bool [B, T] -> [B, T]. With a cap the weight is min(w_{0:t}, cap), Ionides (2008),
    "Truncated importance sampling", at every t; the ratios that build it up are not capped.
    """
    assert log_ratio.ndim == 2 and happened.shape == log_ratio.shape
    return capped(torch.where(happened, log_ratio, 0.0).cumsum(1), cap)


def capped(log_weight: Tensor, cap: float | None) -> Tensor:
    """min(w, cap) in log space, any shape; None caps nothing."""
    if cap is None:
        return log_weight
    if not cap > 0:
        raise ValueError(f"cap is {cap}, wanted a positive number or None")
    return log_weight.clamp(max=math.log(cap))


def effective_sample_size(log_weight: Tensor, dim: int = 0) -> Tensor:
    """(sum w)**2 / sum w**2 along `dim`, Kish (1965); 0 where every weight is 0."""
    twice_total = 2.0 * torch.logsumexp(log_weight, dim)
    return torch.where(twice_total.isneginf(), 0.0, (twice_total - torch.logsumexp(2.0 * log_weight, dim)).exp())


def largest_share(log_weight: Tensor, dim: int = 0) -> Tensor:
    """The largest weight's share of the sum of weights along `dim`; nan where every weight is 0."""
    return (log_weight.amax(dim) - torch.logsumexp(log_weight, dim)).exp()
