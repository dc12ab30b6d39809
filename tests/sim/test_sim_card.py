"""The card: the truth passes, planted defects do not, and it says why."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from known_users import SMALL, altered, sessions_of, with_baselines
from matplotlib.figure import Figure
from statistics_helper import assert_rate_at_least
from torch import Tensor

from recil.errors import InputError
from recil.logs.session_log import SessionLog
from recil.sim.behaviour import Behaviour
from recil.sim.card import CardThresholds, SimulatorCard, validate
from recil.sim.card.held_out import HeldOut
from recil.sim.card.rows import row_of
from recil.sim.fit import fit_users
from recil.sim.generate import Truth
from recil.sim.predict import predict
from recil.sim.rates import Rates
from recil.sim.users import UserModel


class DoubledSigmoid(Behaviour):
    """The classic defect: a sigmoid in the model and another where it is used."""

    def appeal_of(self, *parts) -> Tensor:
        return torch.sigmoid(super().appeal_of(*parts))


def doubled(users: UserModel) -> UserModel:
    behaviour = DoubledSigmoid(users.behaviour.layout)
    behaviour.load_state_dict(users.behaviour.state_dict())
    return replace(users, behaviour=behaviour.requires_grad_(False))


def offset(users: UserModel, by: float) -> UserModel:
    return altered(users, appeal=users.behaviour.appeal + by)


def true_users_pass(worlds: int) -> int:
    """How many cards trust a world's own users, each world with draws of its own."""
    passed = 0
    for seed in range(worlds):
        world = Truth(SMALL.model_copy(update={"seed": seed}))
        users = with_baselines(world.world.users, sessions_of(world, 1500, seed=100 + seed))
        passed += validate(users, sessions_of(world, 1500, seed=200 + seed), seed=seed).verdict == "trust"
    return passed


def test_the_true_users_of_a_world_pass() -> None:
    """A card fails a sound model in at most 1 of 100 worlds (false alarm .001: 2 of 6 failing)."""
    assert_rate_at_least(true_users_pass(6), 6, 0.99, false_alarm=1e-3)


@pytest.mark.slow
def test_the_true_users_of_many_worlds_pass() -> None:
    """The stated level, and what there is beside it (false alarm .001: 6 of 100 failing)."""
    assert_rate_at_least(true_users_pass(100), 100, 0.99, false_alarm=1e-3)


def test_fitted_users_pass_and_beat_what_they_are_held_against(fitted, held_out) -> None:
    card = validate(fitted, held_out)
    assert card.verdict == "trust" and card.reasons == ()
    assert [row.model for row in card.rows] == ["users", "constant", "item rate", "item, position"]
    users = card.row("users")
    assert all(users.log_loss < row.log_loss and row.versus > 2 * row.error for row in card.rows[1:])
    assert users.auc > card.row("item rate").auc > card.row("constant").auc == 0.5
    assert card.leave_log_loss[0] < card.leave_log_loss[1]


@pytest.fixture(scope="module")
def sparse() -> tuple[UserModel, SessionLog]:
    """The true users of a world with few clicks, and a held-out log of theirs."""
    world = Truth(SMALL.model_copy(update={"click_rate": 0.02}))
    return with_baselines(world.world.users, sessions_of(world, 2500, seed=1)), sessions_of(world, 2500, seed=2)


def test_a_doubled_sigmoid_is_refused(fitted, held_out, sparse) -> None:
    for users, log in ((fitted, held_out), sparse):
        assert validate(users, log).verdict == "trust"
        card = validate(doubled(users), log)
        assert card.verdict == "refuse" and any("clicks per item where" in reason for reason in card.reasons)
        # Ranking cannot see it, the level of the predictions can.
        assert card.row("users").auc > 0.55 and card.row("users").mean > 1.25 * card.observed_rate


@pytest.mark.parametrize("factor", [2.0, 0.5])
def test_users_who_click_too_often_or_too_rarely_are_refused(factor: float, fitted, held_out, sparse) -> None:
    by = float(np.log(factor))
    card = validate(offset(sparse[0], by), sparse[1])
    assert card.verdict == "refuse" and any("clicks per item where" in reason for reason in card.reasons)
    card = validate(offset(fitted, by), held_out)
    assert card.verdict != "trust" and any("clicks per item where" in reason for reason in card.reasons)


def test_users_fitted_to_shuffled_feedback_are_not_trusted(config, train, held_out) -> None:
    log = train.select(np.arange(800))
    for seed in (0, 1):
        shuffled = replace(log, reward=np.random.default_rng(seed).permutation(log.reward))
        assert validate(fit_users(shuffled, replace(config, epochs=5)), held_out).verdict != "trust"


def test_the_right_rate_overall_does_not_hide_wrong_rates_of_groups(truth, train, held_out) -> None:
    """Predictions drawn together to a third of their spread: the mean is right, the tenths are not."""
    behaviour = truth.world.users.behaviour
    third = {name: getattr(behaviour, name) / 3 for name in ("item_appeal", "type_home", "type_appeal")}
    narrow = altered(with_baselines(truth.world.users, train), **third)
    for _ in range(6):  # the level that gives the observed rate
        card = validate(narrow, held_out)
        observed, predicted = (np.log(rate / (1 - 2 * rate)) for rate in (card.observed_rate, card.row("users").mean))
        narrow = offset(narrow, float(observed - predicted))
    card = validate(narrow, held_out)
    assert abs(card.row("users").mean - card.observed_rate) < 1e-3 and card.row("constant").versus > 0
    assert card.verdict == "caution" and any("groups by predicted rate" in reason for reason in card.reasons)


def test_users_of_another_world_are_not_trusted(fitted) -> None:
    for seed in (5, 6, 7):
        other = sessions_of(Truth(SMALL.model_copy(update={"seed": seed})), 1500)
        assert validate(fitted, other).verdict != "trust"


def test_popularity_alone_does_not_pass_as_users(truth, train, held_out) -> None:
    """Users without interests, moods or types know no more than the item rates, and the card says so."""
    users = with_baselines(truth.world.users, train)
    shown = train.items >= 0
    clicks, seen = (np.bincount(train.items[shown], weights) for weights in (train.reward[shown], None))
    rate = clicks / seen
    plain = altered(
        users,
        item_appeal=torch.from_numpy(np.log(rate / (1 - 2 * rate.mean()))),
        appeal=0.0,
        type_home=torch.zeros(3, 2),
        type_appeal=torch.zeros(3),
        click_gain=0.0,
        skip_gain=0.0,
        fatigue_strength=-30.0,
    )
    card = validate(plain, held_out)
    assert card.verdict != "trust" and any("beat item rate" in reason for reason in card.reasons)


def test_a_log_without_feedback_is_refused(fitted, held_out) -> None:
    card = validate(fitted, replace(held_out, reward=np.zeros_like(held_out.reward)))
    assert card.verdict == "refuse" and any("no click in the held-out sessions" in reason for reason in card.reasons)
    assert card.observed_rate == 0 and np.isnan(card.row("users").auc)
    assert_prints(card)


def test_sessions_that_users_could_never_have_are_refused(fitted, held_out) -> None:
    reward = held_out.reward.copy()
    reward[held_out.offsets[[2, 9]]] = 1
    card = validate(fitted, replace(held_out, reward=reward))
    assert card.verdict == "refuse" and "2 sessions are impossible" in card.reasons[0]
    assert all(np.isfinite(row.log_loss) for row in card.rows)


def test_users_without_baselines_are_refused(truth, held_out) -> None:
    card = validate(truth.world.users, held_out)
    assert card.verdict == "refuse" and "no baselines" in card.reasons[0]
    assert_prints(card)


@dataclass(frozen=True)
class Echo:
    """A baseline that predicts just what the users do."""

    users: UserModel

    def predict(self, log: SessionLog) -> np.ndarray:
        return predict(self.users, log).click[log.items >= 0]


def test_a_tie_with_the_constant_does_not_pass(truth, held_out) -> None:
    """Zero gain with zero error is no gain."""
    users = truth.world.users
    card = validate(replace(users, baselines={"constant": Echo(users)}), held_out)
    assert card.row("constant").versus == card.row("constant").error == 0
    assert card.verdict == "refuse" and "does not clearly beat constant" in card.reasons[0]


def test_thresholds_can_be_set(fitted, held_out) -> None:
    card = validate(fitted, held_out, CardThresholds(better_by=1000.0))
    assert card.verdict == "refuse" and len(card.reasons) == 3


def test_differences_and_their_errors_are_paired_over_sessions(fitted, held_out) -> None:
    """Against a bootstrap over sessions: the gain is the difference of losses, its error their paired spread."""
    card = validate(fitted, held_out)
    row, users = card.row("constant"), card.row("users")
    assert row.versus == pytest.approx(row.log_loss - users.log_loss)
    generator = np.random.default_rng(0)
    gains = []
    for _ in range(40):
        again = HeldOut(held_out.select(generator.integers(0, held_out.sessions, held_out.sessions)))
        own = predict(fitted, again.log).click[again.shown]
        gains.append(row_of("constant", fitted.baselines["constant"].predict(again.log), own, again).versus)
    assert np.std(gains) == pytest.approx(row.error, rel=0.5)  # 40 draws: the spread itself is known to about 11%


def assert_prints(card: SimulatorCard) -> None:
    lines = str(card).splitlines()
    assert max(map(len, lines)) <= 80 and f"verdict: {card.verdict}" in lines
    figure = card.plot()
    assert isinstance(figure, Figure)
    figure.canvas.draw()


def test_the_card_prints_within_80_columns(fitted, held_out) -> None:
    card = validate(fitted, held_out)
    assert_prints(card)
    assert card.table == str(card) and "item, position" in card.table
    assert card.to_frame().set_index("model").loc["users", "log_loss"] == card.row("users").log_loss
    long = replace(fitted, baselines={"item, a_context_with_a_very_long_name": Rates(0.9), "constant": Rates(1e-9)})
    wide = validate(long, held_out)
    assert_prints(replace(wide, rows=tuple(replace(row, versus=-row.versus) for row in wide.rows)))
    assert_prints(validate(long, held_out, CardThresholds(better_by=1e6)))


def test_users_of_single_steps_say_that_leaving_is_unknown(fitted, held_out, train) -> None:
    behaviour = Behaviour(replace(fitted.behaviour.layout, leaves=False))
    behaviour.load_state_dict(fitted.behaviour.state_dict())
    card = validate(replace(fitted, behaviour=behaviour.requires_grad_(False)), held_out)
    assert card.leave_log_loss is None and "leaving: unknown" in card.table


def test_a_log_of_another_catalogue_is_refused(fitted, held_out) -> None:
    with pytest.raises(InputError, match="another catalogue"):
        validate(fitted, replace(held_out, item_ids=held_out.item_ids + 1))
    with pytest.raises(InputError, match="another catalogue"):
        validate(fitted, replace(held_out, item_ids=held_out.item_ids.astype(str)))


def test_a_log_without_the_columns_of_the_users_is_refused(fitted_to_columns, columns) -> None:
    assert validate(fitted_to_columns, columns).sessions == columns.sessions
    with pytest.raises(InputError, match="column context_tab is missing"):
        validate(fitted_to_columns, replace(columns, context={}))
    with pytest.raises(InputError, match="column user_age is missing"):
        validate(fitted_to_columns, replace(columns, user_features={}))
    tab = columns.context["context_tab"]
    third = replace(tab, categories=(*tab.categories, "third"))
    with pytest.raises(InputError, match="context_tab has 3 categories, not 2"):
        validate(fitted_to_columns, replace(columns, context={"context_tab": third}))
