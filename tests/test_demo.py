"""The embedded demo: small, sparse, and the same bytes whenever it is written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from recil.logs.read import read_log
from recil.sim.generate import Truth, load_settings

DEMO = Path(__file__).resolve().parents[1] / "data" / "demo"


@pytest.fixture(scope="module")
def truth() -> Truth:
    return Truth(load_settings(DEMO / "settings.toml"))


def test_the_settings_give_the_same_bytes(truth: Truth, tmp_path: Path) -> None:
    truth.log().save(tmp_path / "log")
    for name in ("log.parquet", "items.parquet", "log.json"):
        assert (tmp_path / "log" / name).read_bytes() == (DEMO / "log" / name).read_bytes(), name


def test_it_is_small_and_sparse_and_people_leave() -> None:
    assert sum(file.stat().st_size for file in DEMO.rglob("*") if file.is_file()) <= 5_000_000
    log = read_log(DEMO / "log")
    assert 0.008 <= log.reward.sum() / log.impressions <= 0.012
    assert log.slate_size > 1 and log.terminated is not None and 0.5 < log.terminated.mean() < 0.95
    assert len(np.unique(log.lengths)) > 5


def test_the_recommender_is_mediocre_and_its_propensities_exact(truth: Truth) -> None:
    log = read_log(DEMO / "log").select(np.arange(500))
    sessions, policy = log.batch(), truth.logging_policy
    assert sessions.propensity is not None
    for step in range(sessions.steps):
        exact = policy.log_prob(sessions.prefix(step), sessions.items[:, step]).exp()
        np.testing.assert_allclose(sessions.propensity[:, step], exact, rtol=1e-4)
    spread = log.propensity[log.items >= 0]
    assert spread.max() / spread.min() > 20, "a recommender that hardly differs from chance"
