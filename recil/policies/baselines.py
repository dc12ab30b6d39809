"""The baselines by name: uniform, popular, session-kNN, Markov."""

from recil.policies.frequencies import popular, uniform
from recil.policies.markov import markov
from recil.policies.neighbours import NeighboursConfig, knn

__all__ = ["NeighboursConfig", "knn", "markov", "popular", "uniform"]
