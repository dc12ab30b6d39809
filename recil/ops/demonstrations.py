"""Demonstrations beside one's own sessions: how much they weigh, and what the mixture's weights cannot exceed."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from recil.errors import InputError


def demonstration_weight(advantage: Tensor, iteration: int, scale: float = 0.1, decay: float = 0.95) -> Tensor:
    """lambda0 lambda1^k max A, a scalar, never below 0: the advantage that a demonstrated action counts with.

    advantage: of the learner's own actions, any shape; iteration: k, from 0; scale: lambda0; decay: lambda1. Source:
    Rajeswaran et al. (2018), "Learning complex dexterous manipulation with deep reinforcement learning and
    demonstrations" (DAPG).
    """
    if iteration < 0 or not scale >= 0 or not 0 <= decay <= 1:
        raise InputError(
            "demonstration_weight", f"iteration {iteration}, scale {scale}, decay {decay}", "give 0 or more, decay to 1"
        )
    return scale * decay**iteration * advantage.detach().amax().clamp(min=0.0)


def with_demonstrations(
    log_prob: Tensor, advantage: Tensor, demonstrated_log_prob: Tensor, weight: Tensor | float
) -> Tensor:
    """Sum of A log pi over own actions plus weight * log pi over demonstrated ones; its gradient is DAPG's. A scalar.

    log_prob, advantage: [n]; demonstrated_log_prob: [m].
    """
    if log_prob.shape != advantage.shape:
        raise InputError(
            "with_demonstrations",
            f"{tuple(log_prob.shape)} against {tuple(advantage.shape)}",
            "give one advantage each",
        )
    return (advantage.detach() * log_prob).sum() + (weight * demonstrated_log_prob).sum()


def mixture_log_weight(log_prob: Tensor, demonstrator_log_prob: Tensor, share: float) -> Tensor:
    """log of pi / ((1 - l) pi + l demo), at most -log(1 - l): weights of sessions that were drawn from both. [...].

    Log-probabilities of the same actions (or whole sessions) under the policy and the demonstrator; share: l, of
    demonstrations among the sessions, in [0, 1).
    """
    if not 0.0 <= share < 1.0:
        raise InputError("mixture share", f"{share}", "give a share from 0 to below 1, or use the plain ratio")
    if log_prob.shape != demonstrator_log_prob.shape:
        shapes = f"{tuple(log_prob.shape)} against {tuple(demonstrator_log_prob.shape)}"
        raise InputError("mixture_log_weight", shapes, "give tensors of one shape")
    own = log_prob + math.log1p(-share)
    if share == 0.0:
        return torch.zeros_like(log_prob)
    mixed = torch.logaddexp(own, demonstrator_log_prob + math.log(share))
    # What neither would do has no weight; of -inf - -inf nothing could be said.
    return torch.where(torch.isneginf(log_prob), -torch.inf, log_prob - mixed)
