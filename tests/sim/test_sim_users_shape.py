"""What the log decides about its users: how they choose, what they remember, which answers they give."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from known_users import SMALL, altered, sessions_of

from recil.evaluate.simulate import simulate
from recil.logs.session_log import Column, SessionLog
from recil.policies.baselines import uniform
from recil.policies.inputs import Feature
from recil.random import Streams
from recil.sim.behaviour import Behaviour, ChoiceName
from recil.sim.feedback import Answers, as_logged, codes_of
from recil.sim.fit import fit_users
from recil.sim.generate import Truth
from recil.sim.layout import is_answer, layout_of, shows_items_again
from recil.sim.select_choice import select_choice, select_window
from recil.sim.user_config import UserConfig
from recil.sim.users import Starts, UserModel
from recil.sim.world import World

QUICK = UserConfig(types=2, dimension=2, epochs=8, batch=256)
CHOICES: tuple[ChoiceName, ...] = ("multinomial", "cascade", "independent")


def plain_world(choice: ChoiceName, appeal: float, **layout: object) -> World:
    """One type of user, ten items of different appeal, slates of four; no drift."""
    users = Truth(SMALL.model_copy(update={"items": 10, "slate_size": 4, "types": 1})).world.users
    behaviour = Behaviour(replace(users.behaviour.layout, choice=choice, leaves=False, **layout))
    with torch.no_grad():
        behaviour.appeal.fill_(appeal)
        behaviour.item_vector.zero_()
        behaviour.item_appeal.copy_(torch.linspace(-1.2, 1.2, 10))
    return World(UserModel(behaviour.requires_grad_(False), Starts(torch.ones(1, 1)), np.arange(10), {}), horizon=5)


@pytest.mark.parametrize("choice", [pytest.param("multinomial", marks=pytest.mark.slow), "cascade", "independent"])
def test_the_log_tells_how_its_users_choose(choice: ChoiceName) -> None:
    """2,000 sessions whose users click at every other slate: the true model wins over the others each time."""
    world = plain_world(choice, -0.5 if choice == "cascade" else 0.0)
    log = simulate(uniform_over(10), world, 2000)
    if choice == "independent":  # the rows with two clicks would give it away
        alone = np.add.reduceat((log.reward.sum(1) > 1).astype(int), log.offsets[:-1]) == 0
        assert not alone.all()
        assert select_choice(log, QUICK, Streams(0)) == ("independent", {})
        return
    found, report = select_choice(log, QUICK, Streams(0))
    assert found == choice and set(report) == {f"choice_{one}_nll" for one in CHOICES}
    assert min(report.values()) == report[f"choice_{choice}_nll"]


def uniform_over(items: int):
    log = sessions_of(Truth(SMALL.model_copy(update={"items": items})), 2)
    return uniform(log)


@pytest.mark.parametrize("at_a_time", [1, 4096])
def test_items_shown_again_are_remembered_only_where_the_log_shows_them_again(monkeypatch, at_a_time: int) -> None:
    monkeypatch.setattr("recil.sim.layout._SESSIONS", at_a_time)
    log = simulate(uniform_over(10), plain_world("multinomial", 0.0), 50)
    assert shows_items_again(log) and layout_of(log, QUICK, "multinomial").window == 8
    once = log.select(np.arange(10)).__class__(
        item_ids=log.item_ids,
        items=np.arange(10, dtype=np.int32).reshape(5, 2),
        reward=np.zeros((5, 2), dtype=np.float32),
        offsets=np.array([0, 2, 5]),
        session_ids=np.arange(2),
    )
    assert not shows_items_again(once) and layout_of(once, QUICK, "multinomial").window == 0
    late = replace(once, items=np.where(once.items == 9, 5, once.items))  # in the last session alone
    assert shows_items_again(late)


@pytest.mark.parametrize(("seen", "taken"), [pytest.param(-3.0, 0.0, marks=pytest.mark.slow), (0.0, 3.0)])
def test_what_repetition_does_to_users_is_found_again(seen: float, taken: float) -> None:
    """4,000 sessions, hardly a prior: within four standard errors of about .25."""
    world = plain_world("independent", -1.0, window=8)
    world = replace(world, users=altered(world.users, repeat_seen=seen, repeat_taken=taken, repeat_decay=1.0))
    log = simulate(uniform_over(10), world, 4000)
    config = replace(QUICK, types=1, epochs=20, repeat_scale=5.0)
    found = fit_users(log, config).behaviour
    assert float(found.repeat_seen) == pytest.approx(seen, abs=1.0)
    assert float(found.repeat_taken) == pytest.approx(taken, abs=1.0)


@pytest.mark.parametrize(("seen", "window"), [(0.0, 0), (-3.0, 8)])
def test_items_are_remembered_where_that_predicts_clearly_better(seen: float, window: int) -> None:
    """2,000 sessions of users who do not care, and of users whom an item seen before puts off."""
    world = plain_world("independent", -1.0, window=8)
    world = replace(world, users=altered(world.users, repeat_seen=seen, repeat_decay=1.0))
    log = simulate(uniform_over(10), world, 2000)
    found, report = select_window(log, QUICK, "independent", Streams(0))
    assert found == window and set(report) == {"window_0_nll", "window_8_nll"}
    assert select_window(log, replace(QUICK, window=0), "independent", Streams(0)) == (0, {})


@pytest.fixture(scope="module")
def answered() -> SessionLog:
    """Clicks of a world, a like after 3 in 10 clicks and never else, and a class of 3 whatever was clicked."""
    log = simulate(uniform_over(10), plain_world("multinomial", 0.5), 1500)
    generator = np.random.default_rng(0)
    like = ((generator.random(log.items.shape) < 0.3) & (log.reward > 0)).astype(np.float32)
    mood = generator.choice(3, log.items.shape, p=[0.6, 0.3, 0.1]).astype(np.int32)
    watched = generator.random(log.items.shape).astype(np.float32)
    feedback = {
        "like": Column(like),
        "mood": Column(np.where(log.items >= 0, mood, -1), ("good", "fair", "bad")),
        "watched": Column(watched),
    }
    return replace(log, feedback=feedback)


def test_answers_beside_the_click_are_fitted_and_simulated(answered: SessionLog) -> None:
    """Rates within 4 standard errors: 2,000 clicks of 1,500 sessions, 30,000 items shown; both logs err."""
    users = fit_users(answered, replace(QUICK, epochs=12))
    assert [kind.name for kind in users.behaviour.layout.feedback] == ["like", "mood"]
    names = {"mood": ("good", "fair", "bad")}
    again = simulate(uniform_over(10), World(users, 5), 1500, seed=1, categories=names)
    assert set(again.feedback) == {"like", "mood"} and again.feedback["mood"].categories == names["mood"]
    for log in (answered, again):
        clicked = log.reward > 0
        like = log.feedback["like"].values
        assert like[~clicked].mean() < 2e-3
        assert like[clicked].mean() == pytest.approx(0.3, abs=4 * np.sqrt(2 * 0.21 / clicked.sum()))
        shares = np.bincount(log.feedback["mood"].values[log.items >= 0], minlength=3) / (log.items >= 0).sum()
        np.testing.assert_allclose(shares, [0.6, 0.3, 0.1], atol=0.02)


def test_answers_say_something_about_the_user_and_missing_ones_nothing(answered: SessionLog) -> None:
    users = fit_users(answered, replace(QUICK, epochs=2))
    batch = answered.batch(np.arange(20))
    with_answers, _ = users.log_prob(batch)
    without, _ = users.log_prob(replace(batch, feedback={}))
    assert bool((with_answers < without).all())  # more was said, and nothing is certain


def test_a_distribution_of_answers_sums_to_one_and_scores_what_was_answered() -> None:
    logits = torch.tensor([[[0.0, 1.0, -1.0], [2.0, 0.0, 0.0]]], dtype=torch.float64)
    both, one = (Answers(logits, torch.tensor([[True, last]])) for last in (True, False))
    ways = [[first, second] for first in range(3) for second in range(3)]
    total = sum(float(both.log_prob(torch.tensor([way])).exp()) for way in ways)
    assert total == pytest.approx(1.0, abs=1e-12)
    assert sum(float(one.log_prob(torch.tensor([[first, -1]])).exp()) for first in range(3)) == pytest.approx(1.0)
    assert torch.isneginf(one.log_prob(torch.tensor([[0, 0]]))).all()
    assert float(both.log_prob(torch.tensor([[-1, -1]]))) == 0.0


def test_numbers_that_are_not_classes_are_no_answers() -> None:
    assert is_answer(Column(np.array([[0.0, 1.0], [np.nan, 1.0]], dtype=np.float32)))
    assert not is_answer(Column(np.array([[0.0, 0.5]], dtype=np.float32)))
    assert not is_answer(Column(np.zeros((1, 1), dtype=np.int32), tuple(map(str, range(100)))))
    numeric, coded = Feature("like"), Feature("mood", 3)
    assert codes_of(numeric, torch.tensor([0.0, 1.0, float("nan"), 0.5])).tolist() == [0, 1, -1, -1]
    assert as_logged(numeric, torch.tensor([0, 1, -1])).tolist() == [0.0, 1.0, 0.0]
    assert as_logged(coded, torch.tensor([2, -1])).tolist() == [2, -1]


def test_a_log_in_which_nobody_left_does_not_tell_of_leaving() -> None:
    log = simulate(uniform_over(10), plain_world("multinomial", 0.0), 20)
    assert log.terminated is not None and int(log.lengths.max()) > 1
    cut_short, some = np.zeros(log.sessions, dtype=bool), np.arange(log.sessions) == 3
    for ends, tells in ((cut_short, False), (some, True), (None, True)):
        assert layout_of(replace(log, terminated=ends), QUICK, "multinomial").leaves == tells
