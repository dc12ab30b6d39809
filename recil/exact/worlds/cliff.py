"""Cliff walking: the shortest way runs along the edge, and whoever explores there falls."""

from __future__ import annotations

import torch
from torch import Tensor

from recil.errors import InputError
from recil.exact.mdp import TabularMDP

_ROWS, _COLUMNS = 4, 12
_WAYS = {"left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0)}
# The cliff's cells between start and goal are not places: nobody stands there.
_PLACES = [
    (row, column) for row in range(_ROWS) for column in range(_COLUMNS) if row < 3 or column in (0, _COLUMNS - 1)
]
_START, _GOAL = (3, 0), (3, _COLUMNS - 1)


def cliff_walk() -> TabularMDP:
    """38 places named "row,column"; -1 per step, -100 and back to the start for a step off the cliff; gamma 1.

    V* of the start is -13. Source: Sutton & Barto (2018), example 6.6.
    """
    moves, reward = [], []
    for place in _PLACES:
        after = [_move(place, way) for way in _WAYS.values()]
        moves.append([_PLACES.index(_START if there is None else there) for there in after])
        reward.append([-100.0 if there is None else -1.0 for there in after])
    names = tuple(f"{row},{column}" for row, column in _PLACES)
    return TabularMDP.from_moves(
        moves, reward, _PLACES.index(_START), (_PLACES.index(_GOAL),), states=names, actions=tuple(_WAYS)
    )


def _move(place: tuple[int, int], way: tuple[int, int]) -> tuple[int, int] | None:
    """The place after a move, a wall in the way stays; None: off the cliff."""
    row = min(max(place[0] + way[0], 0), _ROWS - 1)
    column = min(max(place[1] + way[1], 0), _COLUMNS - 1)
    return (row, column) if (row, column) in _PLACES else None


def lane(row: int) -> Tensor:
    """The certain policy that goes right along a row (0 top, 1 middle, 2 edge), [38, 4], and back to it from elsewhere.

    At the last column it goes down. 13, 15 and 17 steps from the start for edge, middle and top.
    """
    if row not in (0, 1, 2):
        raise InputError("lane", f"row {row}", "give 0 (top), 1 (middle) or 2 (edge)")
    policy = torch.zeros(len(_PLACES), len(_WAYS), dtype=torch.float64)
    for number, place in enumerate(_PLACES):
        way = "down" if place[1] == _COLUMNS - 1 or place[0] < row else "right" if place[0] == row else "up"
        policy[number, list(_WAYS).index(way)] = 1.0
    return policy
