"""Worlds whose right answers are known: built by name, solved exactly."""

from recil.exact.worlds.bandits import logging_bias_bandit, sparse_click_bandit
from recil.exact.worlds.cliff import cliff_walk, lane
from recil.exact.worlds.compounding import cliff_chain, recoverable_chain, three_states
from recil.exact.worlds.corridor import short_corridor
from recil.exact.worlds.deep_sea import deep_sea
from recil.exact.worlds.demonstrated import Demonstrated, erring
from recil.exact.worlds.loop import infinite_variance_loop
from recil.exact.worlds.maze import cheese_maze
from recil.exact.worlds.random_walk import random_walk
from recil.exact.worlds.recommender import small_recommender

__all__ = [
    "Demonstrated",
    "cheese_maze",
    "cliff_chain",
    "cliff_walk",
    "deep_sea",
    "erring",
    "infinite_variance_loop",
    "lane",
    "logging_bias_bandit",
    "random_walk",
    "recoverable_chain",
    "short_corridor",
    "small_recommender",
    "sparse_click_bandit",
    "three_states",
]
