"""Items that were never shown are known by their features."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from recil.logs.session_log import SessionLog
from recil.sim.fit import fit_users
from recil.sim.predict import predict
from recil.sim.user_config import UserConfig

RATES = {"news": 0.08, "film": 0.4}
ITEMS = pd.DataFrame({"item_id": range(20), "item_kind": ["news", "film"] * 10, "item_age": np.linspace(0, 1, 20)})
COLD = (6, 7, 12, 13)


def log_of_items(shown: list[int], sessions: int, seed: int) -> SessionLog:
    """One item a step, two steps a session, clicks by the item's kind alone."""
    generator = np.random.default_rng(seed)
    item = generator.choice(shown, 2 * sessions)
    rate = ITEMS["item_kind"].map(RATES).to_numpy()[item]
    click = generator.random(2 * sessions) < rate
    session, step = np.repeat(np.arange(sessions), 2), np.tile([0, 1], sessions)
    frame = pd.DataFrame({"session_id": session, "step": step, "item_id": item, "click": click.astype(float)})
    return SessionLog.from_frame(frame, items=ITEMS)


@pytest.fixture(scope="module")
def cold() -> SessionLog:
    return log_of_items(list(COLD), 400, 1)


def test_items_that_were_never_shown_are_clicked_as_their_kind_is(cold) -> None:
    warm = [item for item in range(20) if item not in COLD]
    train = log_of_items(warm, 1500, 0)
    assert not np.isin(train.items, COLD).any() and train.catalogue == 20
    users = fit_users(train, UserConfig(types=1, dimension=2, epochs=8, batch=128, learning_rate=0.02))
    kind = ITEMS["item_kind"].to_numpy()[cold.items[:, 0]]
    predicted = predict(users, cold).click[:, 0]
    for name, rate in RATES.items():
        # The tolerance beyond chance is what 1,500 sessions leave open: two standard errors of such a kind's rate.
        spread = 2 * (rate * (1 - rate) / 1500) ** 0.5
        assert abs(predicted[kind == name].mean() - rate) < 4 * spread
    assert predicted[kind == "film"].min() > 2 * predicted[kind == "news"].max()
