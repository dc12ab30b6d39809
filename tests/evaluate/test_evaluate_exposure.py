"""The sums that checks of a log rest on, against loops over the log, enumeration, and tests that are known."""

from collections import defaultdict
from itertools import permutations

import numpy as np
import pytest
from logs_drawn import TEN, drifting, log_of, moods, plain, slates
from scipy import stats

from recil.evaluate.exposure import exposure, groups_of, places_of
from recil.evaluate.misfit import drift, misfit, ratios, total_ratios
from recil.logs.session_log import PAD


def ragged(repeated):
    """Sessions of two steps with slates of 0 to 3 items, gaps among them."""
    draw = np.random.default_rng(4)
    items = np.stack([draw.choice(30, 3, replace=repeated) for _ in range(400)]).astype(np.int32)
    items[draw.random(items.shape) < 0.3] = PAD
    return log_of(items, np.where(items == PAD, 1.0, draw.uniform(0.01, 0.9, items.shape)), 30, steps=2)


@pytest.mark.parametrize("repeated", [False, True])
@pytest.mark.parametrize("groups", [7, 30])
def test_sums_are_those_of_a_loop_over_the_log(repeated, groups):
    log = ragged(repeated)
    places = places_of(log, None)
    chosen = groups_of(places, groups)
    cell = places.moment * 4 // log.sessions
    seen = exposure(places, chosen, cell, 4)
    found, expected, squares = np.zeros((3, 4, groups))
    of_unit = defaultdict(lambda: np.zeros((2, groups)))
    members = {
        (int(fold), int(item)): int(group)
        for fold, item, group in zip(chosen.fold, places.item, chosen.of, strict=True)
    }
    for session in range(log.sessions):
        for step in range(2 * session, 2 * session + 2):
            left = chosen.sizes[0 if groups == 30 else session % 2].copy()
            for item, p in zip(log.items[step], log.propensity[step], strict=True):
                if item == PAD:
                    continue
                group = members[0 if groups == 30 else session % 2, int(item)]
                period = session * 4 // log.sessions
                found[period, group] += 1 / float(p)
                squares[period, group] += 1 / float(p) ** 2
                expected[period] += left
                of_unit[session] += np.stack([np.eye(groups)[group] / float(p), left])
                left[group] -= 0 if repeated else 1
    for one, other in ((seen.found, found), (seen.expected, expected), (seen.squares, squares)):
        np.testing.assert_allclose(one, other, rtol=1e-9)
    ratio = found.sum(0) / expected.sum(0)
    together = sum((mine - ratio * could) ** 2 for mine, could in of_unit.values())
    apart = squares.sum(0) - found.sum(0) ** 2 / len(places.item)
    np.testing.assert_allclose(seen.inflated, np.maximum(1.0, together / apart), rtol=1e-9)


def test_expected_sums_are_those_of_every_slate():
    """All ordered slates of 3 of 4 items, each as often as it is probable: found is what is expected."""
    chances = np.array([0.4, 0.3, 0.2, 0.1])
    slates_of_three = np.array(list(permutations(range(4), 3)))
    p = chances[slates_of_three]
    propensity = p / (1.0 - np.cumsum(p, 1) + p)
    log = log_of(slates_of_three, propensity, 4)
    places = places_of(log, None)
    probability = propensity.prod(1)[places.step]
    difference = np.zeros((3, 4))
    np.add.at(difference, (places.rank, places.item), probability * places.inverse)
    left = np.ones((len(places.item), 4))
    for back in (1, 2):
        after = np.flatnonzero(places.rank >= back)
        left[after, places.item[after - back]] = 0.0
    np.add.at(difference, places.rank, -probability[:, None] * left)
    np.testing.assert_allclose(difference, 0.0, atol=1e-6)
    # `exposure` takes away the same items.
    seen = exposure(places, groups_of(places, 4), places.rank, 3)
    np.testing.assert_allclose(seen.expected, [left[places.rank == rank].sum(0) for rank in range(3)])


def test_drift_is_the_chi_square_test_of_a_table():
    """A policy that looks at nothing: periods by items is a table of counts."""
    log = drifting(0, 20_000, 0.05)
    places = places_of(log, None)
    period = places.moment * 5 // log.sessions
    table = np.zeros((5, 10))
    np.add.at(table, (period, places.item), 1.0)
    wanted = stats.chi2_contingency(table, correction=False)
    found = drift(exposure(places, groups_of(places, 20), period, 5))
    assert found.chance == pytest.approx(wanted.pvalue, rel=0.03)
    assert found.size == pytest.approx(np.sqrt((wanted.statistic - wanted.dof) / len(places.item)), rel=1e-3)


def test_misfit_is_the_test_of_pearson():
    """Its variance is never below what the log shows, so that the chance is at the least Pearson's."""
    places = places_of(plain(3, 20_000), None)
    counts = np.bincount(places.item, minlength=10)
    pearson = stats.chisquare(counts, 20_000 * TEN).pvalue
    found = misfit(exposure(places, groups_of(places, 20), np.zeros(20_000, dtype=int), 1))
    assert pearson <= found.chance <= pearson + 0.1


def test_standard_errors_are_those_of_many_logs():
    every = [places_of(moods(seed, 400, steps=3), None) for seed in range(400)]
    nought = np.zeros(1200, dtype=int)
    of_items = [ratios(exposure(one, groups_of(one, 20), nought, 1)) for one in every]
    totals = [total_ratios(one, nought, 1) for one in every]
    for found in (of_items, totals):
        spread = np.std([one.ratio.ravel() for one in found], axis=0)
        claimed = np.sqrt(np.mean([one.error.ravel() ** 2 for one in found], axis=0))
        assert np.all(claimed > 0.9 * spread) and np.all(claimed < 1.3 * spread)


def test_groups_of_many_items_know_nothing_of_their_own_half():
    """Grouping by what a place itself shows would make what happens to be shown seem shown too often."""
    chances = np.full(200, 1 / 200)
    high = []
    for seed in range(100):
        places = places_of(plain(seed, 400, chances), None)
        seen = exposure(places, groups_of(places, 10), np.zeros(400, dtype=int), 1)
        high.append(seen.found[0, 0] / seen.expected[0, 0])
    assert np.mean(high) == pytest.approx(1.0, abs=4 * np.std(high) / 10)
    sizes = groups_of(places, 10).sizes
    assert sizes.sum(1).tolist() == [200, 200] and (sizes > 0).all()


def test_places_of_a_slate_take_from_those_after_them():
    log, _ = slates(0, 50)
    places = places_of(log, None)
    assert places.could[:6].tolist() == [10, 9, 8, 10, 9, 8]
    seen = exposure(places, groups_of(places, 20), places.rank, 3)
    shown = np.bincount(log.items[:, 0], minlength=10)
    assert seen.expected[0].tolist() == [50.0] * 10 and (seen.expected[1] == 50 - shown).all()
