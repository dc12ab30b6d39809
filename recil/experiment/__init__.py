"""A whole experiment file: from the log to policies to what they are worth, in MLflow."""

from recil.experiment.result import Gain, Result, Row
from recil.experiment.walk import run_experiment

__all__ = ["Gain", "Result", "Row", "run_experiment"]
