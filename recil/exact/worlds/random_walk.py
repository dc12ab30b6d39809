"""The random walk: five states in a row, both ends terminal, a reward of 1 on the right."""

from __future__ import annotations

from recil.exact.mdp import TabularMDP


def random_walk(length: int = 5) -> TabularMDP:
    """States end, A, B, ..., goal; a session starts in the middle; actions left and right; gamma 1.

    Under a fair coin V = i / (length + 1) for the i-th state, 1/6 ... 5/6 of five. Source: Sutton & Barto (2018),
    example 6.2.
    """
    inside = range(1, length + 1)
    moves = [[0, 0], *([state - 1, state + 1] for state in inside), [0, 0]]
    reward = [[0.0, float(state == length)] for state in range(length + 2)]
    names = ("end", *(chr(ord("A") + place) if length <= 26 else str(place + 1) for place in range(length)), "goal")
    return TabularMDP.from_moves(
        moves, reward, (length + 1) // 2, (0, length + 1), states=names, actions=("left", "right")
    )
