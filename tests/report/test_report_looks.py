"""What the judge keeps for reports, against enumeration of the log and against the simulated value."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from recil.evaluate.simulate import simulated_value
from recil.experiment import looks
from recil.experiment.looks import WEIGHT_EDGES, sessions_in, weights_on
from recil.policies.baselines import uniform
from recil.policies.protocol import log_prob_of_sessions
from recil.sim.generate import Truth, load_settings


@pytest.fixture(scope="module")
def truth(tmp_path_factory) -> Truth:
    file = tmp_path_factory.mktemp("settings") / "settings.toml"
    file.write_text("seed = 3\nsessions = 150\nhorizon = 4\nitems = 9\nslate_size = 2\ntypes = 2\nclick_rate = 0.2\n")
    return Truth(load_settings(file))


@pytest.mark.parametrize("batches", [1, 4])
def test_weights_are_products_of_ratios_that_ended_sessions_keep(truth: Truth, batches: int, monkeypatch) -> None:
    parts = lambda log: np.array_split(np.argsort(log.lengths, kind="stable"), batches)  # noqa: E731
    monkeypatch.setattr(looks, "session_batches", parts)
    log = truth.log()
    policy = uniform(log)
    found = weights_on(policy, log, None)
    ratio = 1.0 / (9 * 8) / np.prod(log.propensity.astype(float), 1)
    whole = np.ones((log.sessions, int(log.lengths.max())))
    for session in range(log.sessions):
        mine = ratio[log.offsets[session] : log.offsets[session + 1]].cumprod()
        whole[session] = np.concatenate([mine, np.full(whole.shape[1] - len(mine), mine[-1])])
    assert len(set(log.lengths)) > 1
    np.testing.assert_allclose(found["weight_ess"], whole.sum(0) ** 2 / (whole**2).sum(0), rtol=1e-4)
    np.testing.assert_allclose(found["weight_mean"], whole.mean(0), rtol=1e-4)
    counts = np.histogram(np.log10(whole[:, -1]), WEIGHT_EDGES)[0]
    assert found["weight_counts"][0] == 0
    assert np.abs(found["weight_counts"][1:] - counts).sum() <= 2  # on an edge, by rounding
    assert found["weight_counts"].sum() == log.sessions


def test_the_logging_policys_weights_are_one_and_impossible_sessions_weigh_nothing(truth: Truth) -> None:
    log = truth.log()
    behaviour = uniform(log)
    bare = replace(log, propensity=None)
    same = weights_on(behaviour, bare, behaviour)
    np.testing.assert_allclose(same["weight_ess"], log.sessions, rtol=1e-5)
    np.testing.assert_allclose(same["weight_mean"], 1.0, rtol=1e-5)

    class Never:
        """Never shows item 0."""

        catalogue = log.catalogue

        def log_prob_of_sessions(self, sessions):
            return log_prob_of_sessions(behaviour, sessions).masked_fill(sessions.items == 0, -torch.inf)

        def sample(self, history, k, streams):
            raise NotImplementedError

        def log_prob(self, history, slate):
            raise NotImplementedError

    found = weights_on(Never(), bare, behaviour)
    without = sum((log.items[start:end] != 0).all() for start, end in zip(log.offsets, log.offsets[1:], strict=False))
    assert 0 < without < log.sessions
    assert found["weight_counts"][0] == log.sessions - without
    assert found["weight_ess"][-1] == pytest.approx(without, rel=1e-5)


def test_sessions_are_those_of_the_simulated_value(truth: Truth) -> None:
    policy = uniform(truth.log())
    found = sessions_in(policy, truth.world, 300, 7)
    value = simulated_value(policy, truth.world, 300, 7)
    np.testing.assert_allclose(found["rewards"].sum(1), value.returns, rtol=1e-6)
    assert found["rewards"].shape == (300, 4) and value.returns.sum() > 0
    assert found["lengths"].sum() == 300 and found["lengths"][0] == 0
    steps = (found["lengths"] * np.arange(5)).sum()
    assert found["shown"].sum() == 2 * steps
    assert (np.diff(found["shown"]) >= 0).all() and 0 < len(found["shown"]) <= 9
