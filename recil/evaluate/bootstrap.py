"""The session bootstrap: Poisson counts addressed by session, and the interval read off the replicates.

A count depends on (seed, session id, replicate) alone (Chamandy, Muralidharan, Najmi & Naidu 2012, "Estimating
uncertainty for massive data streams"), so any partition of a log gives the same replicates, and two policies evaluated
on one log share them: their difference is paired.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from recil.errors import InputError
from recil.random import Streams, stable_hash


def session_keys(session_ids: np.ndarray) -> Tensor:
    """int64 [S]: whole-number ids as they are, others by the hash of their text."""
    if np.issubdtype(session_ids.dtype, np.integer):
        return torch.from_numpy(session_ids.astype(np.int64))
    return torch.tensor([stable_hash(name) for name in session_ids.tolist()], dtype=torch.int64)


@lru_cache(maxsize=1)
def _poisson_distribution() -> Tensor:
    """P(count <= k) of a Poisson count with mean 1, for k up to where float32 draws cannot tell it from 1."""
    return torch.tensor([1.0 / math.factorial(k) for k in range(12)], dtype=torch.float64).cumsum(0).div(math.e).float()


def poisson_counts(streams: Streams, keys: Tensor, replicates: int) -> Tensor:
    """float64 [replicates + 1, B]: how often each replicate takes each session (int64 [B]); row 0 is ones."""
    uniforms = streams.uniform("bootstrap", keys, count=replicates)
    counts = torch.searchsorted(_poisson_distribution(), uniforms, right=True)
    return torch.cat([torch.ones(1, len(keys), dtype=torch.float64), counts.T.double()])


def percentile_interval(replicates: Tensor, confidence: float) -> tuple[float, float]:
    """The middle `confidence` of the replicates [R]; those in which the estimator is undefined are left out.

    Percentiles, because they stay inside the range of possible values and follow the skewness of sparse rewards and of
    self-normalised weights, where value ± standard error would go below 0. nan when no replicate is defined.
    """
    check_confidence(confidence)
    defined = replicates[~replicates.isnan()]
    if not len(defined):
        return math.nan, math.nan
    tail = (1.0 - confidence) / 2.0
    low, high = torch.quantile(defined, torch.tensor([tail, 1.0 - tail], dtype=defined.dtype)).tolist()
    return low, high


def check_confidence(confidence: float) -> None:
    if not 0.0 < confidence < 1.0:
        raise InputError("confidence", f"{confidence} is not between 0 and 1", "give .95 for a 95% interval")
