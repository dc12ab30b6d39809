"""Deep Sea: a treasure that only a whole session of right moves reaches, each of which costs a little."""

from __future__ import annotations

from recil.errors import InputError
from recil.exact.mdp import TabularMDP


def deep_sea(depth: int, cost: float = 0.01) -> TabularMDP:
    """A diver sinks one row per step for `depth` steps; actions left and right, right costs cost / depth; gamma 1.

    Right in every row brings 1. A policy that goes right with probability p everywhere finds it with probability
    p^depth, 2^-depth under a fair coin. Source: Osband et al. (2019), "Deep exploration via
    randomized value functions".
    """
    if depth < 1:
        raise InputError("deep_sea depth", f"{depth}", "give 1 or more")
    places = [(row, column) for row in range(depth) for column in range(row + 1)]
    number = {place: index for index, place in enumerate(places)}
    end = len(places)
    moves, reward = [], []
    for row, column in places:
        below = [number.get((row + 1, max(column - 1, 0)), end), number.get((row + 1, column + 1), end)]
        found = row == column == depth - 1
        moves.append(below)
        reward.append([0.0, float(found) - cost / depth])
    names = (*(f"{row},{column}" for row, column in places), "bottom")
    return TabularMDP.from_moves(
        [*moves, [end, end]], [*reward, [0.0, 0.0]], 0, (end,), states=names, actions=("left", "right")
    )
