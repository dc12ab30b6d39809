"""The short corridor: three places that look alike, and in the middle one left is right."""

from __future__ import annotations

from recil.exact.mdp import TabularMDP


def short_corridor() -> TabularMDP:
    """-1 per step to the goal; gamma 1. To be met with `observed` zeros (TabularWorld): a policy is one number p.

    With p the probability of right everywhere, J(p) = (2p - 4) / (p (1 - p)), best at 2 - sqrt 2: -(6 + 4 sqrt 2) =
    -11.657. Source: Sutton & Barto (2018), example 13.1.
    """
    moves = [[0, 1], [2, 0], [1, 3], [3, 3]]
    names = ("first", "reversed", "last", "goal")
    return TabularMDP.from_moves(moves, [[-1.0, -1.0]] * 4, 0, (3,), states=names, actions=("left", "right"))
