"""Draws from rows of a table of probabilities, one uniform number each; and a world's steps by such draws."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from recil.exact.mdp import TabularMDP


def ladder(probability: Tensor) -> Tensor:
    """Running sums that end in exactly 1, so that no draw lands behind the last possible entry. [..., N] -> [..., N].

    A row without any mass becomes nan: nothing can be drawn from it.
    """
    sums = probability.cumsum(-1)
    return sums / sums[..., -1:]


def pick(steps: Tensor, uniform: Tensor) -> Tensor:
    """The entry whose share of (0, 1) holds the number. steps: `ladder` [..., N]; uniform [...] in (0, 1)."""
    return (steps <= uniform[..., None]).sum(-1)


@dataclass(frozen=True, eq=False)
class Moves:
    """What can follow each state and action, without what cannot: M is the largest number of states that may.

    chance  float64 [S * A, M], `ladder` over what may follow
    after   int64 [S * A * M], the state
    paid    float64 [S * A * M], the reward of this step
    begins  float64 [S], `ladder` over the states that sessions begin in
    """

    chance: Tensor
    after: Tensor
    paid: Tensor
    begins: Tensor
    actions: int

    @staticmethod
    def of(mdp: TabularMDP) -> Moves:
        rows = mdp.transition.flatten(0, 1)
        width = max(int((rows > 0).sum(-1).max()), 1)
        # What may follow first, in the order of the states: a stable sort keeps it.
        after = torch.sort((rows > 0).int(), dim=-1, descending=True, stable=True).indices[:, :width]
        paid = mdp.reward_on_arrival.flatten(0, 1).gather(1, after)
        chance = ladder(rows.gather(1, after))
        return Moves(chance, after.flatten(), paid.flatten(), ladder(mdp.start), mdp.size[1])

    def start(self, uniform: Tensor) -> Tensor:
        """States that sessions begin in, int64, in the shape of `uniform` [n]."""
        return pick(self.begins, uniform)

    def step(self, state: Tensor, action: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
        """The states that follow, int64 [n], and the rewards, float64 [n]. Not from terminal states."""
        row = state * self.actions + action
        width = self.chance.shape[1]
        if width > 1:
            # From a terminal state nothing follows; whoever is there is looked at no more, but stays in the table.
            row = row * width + pick(self.chance.index_select(0, row), uniform).clamp_(max=width - 1)
        return self.after.index_select(0, row), self.paid.index_select(0, row)
