"""Compounding error: what an imitator's small error rate costs, in three worlds that differ in the way back.

To be judged by `finite_values` over T steps. Errors are those of `erring(expert, rate)`.
"""

from __future__ import annotations

import torch

from recil.exact.mdp import TabularMDP
from recil.exact.worlds.demonstrated import Demonstrated


def three_states() -> Demonstrated:
    """Reward is -1 where the expert would have acted otherwise. No session ends.

    The expert plays a1 in s0 and in s1, a2 in s2. A learner that errs in s0 with probability eps T, never in s1 and
    always in s2 errs with probability eps on the expert's own states and costs eps T^2 over T steps. Source: Ross &
    Bagnell (2010), "Efficient reductions for imitation learning", theorem 2.1's lower bound.
    """
    expert = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    moves = [[1, 2], [1, 1], [2, 1]]
    mdp = TabularMDP.from_moves(moves, (expert - 1).tolist(), 0, states=("s0", "s1", "s2"), actions=("a1", "a2"))
    return Demonstrated(mdp, expert)


def cliff_chain(items: int = 2) -> Demonstrated:
    """The first item pays 1 and keeps the user; any other loses the user for good.

    With error rate eps the gap to the expert over T steps is T - (1 - eps)(1 - (1 - eps)^T) / eps, about eps T^2 / 2.
    """
    return _chain(items, recoverable=False)


def recoverable_chain(items: int = 2) -> Demonstrated:
    """The first item pays 1 while the user is on; any other turns the user off, and the first one on again, unpaid.

    With error rate eps the gap over T steps is eps + (T - 1) eps (2 - eps): linear in T. A clone knows nothing of off,
    where no expert has been; who has learned to recover does.
    """
    return _chain(items, recoverable=True)


def _chain(items: int, recoverable: bool) -> Demonstrated:
    moves = [[0] + [1] * (items - 1), [0] + [1] * (items - 1)]
    reward = [[1.0] + [0.0] * (items - 1), [0.0] * items]
    mdp = TabularMDP.from_moves(moves, reward, 0, () if recoverable else (1,), states=("on", "off"))
    expert = torch.zeros(2, items, dtype=torch.float64)
    expert[:, 0] = 1.0
    return Demonstrated(mdp, expert)
