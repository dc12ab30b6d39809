import math

import numpy as np
import pytest
import torch
from logs_of_worlds import case
from scipy import stats
from statistics_helper import assert_rate_at_least
from tiny_worlds import MoodyWorld, RecallPolicy

from recil.errors import InputError
from recil.evaluate import simulate, simulated_value
from recil.evaluate.intervals import student_interval
from recil.evaluate.simulate import log_of
from recil.exact.enumerate import true_value
from recil.logs.history import History
from recil.policies.protocol import log_prob_of_sessions


def test_student_interval_by_the_book():
    values = [1.0, 2.0, 4.0, 5.0]
    mean, low, high = student_interval(values, 0.9)
    half = stats.t.ppf(0.95, 3) * np.std(values, ddof=1) / 2
    assert (mean, low, high) == pytest.approx((3.0, 3.0 - half, 3.0 + half))
    assert student_interval([7.0]) == pytest.approx((7.0, math.nan, math.nan), nan_ok=True)
    with pytest.raises(InputError, match="at least one number"):
        student_interval([])


def test_student_interval_covers_as_often_as_it_says():
    """1 - α in place of 1 - α/2 would cover 90%. 4,000 samples of 5; false alarm 1e-6 on either side."""
    draws = np.random.default_rng(0).normal(size=(4000, 5))
    covered = sum(low <= 0 <= high for _, low, high in map(student_interval, draws))
    assert_rate_at_least(covered, 4000, 0.95)
    assert_rate_at_least(4000 - covered, 4000, 0.05)


@pytest.mark.parametrize("gamma", [1.0, 0.5])
def test_simulated_value_is_the_true_one(gamma):
    world, policy = MoodyWorld.make(3, 1, 3), RecallPolicy.make(3, 4)
    found = simulated_value(policy, world, 20_000, seed=1, gamma=gamma, confidence=1 - 1e-6)
    assert found.low <= true_value(world, policy, gamma) <= found.high
    assert found.returns.shape == (20_000,)
    assert found.high - found.low < 0.1


def test_batches_change_nothing():
    world, policy = MoodyWorld.make(3, 2, 3), RecallPolicy.make(3, 4)
    whole, parts = (simulated_value(policy, world, 300, seed=2, batch=size) for size in (300, 77))
    np.testing.assert_array_equal(whole.returns, parts.returns)
    first, second = (simulate(policy, world, 300, seed=2, batch=size) for size in (300, 77))
    np.testing.assert_array_equal(first.items, second.items)


def test_a_simulated_log_is_a_log_with_the_policys_propensities():
    small = case(sessions=200)
    log = small.log
    assert log.sessions == 200 and log.session_ids.tolist() == list(range(200))
    assert log.items.dtype == np.int32 and log.reward.dtype == log.propensity.dtype == np.float32
    assert log.terminated is not None and 0 < log.terminated.sum() < 200
    assert (log.lengths[~log.terminated] == small.world.horizon).all()
    batch = log.batch()
    torch.testing.assert_close(
        log_prob_of_sessions(small.behaviour, batch).exp(), batch.propensity.double(), atol=1e-6, rtol=0
    )
    value = simulated_value(small.behaviour, small.world, 200, seed=11)
    assert log.reward.sum() == pytest.approx(value.returns.sum())


def test_names_of_items_and_bad_sizes():
    world, policy = MoodyWorld.make(3, 1, 2), RecallPolicy.make(3, 4)
    assert simulate(policy, world, 5, item_ids=["a", "b", "c"]).item_ids.tolist() == ["a", "b", "c"]
    with pytest.raises(InputError, match="2 ids"):
        simulate(policy, world, 5, item_ids=["a", "b"])
    with pytest.raises(InputError, match="sessions"):
        simulated_value(policy, world, 0)


def test_columns_of_simulated_sessions_are_kept():
    def session(address, length):
        items = torch.where(torch.arange(3) < length, 0, -1)[None, :, None]
        return History(
            items=items,
            reward=(items >= 0).float(),
            length=torch.tensor([length]),
            session=torch.tensor([address]),
            feedback={"mood": torch.full((1, 3, 1), 1), "dwell": torch.full((1, 3, 1), 0.5)},
            context={"hour": torch.full((1, 4), 2)},
            user={"age": torch.tensor([33.0])},
        )

    log = log_of([session(4, 3), session(9, 1)], np.array(["a"]), {"mood": ("low", "high")})
    assert log.session_ids.tolist() == [4, 9] and log.lengths.tolist() == [3, 1]
    assert log.feedback["mood"].categories == ("low", "high") and log.feedback["mood"].values.shape == (4, 1)
    assert log.feedback["dwell"].categories is None
    assert log.context["hour"].categories == ("0", "1", "2") and log.context["hour"].values.shape == (4,)
    assert log.user_features["age"].values.tolist() == [33.0, 33.0]
    assert log.propensity is None and log.terminated is None
    with pytest.raises(InputError, match="1 ended before a slate"):
        log_of([session(1, 0)], np.array(["a"]))


class Couples:
    """Sessions 2 i and 2 i + 1 fare alike: a world of populations of two."""

    catalogue, slate_size, horizon, population = 3, 1, 1, 2

    def rollout(self, policy, sessions, streams):
        luck = streams.uniform("luck", sessions // 2)
        return History.start(sessions, 1).append(torch.zeros_like(sessions)[:, None], luck, torch.ones_like(luck))


def test_sessions_that_meet_count_as_one_in_the_interval():
    found = simulated_value(RecallPolicy.make(3, 4), Couples(), 400, seed=3, batch=33)
    couples = found.returns.reshape(-1, 2)
    np.testing.assert_array_equal(couples[:, 0], couples[:, 1])
    assert (found.value, found.low, found.high) == pytest.approx(student_interval(couples[:, 0]))
    assert found.sessions == 400
