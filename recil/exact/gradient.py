"""The exact gradient of a softmax policy's value, in two ways that must agree."""

from __future__ import annotations

import torch
from torch import Tensor

from recil.exact.mdp import TabularMDP
from recil.exact.solve import action_values, start_value, visits


def gradient_by_theorem(mdp: TabularMDP, logits: Tensor) -> Tensor:
    """grad J = sum_s d(s) pi(a|s) (Q(s, a) - V(s)), of pi = softmax(logits), [S, A].

    d: discounted visits. Source: Sutton et al. (2000), "Policy gradient methods for reinforcement learning with
    function approximation".
    """
    policy = logits.detach().softmax(-1)
    values = action_values(mdp, policy)
    advantage = values - (policy * values).sum(-1, keepdim=True)
    return torch.where(mdp.terminal, 0.0, visits(mdp, policy))[:, None] * policy * advantage


def gradient_by_autograd(mdp: TabularMDP, logits: Tensor) -> Tensor:
    """The same by differentiation through the linear solve, [S, A]."""
    leaf = logits.detach().requires_grad_()
    with torch.enable_grad():
        return torch.autograd.grad(start_value(mdp, leaf.softmax(-1)), leaf)[0]
