"""MAGIC and the models it blends in: where it follows which, and what it takes a model's fit to be worth."""

import math
from dataclasses import replace

import pytest
import torch
from random_sessions import some_sessions
from scipy import stats
from sums_of_sessions import sums_of

from recil.evaluate.arrays import Extra
from recil.evaluate.estimators import TABLE
from recil.evaluate.estimators.magic import MAGIC, blend, horizon_returns, model_error, smallest_quadratic
from recil.evaluate.estimators.model_alone import MODEL_STARTS, fit_error
from recil.evaluate.sums import SessionSums


def noisy_sums(bias, noise, fit=0.0, sessions=400, steps=6):
    """Sessions of a constant value of 1 per step, with a model that is off by `bias` and ratios as noisy as said."""
    draw = torch.Generator().manual_seed(1)
    happened = torch.ones(sessions, steps, dtype=torch.bool)
    ratio = noise * torch.randn(sessions, steps, generator=draw).double() - noise**2 / 2
    base = some_sessions(0, sessions=sessions, steps=steps)
    ahead = torch.arange(steps, 0, -1).double().expand(sessions, -1)
    arrays = replace(
        base,
        log_weight=ratio.cumsum(1),
        happened=happened,
        reward=1 + torch.randn(sessions, steps, generator=draw).double(),
        predicted=ahead + bias,
        expected=ahead + bias,
    )
    starts = torch.full((sessions, 1, 3), float(steps) + bias).double()
    arrays = replace(arrays, extra={Extra.MODEL_STARTS: starts + fit * torch.arange(-1, 2)})
    counts = torch.poisson(torch.ones(300, sessions), generator=draw).double()
    return SessionSums.of(arrays, torch.cat([torch.ones(1, sessions).double(), counts]), MAGIC.terms)


def test_magic_follows_the_model_where_it_is_right_and_the_weights_where_it_is_wrong():
    right, wrong = noisy_sums(0.0, 1.0), noisy_sums(5.0, 0.05)
    assert float(MAGIC.value(right)[0]) == pytest.approx(6.0, abs=0.05)
    assert float(MAGIC.value(wrong)[0]) == pytest.approx(6.0, abs=0.6)
    # The model alone says 11, and a plain average of the horizons is far off.
    returns = horizon_returns(wrong)[0]
    assert float(returns[0]) == pytest.approx(11.0)
    assert abs(float(returns.mean()) - 6.0) > 1.0
    shares = blend(horizon_returns(right), horizon_returns(right)[1:])
    torch.testing.assert_close(shares.sum(1), torch.ones(len(shares)).double())
    assert (shares >= 0).all() and float(shares[0].max()) > 0.5


def test_magic_does_not_take_a_model_for_certain():
    """Out of fold a model is a constant to the bootstrap: what its fit varies by must not count as nothing."""
    certain, doubtful = noisy_sums(0.0, 0.4), noisy_sums(0.0, 0.4, fit=0.3)
    shares = [
        blend(horizon_returns(sums) + model_error(sums), (horizon_returns(sums) + model_error(sums))[1:])
        for sums in (certain, doubtful)
    ]
    assert float(shares[1][0, 0]) < 0.5 * float(shares[0][0, 0])
    errors = model_error(doubtful)
    assert (errors[0] == 0).all() and (errors[:, -1] == 0).all()
    widths = [float(MAGIC.value(sums)[1:].std()) for sums in (certain, doubtful)]
    assert widths[1] > 1.2 * widths[0]


def test_a_model_alone_varies_as_its_fit_does():
    """The jackknife over three folds that differ by .3, in the replicates and not in the estimate."""
    sums = noisy_sums(0.0, 0.4, fit=0.3)
    error = fit_error(sums, MODEL_STARTS)
    jackknife = math.sqrt(2 / 3 * (0.3**2 + 0.3**2))
    assert float(error[0]) == 0.0
    inner = torch.quantile(error[1:], torch.tensor([0.1, 0.9]).double())
    wanted = jackknife * stats.t.ppf([0.1, 0.9], 2)
    assert inner.tolist() == pytest.approx(wanted.tolist(), rel=0.1)
    assert float(error.mean()) == pytest.approx(0.0, abs=0.05)


def test_the_last_horizon_is_weighted_doubly_robust_and_the_first_the_model():
    arrays = some_sessions(9)
    sums = sums_of(TABLE["dm"], arrays)
    returns = horizon_returns(sums)
    assert returns.shape == (1, 6)
    torch.testing.assert_close(returns[:, -1], TABLE["wdr"].value(sums))
    torch.testing.assert_close(returns[:, 0], TABLE["dm"].value(sums))


def test_smallest_quadratic_by_search():
    draw = torch.Generator().manual_seed(0)
    root = torch.randn(20, 3, 3, generator=draw).double()
    matrix = root @ root.transpose(1, 2)
    found = smallest_quadratic(matrix)
    cost = torch.einsum("ri,rij,rj->r", found, matrix, found)
    tried = -torch.rand(4000, 3, generator=draw).double().log()
    tried = tried / tried.sum(1, keepdim=True)
    best = torch.einsum("ni,rij,nj->rn", tried, matrix, tried).amin(1)
    assert (cost <= best + 1e-9).all()
    assert (found >= 0).all()
