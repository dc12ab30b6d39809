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
from torch import Tensor

from recil.evaluate.estimators import Estimator
from recil.evaluate.sums import SessionArrays, SessionSums
from recil.ops.importance import cumulative_log_weight
from recil.ops.returns import discounts

# The inherited tests run in several classes, which hypothesis would otherwise take for a mistake.
invariant = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.differing_executors])
seeds = st.integers(0, 10_000)
gammas = st.sampled_from([1.0, 0.9, 0.0])


def some_sessions(seed: int, gamma: float = 1.0, sessions: int = 12, steps: int = 5) -> SessionArrays:
    """Sessions of 1 to `steps` steps, ratios around 1, sparse rewards, a reward model that is wrong."""
    draw = torch.Generator().manual_seed(seed)
    happened = torch.arange(steps) < torch.randint(1, steps + 1, (sessions, 1), generator=draw)
    discount = discounts(steps, gamma, torch.zeros(0, dtype=torch.float64))

    def numbers() -> Tensor:
        return torch.where(happened, torch.rand(sessions, steps, generator=draw, dtype=torch.float64), 0.0)

    clicks = torch.where(numbers() > 0.6, 1.0, 0.0).double()
    return SessionArrays(
        log_weight=cumulative_log_weight(4 * numbers() - 2, happened),
        reward=clicks * discount,
        happened=happened,
        capped=torch.zeros_like(happened),
        predicted=numbers() * discount,
        expected=numbers() * discount,
    )


def rows(arrays: SessionArrays, chosen: Tensor | slice) -> SessionArrays:
    return SessionArrays(**{name: part[chosen] for name, part in vars(arrays).items()})


def cut(arrays: SessionArrays) -> SessionArrays:
    """Without the padding that stands behind the longest of these sessions."""
    width = int(arrays.happened.sum(1).max())
    return SessionArrays(**{name: part[:, :width] for name, part in vars(arrays).items()})


class EstimatorContract:
    """The invariants of METHODS section 4 that hold for every estimator."""

    estimator: ClassVar[Estimator]
    self_normalised: ClassVar[bool] = False

    def value(self, arrays: SessionArrays) -> float:
        return float(self.values(arrays, torch.ones(1, len(arrays.reward), dtype=torch.float64))[0])

    def values(self, arrays: SessionArrays, counts: Tensor) -> Tensor:
        return type(self).estimator.value(SessionSums.of(arrays, counts))

    @invariant
    @given(seeds, gammas)
    def test_on_policy_is_the_mean_return(self, seed, gamma):
        arrays = some_sessions(seed, gamma)
        arrays = replace(arrays, log_weight=torch.zeros_like(arrays.log_weight), expected=arrays.predicted)
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
        zeros = torch.zeros(len(arrays.reward), extra, dtype=torch.float64)
        padded = SessionArrays(
            log_weight=torch.cat([arrays.log_weight, arrays.log_weight[:, -1:].expand(-1, extra)], 1),
            reward=torch.cat([arrays.reward, zeros], 1),
            happened=torch.cat([arrays.happened, zeros.bool()], 1),
            capped=torch.cat([arrays.capped, zeros.bool()], 1),
            predicted=torch.cat([arrays.predicted, zeros], 1),
            expected=torch.cat([arrays.expected, zeros], 1),
        )
        assert self.value(padded) == pytest.approx(self.value(arrays), rel=1e-12, abs=1e-12)

    @invariant
    @given(seeds, st.lists(st.integers(1, 11), max_size=4, unique=True))
    def test_split_and_merge_is_the_whole(self, seed, cuts):
        """Each part as narrow as its own sessions are short, in replicates too."""
        arrays = some_sessions(seed)
        counts = torch.poisson(torch.ones(7, 12), generator=torch.Generator().manual_seed(seed)).double()
        edges = [0, *sorted(cuts), 12]
        parts = [
            SessionSums.of(cut(rows(arrays, slice(low, high))), counts[:, low:high])
            for low, high in itertools.pairwise(edges)
        ]
        merged = parts[0]
        for part in parts[1:]:
            merged = merged.merge(part)
        whole = SessionSums.of(arrays, counts)
        same = {"rtol": 1e-10, "atol": 1e-12, "equal_nan": True}
        torch.testing.assert_close(type(self).estimator.value(merged), type(self).estimator.value(whole), **same)
        longest = merged.steps
        torch.testing.assert_close(merged.weights.effective_size, whole.weights.effective_size[:longest], **same)
        torch.testing.assert_close(merged.weights.largest_share, whole.weights.largest_share[:longest], **same)
        torch.testing.assert_close(merged.contributions.effective_size, whole.contributions.effective_size, **same)
        assert merged.rewarded == whole.rewarded

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
        arrays = some_sessions(seed)
        arrays = replace(arrays, predicted=None, expected=None)
        silent = replace(arrays, reward=torch.zeros_like(arrays.reward))
        both = SessionSums.of(arrays, torch.ones(1, 12).double()).merge(
            SessionSums.of(silent, torch.ones(1, 12).double())
        )
        assert float(type(self).estimator.value(both)) == pytest.approx(self.value(arrays) / 2, rel=1e-12)

    @invariant
    @given(seeds)
    def test_no_discounting_beyond_the_first_step(self, seed):
        arrays = some_sessions(seed, gamma=0.0)
        first = SessionArrays(**{name: part[:, :1] for name, part in vars(arrays).items()})
        value = self.value(replace(arrays, predicted=None, expected=None))
        assert value == value
        if type(self).estimator.leans_on == "step":
            assert self.value(arrays) == pytest.approx(self.value(first), abs=1e-12)

    @pytest.mark.parametrize("log_ratio", [-3.0, 0.5, 1.0, 3.0])
    def test_five_hundred_steps_are_finite(self, log_ratio):
        """Weights from e**-1500 to e**1500 leave no nan and no infinity behind."""
        log_ratio = torch.full((4, 500), log_ratio, dtype=torch.float64)
        log_ratio[0] += 0.01
        happened = torch.ones(4, 500, dtype=torch.bool)
        arrays = SessionArrays(
            log_weight=log_ratio.cumsum(1),
            reward=torch.full((4, 500), 0.01, dtype=torch.float64),
            happened=happened,
            capped=~happened,
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
        assert self.values(replace(arrays, reward=same), counts).tolist() == pytest.approx([0.25] * 6, abs=1e-12)
