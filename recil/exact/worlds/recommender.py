"""A recommender's world small enough to solve: interest, boredom, clicks, and users who leave."""

from __future__ import annotations

import torch
from torch import Tensor

from recil.exact.mdp import TabularMDP

_TOPICS = 3
_MOODS = ("passed", "clicked", "bored")
_FRESH, _CLICKED, _BORED = range(3)
# By (the item is of the topic that interests, the user is bored).
_CLICK = {(True, False): 0.30, (True, True): 0.12, (False, False): 0.04, (False, True): 0.02}
_LEAVE = {(True, False): 0.10, (True, True): 0.40, (False, False): 0.10, (False, True): 0.10}
_DRIFT = 0.15


def small_recommender(items: int = 6, gamma: float = 0.9) -> TabularMDP:
    """Three topics of interest times how the user is after the last item: passed it over, clicked it, or bored.

    Item i is of topic i mod 3, and items from three on are a little worse than the first three. A click pays 1 and
    refreshes; an item of the topic of interest that is passed over bores, and drives the bored away (they leave at .40,
    all others who did not click at .10); other topics refresh the bored with probability one half. So what is best now
    is not what is best in the long run. Interest moves on to the next topic with probability .15.
    """
    names = [f"topic {topic}, {mood}" for topic in range(_TOPICS) for mood in _MOODS]
    end = len(names)
    transition = torch.zeros(end + 1, items, end + 1, dtype=torch.float64)
    for topic in range(_TOPICS):
        for item in range(items):
            for mood in range(len(_MOODS)):
                transition[_code(topic, mood), item] = _follows(topic, mood == _BORED, item)
    reward = torch.zeros_like(transition)
    reward[:end, :, [_code(topic, _CLICKED) for topic in range(_TOPICS)]] = 1.0
    start = torch.zeros(end + 1, dtype=torch.float64)
    start[[_code(topic, _FRESH) for topic in range(_TOPICS)]] = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    ends = torch.arange(end + 1) == end
    return TabularMDP(transition, reward, start, ends, gamma, (*names, "left"))


def _code(topic: int, mood: int) -> int:
    return topic * len(_MOODS) + mood


def _follows(topic: int, bored: bool, item: int) -> Tensor:
    """Probabilities of the next state, [S]."""
    row = torch.zeros(_TOPICS * len(_MOODS) + 1, dtype=torch.float64)
    liked = item % _TOPICS == topic
    click = _CLICK[liked, bored] * (1.0 if item < _TOPICS else 0.8)
    leave = _LEAVE[liked, bored]
    stay = (1 - click) * (1 - leave)
    row[-1] = (1 - click) * leave
    bores = 1.0 if liked else 0.5 * bored
    for later, moves in ((topic, 1 - _DRIFT), ((topic + 1) % _TOPICS, _DRIFT)):
        row[_code(later, _CLICKED)] += click * moves
        row[_code(later, _BORED)] += stay * bores * moves
        row[_code(later, _FRESH)] += stay * (1 - bores) * moves
    return row
