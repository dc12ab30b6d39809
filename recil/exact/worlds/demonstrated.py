"""A world with somebody in it to learn from, and what an imperfect learner makes of that."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from recil.errors import InputError
from recil.exact.mdp import TabularMDP


class Demonstrated(NamedTuple):
    """mdp: the world; demonstrator: float64 [S, A], the policy that wrote the log (an expert, or not)."""

    mdp: TabularMDP
    demonstrator: Tensor


def erring(expert: Tensor, rate: float | Tensor) -> Tensor:
    """The expert, but with probability `rate` another action than it would take, all others alike.

    expert: [S, A], at least two actions; rate: a number or [S]. Returns float64 [S, A].
    """
    wrong = torch.as_tensor(rate, dtype=torch.float64).expand(len(expert))[:, None]
    if bool(((wrong < 0) | (wrong > 1)).any()) or expert.shape[1] < 2:
        raise InputError("erring", f"rate {rate} over {expert.shape[1]} actions", "give a probability and two actions")
    return (1 - wrong) * expert + wrong * (1 - expert) / (expert.shape[1] - 1)
