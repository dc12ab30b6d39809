"""The session bootstrap: counts, sums and the intervals read off the replicates."""

import numpy as np
import pytest
import torch
from scipy.stats import norm

from recil.evaluate import bootstrap
from recil.evaluate.bootstrap import corrected_interval, percentile_interval, poisson_counts, session_keys, totals
from recil.random import Streams


def test_bootstrap_counts_are_poisson_and_addressed_by_session():
    keys = session_keys(np.arange(3000))
    counts = poisson_counts(Streams(0), keys, 500).double()
    assert (counts[0] == 1).all()
    # 1.5 million draws: mean 1 and variance 1 to within 6 standard errors (.0008 and .0014).
    assert float(counts[1:].mean()) == pytest.approx(1.0, abs=6 * 0.0009)
    assert float(counts[1:].var()) == pytest.approx(1.0, abs=6 * 0.0015)
    torch.testing.assert_close(poisson_counts(Streams(0), keys[[5, 2]], 500).double(), counts[:, [5, 2]])
    assert not torch.equal(poisson_counts(Streams(1), keys, 500).double(), counts)
    # Replicates do not depend on how many there are, and no two look alike.
    torch.testing.assert_close(poisson_counts(Streams(0), keys, 13).double(), counts[:14])
    assert torch.corrcoef(counts[1:200]).fill_diagonal_(0.0).abs().max() < 6 / 3000**0.5


def test_counts_have_the_moments_of_poisson_counts():
    """Of the 256 bytes, not of a sample: mean and variance are 1, the third factorial moment all but."""
    edges = np.searchsorted(bootstrap._EDGES, np.arange(256), side="right").astype(float)
    assert edges.mean() == 1.0 and edges.var() == 1.0
    assert (edges * (edges - 1) * (edges - 2)).mean() == pytest.approx(1.0, abs=0.02)
    seen = poisson_counts(Streams(0), torch.arange(3000), 500)[1:].flatten().bincount() / 1.5e6
    np.testing.assert_allclose(seen, np.bincount(edges.astype(int)) / 256, atol=6 * (0.25 / 1.5e6) ** 0.5)


def test_totals_are_products_with_the_counts():
    counts = poisson_counts(Streams(0), torch.arange(300), 37)
    draw = torch.Generator().manual_seed(0)
    parts = {"one": torch.rand(300, generator=draw).double(), "more": torch.rand(300, 3, 5, generator=draw).double()}
    found = totals(counts, parts)
    torch.testing.assert_close(found["one"], counts.double() @ parts["one"])
    torch.testing.assert_close(found["more"], torch.einsum("rb,btm->rtm", counts.double(), parts["more"]))


def test_percentiles_are_corrected_for_skewness():
    """Means of few skewed numbers: plain intervals of 95% lie too low; corrected ones miss as often on either side."""
    draw, counts = np.random.default_rng(0), poisson_counts(Streams(0), torch.arange(40), 400).double()
    missed = {"plain": [0, 0], "corrected": [0, 0]}
    for _ in range(800):
        sample = torch.from_numpy(draw.exponential(size=40))
        means = counts @ sample / counts.sum(1)
        for name, (low, high) in {
            "plain": percentile_interval(means[1:], 0.95),
            "corrected": corrected_interval(float(means[0]), means[1:], 0.95),
        }.items():
            missed[name][0] += low > 1.0
            missed[name][1] += high < 1.0
    assert sum(missed["corrected"]) < sum(missed["plain"])
    assert missed["plain"][1] > 3 * missed["plain"][0]
    assert missed["corrected"][1] < 2 * missed["plain"][0] + 0.75 * missed["plain"][1]


def test_correction_of_symmetric_replicates_is_none_and_of_equal_ones_too():
    normal = torch.from_numpy(norm.ppf((np.arange(1000) + 0.5) / 1000))
    plain, found = percentile_interval(normal, 0.9), corrected_interval(0.0, normal, 0.9)
    assert found == pytest.approx(plain, abs=1e-9)
    assert corrected_interval(2.0, torch.full((50,), 2.0).double(), 0.9) == (2.0, 2.0)
    assert all(np.isnan(corrected_interval(np.nan, torch.full((5,), torch.nan).double(), 0.9)))
