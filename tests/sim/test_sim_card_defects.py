"""Defects planted one at a time, in users or in their log: none is trusted, and each is called by its name."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from known_users import SMALL, altered, sessions_of, with_baselines
from torch import Tensor

from recil.logs.session_log import SessionLog
from recil.random import Streams
from recil.sim.behaviour import Behaviour
from recil.sim.card import CardThresholds, SimulatorCard, validate
from recil.sim.fit import fit_users
from recil.sim.generate import Truth
from recil.sim.guard import StoryError
from recil.sim.predict import predict
from recil.sim.user_config import UserConfig
from recil.sim.users import UserModel, ends_of

SEEDS = (0, 1)


def world_of(seed: int, **settings: float) -> tuple[UserModel, SessionLog, SessionLog]:
    """The true users of a world, held against the rates of a training log; that log; and a held-out one."""
    world = Truth(SMALL.model_copy(update={"seed": seed, **settings}))
    train = sessions_of(world, 1500, seed=10 + seed)
    return with_baselines(world.world.users, train), train, sessions_of(world, 1500, seed=100 + seed)


def at_the_observed_rate(users: UserModel, log: SessionLog) -> UserModel:
    """These users with the readiness that gives the log's own click rate."""
    shown = log.items >= 0
    observed = float((log.reward[shown] > 0).mean())
    for _ in range(6):
        predicted = float(predict(users, log).click[shown].mean())
        by = np.log(observed / (1 - 2 * observed)) - np.log(predicted / (1 - 2 * predicted))
        users = altered(users, appeal=users.behaviour.appeal + by)
    return users


def of_kind(users: UserModel, kind: type[Behaviour]) -> UserModel:
    """These users with another class of behaviour and the same parameters."""
    behaviour = kind(users.behaviour.layout).to(users.behaviour.appeal.dtype)
    behaviour.load_state_dict(users.behaviour.state_dict())
    return replace(users, behaviour=behaviour.requires_grad_(False))


def assert_named(card: SimulatorCard, *names: str) -> None:
    assert card.verdict != "trust"
    for name in names:
        assert any(name in reason for reason in card.reasons), (name, card.reasons)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_hazard_that_ignores_outcomes(seed: int) -> None:
    users, train, held_out = world_of(seed, impatience=1.5, horizon=10)
    assert validate(users, held_out).verdict == "trust"
    rate = float(ends_of(train).mean())
    constant = {"hazard_impatience": 0.0, "type_hazard": torch.zeros(3), "hazard": float(np.log(rate / (1 - rate)))}
    card = validate(altered(users, **constant), held_out)
    assert_named(card, "groups by steps in vain, leaving")
    clicked, *_, in_vain = card.group("steps in vain, leaving").groups
    assert clicked.miss > 5 * clicked.error and in_vain.miss < -5 * in_vain.error
    # Nothing of this is about clicks.
    assert all("click" not in reason for reason in card.reasons)


@pytest.mark.parametrize("seed", SEEDS)
def test_drift_switched_off(seed: int) -> None:
    """At the right rate over all: it is only after clicks that too few are predicted, and before them too many."""
    users, _, held_out = world_of(seed, click_gain=2.0)
    assert validate(users, held_out).verdict == "trust"
    still = at_the_observed_rate(altered(users, click_gain=0.0), held_out)
    card = validate(still, held_out)
    assert_named(card, "groups by clicks at the step before", "groups by clicks so far", "item's past in the session")
    assert "clicks per item where" not in " ".join(card.reasons)
    none, some = card.group("clicks at the step before").groups
    assert none.miss > 0 > some.miss
    assert card.simulated.click_area - 2 * card.simulated.click_error > 0.55


def shifted(log: SessionLog) -> SessionLog:
    """The reward of step t + 1 stands at t; the last step has none."""
    reward = np.zeros_like(log.reward)
    inner = np.setdiff1d(np.arange(log.steps), log.offsets[1:] - 1)
    reward[inner] = log.reward[inner + 1]
    return replace(log, reward=reward)


def test_labels_shifted_by_a_step() -> None:
    users, train, held_out = world_of(0)
    card = validate(users, shifted(held_out))
    assert_named(card, "beat constant", "groups by step;", "item's past in the session", "clicks drawn anew")
    config = UserConfig(types=3, dimension=2, epochs=5, batch=128, learning_rate=0.02, choice="multinomial")
    card = validate(fit_users(shifted(train.select(np.arange(800))), config), held_out)
    assert_named(card, "groups by item popularity", "item's past in the session", "clicks drawn anew")


def test_popularity_alone_misses_what_sessions_are_like() -> None:
    """Item rates in the place of users, at the right rate for every item on the whole."""
    users, train, held_out = world_of(0)
    shown = train.items >= 0
    clicks, seen = (np.bincount(train.items[shown], weights) for weights in (train.reward[shown], None))
    rate = clicks / seen
    nothing = {"type_home": torch.zeros(3, 2), "type_appeal": torch.zeros(3), "click_gain": 0.0, "skip_gain": 0.0}
    appeal = torch.from_numpy(np.log(rate / (1 - 2 * rate.mean())))
    plain = altered(users, item_appeal=appeal, appeal=0.0, fatigue_strength=-30.0, **nothing)
    assert_named(validate(at_the_observed_rate(plain, held_out), held_out), "beat item rate", "past in the session")


class TorchDropout(Behaviour):
    def appeal_of(self, *parts) -> Tensor:
        return torch.nn.functional.dropout(super().appeal_of(*parts), 0.1)


class PrivateNoise(Behaviour):
    """Draws from a generator of its own, which no guard can see."""

    generator = np.random.Generator(np.random.PCG64(1))

    def appeal_of(self, *parts) -> Tensor:
        return super().appeal_of(*parts) + 0.05 * torch.from_numpy(self.generator.normal(size=parts[3].shape))


class FrozenDropout(Behaviour):
    """The same noise at each call: addressed by what is on the slate and how users feel."""

    def appeal_of(self, catalogue, traits, mood, items, context) -> Tensor:
        appeal = super().appeal_of(catalogue, traits, mood, items, context)
        address = items[:, 0] + 8 * (1000 * mood.fatigue[:, 0]).long()
        kept = Streams(9).uniform("dropout", address, count=items.shape[1]) > 0.2
        return torch.where(kept, appeal / 0.8, 0.0)


def test_dropout_left_on() -> None:
    users, _, held_out = world_of(0)
    with pytest.raises(StoryError, match="switch dropout off"):
        validate(of_kind(users, TorchDropout), held_out)
    card = validate(of_kind(users, PrivateNoise), held_out)
    assert card.verdict == "refuse" and any("two answers to one question" in reason for reason in card.reasons)
    card = validate(of_kind(users, FrozenDropout), held_out)
    assert_named(card, "groups by predicted rate")
    assert not any("two answers" in reason for reason in card.reasons)


@pytest.mark.parametrize("seed", SEEDS)
def test_another_worlds_users(seed: int) -> None:
    users, _, _ = world_of(seed + 5)
    _, _, held_out = world_of(seed)
    assert_named(validate(users, held_out), "groups by item popularity", "groups by predicted rate")


def test_a_small_miss_on_a_large_log_calls_for_caution_at_most() -> None:
    """A tenth too many clicks: certain on a large log; nothing to refuse for, and nothing at all if negligible."""
    world = Truth(SMALL)
    users = with_baselines(world.world.users, sessions_of(world, 1500, seed=1))
    off = altered(users, appeal=users.behaviour.appeal + 0.4)
    large = sessions_of(world, 8000, seed=3)
    card = validate(off, large)
    assert card.verdict == "caution" and "clicks per item where" in card.reasons[0]
    assert 1.08 < card.row("users").mean / card.observed_rate < 1.2
    verdicts = [validate(off, large, CardThresholds(negligible=share)).verdict for share in (0.2, 0.0)]
    assert verdicts == ["trust", "caution"]
