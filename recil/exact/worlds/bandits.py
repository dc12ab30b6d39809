"""Worlds of one step: a click or none, and items whose exposure runs against their worth."""

from __future__ import annotations

import torch
from torch import Tensor

from recil.errors import InputError
from recil.exact.mdp import TabularMDP
from recil.exact.worlds.demonstrated import Demonstrated
from recil.random import Streams


def sparse_click_bandit(
    contexts: int = 20,
    items: int = 200,
    clickable: float = 0.0225,
    rates: tuple[float, float] = (0.002, 0.102),
    skill: float = 0.145,
    seed: int = 0,
) -> Demonstrated:
    """One slate per session: in each context a few items are clicked at the higher rate, all others at the lower.

    clickable  share of (context, item) pairs that are, spread evenly over contexts; which ones follows from the seed
    skill      the demonstrator's probability of showing one of them (any of them alike)

    As given: uniform is worth .00425, the demonstrator .0165, the best policy .102.
    """
    pairs = round(clickable * contexts * items)
    if not contexts <= pairs < contexts * items:
        raise InputError("sparse_click_bandit clickable", f"{clickable}", "give a share with an item for each context")
    good = torch.zeros(contexts, items, dtype=torch.bool)
    for context in range(contexts):
        count = pairs // contexts + (context < pairs % contexts)
        order = torch.randperm(items, generator=Streams(seed).generator("clickable", context))
        good[context, order[:count]] = True
    share = good.double() / good.sum(1, keepdim=True)
    demonstrator = skill * share + (1 - skill) * (~good).double() / (~good).sum(1, keepdim=True)
    low, high = torch.tensor(rates, dtype=torch.float64)
    mdp = _clicks(torch.where(good, high, low))
    return Demonstrated(mdp, torch.cat([demonstrator, torch.full((2, items), 1 / items, dtype=torch.float64)]))


def _clicks(rate: Tensor) -> TabularMDP:
    """One step from each context into `clicked`, which pays 1, or `passed`. rate: float64 [C, A]."""
    contexts, items = rate.shape
    size = contexts + 2
    transition = torch.zeros(size, items, size, dtype=torch.float64)
    transition[:contexts, :, contexts], transition[:contexts, :, contexts + 1] = rate, 1 - rate
    reward = torch.zeros_like(transition)
    reward[:contexts, :, contexts] = 1.0
    ends = torch.arange(size) >= contexts
    start = (~ends).double() / contexts
    names = (*(f"context {number}" for number in range(contexts)), "clicked", "passed")
    return TabularMDP(transition, reward, start, ends, 1.0, names)


def logging_bias_bandit(items: int = 10) -> Demonstrated:
    """Item i (1 ... n) pays i and is shown with probability proportional to n + 1 - i.

    Of ten: the demonstrator is worth 4; reward-weighted cloning without correction comes to rest at i (11 - i) / 220,
    worth 5.5; with correction at item 10, worth 10.
    """
    worth = torch.arange(1, items + 1)
    reward = [worth.double().tolist(), [0.0] * items]
    names = tuple(f"item {number}" for number in worth.tolist())
    mdp = TabularMDP.from_moves([[1] * items] * 2, reward, 0, (1,), states=("shown", "end"), actions=names)
    behaviour = (items + 1 - worth).double()
    return Demonstrated(mdp, (behaviour / behaviour.sum()).repeat(2, 1))
