"""V-trace: values of the target policy from sessions of another, with ratios cut where variance would explode.

    v_t = V(x_t) + sum_{k>=t} gamma^(k-t) (prod_{t<=i<k} c_i) delta_k
    delta_k = rho_k (r_k + gamma V(x_{k+1}) - V(x_k))

with rho = min(ratio, rho_cap) and c = trace * min(ratio, c_cap). The expectation of v - V is 0 where V is the value of
the policy proportional to min(rho_cap beta, pi), and only there: rho_cap says WHAT is estimated (pi itself where no
ratio exceeds it), c_cap and trace how fast. Without caps and with trace 1, v_t is the doubly robust return, unbiased
whatever V is. Source: Espeholt et al. (2018), "IMPALA: scalable distributed deep-RL with importance weighted
actor-learner architectures".
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from recil.errors import InputError
from recil.ops.importance import capped


class VTrace(NamedTuple):
    """target: v_t, [B, T], towards which V is moved; advantage: rho_t (r_t + gamma v_{t+1} - V(x_t)), [B, T]."""

    target: Tensor
    advantage: Tensor


@torch.no_grad()
def v_trace(
    log_ratio: Tensor,
    reward: Tensor,
    discount: Tensor,
    value: Tensor,
    rho_cap: float | None = 1.0,
    c_cap: float | None = 1.0,
    trace: float = 1.0,
) -> VTrace:
    """Targets and policy-gradient advantages, without gradient.

    log_ratio [B, T], log pi - log beta of the logged actions; reward [B, T]; discount [B, T], gamma after the step or 0
    where the session ended; value [B, T + 1], V(x_0) ... V(x_T). Steps behind a session's end: discount, reward and
    value 0. A cap of None cuts nothing.
    """
    shapes = {tuple(part.shape) for part in (log_ratio, reward, discount)}
    if len(shapes) != 1 or log_ratio.ndim != 2 or tuple(value[:, 1:].shape) not in shapes:
        raise InputError("v_trace", f"{sorted(shapes)} with values {tuple(value.shape)}", "give [B, T] and [B, T + 1]")
    if len({part.dtype for part in (reward, discount, value)}) != 1:
        raise InputError("v_trace", f"{reward.dtype}, {discount.dtype}, {value.dtype}", "give one type")
    if not 0.0 <= trace <= 1.0:
        raise InputError("v_trace trace", f"{trace}", "give a number in [0, 1]")
    rho, carried = capped(log_ratio, rho_cap).exp(), trace * capped(log_ratio, c_cap).exp()
    surprise = rho * (reward + discount * value[:, 1:] - value[:, :-1])
    ahead, corrections = torch.zeros_like(value[:, 0]), []
    for step in reversed(range(reward.shape[1])):
        ahead = surprise[:, step] + discount[:, step] * carried[:, step] * ahead
        corrections.append(ahead)
    target = value[:, :-1] + torch.stack(corrections[::-1], 1) if corrections else value[:, :-1]
    following = torch.cat([target[:, 1:], value[:, -1:]], 1)
    return VTrace(target, rho * (reward + discount * following - value[:, :-1]))
