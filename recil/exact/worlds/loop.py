"""A loop in which importance weights have infinite variance."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from recil.exact.mdp import TabularMDP


class Loop(NamedTuple):
    """mdp; behaviour and target policies, float64 [S, A]."""

    mdp: TabularMDP
    behaviour: Tensor
    target: Tensor


def infinite_variance_loop(stay: float = 0.9) -> Loop:
    """Left stays with probability `stay`, else ends and pays 1; right ends and pays nothing; gamma 1.

    The behaviour policy tosses a coin, the target goes left, whose value is 1. Cut after H steps and with stay .9, the
    weighted return has mean 1 - .9^H and second moment (1.8^H - 1) / 4. Source: Sutton & Barto (2018), example 5.5.
    """
    transition = torch.zeros(3, 2, 3, dtype=torch.float64)
    transition[0] = torch.tensor([[stay, 1 - stay, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    reward = torch.zeros_like(transition)
    reward[0, 0, 1] = 1.0
    start = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    ends = torch.tensor([False, True, True])
    mdp = TabularMDP(transition, reward, start, ends, 1.0, ("loop", "paid", "unpaid"), ("left", "right"))
    left = torch.tensor([1.0, 0.0], dtype=torch.float64)
    return Loop(mdp, torch.full((3, 2), 0.5, dtype=torch.float64), left.repeat(3, 1))
