"""Fitting: known users are found again from their log, and logs that cannot be fitted are refused.

The bounds on what is found again hold with a factor of about two to spare for each of five worlds (seeds 0 to 4).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from known_users import SMALL, sessions_of
from torch import Tensor

from recil.errors import InputError
from recil.logs.session_log import SessionLog
from recil.random import Streams
from recil.sim.fit import fit_users
from recil.sim.generate import Truth
from recil.sim.layout import possible_choices
from recil.sim.predict import Predictions, predict
from recil.sim.rates import log_losses
from recil.sim.user_config import UserConfig
from recil.sim.users import UserModel, ends_of

QUICK = UserConfig(types=2, dimension=2, epochs=2, batch=64)


def click_error(found: Predictions, true: Predictions, log: SessionLog) -> float:
    """Root mean square distance of predicted click probabilities to the true ones."""
    return float(np.sqrt(((found.click - true.click)[log.items >= 0] ** 2).mean()))


def liking_at_rest(users: UserModel) -> Tensor:
    """[A]: mean appeal of each item to users who have just come; parameters are found only up to such sums."""
    behaviour = users.behaviour
    catalogue = behaviour.catalogue(users.item_columns)
    home = (behaviour.type_log_prior().exp()[:, None] * behaviour.type_home).sum(0)
    return catalogue.appeal + catalogue.vectors @ home


def test_known_users_are_found_again(truth, train, held_out, fitted, config) -> None:
    true = predict(truth.world.users, held_out)
    from_little = fit_users(train.select(np.arange(250)), config)
    little, much = predict(from_little, held_out), predict(fitted, held_out)
    assert click_error(much, true, held_out) < 0.5 * click_error(little, true, held_out)
    assert click_error(much, true, held_out) < 0.04  # of probabilities that spread by about .15
    assert np.sqrt(((much.leave - true.leave) ** 2).mean()) < 0.025
    gap = (true.log_prob - much.log_prob).mean()
    assert gap < 0.06 < (true.log_prob - little.log_prob).mean()
    found, wanted = liking_at_rest(fitted), liking_at_rest(truth.world.users)
    assert np.corrcoef(found, wanted)[0, 1] > 0.8
    assert 0.2 < float(fitted.behaviour.hazard_impatience) < 1.0  # true: .6


def test_held_out_clicks_and_ends_are_predicted_better_than_by_constants(train, held_out, fitted) -> None:
    found = predict(fitted, held_out)
    shown = held_out.items >= 0
    constants = (train.reward[train.items >= 0].mean(), fitted.leaving_rate)
    pairs = ((found.click[shown], held_out.reward[shown]), (found.leave, ends_of(held_out)))
    for (probability, happened), constant in zip(pairs, constants, strict=True):
        gain = log_losses(np.full(len(happened), constant), happened) - log_losses(probability, happened)
        assert gain.mean() > 2 * gain.std() / np.sqrt(len(gain))


def test_the_same_seed_gives_the_same_weights_bit_for_bit(train) -> None:
    log = train.select(np.arange(200))
    first, again, other = (fit_users(log, QUICK, seed=seed).behaviour.state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["item_vector"], other["item_vector"])


def test_fitting_leaves_the_process_generators_alone(train) -> None:
    state = torch.get_rng_state()
    fit_users(train.select(np.arange(50)), replace(QUICK, epochs=1))
    assert torch.equal(torch.get_rng_state(), state)


def test_sessions_that_were_cut_do_not_count_as_left(train) -> None:
    log = train.select(np.arange(400))
    rates = {}
    for name, terminated in (("cut", np.zeros(400, dtype=bool)), ("said", log.terminated), ("unsaid", None)):
        told = replace(log, terminated=terminated)
        users = fit_users(told, QUICK)
        rates[name] = float(predict(users, told).leave.mean())
        assert users.leaving_rate == ends_of(told).mean()
    assert rates["cut"] < 0.002
    assert rates["said"] == pytest.approx(log.terminated.sum() / log.steps, rel=0.15)
    assert rates["unsaid"] == pytest.approx(400 / log.steps, rel=0.15)


def test_sessions_of_single_steps_give_users_who_never_leave(train) -> None:
    first_steps = replace(
        train.select(np.arange(200)),
        items=train.items[train.offsets[:200]],
        reward=train.reward[train.offsets[:200]],
        propensity=None,
        offsets=np.arange(201),
        terminated=None,
    )
    users = fit_users(first_steps, QUICK)
    assert not users.behaviour.layout.leaves and predict(users, first_steps).leave.sum() == 0


def test_effects_of_columns_are_found(columns, fitted_to_columns) -> None:
    layout = fitted_to_columns.behaviour.layout
    names = [[feature.name for feature in part] for part in (layout.items, layout.users, layout.contexts)]
    assert names == [["item_price", "item_tags"], ["user_age", "user_region"], ["context_tab"]]
    home, search = fitted_to_columns.behaviour.context_effects.tables[0][:, 0].tolist()
    assert search - home > 1.0  # true: 3
    starts = fitted_to_columns.starts
    assert starts.kinds.shape == (columns.sessions, 2) and torch.allclose(starts.kinds.sum(1), torch.ones(300))
    assert starts.lengths.tolist() == columns.lengths.tolist()
    for session in (0, 17, 299):
        rows = slice(columns.offsets[session], columns.offsets[session + 1])
        tabs = starts.context["context_tab"][session, : columns.lengths[session]]
        assert tabs.tolist() == columns.context["context_tab"].values[rows].tolist()


def test_priors_hold_back_what_little_data_says(columns, fitted_to_columns) -> None:
    strict = UserConfig(types=2, dimension=2, epochs=12, batch=64, learning_rate=0.05, effect_scale=0.02)
    held_back = fit_users(columns, replace(strict, vector_scale=0.02, context_scale=0.02)).behaviour
    loose = fitted_to_columns.behaviour
    assert held_back.context_effects.tables[0].abs().max() < 0.2 < 0.5 < loose.context_effects.tables[0].abs().max()
    assert held_back.item_vector.abs().mean() < 0.5 * loose.item_vector.abs().mean()


def test_the_first_epoch_has_not_seen_the_sessions_that_decide_when_to_stop(train) -> None:
    """Where the fit starts must not depend on what the held-out sessions clicked."""
    log = train.select(np.arange(100))
    held_out = Streams(0).numpy("users.held_out").permutation(100)[:50]
    rewards = log.reward.copy()
    for session in held_out:
        rewards[log.offsets[session] : log.offsets[session + 1]] = 0
    still = replace(QUICK, epochs=1, held_out=0.5)
    first, second = (fit_users(told, still).behaviour for told in (log, replace(log, reward=rewards)))
    assert torch.equal(first.item_appeal, second.item_appeal)


def test_metrics_are_told_after_every_epoch(train) -> None:
    told: list[tuple[int, dict[str, float]]] = []
    log = train.select(np.arange(100))
    users = fit_users(log, QUICK, on_metrics=lambda epoch, metrics: told.append((epoch, dict(metrics))))
    assert [epoch for epoch, _ in told] == [1, 2]
    assert all(set(metrics) == {"users/nll", "users/held_out_nll"} for _, metrics in told)
    assert users.report["held_out_nll"] == min(metrics["users/held_out_nll"] for _, metrics in told)
    assert not any(parameter.requires_grad for parameter in users.behaviour.parameters())


def test_the_best_epoch_is_kept_and_the_fit_stops_early(train) -> None:
    """With far too fast a fit, held-out likelihood gets worse: the kept weights are those of the best epoch."""
    told: list[float] = []
    hasty = replace(QUICK, epochs=30, learning_rate=0.5, patience=2, held_out=0.3)
    log = train.select(np.arange(100))
    users = fit_users(log, hasty, on_metrics=lambda _, metrics: told.append(metrics["users/held_out_nll"]))
    best = int(np.argmin(told)) + 1
    assert len(told) == best + 2 < 30
    wanted = {"epochs": best, "held_out_nll": min(told), "sessions": 100}
    assert {name: users.report[name] for name in wanted} == wanted


def refused(log: SessionLog, config: UserConfig = QUICK) -> str:
    with pytest.raises(InputError) as caught:
        fit_users(log, config)
    return str(caught.value)


def test_a_log_without_clicks_is_refused(train) -> None:
    assert "no click in the whole log" in refused(replace(train, reward=np.zeros_like(train.reward)))


@pytest.mark.parametrize("value", [2.0, 0.5, -1.0, np.nan])
def test_rewards_that_are_no_clicks_are_refused(train, value: float) -> None:
    reward = train.reward.copy()
    reward[[3, 5], 0] = value
    assert f"2 values are neither 0 nor 1, the first is {value}" in refused(replace(train, reward=reward))


@pytest.mark.parametrize("sessions", [1, 9])
def test_a_tiny_log_is_refused(train, sessions: int) -> None:
    clicked = np.flatnonzero(np.add.reduceat(train.reward.sum(1), train.offsets[:-1]) > 0)
    assert f"log: {sessions} sessions are too few" in refused(train.select(clicked[:sessions]))


def test_a_diverging_fit_says_where(train) -> None:
    message = refused(train.select(np.arange(100)), replace(QUICK, learning_rate=1e25))
    assert message.startswith("fit_users: loss ") and "in epoch 1" in message and "users.learning_rate" in message


def test_two_clicks_on_a_slate_decide_the_choice_model(train) -> None:
    reward = train.reward.copy()
    reward[7] = 1
    twice = replace(train, reward=reward)
    assert possible_choices(train, QUICK) == ("multinomial", "cascade", "independent")
    assert possible_choices(train, replace(QUICK, choice="independent")) == ("independent",)
    assert possible_choices(twice, QUICK) == ("independent",)
    with pytest.raises(InputError, match=r"users\.choice.*two clicks"):
        possible_choices(twice, replace(QUICK, choice="multinomial"))


@pytest.mark.parametrize("name", ["types", "epochs", "batch", "learning_rate", "appeal_scale", "held_out"])
def test_settings_that_cannot_be_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"users.{name} = 0"):
        UserConfig(**{name: 0})


@pytest.mark.slow
def test_another_world_gives_other_users() -> None:
    """A guard against a fit that ignores its log: users fitted to one world predict another worse than its own do."""
    worlds = [Truth(SMALL.model_copy(update={"seed": seed})) for seed in (0, 7)]
    logs = [sessions_of(world, 600) for world in worlds]
    users = [fit_users(log, replace(QUICK, epochs=5, learning_rate=0.03)) for log in logs]
    for own, other in ((0, 1), (1, 0)):
        fresh = sessions_of(worlds[own], 600, seed=9)
        gain = predict(users[own], fresh).log_prob - predict(users[other], fresh).log_prob
        assert gain.mean() > 4.9 * gain.std() / np.sqrt(len(gain))
