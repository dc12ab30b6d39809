"""What was shown rarely is thought less of, where the log's recommender knew something; and only there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from known_users import SMALL, sessions_of

from recil.logs.session_log import SessionLog
from recil.random import Streams
from recil.sim.behaviour import Behaviour
from recil.sim.exposure import lean_on_exposure
from recil.sim.generate import Truth
from recil.sim.layout import layout_of
from recil.sim.prior_draw import OWN
from recil.sim.start import start_at_rates
from recil.sim.user_config import UserConfig

ITEMS, UNSEEN = 300, 5
CONFIG = UserConfig(types=1, dimension=1, window=0)


def log_shown_by(knowledge: float, sessions: int = 30_000, seed: int = 0) -> tuple[SessionLog, np.ndarray]:
    """One item a session, and the items' true log-odds; the last few are never shown.

    knowledge: correlation of log exposure, of standard deviation 1, with appeal, of standard deviation .8.
    """
    draws = np.random.default_rng(seed)
    idea, noise = draws.normal(size=(2, ITEMS))
    odds = -2.5 + 0.8 * (knowledge * idea + np.sqrt(1 - knowledge**2) * noise)
    weight = np.where(np.arange(ITEMS) < ITEMS - UNSEEN, np.exp(idea), 0)
    items = draws.choice(ITEMS, sessions, p=weight / weight.sum())
    clicks = draws.random(sessions) < 1 / (1 + np.exp(-odds[items]))
    columns = items[:, None].astype(np.int32), clicks[:, None].astype(np.float32)
    return SessionLog(np.arange(ITEMS), *columns, np.arange(sessions + 1), np.arange(sessions)), odds


def begun(log: SessionLog, config: UserConfig = CONFIG) -> tuple[Behaviour, Behaviour, UserConfig, dict]:
    """Where a fit begins without and with leaning on exposure, its settled config, and the means of the prior."""
    plain, leaning = (Behaviour(layout_of(log, config, "multinomial"), Streams(0)) for _ in range(2))
    start_at_rates(plain, log, config)
    settled, centre = lean_on_exposure(leaning, log, config, start_at_rates(leaning, log, config))
    return plain, leaning, settled, dict(centre)


def odds_of(behaviour: Behaviour) -> np.ndarray:
    return (behaviour.appeal + behaviour.item_appeal).detach().double().numpy()[: ITEMS - UNSEEN]


@pytest.mark.parametrize("seed", range(3))
def test_a_recommender_that_knows_something_is_believed(seed: int) -> None:
    """Items shown in fewer than one in a thousand sessions: .7 to 1 too good without it, 0 to .25 with it (5 seeds)."""
    log, odds = log_shown_by(0.7, seed=seed)
    plain, leaning, settled, centre = begun(log)
    rare = np.bincount(log.items[:, 0], minlength=ITEMS)[: ITEMS - UNSEEN] < 30
    off = [float((odds_of(start) - odds[: ITEMS - UNSEEN])[rare].mean()) for start in (plain, leaning)]
    assert abs(off[1]) < 0.4 < 0.6 < off[0]
    assert settled.appeal_scale == pytest.approx(0.8 * np.sqrt(1 - 0.49), rel=0.25)
    amount = np.log(np.bincount(log.items[:, 0], minlength=ITEMS)[: ITEMS - UNSEEN].clip(1))
    slope = np.polyfit(amount, centre[OWN].numpy()[: ITEMS - UNSEEN], 1)[0]
    assert slope == pytest.approx(0.56, abs=0.2)
    assert not centre[OWN][ITEMS - UNSEEN :].any()  # nobody can tell why they were never shown


@pytest.mark.parametrize("seed", range(3))
def test_a_recommender_that_knows_nothing_changes_little(seed: int) -> None:
    log, odds = log_shown_by(0.0, seed=seed)
    plain, leaning, _, _ = begun(log)
    error = [np.square(odds_of(start) - odds[: ITEMS - UNSEEN]).mean() for start in (plain, leaning)]
    assert error[1] < 1.1 * error[0]


def test_scales_that_are_given_stay_and_few_items_say_nothing() -> None:
    log, _ = log_shown_by(0.7, sessions=2000)
    assert begun(log, replace(CONFIG, appeal_scale=0.3))[2].appeal_scale == 0.3
    few = sessions_of(Truth(SMALL), 50)
    assert few.catalogue < 10
    assert begun(few)[3] == {}
