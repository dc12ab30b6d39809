"""Estimators that weigh the reward of a step by the ratios up to that step only. Each maps SessionSums to [R+1].

Rewards and predictions in the sums are discounted already. w_t stands for w_{0:t}.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recil.evaluate.sums import SessionSums


def before(log_weight: Tensor) -> Tensor:
    """log w_{t-1} for log w_t, [B, T]; log w_{-1} is 0."""
    return torch.cat([torch.zeros_like(log_weight[:, :1]), log_weight[:, :-1]], 1)


def per_decision(sums: SessionSums) -> Tensor:
    """PDIS, E_n[sum_t gamma**t w_t r_t]."""
    return (sums.reward * sums.unit).sum(1) / sums.sessions


def weighted_per_decision(sums: SessionSums) -> Tensor:
    """PDWIS, sum_t gamma**t (sum_i w_t r_t / sum_i w_t).

    A session that has ended keeps its last weight in every later denominator: the probability that it has ended by
    step t is part of the target's distribution at t. Leaving it out would value the sessions that go on only.
    """
    return (sums.reward / torch.where(sums.weight > 0, sums.weight, torch.nan)).sum(1)


def doubly_robust(sums: SessionSums) -> Tensor:
    """DR, E_n[sum_t gamma**t (w_{t-1} V_t + w_t (r_t - Q_t))], with w_{-1} = 1.

    It is the recursion V_t = V(x_t) + rho_t (r_t + gamma V_{t+1} - Q(x_t, a_t)) written out. Unbiased for every Q
    fitted on other sessions, as long as V_t is E_pi Q(x_t, .) or an unbiased draw of it.
    """
    by_step = sums.expected * sums.unit_before + (sums.reward - sums.predicted) * sums.unit
    return by_step.sum(1) / sums.sessions


def weighted_doubly_robust(sums: SessionSums) -> Tensor:
    """WDR, DR with w_t / sum_i w_t in place of w_t / n (Thomas & Brunskill 2016), w_{-1} / sum_i w_{-1} = 1 / n.

    An ended session keeps its last weight in every later denominator, as in `weighted_per_decision`.
    """
    correction, baseline = weighted_corrections(sums)
    return correction.sum(1) + baseline.sum(1)


def weighted_corrections(sums: SessionSums) -> tuple[Tensor, Tensor]:
    """By step, discounted: sum_i w_t (r_t - Q_t) / sum_i w_t and sum_i w_{t-1} V_t / sum_i w_{t-1}, [R+1, T] each."""
    total = torch.where(sums.weight > 0, sums.weight, torch.nan)
    total_before = torch.cat([sums.sessions[:, None], total[:, :-1]], 1)
    # What is 0 for every session stays 0, whatever became of the weights.
    expected = torch.where(sums.expected == 0, 0.0, sums.expected / total_before)
    return (sums.reward - sums.predicted) / total, expected
