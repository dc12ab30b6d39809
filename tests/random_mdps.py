"""Worlds drawn at random, shared by the tests of exact values and of what is checked against them."""

from __future__ import annotations

import torch
from torch import Tensor

from recil.exact.mdp import TabularMDP


def random_mdp(states: int, actions: int, seed: int, gamma: float = 0.9, ends: float = 0.0) -> TabularMDP:
    """Every state can follow every other; with `ends`, so large a share of every step goes to a terminal last state."""
    draw = torch.Generator().manual_seed(seed)
    size = states + (ends > 0)
    transition = torch.zeros(size, actions, size, dtype=torch.float64)
    follows = torch.rand(states, actions, states, generator=draw, dtype=torch.float64)
    transition[:states, :, :states] = (1 - ends) * follows / follows.sum(-1, keepdim=True)
    transition[:states, :, states:] = ends
    reward = torch.randn(size, actions, size, generator=draw, dtype=torch.float64)
    reward[states:] = 0
    terminal = torch.arange(size) >= states
    start = torch.rand(size, generator=draw, dtype=torch.float64) * ~terminal
    return TabularMDP(transition, reward, start / start.sum(), terminal, gamma)


def layered_mdp(seed: int, layers: int = 3, width: int = 2, actions: int = 2, gamma: float = 0.9) -> TabularMDP:
    """Sessions go through `layers` layers of `width` states and end, so that all can be listed."""
    draw = torch.Generator().manual_seed(seed)
    size = layers * width + 1
    transition = torch.zeros(size, actions, size, dtype=torch.float64)
    for state in range(size - 1):
        first = (state // width + 1) * width
        if first == size - 1:
            transition[state, :, -1] = 1.0
        else:
            share = torch.rand(actions, width, generator=draw, dtype=torch.float64) + 0.1
            transition[state, :, first : first + width] = share / share.sum(-1, keepdim=True)
    # Sessions hold rewards as float32: these are numbers that it has.
    reward = (8 * torch.randn(size, actions, size, generator=draw, dtype=torch.float64)).round() / 8
    reward[-1] = 0
    start = torch.zeros(size, dtype=torch.float64)
    start[:width] = 1 / width
    return TabularMDP(transition, reward, start, torch.arange(size) == size - 1, gamma)


def random_logits(mdp: TabularMDP, seed: int, strength: float = 1.0) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return strength * torch.randn(*mdp.size, generator=draw, dtype=torch.float64)
