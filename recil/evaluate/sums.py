"""What every estimator is computed from: sums over sessions, one row per bootstrap replicate.

The sums are all that is kept of a log, so one pass and a fixed amount of memory serve every estimator and replicate,
and the sums of two parts of a log merge into those of the whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor

from recil.errors import InputError
from recil.evaluate.arrays import SessionArrays as SessionArrays
from recil.evaluate.bootstrap import totals
from recil.evaluate.influence import Influence, influences
from recil.evaluate.spread import Spread, log_total, relative, repeat_last, unscale
from recil.evaluate.terms import StepTerm, Term, TermSums, Weighting, WeightSums

_Found = TypeVar("_Found", TermSums, WeightSums)


def _gathered(found: Mapping[str, _Found], name: str) -> _Found:
    if name not in found:
        raise InputError("estimators", f"{name} was not gathered in the pass over the log", "ask for it beforehand")
    return found[name]


def _append_zeros(values: Tensor, columns: int) -> Tensor:
    return torch.nn.functional.pad(values, (0, columns - values.shape[-1]))


@dataclass(frozen=True)
class SessionSums:
    """Sums over sessions. R + 1 rows: row 0 counts every session once, the others are bootstrap replicates.

    sessions        [R+1], how many sessions
    returns         [R+1], sum of G, the discounted return
    whole           [R+1], sum of w_{0:T-1} G / e**scale of the last step
    weight, reward, predicted, expected
                    [R+1, T], sums of w_{0:t}, w_{0:t} r_t and w_{0:t} Q_t over e**scale_t, and of w_{0:t-1} V_t over
                    e**scale_{t-1}
    weights         Spread over the T steps' weights; its scale is the scale meant above
    contributions   Spread of |G|, w_{0:T-1} |G| and sum_t |w_{0:t} r_t| over sessions: 3 columns
    influence       how much single sessions move estimates of these three kinds
    alive           [T], sessions that reached the step
    capped          [T], sessions whose weight at the step the cap changed, ended ones included
    rewarded        sessions with any reward
    terms, own      what only some estimators need, by name
    """

    sessions: Tensor
    returns: Tensor
    whole: Tensor
    weight: Tensor
    reward: Tensor
    predicted: Tensor
    expected: Tensor
    weights: Spread
    contributions: Spread
    influence: Influence
    alive: Tensor
    capped: Tensor
    rewarded: int
    terms: Mapping[str, TermSums] = field(default_factory=dict)
    own: Mapping[str, WeightSums] = field(default_factory=dict)

    @staticmethod
    def of(
        arrays: SessionArrays,
        counts: Tensor,
        terms: Sequence[Term | StepTerm] = (),
        weightings: Sequence[Weighting] = (),
        mean: Tensor | None = None,
    ) -> SessionSums:
        """counts: [R+1, B], how often each replicate takes each session; row 0 is ones. mean [T or more]: the log's
        mean reward by step, which influences are counted from; 0 when None."""
        weights = Spread.of(arrays.log_weight)
        weight = relative(arrays.log_weight, weights.scale)
        tables = {term.name: term.table(arrays) for term in terms}
        own = {weighting.name: weighting.table(arrays) for weighting in weightings}
        parts = _parts(arrays, weight)
        parts |= {("term", name): table.numbers for name, table in tables.items() if table.resampled}
        parts |= {("own", name): table.weight for name, table in own.items()}
        found = totals(counts, parts)
        nothing = torch.zeros_like(found["", "weight"])
        return SessionSums(
            sessions=found["", "sessions"],
            returns=found["", "returns"],
            whole=found["", "whole"],
            weight=found["", "weight"],
            reward=found["", "reward"],
            predicted=found.get(("", "predicted"), nothing),
            expected=found.get(("", "expected"), nothing),
            weights=weights,
            contributions=Spread.of(log_contributions(arrays)),
            influence=Influence.of(*influences(arrays, torch.zeros_like(arrays.reward[0]) if mean is None else mean)),
            alive=arrays.happened.double().sum(0),
            capped=arrays.capped.double().sum(0),
            rewarded=int((arrays.reward != 0).any(1).sum()),
            terms={
                name: TermSums(found["term", name] if table.resampled else table.once, table.scale)
                for name, table in tables.items()
            },
            own={name: table.sums(found["own", name]) for name, table in own.items()},
        )

    def merge(self, other: SessionSums) -> SessionSums:
        """The sums over both sets of sessions, which share none."""
        steps = max(self.steps, other.steps)
        first, second = self._widen(steps), other._widen(steps)
        weights = first.weights.merge(second.weights)
        here, there = relative(first.weights.scale, weights.scale), relative(second.weights.scale, weights.scale)
        here_before, there_before = _one_step_later(here), _one_step_later(there)
        return SessionSums(
            sessions=first.sessions + second.sessions,
            returns=first.returns + second.returns,
            whole=first.whole * here[-1] + second.whole * there[-1],
            weight=first.weight * here + second.weight * there,
            reward=first.reward * here + second.reward * there,
            predicted=first.predicted * here + second.predicted * there,
            expected=first.expected * here_before + second.expected * there_before,
            weights=weights,
            contributions=first.contributions.merge(second.contributions),
            influence=first.influence.merge(second.influence),
            alive=first.alive + second.alive,
            capped=first.capped + second.capped,
            rewarded=first.rewarded + second.rewarded,
            terms={name: part.merge(other.terms[name]) for name, part in self.terms.items()},
            own={name: part.merge(other.own[name]) for name, part in self.own.items()},
        )

    def term(self, name: str) -> TermSums:
        """Raises InputError where the pass over the log did not gather it."""
        return _gathered(self.terms, name)

    def own_weights(self, name: str) -> WeightSums:
        """Raises InputError where the pass over the log did not gather them."""
        return _gathered(self.own, name)

    @property
    def steps(self) -> int:
        return self.weight.shape[1]

    @property
    def unit(self) -> Tensor:
        """[T], what the scaled sums at each step are multiplied by."""
        return unscale(self.weights.scale)

    @property
    def unit_before(self) -> Tensor:
        """[T], the same for the sums of w_{0:t-1} V_t."""
        return _one_step_later(self.unit)

    def _widen(self, steps: int) -> SessionSums:
        return SessionSums(
            sessions=self.sessions,
            returns=self.returns,
            whole=self.whole,
            weight=repeat_last(self.weight, steps),
            reward=_append_zeros(self.reward, steps),
            predicted=_append_zeros(self.predicted, steps),
            expected=_append_zeros(self.expected, steps),
            weights=self.weights.widen(steps),
            contributions=self.contributions,
            influence=self.influence,
            alive=_append_zeros(self.alive, steps),
            capped=repeat_last(self.capped, steps),
            rewarded=self.rewarded,
            terms=self.terms,
            own=self.own,
        )


def _one_step_later(values: Tensor) -> Tensor:
    """[T], shifted by one step; before the first step the weight is 1."""
    return torch.cat([torch.ones_like(values[:1]), values[:-1]])


def _parts(arrays: SessionArrays, weight: Tensor) -> dict[tuple[str, str], Tensor]:
    """What every estimator needs summed, by name: [B] or [B, T]; weight [B, T] is w_{0:t} over its scale."""
    gain = arrays.reward.sum(1)
    found = {
        "sessions": torch.ones_like(gain),
        "returns": gain,
        "whole": weight[:, -1] * gain,
        "weight": weight,
        "reward": weight * arrays.reward,
    }
    if arrays.predicted is not None:
        found["predicted"] = weight * arrays.predicted
    if arrays.expected is not None:
        found["expected"] = torch.cat([torch.ones_like(weight[:, :1]), weight[:, :-1]], 1) * arrays.expected
    return {("", name): part for name, part in found.items()}


def log_contributions(arrays: SessionArrays) -> Tensor:
    """log of |G|, w_{0:T-1} |G| and sum_t |w_{0:t} r_t|, [B, 3]."""
    log_size = arrays.reward.abs().sum(1).log()
    by_step = log_total(arrays.log_weight + arrays.reward.abs().log())
    return torch.stack([log_size, log_size + arrays.log_weight[:, -1], by_step], 1)
