"""Known worlds: users fitted to a mediocre recommender's log say what other policies are worth, and how users stay.

The quick tests are of small worlds where clicks are frequent. The slow ones are of 20,000 sessions in worlds of which
each makes one trait strong, with an ensemble; `benchmarks/users.py` has more worlds and writes a page.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from known_users import SMALL, altered, sessions_of
from scipy import stats
from statistics_helper import assert_mean, assert_rate_at_least

from recil.evaluate.components import EnsembleValue
from recil.evaluate.simulate import simulate
from recil.logs.session_log import SessionLog
from recil.policies.baselines import knn, popular, uniform
from recil.policies.protocol import Policy
from recil.sim.ensemble import fit_ensemble
from recil.sim.fit import fit_users
from recil.sim.generate import Recommender, Settings, Truth
from recil.sim.predict import predict
from recil.sim.user_config import UserConfig
from recil.sim.users import UserModel
from recil.sim.world import World

QUICK = UserConfig(types=3, dimension=2, epochs=6, batch=128, learning_rate=0.02, choice="multinomial", window=0)
SEED = 5


def policies(truth: Truth, log: SessionLog) -> dict[str, Policy]:
    """Eight that did not write the log."""
    assert isinstance(truth.world, World)
    catalogue = truth.world.users.behaviour.catalogue({})
    appeal, direction = catalogue.appeal, catalogue.direction
    known = {"greedy": 30.0, "anti-greedy": -30.0, "softmax 1": 1.0, "softmax 1/3": 3.0}
    found: dict[str, Policy] = {name: Recommender(by * appeal, direction, 0.0, 0.0) for name, by in known.items()}
    found |= {"faithful": Recommender(appeal, direction, 3.0, 0.0), "uniform": uniform(log)}
    return {**found, "popular": popular(log), "kNN": knn(log)}


def met(policy: Policy, users: UserModel, horizon: int, sessions: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns and lengths of sessions; all policies and worlds meet them at the same addresses."""
    log = simulate(policy, World(users, horizon, known=True), sessions, SEED)
    return np.add.reduceat(log.reward.sum(1, dtype=np.float64), log.offsets[:-1]), log.lengths.astype(float)


def errors(truth: Truth, log: SessionLog, users: UserModel, sessions: int = 2000) -> tuple[float, np.ndarray]:
    """Rank correlation of simulated with true values, and relative errors."""
    both = []
    for policy in policies(truth, log).values():
        who = (truth.world.users, users)
        both.append([met(policy, each, truth.settings.horizon, sessions)[0].mean() for each in who])
    true, found = np.array(both).T
    return float(stats.spearmanr(true, found)[0]), np.abs(found / true - 1)


def test_what_other_policies_are_worth_is_known() -> None:
    """And it takes more than the click rate: without the items' appeal the same users fail."""
    truth = Truth(SMALL)
    log = sessions_of(truth, 2500)
    users = fit_users(log, QUICK)
    ranks, off = errors(truth, log, users)
    assert ranks >= 0.9 and np.median(off) <= 0.1
    plain = altered(users, item_appeal=torch.zeros(8))
    ranks, off = errors(truth, log, plain, 1000)
    assert ranks < 0.9 or np.median(off) > 0.1


@pytest.mark.parametrize("rate", [0.001, 0.01, 0.1, 0.5])
def test_simulated_clicks_are_as_frequent_as_logged_ones(rate: float) -> None:
    """Of as many sessions, by the same policy; false alarms: one in a million."""
    settings = SMALL.model_copy(
        update={"click_rate": rate, "slate_size": 1 if rate > 0.3 else 2, "interest_spread": 0.8}
    )
    truth = Truth(settings)
    log = sessions_of(truth, 3000)
    users = fit_users(log, UserConfig(types=2, dimension=2, epochs=2, choice="multinomial", window=0))
    clicks, lengths = met(truth.logging_policy, users, settings.horizon, 3000)
    logged = np.add.reduceat(log.reward.sum(1, dtype=np.float64), log.offsets[:-1])
    assert_mean(clicks, float(logged.mean()))
    assert_mean(lengths, float(log.lengths.mean()))


@pytest.mark.parametrize(("impatience", "leaving"), [(1.5, 0.05), (0.0, 0.2)])
def test_sessions_react_to_the_policy_where_the_world_says_so(impatience: float, leaving: float) -> None:
    """Mean lengths under the best and under the worst items: they differ by more than a step, or by nothing."""
    truth = Truth(SMALL.model_copy(update={"impatience": impatience, "leaving_rate": leaving, "horizon": 8}))
    log = sessions_of(truth, 2000)
    users = fit_users(log, QUICK)
    both = policies(truth, log)
    found, true = (
        [met(both[name], each, 8, 2000)[1].mean() for name in ("greedy", "anti-greedy")]
        for each in (users, truth.world.users)
    )
    assert found == pytest.approx(true, rel=0.05)
    reaction = true[0] - true[1]
    assert reaction > 1 if impatience else abs(reaction) < 0.1
    assert found[0] - found[1] == pytest.approx(reaction, abs=0.3)


STRONG = {
    "sparse": {"items": 300, "click_rate": 0.0075},
    "impatient": {"click_rate": 0.05, "leaving_rate": 0.04, "impatience": 0.8},
    "drift": {"click_rate": 0.03, "click_gain": 1.8, "skip_gain": 0.3, "recommender_memory": 1.5},
}


def strong(name: str) -> tuple[Truth, SessionLog]:
    truth = Truth(Settings.model_validate({"sessions": 20_000, "items": 100, **STRONG[name]}))
    return truth, truth.log()


@pytest.mark.slow
@pytest.mark.parametrize("name", list(STRONG))
def test_values_and_their_intervals_in_strong_worlds(name: str) -> None:
    """Intervals that hold: no fewer than chance allows of a true share of nine in ten, one alarm in a thousand."""
    truth, log = strong(name)
    ensemble = fit_ensemble(log, UserConfig(choice="multinomial"), members=3)
    who = [truth.world.users, ensemble.central, *ensemble.members]
    true, error, values = [], [], []
    for policy in policies(truth, log).values():
        returns = [met(policy, each, 12, 10_000)[0] for each in who]
        true.append(returns[0].mean())
        error.append(returns[0].std() / 100)
        values.append(EnsembleValue.of(np.stack(returns[1:])))
    found = np.array([value.value for value in values])
    assert stats.spearmanr(true, found)[0] >= 0.9
    assert np.median(np.abs(found / np.array(true) - 1)) <= 0.1
    half = np.hypot([value.high - value.value for value in values], 1.96 * np.array(error))
    assert_rate_at_least(int((np.abs(found - true) <= half).sum()), len(found), 0.9, false_alarm=1e-3)


@pytest.mark.slow
def test_longer_logs_tell_more_of_the_users() -> None:
    truth, log = strong("impatient")
    fresh = simulate(truth.logging_policy, truth.world, 4000, SEED)
    own, shown = predict(truth.world.users, fresh), fresh.items >= 0
    clicks, leaving, impatience = [], [], []
    for sessions in (1000, 5000, 20_000):
        users = fit_users(log.select(np.arange(sessions)), UserConfig(choice="multinomial", window=0))
        found = predict(users, fresh)
        clicks.append(np.sqrt(((own.click - found.click)[shown] ** 2).mean()))
        leaving.append(np.sqrt(((own.leave - found.leave) ** 2).mean()))
        impatience.append(abs(float(users.behaviour.hazard_impatience) - 0.8))
    assert clicks[0] > clicks[1] > clicks[2] and leaving[0] > leaving[2]
    assert impatience[2] < max(0.15, impatience[0])
