"""A fit ends with as many expected clicks and endings as its log has."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from known_users import SMALL, altered, sessions_of

from recil.logs.session_log import SessionLog
from recil.sim.fit import fit_users
from recil.sim.generate import Truth
from recil.sim.intercepts import settle_intercepts
from recil.sim.predict import predict, probabilities
from recil.sim.stories import CLICKS, LEAVES
from recil.sim.user_config import UserConfig
from recil.sim.users import UserModel, ends_of


def excess(users: UserModel, log: SessionLog) -> tuple[float, float]:
    """Expected clicks and endings over logged ones, less 1; types weighed by the whole session, as starts are."""
    sessions = log.batch(np.arange(log.sessions))
    _, scored = users.log_prob(sessions)
    weight = users.kinds(sessions).flatten()
    clicks = float(probabilities(scored, CLICKS).sum((0, 2)) @ weight)
    ends = float(probabilities(scored, LEAVES).sum(0) @ weight)
    return clicks / float(log.reward.sum()) - 1, ends / float(ends_of(log).sum()) - 1


@pytest.fixture(scope="module")
def log() -> SessionLog:
    return sessions_of(Truth(SMALL), 300)


def test_rates_that_are_off_are_put_right_and_nothing_else_is_touched(log) -> None:
    users = altered(Truth(SMALL).world.users, appeal=-1.0, hazard=-1.5)
    assert all(abs(off) > 0.2 for off in excess(users, log))
    before = {name: value.clone() for name, value in users.behaviour.state_dict().items()}
    for _ in range(3):
        settle_intercepts(users.behaviour, {}, log, np.arange(log.sessions))
    assert all(abs(off) < 0.005 for off in excess(users, log))
    after = users.behaviour.state_dict()
    assert {name for name in before if not torch.equal(before[name], after[name])} == {"appeal", "hazard"}
    assert not any(parameter.requires_grad for parameter in users.behaviour.parameters())


def test_a_fit_that_hardly_moves_still_has_the_rates_of_its_log(log) -> None:
    hardly = UserConfig(types=6, epochs=1, learning_rate=1e-6, choice="multinomial", window=0)
    assert all(abs(off) < 0.005 for off in excess(fit_users(log, hardly), log))


def test_users_who_cannot_leave_keep_their_hazard(log) -> None:
    first = log.select(np.arange(60))
    rows = first.offsets[:-1]
    single = SessionLog(first.item_ids, first.items[rows], first.reward[rows], np.arange(61), first.session_ids)
    users = fit_users(single, UserConfig(types=1, epochs=1, choice="multinomial"))
    assert not users.behaviour.layout.leaves and torch.isfinite(users.behaviour.hazard)
    assert abs(float(predict(users, single).click.sum() / single.reward.sum()) - 1) < 0.005
