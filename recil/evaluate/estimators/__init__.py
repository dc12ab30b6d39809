"""The estimators of a policy's value from another policy's log: pure functions of the sums over sessions.

The value is J, the expected discounted reward of a session, summed over its steps and positions. Unless an estimator
says otherwise a ratio is that of a whole slate, so nothing is assumed of how the reward of one position depends on the
rest of the slate.
"""

from recil.evaluate.estimators.estimator import Estimator, Leans
from recil.evaluate.estimators.pseudo_inverse import pseudo_inverse, second_moment, uniform_second_moment
from recil.evaluate.estimators.shrunken import capped_ips, optimistic_dr, subgaussian, switch_dr
from recil.evaluate.estimators.table import ESTIMATORS, KNOBS, TABLE, estimators_frame, find, find_all
from recil.evaluate.estimators.whole import ips, logged_mean, snips

__all__ = [
    "ESTIMATORS",
    "KNOBS",
    "TABLE",
    "Estimator",
    "Leans",
    "capped_ips",
    "estimators_frame",
    "find",
    "find_all",
    "ips",
    "logged_mean",
    "optimistic_dr",
    "pseudo_inverse",
    "second_moment",
    "snips",
    "subgaussian",
    "switch_dr",
    "uniform_second_moment",
]
