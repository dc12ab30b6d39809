"""A value among an ensemble of users: its parts, what its interval covers, and what a longer log is worth."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from statistics_helper import assert_mean, assert_rate_at_least

from recil.errors import InputError
from recil.evaluate.ensemble import EnsembleDifference, EnsembleValue, ensemble_difference, ensemble_value
from recil.evaluate.simulate import simulated_value
from recil.logs.session_log import SessionLog
from recil.policies.baselines import popular, uniform
from recil.random import Streams
from recil.sim.ensemble import UserEnsemble, fit_ensemble
from recil.sim.generate import Settings, Truth
from recil.sim.record import log_of
from recil.sim.user_config import UserConfig
from recil.sim.world import World

HORIZON = 2
WORLD = Settings(seed=0, horizon=HORIZON, items=4, slate_size=1, dimension=2, types=1, click_rate=0.15)
CONFIG = UserConfig(types=1, dimension=1, epochs=2, batch=1000, window=0)
MEMBERS = 24


@pytest.fixture(scope="module")
def truth() -> Truth:
    return Truth(WORLD)


def log_by_uniform(truth: Truth, sessions: int, seed: int) -> SessionLog:
    some = log_of([truth.world.rollout(truth.logging_policy, torch.arange(2), Streams(seed))], truth.world.item_ids)
    history = truth.world.rollout(uniform(some), torch.arange(sessions), Streams(seed))
    return log_of([history], truth.world.item_ids)


def fitted(log: SessionLog, members: int) -> UserEnsemble:
    return fit_ensemble(log, CONFIG, 0, members=members)


@pytest.fixture(scope="module")
def log(truth) -> SessionLog:
    return log_by_uniform(truth, 150, 20)


@pytest.fixture(scope="module")
def ensemble(log) -> UserEnsemble:
    return fitted(log, MEMBERS)


def few(ensemble: UserEnsemble) -> UserEnsemble:
    return replace(ensemble, members=ensemble.members[:3])


def test_the_parts_by_hand() -> None:
    """Two members that differ by 2 at every address: all of it is between them, none of it is noise."""
    address = np.array([0.0, 1.0, 5.0, 2.0])
    found = EnsembleValue.of(np.stack([address + 1, address, address + 2]), 0.9)
    assert found.value == 3.0 and found.members == (2.0, 4.0) and found.sessions == 4
    assert found.within == pytest.approx(np.std(address, ddof=1) / 2) and found.between == pytest.approx(math.sqrt(2))
    assert found.total == pytest.approx(math.hypot(found.within, found.between))
    within, between = found.within**2, 2.0
    degrees = (within + between) ** 2 / (within**2 / 3 + between**2 / 1)
    assert found.degrees == pytest.approx(degrees)
    half = stats.t.ppf(0.95, degrees) * found.total
    assert (found.low, found.high) == pytest.approx((3 - half, 3 + half))


def test_a_world_without_chance_has_a_value_without_doubt() -> None:
    found = EnsembleValue.of(np.full((4, 5), 2.0))
    assert (found.low, found.value, found.high, found.total) == (2.0, 2.0, 2.0, 0.0)


def drawn(seed: int, count: int, sessions: int, between: float, common: float) -> np.ndarray:
    """[1 + count, sessions] returns around a truth of 0: an error of the log, as the members have it once more.

    common: share of the variance of a return that all users at one address have in common.
    """
    draws = np.random.default_rng(seed)
    centre = between * draws.normal()
    means = np.append(centre, centre + between * draws.normal(size=count))
    shared = math.sqrt(common) * draws.normal(size=sessions)
    return means[:, None] + shared + math.sqrt(1 - common) * draws.normal(size=(1 + count, sessions))


@pytest.mark.parametrize("common", [0.0, 0.8])
def test_what_simulation_adds_is_not_taken_for_a_difference_between_users(common: float) -> None:
    """between² is unbiased where it is not cut off at 0. Without the correction it would be .04 + .1 (or .04 + .02)."""
    found = [EnsembleValue.of(drawn(seed, 9, 10, 0.2, common)) for seed in range(1500)]
    raw = np.array([np.var(each.members, ddof=1) - each.between**2 for each in found if each.between > 0])
    everything = np.array([each.between**2 for each in found])
    assert raw.mean() == pytest.approx((1 - common) / 10, rel=0.15)
    # Cutting off at 0 only adds.
    assert everything.mean() > 0.04 - 4.9 * everything.std() / math.sqrt(len(everything))
    certain = np.array([EnsembleValue.of(drawn(seed, 9, 10, 2.0, common)).between ** 2 for seed in range(1500)])
    assert_mean(certain, 4.0)


@pytest.mark.parametrize(("count", "sessions", "between"), [(5, 50, 1.0), (5, 50, 0.15), (5, 50, 0.0), (3, 10, 0.5)])
def test_the_interval_covers_as_often_as_it_says(count: int, sessions: int, between: float) -> None:
    """Where users differ more, as much, or not at all against the error of simulation. False alarm 1e-6."""
    found = [EnsembleValue.of(drawn(seed, count, sessions, between, 0.5)) for seed in range(1500)]
    assert_rate_at_least(sum(each.low <= 0 <= each.high for each in found), 1500, 0.95)
    if between == 1.0:
        assert_rate_at_least(sum(not each.low <= 0 <= each.high for each in found), 1500, 0.05)


def test_values_are_those_of_simulation(log, ensemble) -> None:
    policy, three = uniform(log), few(ensemble)
    found = ensemble_value(policy, three, HORIZON, 200, seed=4, gamma=0.5)
    singly = [
        simulated_value(policy, World(users, HORIZON), 200, 4, gamma=0.5) for users in (three.central, *three.members)
    ]
    assert found.value == singly[0].value and found.members == pytest.approx([each.value for each in singly[1:]])
    assert found.within == pytest.approx(singly[0].returns.std(ddof=1) / math.sqrt(200))
    assert found == ensemble_value(policy, three, HORIZON, 200, seed=4, gamma=0.5)
    assert found.value != ensemble_value(policy, three, HORIZON, 200, seed=5, gamma=0.5).value


def test_the_interval_holds_the_truth_and_users_differ_as_logs_do(truth, log, ensemble) -> None:
    """The users' value of the policy that wrote the log is in essence the log's mean, whose error is known.

    False alarms: 4 standard errors with 23 degrees of freedom or more, 6e-4; a chi-square with 23 degrees, 1e-6;
    the ratio of two of them, 1e-3.
    """
    longer = log_by_uniform(truth, 600, 20)
    policy = uniform(log)
    true = simulated_value(policy, truth.world, 20_000, seed=9).value
    found = {}
    for told, users in ((log, ensemble), (longer, fitted(longer, MEMBERS))):
        value = ensemble_value(policy, users, HORIZON, 1500)
        assert abs(value.value - true) < 4 * value.total
        per_session = np.add.reduceat(told.reward.sum(1), told.offsets[:-1])
        error = per_session.std(ddof=1) / math.sqrt(told.sessions)
        low, high = (math.sqrt(stats.chi2.ppf(tail, MEMBERS - 1) / (MEMBERS - 1)) for tail in (5e-7, 1 - 5e-7))
        assert low < value.between / error < high
        found[told.sessions] = value.between
    spread = math.sqrt(stats.f.isf(5e-4, MEMBERS - 1, MEMBERS - 1))
    assert 2 / spread < found[150] / found[600] < 2 * spread and 2 / spread > 0.97


def test_a_difference_is_paired(log, ensemble) -> None:
    one, other = uniform(log), popular(log)
    ensemble = few(ensemble)
    found = ensemble_difference(other, one, ensemble, HORIZON, 1000)
    values = [ensemble_value(policy, ensemble, HORIZON, 1000) for policy in (other, one)]
    assert isinstance(found, EnsembleDifference)
    assert found.value == pytest.approx(values[0].value - values[1].value)
    assert found.members == pytest.approx(np.subtract(values[0].members, values[1].members))
    assert found.within < 0.99 * math.hypot(values[0].within, values[1].within)
    nothing = ensemble_difference(one, one, ensemble, HORIZON, 200)
    assert (nothing.value, nothing.total, nothing.low, nothing.high) == (0.0, 0.0, 0.0, 0.0) and not nothing.clear


def test_it_prints_and_is_a_table() -> None:
    found = EnsembleDifference(0.5, 0.03, 0.04, 0.4, 0.6, 7.0, (0.4, 0.55), 100)
    line = "0.5 [0.4, 0.6] reward per session, 95% interval, ± 0.03 within, ± 0.04 between 2 fits, 100 simulated"
    assert found.clear and line in str(found) and str(found).startswith("difference ")
    tie = replace(found, low=-0.1)
    assert not tie.clear and str(tie).endswith("(tie)")
    (row,) = found.to_frame().to_dict("records")
    assert row["total"] == pytest.approx(0.05) and row["members"] == 2 and row["degrees"] == 7.0
    assert list(row)[:6] == ["value", "within", "between", "total", "low", "high"]


def test_what_cannot_be_valued_is_refused(log, ensemble) -> None:
    three = few(ensemble)
    with pytest.raises(InputError, match="sessions: 1 -> give 2 or more"):
        ensemble_value(uniform(log), three, HORIZON, 1)
    with pytest.raises(InputError, match="confidence"):
        ensemble_value(uniform(log), three, HORIZON, 10, confidence=95)
    with pytest.raises(InputError, match=r"world\.slate_size"):
        ensemble_value(uniform(log), three, HORIZON, 10, slate_size=2)
