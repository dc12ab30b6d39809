"""The cheese maze: a mouse, two crumbs on the way, poison in the middle and a big cheese in the corner.

Start            Small cheese (+1)   Nothing
2 small cheese   Death               Big cheese
    (+2)             (-10)               (+10)
"""

from __future__ import annotations

from recil.exact.mdp import TabularMDP

_PLACES = ("Start", "Small cheese", "Nothing", "2 small cheese", "Death", "Big cheese")
_FOUND = (0.0, 1.0, 0.0, 2.0, -10.0, 10.0)
_DEATH, _BIG = 4, 5


def cheese_maze(gamma: float = 0.8) -> TabularMDP:
    """Six places, moves left, right, up and down; what lies on a place is paid on entering it, each time.

    A move into a wall stays and pays nothing. Death and the big cheese end the session. With gamma below about .85 the
    big cheese is worth more than going to and fro between crumbs. Source: the table of an introductory course on
    Q-learning (rows are places, columns moves), with rewards of recil's own.
    """
    moves = [[_move(place, *way) for way in ((0, -1), (0, 1), (-1, 0), (1, 0))] for place in range(6)]
    reward = [[_FOUND[after] if after != place else 0.0 for after in row] for place, row in enumerate(moves)]
    names = ("left", "right", "up", "down")
    return TabularMDP.from_moves(moves, reward, 0, (_DEATH, _BIG), gamma, _PLACES, names)


def _move(place: int, down: int, right: int) -> int:
    row, column = place // 3 + down, place % 3 + right
    return 3 * row + column if 0 <= row < 2 and 0 <= column < 3 else place
