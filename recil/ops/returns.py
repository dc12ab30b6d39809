"""Discounted returns over padded sessions."""

from __future__ import annotations

import torch
from torch import Tensor


def discounts(steps: int, gamma: float, like: Tensor) -> Tensor:
    """gamma**t for t = 0 ... steps - 1. [T], dtype and device of `like`; gamma = 0 keeps the first step only."""
    _check_gamma(gamma)
    return torch.pow(torch.tensor(gamma, dtype=like.dtype, device=like.device), torch.arange(steps, device=like.device))


def discounted_return(reward: Tensor, happened: Tensor, gamma: float = 1.0) -> Tensor:
    """G_0 = sum over t of gamma**t r_t, padding left out. reward [B, T], happened bool [B, T] -> [B]."""
    assert reward.ndim == 2 and happened.shape == reward.shape
    return torch.where(happened, reward, 0.0) @ discounts(reward.shape[1], gamma, reward)


def rewards_to_go(reward: Tensor, happened: Tensor, gamma: float = 1.0) -> Tensor:
    """G_t = r_t + gamma G_{t+1}. reward [B, T], happened bool [B, T] -> [B, T], 0 at padding."""
    assert reward.ndim == 2 and happened.shape == reward.shape
    _check_gamma(gamma)
    masked = torch.where(happened, reward, 0.0)
    if gamma == 1.0:
        return masked.flip(1).cumsum(1).flip(1)
    ahead, columns = masked.new_zeros(masked.shape[0]), []
    for step in range(masked.shape[1] - 1, -1, -1):
        ahead = masked[:, step] + gamma * ahead
        columns.append(ahead)
    return torch.stack(columns[::-1], 1) if columns else masked


def _check_gamma(gamma: float) -> None:
    if not 0.0 <= gamma <= 1.0:
        raise ValueError(f"gamma is {gamma}, wanted a discount in [0, 1]")
