"""Propensities that fitted models supply: how well calibrated they are, and what their uncertainty adds to an interval.

A clone of the logging policy would have come out otherwise from other sessions. Clones fitted to bootstraps of their
sessions, or to other folds, show by how much: the estimate is worked out with each, and by the law of total variance
its interval has the variance within (of the sessions evaluated on) and between (of the clones). What the form of the
model gets wrong all of them get wrong alike: that is for the calibration to show.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from recil.errors import InputError
from recil.evaluate.scoring import WholeCatalogue, first_items, session_batches, stretches
from recil.logs.session_log import SessionLog
from recil.policies.protocol import Policy

if TYPE_CHECKING:
    import pandas as pd

# Bins halve: 1 to 1/2, 1/2 to 1/4, and so on; the last holds all that is less probable.
_BINS = 16
_MOST_SCORES = 1 << 26
_SCORES_AT_ONCE = 1 << 22
# Bins in which fewer than so many items are expected say nothing.
_FEWEST = 20.0
_STEPS_AT_ONCE = 1 << 18


@dataclass(frozen=True)
class Calibration:
    """First items of slates shown, against a policy's probabilities, by bins of these that halve from 1 downwards.

    expected  float64 [16], sum of the probabilities of the items in the bin, over all steps
    shown     float64 [16], how often one of them was shown
    variance  float64 [16], of `shown` were the probabilities right
    pairs     float64 [16], items times steps in the bin; steps: looked at
    """

    expected: np.ndarray
    shown: np.ndarray
    variance: np.ndarray
    pairs: np.ndarray
    steps: int

    @property
    def error(self) -> float:
        """Expected calibration error: share of all showings that stand in the wrong bin."""
        return float(np.abs(self.shown - self.expected).sum()) / max(2.0 * self.steps, 1.0)

    @property
    def worst(self) -> tuple[float, float]:
        """Shown over expected in the bin furthest off, and how probable so much is by chance (Bonferroni)."""
        looked = np.flatnonzero(self.expected >= _FEWEST)
        if not len(looked):
            return math.nan, math.nan
        errors = (self.shown - self.expected)[looked] / np.sqrt(np.maximum(self.variance[looked], 1e-300))
        place = int(np.abs(errors).argmax())
        chance = min(1.0, len(looked) * 2 * float(stats.norm.sf(abs(errors[place]))))
        return float(self.shown[looked[place]] / self.expected[looked[place]]), chance

    def to_frame(self) -> pd.DataFrame:
        """One row per bin that holds anything: its most probable value, predicted and observed share, pairs."""
        import pandas as pd

        held = np.flatnonzero(self.pairs)
        columns = {"up_to": 2.0**-held, "predicted": self.expected[held] / self.pairs[held]}
        columns |= {"observed": self.shown[held] / self.pairs[held], "pairs": self.pairs[held].astype(np.int64)}
        return pd.DataFrame(columns)

    def __str__(self) -> str:
        ratio, chance = self.worst
        if math.isnan(ratio):
            return f"fitted propensities: {self.steps:,} steps are too few to see their calibration"
        found = f"fitted propensities: calibration error {self.error:.1%}"
        return f"{found}, worst bin ×{ratio:.3g} (chance {chance:.2g})"


def propensity_calibration(log: SessionLog, behaviour: Policy) -> Calibration:
    """How often items were shown that `behaviour` gives a probability of so much, on sessions it was not fitted to.

    Looks at the first item of slates, and at as many sessions as some ten million probabilities allow. Raises
    InputError for a policy that cannot weigh the whole catalogue.
    """
    if not isinstance(behaviour, WholeCatalogue):
        raise InputError("behaviour", "it cannot weigh all items at once", "give a policy with next_logits")
    totals, steps, left = np.zeros((4, _BINS)), 0, max(_MOST_SCORES // log.catalogue, 1)
    for _, run in stretches(log, min(_STEPS_AT_ONCE, left)):
        for chosen in session_batches(run, 1 << 12, _SCORES_AT_ONCE):
            history = run.batch(chosen)
            first = first_items(history)
            for step in range(history.steps):
                going_on = torch.nonzero(first[:, step] >= 0)[:, 0]
                if len(going_on):
                    with torch.no_grad():
                        logits = behaviour.next_logits(history.prefix(step).take(going_on))
                    totals += _binned(logits.double().softmax(1), first[going_on, step])
                    steps += len(going_on)
        left -= run.steps
        if left <= 0:
            break
    expected, shown, variance, pairs = totals
    return Calibration(expected, shown, variance, pairs, steps)


def _binned(chance: Tensor, shown: Tensor) -> np.ndarray:
    """[4, 16] of probabilities [b, A] and the items shown [b]."""
    place = (-chance.clamp(min=1e-300).log2()).floor().clamp(0, _BINS - 1).long()
    chosen = place.gather(1, shown[:, None])[:, 0]
    place, chance = place.flatten(), chance.flatten()
    parts = [torch.bincount(place, values, minlength=_BINS) for values in (chance, chance * (1 - chance))]
    count = torch.bincount(place, minlength=_BINS).double()
    return torch.stack([parts[0], torch.bincount(chosen, minlength=_BINS).double(), parts[1], count]).numpy()


def behaviours_of(behaviour: Policy | Sequence[Policy] | None, log: SessionLog) -> tuple[Policy | None, ...]:
    """The models that propensities are to come from, one after the other; (None,) where the log has its own."""
    several = tuple(behaviour) if isinstance(behaviour, Sequence) else (behaviour,)
    if not several:
        raise InputError("behaviour", "an empty list", "give the clones of the logging policy, or None")
    return several if log.propensity is None else (several[0],)


def over_behaviours(values: Tensor) -> tuple[Tensor, float]:
    """An estimate by each of M models of the propensities, [M, R+1]: the mean [R+1], and its deviation between models.

    nan for one model.
    """
    return values.mean(0), float(values[:, 0].std()) if len(values) > 1 else math.nan


def widened(
    value: float, bounds: tuple[float, float], between: float, models: int, confidence: float
) -> tuple[float, float]:
    """The bounds of an interval with a deviation between M models added to its variance; as they are for nan.

    Either half width becomes the root of the sum of its square and of the square of the deviation times Student's t
    with M - 1 degrees of freedom. It is not divided by √M: models fitted to one log are wrong together.
    """
    if math.isnan(between):
        return bounds
    more = float(stats.t.ppf(0.5 + confidence / 2.0, models - 1)) * between
    return value - math.hypot(value - bounds[0], more), value + math.hypot(bounds[1] - value, more)
