"""Intervals for means and ratios of independent numbers, one per session; the session bootstrap is in `bootstrap`.

For a large sample all agree. Student's t: seeds, returns of simulated users. Delta method: self-normalised estimates.
Empirical and Euclidean likelihood: sparse rewards, skewed weights. Bernstein and Hoeffding: a guarantee at any n, for
values whose range is known beforehand. Confidence sequence: looking while data come in, and stopping when clear.
"""

from recil.evaluate.intervals.concentration import bernstein_interval, hoeffding_interval
from recil.evaluate.intervals.delta import ratio_difference_interval, ratio_interval
from recil.evaluate.intervals.likelihood import euclidean_interval, likelihood_interval
from recil.evaluate.intervals.sample import lower_bound
from recil.evaluate.intervals.sequence import ConfidenceSequence, mean_sequence, policy_sequence
from recil.evaluate.intervals.student import student_interval

__all__ = [
    "ConfidenceSequence",
    "bernstein_interval",
    "euclidean_interval",
    "hoeffding_interval",
    "likelihood_interval",
    "lower_bound",
    "mean_sequence",
    "policy_sequence",
    "ratio_difference_interval",
    "ratio_interval",
    "student_interval",
]
