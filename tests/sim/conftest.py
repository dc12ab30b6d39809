"""Users fitted once for all the tests of the simulator: to a log of a known world, and to one with columns."""

from __future__ import annotations

import pytest
from known_users import SMALL, log_with_columns, sessions_of

from recil.logs.session_log import SessionLog
from recil.sim.fit import fit_users
from recil.sim.generate import Truth
from recil.sim.user_config import UserConfig
from recil.sim.users import UserModel

CONFIG = UserConfig(types=3, dimension=2, epochs=8, batch=128, learning_rate=0.02)


@pytest.fixture(scope="session")
def truth() -> Truth:
    return Truth(SMALL)


@pytest.fixture(scope="session")
def train(truth: Truth) -> SessionLog:
    return sessions_of(truth, 2500, seed=1)


@pytest.fixture(scope="session")
def held_out(truth: Truth) -> SessionLog:
    return sessions_of(truth, 1500, seed=2)


@pytest.fixture(scope="session")
def config() -> UserConfig:
    return CONFIG


@pytest.fixture(scope="session")
def fitted(train: SessionLog) -> UserModel:
    return fit_users(train, CONFIG)


@pytest.fixture(scope="session")
def columns() -> SessionLog:
    return log_with_columns()


@pytest.fixture(scope="session")
def fitted_to_columns(columns: SessionLog) -> UserModel:
    return fit_users(
        columns, UserConfig(types=2, dimension=2, epochs=12, batch=64, learning_rate=0.05, effect_scale=1.0)
    )
