"""What every estimator must do. Inherit, name the estimator, and pytest runs the rest.

class TestMine(EstimatorContract):
    estimator = my_estimator
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_sessions import MODELS, OF_FOLDS, OF_POSITIONS, OF_STEPS, some_sessions
from torch import Tensor

from recil.evaluate.arrays import Extra, SessionArrays
from recil.evaluate.estimators import Estimator
from recil.evaluate.sums import SessionSums

# The inherited tests run in several classes, which hypothesis would otherwise take for a mistake.
invariant = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.differing_executors])
seeds = st.integers(0, 10_000)
gammas = st.sampled_from([1.0, 0.9, 0.0])


def rows(arrays: SessionArrays, chosen: Tensor | slice) -> SessionArrays:
    return arrays.each(lambda part: part[chosen])


def on_policy(arrays: SessionArrays) -> SessionArrays:
    """All ratios 1, and models that expect of the target what they expect of the log."""
    extra = dict(arrays.extra)
    for name in (Extra.POSITION_LOG_RATIO, Extra.STEP_LOG_RATIO, Extra.CATEGORY_LOG_RATIO):
        extra[name] = torch.zeros_like(extra[name])
    extra[Extra.AGREES] = torch.ones_like(extra[Extra.AGREES])
    extra[Extra.POSITION_EXPECTED] = extra[Extra.POSITION_PREDICTED]
    extra[Extra.MRDR_EXPECTED] = extra[Extra.MRDR_PREDICTED]
    extra[Extra.FQE_EXPECTED] = extra[Extra.FQE_PREDICTED]
    log_weight = torch.zeros_like(arrays.log_weight)
    return replace(arrays, log_weight=log_weight, expected=arrays.predicted, extra=extra)


def without_models(arrays: SessionArrays) -> SessionArrays:
    extra = {name: torch.zeros_like(part) if name in MODELS else part for name, part in arrays.extra.items()}
    return replace(arrays, predicted=None, expected=None, extra=extra)


def with_reward(arrays: SessionArrays, reward: Tensor) -> SessionArrays:
    """reward [B, T], paid at the first position."""
    at_positions = torch.zeros_like(arrays.extra[Extra.POSITION_REWARD])
    at_positions[:, :, 0] = reward
    return replace(arrays, reward=reward, extra={**arrays.extra, Extra.POSITION_REWARD: at_positions})


def cut(arrays: SessionArrays) -> SessionArrays:
    """Without the padding that stands behind the longest of these sessions."""
    width = int(arrays.happened.sum(1).max())
    return arrays.each(lambda part: part[:, :width])


class EstimatorContract:
    """The invariants of METHODS section 4 that hold for every estimator."""

    estimator: ClassVar[Estimator]
    self_normalised: ClassVar[bool] = False
    # The direct method and shrinkage do not give back the mean; replay looks at whole sessions.
    mean_on_policy: ClassVar[bool] = True
    stepwise: ClassVar[bool] = True

    def value(self, arrays: SessionArrays) -> float:
        return float(self.values(arrays, torch.ones(1, len(arrays.reward), dtype=torch.float64))[0])

    def values(self, arrays: SessionArrays, counts: Tensor) -> Tensor:
        return type(self).estimator.value(self.sums(arrays, counts))

    def sums(self, arrays: SessionArrays, counts: Tensor) -> SessionSums:
        estimator = type(self).estimator
        own = () if estimator.weighting is None else (estimator.weighting,)
        return SessionSums.of(arrays, counts, estimator.terms, own)

    @invariant
    @given(seeds, gammas)
    def test_on_policy_is_the_mean_return(self, seed, gamma):
        if not self.mean_on_policy:
            return
        arrays = on_policy(some_sessions(seed, gamma))
        assert self.value(arrays) == pytest.approx(float(arrays.reward.sum(1).mean()), abs=1e-12)

    @invariant
    @given(seeds, gammas)
    def test_order_of_sessions_is_nothing(self, seed, gamma):
        arrays = some_sessions(seed, gamma)
        order = torch.randperm(len(arrays.reward), generator=torch.Generator().manual_seed(seed))
        assert self.value(rows(arrays, order)) == pytest.approx(self.value(arrays), rel=1e-12, abs=1e-12)

    @invariant
    @given(seeds, st.integers(1, 7))
    def test_padding_is_nothing(self, seed, extra):
        arrays = some_sessions(seed)
        padded = arrays.each(
            lambda part: torch.cat([part, torch.zeros_like(part[:, :1].repeat_interleave(extra, 1))], 1)
        )
        last = arrays.log_weight[:, -1:].expand(-1, extra)
        padded = replace(padded, log_weight=torch.cat([arrays.log_weight, last], 1))
        assert self.value(padded) == pytest.approx(self.value(arrays), rel=1e-12, abs=1e-12)

    @invariant
    @given(seeds, st.lists(st.integers(1, 11), max_size=4, unique=True))
    def test_split_and_merge_is_the_whole(self, seed, cuts):
        """Each part as narrow as its own sessions are short, in replicates too."""
        arrays = some_sessions(seed)
        counts = torch.poisson(torch.ones(7, 12), generator=torch.Generator().manual_seed(seed)).double()
        edges = [0, *sorted(cuts), 12]
        parts = [
            self.sums(cut(rows(arrays, slice(low, high))), counts[:, low:high])
            for low, high in itertools.pairwise(edges)
        ]
        merged = parts[0]
        for part in parts[1:]:
            merged = merged.merge(part)
        whole = self.sums(arrays, counts)
        same = {"rtol": 1e-10, "atol": 1e-12, "equal_nan": True}
        torch.testing.assert_close(type(self).estimator.value(merged), type(self).estimator.value(whole), **same)
        longest = merged.steps
        torch.testing.assert_close(merged.weights.effective_size, whole.weights.effective_size[:longest], **same)
        torch.testing.assert_close(merged.weights.largest_share, whole.weights.largest_share[:longest], **same)
        torch.testing.assert_close(merged.contributions.effective_size, whole.contributions.effective_size, **same)
        assert merged.rewarded == whole.rewarded
        for name, own in whole.own.items():
            found, columns = merged.own[name], slice(merged.steps)
            torch.testing.assert_close(found.weights.effective_size, own.weights.effective_size[columns], **same)
            torch.testing.assert_close(found.contributions.effective_size, own.contributions.effective_size, **same)
            scales = (part.weights.scale.exp() for part in (found, own))
            one, other = (part.weight * scale for part, scale in zip((found, own), scales, strict=True))
            torch.testing.assert_close(one, other[:, columns], **same)

    @invariant
    @given(seeds)
    def test_a_replicate_is_the_sample_it_takes(self, seed):
        """Counts 2, 0, 1, ... give what the estimator gives on those sessions repeated: no denominator is frozen."""
        arrays = some_sessions(seed)
        counts = torch.randint(0, 4, (12,), generator=torch.Generator().manual_seed(seed))
        counts[0] = 1
        repeated = rows(arrays, torch.repeat_interleave(torch.arange(12), counts))
        replicate = self.values(arrays, counts[None].double())
        assert float(replicate[0]) == pytest.approx(self.value(repeated), rel=1e-10, abs=1e-12)

    @invariant
    @given(seeds)
    def test_sessions_without_reward_count(self, seed):
        """As many sessions again, equal but for the reward, which is 0: half the value."""
        arrays = without_models(some_sessions(seed))
        silent = with_reward(arrays, torch.zeros_like(arrays.reward))
        both = self.sums(arrays, torch.ones(1, 12).double()).merge(self.sums(silent, torch.ones(1, 12).double()))
        assert float(type(self).estimator.value(both)) == pytest.approx(self.value(arrays) / 2, rel=1e-12)

    @invariant
    @given(seeds)
    def test_no_discounting_beyond_the_first_step(self, seed):
        arrays = some_sessions(seed, gamma=0.0)
        first = arrays.each(lambda part: part[:, :1])
        value = self.value(without_models(arrays))
        assert value == value
        if type(self).estimator.leans_on in ("step", "own") and self.stepwise:
            assert self.value(arrays) == pytest.approx(self.value(first), abs=1e-12)

    @pytest.mark.parametrize("log_ratio", [-3.0, 0.5, 1.0, 3.0])
    def test_five_hundred_steps_are_finite(self, log_ratio):
        """Weights from e**-1500 to e**1500 leave no nan and no infinity behind."""
        log_ratio = torch.full((4, 500), log_ratio, dtype=torch.float64)
        log_ratio[0] += 0.01
        happened = torch.ones(4, 500, dtype=torch.bool)
        reward = torch.full((4, 500), 0.01, dtype=torch.float64)
        by_step, by_position = torch.zeros(4, 500).double(), torch.zeros(4, 500, 1).double()
        arrays = SessionArrays(
            log_weight=log_ratio.cumsum(1),
            reward=reward,
            happened=happened,
            capped=~happened,
            extra={
                **dict.fromkeys(OF_STEPS, by_step),
                **dict.fromkeys(OF_FOLDS, torch.zeros(4, 1, 3).double()),
                **dict.fromkeys(OF_POSITIONS, by_position),
                Extra.SHOWN: by_position + 1,
                Extra.POSITION_LOG_RATIO: log_ratio[:, :, None],
                Extra.POSITION_REWARD: reward[:, :, None],
                Extra.STEP_LOG_RATIO: log_ratio,
                Extra.CATEGORY_LOG_RATIO: log_ratio,
                Extra.AGREES: by_step + 1,
                Extra.STATE: by_position + 1,
            },
        )
        values = self.values(arrays, torch.ones(3, 4, dtype=torch.float64))
        assert values.isfinite().all()
        if self.self_normalised:
            assert values.tolist() == pytest.approx([5.0] * 3)

    @invariant
    @given(seeds)
    def test_constant_reward(self, seed):
        """Self-normalised estimators give back a constant, in every replicate."""
        if not self.self_normalised:
            return
        arrays = some_sessions(seed)
        same = torch.zeros_like(arrays.reward)
        same[:, 0] = 0.25
        counts = torch.randint(1, 4, (6, 12), generator=torch.Generator().manual_seed(seed)).double()
        assert self.values(with_reward(arrays, same), counts).tolist() == pytest.approx([0.25] * 6, abs=1e-12)
