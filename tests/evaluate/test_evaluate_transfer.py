"""Train in simulation, test on real: users that are true teach what the log teaches, broken ones do not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from statistics_helper import assert_mean

from recil.errors import InputError
from recil.evaluate.transfer import Gap, Transfer, _auc_gap, _mean_gap, simulated_clicks, transfer
from recil.logs.session_log import Column, SessionLog
from recil.policies.baselines import uniform
from recil.random import Streams
from recil.sim.behaviour import Behaviour
from recil.sim.generate import Settings, Truth
from recil.sim.rates import log_losses
from recil.sim.record import log_of
from recil.sim.users import UserModel

# Items that differ much, clicks in plenty: what a rate per item learns is worth having.
SETTINGS = Settings(
    seed=3, horizon=4, items=6, slate_size=2, dimension=2, types=2, click_rate=0.2, appeal_spread=1.0, click_gain=1.5
)


@pytest.fixture(scope="module")
def users() -> UserModel:
    return Truth(SETTINGS).world.users


def log_of_world(sessions: int, seed: int) -> SessionLog:
    truth = Truth(SETTINGS)
    names = truth.world.item_ids
    some = log_of([truth.world.rollout(truth.logging_policy, torch.arange(2), Streams(seed))], names)
    return log_of([truth.world.rollout(uniform(some), torch.arange(sessions), Streams(seed))], names)


@pytest.fixture(scope="module")
def train() -> SessionLog:
    return log_of_world(3000, 1)


@pytest.fixture(scope="module")
def test() -> SessionLog:
    return log_of_world(3000, 2)


def altered(users: UserModel, **values) -> UserModel:
    behaviour = Behaviour(users.behaviour.layout).double()
    behaviour.load_state_dict(users.behaviour.state_dict())
    with torch.no_grad():
        for name, value in values.items():
            getattr(behaviour, name).copy_(torch.as_tensor(value))
    return replace(users, behaviour=behaviour.requires_grad_(False))


def test_the_true_users_teach_what_the_log_teaches(users, train, test) -> None:
    """The gap of the truth is chance alone: beyond 5 standard errors once in 1.7 million."""
    found = transfer(train, test, users)
    assert abs(found.log_loss_gap.value) < 5 * found.log_loss_gap.error
    assert abs(found.auc_gap.value) < 5 * found.auc_gap.error
    assert found.constant.log_loss - found.real.log_loss > 20 * found.log_loss_gap.error  # there was something to learn
    assert found.constant.auc == pytest.approx(0.5) and found.real.auc > 0.65
    assert found.kept == pytest.approx(1.0, abs=0.05)
    assert (found.trained_on, found.sessions, found.impressions) == (3000, test.sessions, test.impressions)


def test_users_who_have_the_items_wrong_teach_worse(users, train, test) -> None:
    found = transfer(train, test, altered(users, item_appeal=users.behaviour.item_appeal.flip(0)))
    assert found.worse and found.kept < 0.5
    assert found.auc_gap.value < -5 * found.auc_gap.error
    assert found.log_loss_gap.value == pytest.approx(found.simulated.log_loss - found.real.log_loss)
    assert found.auc_gap.value == pytest.approx(found.simulated.auc - found.real.auc)


def test_a_learner_with_a_memory_sees_what_rates_cannot(users, train, test) -> None:
    """Users without drift: their click rates by item may pass, what follows a click may not."""

    class ClickedBefore:
        """The click rate by item, with and without a click on this very item at the step before."""

        def __init__(self, log: SessionLog) -> None:
            groups, shown = self._groups(log), log.items >= 0
            clicks = np.bincount(groups[shown], log.reward[shown], minlength=2 * log.catalogue)
            self.rate = (clicks + 1) / (np.bincount(groups[shown], minlength=2 * log.catalogue) + 5)

        def _groups(self, log: SessionLog) -> np.ndarray:
            clicked = np.where(log.reward > 0, log.items, -2).max(1)
            before = np.append(-2, clicked[:-1])
            before[log.offsets[:-1]] = -2
            return 2 * np.maximum(log.items, 0) + (log.items == before[:, None])

        def predict(self, log: SessionLog) -> np.ndarray:
            return self.rate[self._groups(log)[log.items >= 0]]

    frozen = altered(users, click_gain=0.0)
    by_rates, by_memory = (transfer(train, test, frozen, *learner) for learner in ((), (ClickedBefore,)))
    assert by_memory.worse and by_memory.log_loss_gap.value > 3 * by_rates.log_loss_gap.value
    assert not transfer(train, test, users, ClickedBefore).log_loss_gap.value > 5 * by_memory.log_loss_gap.error


def test_simulated_clicks_come_at_the_users_rate_on_the_logged_slates(users, train) -> None:
    answered = simulated_clicks(users, train, seed=5)
    assert (answered.items == train.items).all() and (answered.offsets == train.offsets).all()
    assert (answered.reward != train.reward).any()
    assert set(np.unique(answered.reward)) == {0.0, 1.0} and answered.reward.sum(1).max() == 1
    clicks = np.add.reduceat(answered.reward.sum(1, dtype=float), train.offsets[:-1])
    logged = np.add.reduceat(train.reward.sum(1, dtype=float), train.offsets[:-1])
    assert_mean(clicks - logged, 0.0)  # false alarm 1e-6


def test_a_simulated_click_depends_on_the_seed_and_the_session_alone(users, train) -> None:
    whole, parts = (simulated_clicks(users, train, seed=5, batch=size) for size in (1024, 77))
    np.testing.assert_array_equal(whole.reward, parts.reward)
    assert (whole.reward != simulated_clicks(users, train, seed=6).reward).any()


def test_moods_follow_the_users_own_clicks(users, train) -> None:
    """Where every click makes the item irresistible and nothing tires, one click is followed by clicks."""
    drawn = altered(users, click_gain=60.0, item_appeal=0.0, fatigue_strength=-20.0, reversion=-20.0)
    clicks = simulated_clicks(drawn, train, seed=5).reward.sum(1) > 0
    inner = np.setdiff1d(np.arange(1, train.steps), train.offsets)
    after_click, else_ = clicks[inner][clicks[inner - 1]].mean(), clicks[inner][~clicks[inner - 1]].mean()
    assert after_click > else_ + 0.2


def test_feedback_beside_the_click_teaches_neither_side(users, train, test) -> None:
    seen = []

    def learner(log: SessionLog):
        seen.append(sorted(log.feedback))
        return type("Half", (), {"predict": lambda self, log: np.full(log.impressions, 0.5)})()

    likes = Column(np.where(train.items >= 0, 1, -1).astype(np.int32), ("no", "yes"))
    found = transfer(replace(train, feedback={"like": likes}), test, users, learner)
    assert seen == [[], []]
    assert found.log_loss_gap == Gap(0.0, 0.0) and found.auc_gap.value == 0 and not found.worse


def test_errors_are_those_of_sessions() -> None:
    """Over 600 logs of 150 sessions that click or do not, whose items are all alike: the spread's own error is 2.9%.

    Bound at 5 of these, and errors that took items for independent would be half as large.
    """
    draws = np.random.default_rng(0)
    gaps: dict[str, list[Gap]] = {"loss": [], "auc": []}
    session = np.repeat(np.arange(150), 4)
    for _ in range(600):
        taste = draws.normal(size=150)
        clicked = (draws.random(600) < 1 / (1 + np.exp(1 - 2 * taste[session]))).astype(float)
        first, second = (1 / (1 + np.exp(1 - weight * taste[session])) for weight in (2.0, 0.5))
        second = np.clip(second + 0.1 * draws.normal(size=150)[session], 0.02, 0.98)
        gaps["loss"].append(_mean_gap(log_losses(second, clicked) - log_losses(first, clicked), session))
        gaps["auc"].append(_auc_gap(second, first, clicked, session))
    for found in gaps.values():
        spread = np.std([gap.value for gap in found], ddof=1)
        assert np.mean([gap.error for gap in found]) == pytest.approx(spread, rel=5 * 0.029)


def test_it_prints_and_makes_a_table(users, train, test) -> None:
    found = transfer(train, test, users)
    assert isinstance(found, Transfer)
    lines = str(found).splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert f"{found.simulated.log_loss:.5f}" in lines[3] and "simulated - real" in lines[4]
    frame = found.to_frame()
    assert frame["model"].tolist() == ["constant", "real clicks", "simulated clicks"]
    assert frame["auc"].tolist() == [found.constant.auc, found.real.auc, found.simulated.auc]


def test_logs_that_do_not_fit_are_refused(users, train, test) -> None:
    with pytest.raises(InputError, match=r"test.*another catalogue"):
        transfer(train, replace(test, item_ids=test.item_ids + 1), users)
    with pytest.raises(InputError, match=r"train.*0 clicks"):
        transfer(replace(train, reward=np.zeros_like(train.reward)), test, users)
    with pytest.raises(InputError, match=r"test.*0 clicks"):
        transfer(train, replace(test, reward=np.zeros_like(test.reward)), users)


def test_area_gap_by_hand() -> None:
    """Two sessions of two items: U-statistics written out."""
    clicked, session = np.array([1.0, 0.0, 1.0, 0.0]), np.array([0, 0, 1, 1])
    first, second = np.array([0.9, 0.1, 0.8, 0.2]), np.array([0.5, 0.1, 0.2, 0.3])
    gap = _auc_gap(first, second, clicked, session)
    ranked = [stats.mannwhitneyu(p[clicked > 0], p[clicked == 0]).statistic / 4 for p in (first, second)]
    assert gap.value == pytest.approx(ranked[0] - ranked[1]) == pytest.approx(0.25)
