"""What values are moved towards: targets of one step, and the step itself.

`discount` is gamma where the session goes on and 0 where it ended, [...] or a number, so that a terminal state is worth
nothing whatever a table says of it. Monte Carlo targets are `recil.ops.returns.rewards_to_go`. Source: Sutton & Barto
(2018), "Reinforcement learning", chapter 6.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recil.errors import InputError


def td_target(reward: Tensor, discount: Tensor | float, next_value: Tensor) -> Tensor:
    """TD(0): r + gamma V(s'). All [...]."""
    _fit("td_target", reward, next_value)
    if isinstance(discount, Tensor) and discount.dtype != reward.dtype:  # a gamma of .9 in float32 is none of float64
        raise InputError("td_target discount", f"{discount.dtype} with rewards of {reward.dtype}", "give one type")
    return reward + discount * next_value


def q_learning_target(reward: Tensor, discount: Tensor | float, next_values: Tensor) -> Tensor:
    """r + gamma max_a Q(s', a). next_values: [..., A], the rest [...].

    Source: Watkins & Dayan (1992), "Q-learning".
    """
    return td_target(reward, discount, next_values.amax(-1))


def sarsa_target(reward: Tensor, discount: Tensor | float, next_values: Tensor, next_action: Tensor) -> Tensor:
    """r + gamma Q(s', a') of the action that was taken. next_values: [..., A]; next_action: int64 [...]."""
    return td_target(reward, discount, next_values.gather(-1, next_action[..., None])[..., 0])


def expected_sarsa_target(reward: Tensor, discount: Tensor | float, next_values: Tensor, policy: Tensor) -> Tensor:
    """r + gamma sum_a pi(a|s') Q(s', a). next_values, policy: [..., A].

    Source: van Seijen et al. (2009), "A theoretical and empirical analysis of expected Sarsa".
    """
    _fit("expected_sarsa_target", next_values, policy)
    return td_target(reward, discount, (policy * next_values).sum(-1))


def moved(value: Tensor, target: Tensor, step_size: Tensor | float) -> Tensor:
    """V + alpha (target - V). All [...]."""
    _fit("moved", value, target)
    return value + step_size * (target - value)


def epsilon_greedy(values: Tensor, epsilon: float) -> Tensor:
    """Probability of each action: 1 - epsilon shared by the best ones, epsilon by all. [..., A] -> [..., A]."""
    if not 0.0 <= epsilon <= 1.0:
        raise InputError("epsilon", f"{epsilon}", "give a probability")
    best = (values == values.amax(-1, keepdim=True)).to(values.dtype)
    return (1 - epsilon) * best / best.sum(-1, keepdim=True) + epsilon / values.shape[-1]


def _fit(place: str, first: Tensor, second: Tensor) -> None:
    if torch.broadcast_shapes(first.shape, second.shape) != first.shape:
        raise InputError(place, f"{tuple(second.shape)} against {tuple(first.shape)}", "give tensors of one shape")
