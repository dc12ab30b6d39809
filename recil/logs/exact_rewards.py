"""Rewards keep their value: float32 where that holds every one of them exactly, else float64."""

from __future__ import annotations

import numpy as np

_EVERY_WHOLE_NUMBER = 2**24  # up to here float32 holds them all, and their text is read back as the same number


def narrowest(rewards: np.ndarray) -> np.ndarray:
    """The same values as float32 where it changes none (16777217, 0.1, 1e-50 and 1e300 it would), else as float64."""
    if rewards.dtype == np.float32:
        return rewards
    exact = rewards.astype(np.float64, copy=False)
    with np.errstate(over="ignore", under="ignore"):
        short = exact.astype(np.float32)
    return short if np.array_equal(short, exact, equal_nan=True) else exact


def as_written(rewards: np.ndarray) -> np.ndarray:
    """The same values as a table has them, float32 or float64: what a file of text says of them is read as the same.

    The text of a float32 is the shortest that another float32 would not have: 0.1 for one that is 0.10000000149.
    """
    short = narrowest(rewards)
    if short.dtype == np.float32 and ((short != np.rint(short)) | (np.abs(short) > _EVERY_WHOLE_NUMBER)).any():
        return short.astype(np.float64)
    return short
