"""Offline and simulated evaluation, with intervals and verdicts."""

import sys
from types import ModuleType
from typing import Any

from recil.evaluate.choose import Choice, choose_estimator
from recil.evaluate.compare import Comparison, Difference, compare, paired_over_seeds
from recil.evaluate.estimates import PREFERENCE, Estimate, Estimates
from recil.evaluate.estimators import ESTIMATORS, Estimator
from recil.evaluate.log_checks import LogCheck, LogLimits, check_log
from recil.evaluate.loggers import LoggerMixture, balanced
from recil.evaluate.on_log import evaluate
from recil.evaluate.plan import plan
from recil.evaluate.planned import Plan
from recil.evaluate.propensities import Calibration, propensity_calibration
from recil.evaluate.segment_results import Segments
from recil.evaluate.segments import compare_by, evaluate_by
from recil.evaluate.simulate import SimulatedValue, simulate, simulated_value
from recil.evaluate.slope import slope, tuned
from recil.evaluate.verdict import Thresholds

__all__ = [
    "ESTIMATORS",
    "PREFERENCE",
    "Calibration",
    "Choice",
    "Comparison",
    "Difference",
    "Estimate",
    "Estimates",
    "Estimator",
    "LogCheck",
    "LogLimits",
    "LoggerMixture",
    "Plan",
    "Segments",
    "SimulatedValue",
    "Thresholds",
    "balanced",
    "check_log",
    "choose_estimator",
    "compare",
    "compare_by",
    "evaluate",
    "evaluate_by",
    "paired_over_seeds",
    "plan",
    "propensity_calibration",
    "simulate",
    "simulated_value",
    "slope",
    "tuned",
]


class _Verb(ModuleType):
    """Lets `recil.evaluate(policy, log)` work once this package, which bears the verb's name, has been imported."""

    def __call__(self, *args: Any, **kwargs: Any) -> Estimates:
        return evaluate(*args, **kwargs)


sys.modules[__name__].__class__ = _Verb
