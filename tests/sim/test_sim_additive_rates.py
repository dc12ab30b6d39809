"""Additive rates: at the mode of their posterior, better than nested ones where groups cross, and careful."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from recil.errors import InputError
from recil.logs.session_log import Column, SessionLog
from recil.sim.additive_rates import SCALES, fit_additive_rates, keys_of
from recil.sim.rates import fit_rates, log_losses


def crossed_log(spread: tuple[float, float, float], sessions: int = 300, seed: int = 0) -> SessionLog:
    """Log-odds of a click: -1, plus what tab (4), item (12) and user (one a session, 8 steps of 1 item) add."""
    draws = np.random.default_rng(seed)
    of_tab, of_item, of_user = (s * draws.normal(size=n) for s, n in zip(spread, (4, 12, sessions), strict=True))
    steps = sessions * 8
    tab, item = draws.integers(0, 4, steps), draws.integers(0, 12, steps)
    odds = -1 + of_tab[tab] + of_item[item] + np.repeat(of_user, 8)
    return SessionLog(
        item_ids=np.arange(12),
        items=item[:, None].astype(np.int32),
        reward=(draws.random(steps) < expit(odds))[:, None].astype(np.float32),
        offsets=np.arange(sessions + 1) * 8,
        session_ids=np.arange(sessions),
        user_ids=np.array([f"u{number}" for number in range(sessions)]),
        context={"context_tab": Column(tab.astype(np.int32), ("a", "b", "c", "d"))},
    )


def halves(log: SessionLog) -> tuple[SessionLog, SessionLog]:
    """The first and the last four steps of everybody."""
    from recil.logs.select import cut

    everyone, four = np.arange(log.sessions), np.full(log.sessions, 4)
    return cut(log, everyone, log.offsets[:-1], four), cut(log, everyone, log.offsets[:-1] + 4, four)


NAMES = ("context_tab", "item", "user")


def test_they_stand_at_the_mode_of_their_posterior() -> None:
    """There, for each group: clicks observed less expected = its effect over its scale squared; for all: 0."""
    log = crossed_log((1.0, 0.5, 1.0), sessions=100)
    rates = fit_additive_rates(log, *NAMES)
    off = log.reward[log.items >= 0] - rates.predict(log)
    assert abs(off.sum()) < 0.05
    for name, effect in rates.effects.items():
        _, inverse = np.unique(keys_of(log, name), return_inverse=True)
        np.testing.assert_allclose(np.bincount(inverse, off), effect.values / effect.scale**2, atol=0.02)
        assert effect.scale in SCALES and np.abs(effect.values).max() > 0.05


def test_groups_that_cross_are_told_apart_better_than_nested_ones() -> None:
    train, test = halves(crossed_log((1.0, 0.7, 1.2)))
    clicked = test.reward[test.items >= 0]
    loss = log_losses(fit_additive_rates(train, *NAMES).predict(test), clicked)
    for chain in ((("context_tab",), ("item", "context_tab")), (("item",),)):
        gain = log_losses(fit_rates(train, *chain).predict(test), clicked) - loss
        by_user = gain.reshape(-1, 4).mean(1)
        assert by_user.mean() > 4 * by_user.std() / np.sqrt(len(by_user))


def test_users_are_known_by_their_ids_in_whatever_order() -> None:
    train, test = halves(crossed_log((0.1, 0.1, 2.0)))
    rates = fit_additive_rates(train, "user")
    backwards = test.select(np.arange(test.sessions)[::-1].copy())
    mine, theirs = (rates.predict(log).reshape(-1, 4)[:, 0] for log in (test, backwards))
    np.testing.assert_array_equal(mine, theirs[::-1])
    assert np.corrcoef(mine, test.reward.reshape(-1, 4).mean(1))[0, 1] > 0.5


def test_scales_follow_how_much_groups_differ() -> None:
    different = fit_additive_rates(crossed_log((1.5, 0.0, 1.5)), *NAMES)
    assert different.effects["context_tab"].scale >= 0.7 and different.effects["user"].scale >= 0.7
    assert different.effects["item"].scale <= 0.4


def test_groups_never_seen_add_nothing() -> None:
    train, test = halves(crossed_log((0.5, 0.5, 0.5), sessions=60))
    rates = fit_additive_rates(train.select(np.arange(30)), *NAMES)
    effect = rates.effects["user"]
    assert np.array_equal(effect.of(keys_of(test.select(np.arange(30, 60)), "user")), np.zeros(30 * 4))
    known = fit_additive_rates(train, "item")
    np.testing.assert_allclose(
        known.predict(test), expit(known.base + known.effects["item"].of(keys_of(test, "item"))), rtol=1e-12
    )


def test_what_cannot_be_fitted_is_refused() -> None:
    from dataclasses import replace

    log = crossed_log((0.5, 0.5, 0.5), sessions=20)
    for bad, names, message in (
        (log, (), "no grouping"),
        (replace(log, user_ids=None), ("user",), "no user_id"),
        (replace(log, reward=np.zeros_like(log.reward)), ("item",), "same everywhere"),
    ):
        with pytest.raises(InputError, match=message):
            fit_additive_rates(bad, *names)
