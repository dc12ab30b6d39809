"""Intervals for samples: by hand, their coverage, and the known ways in which they go wrong."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from logs_of_worlds import case
from scipy import stats
from statistics_helper import assert_rate_at_least

from recil.errors import InputError
from recil.evaluate import evaluate
from recil.evaluate.intervals import (
    bernstein_interval,
    euclidean_interval,
    hoeffding_interval,
    likelihood_interval,
    lower_bound,
    mean_sequence,
    policy_sequence,
    ratio_difference_interval,
    ratio_interval,
    student_interval,
)
from recil.evaluate.scores import session_scores

OF_MEANS = {
    "student": student_interval,
    "likelihood": likelihood_interval,
    "euclidean": lambda values, confidence=0.95: euclidean_interval(values, None, confidence),
    "hoeffding": lambda values, confidence=0.95: hoeffding_interval(values, 0.0, 4.0, confidence),
    "bernstein": lambda values, confidence=0.95: bernstein_interval(values, 0.0, 4.0, confidence),
    "sequence": lambda values, confidence=0.95: mean_sequence(values, 0.0, 4.0, confidence).last,
}
GUARANTEED = ("hoeffding", "bernstein", "sequence")


def weighted(sessions, seed, noise=0.5):
    """Importance weights of mean 1 and at most 4, and clicks that they do not depend on: value .3."""
    draw = np.random.default_rng(seed)
    weight = np.minimum(np.exp(noise * draw.normal(size=sessions) - noise**2 / 2), 4.0)
    return weight, (draw.random(sessions) < 0.3).astype(float)


@pytest.mark.parametrize("name", OF_MEANS)
def test_intervals_of_means_cover(name):
    """150 samples of 200; each assertion fails by chance once in 100,000 times."""
    draw = np.random.default_rng(1)
    samples = np.minimum(draw.exponential(0.5, (150, 200)), 4.0)
    truth = 0.5 * (1 - math.exp(-8.0))
    found = [OF_MEANS[name](sample, 0.8) for sample in samples]
    held = sum(low <= truth <= high for _, low, high in found)
    assert_rate_at_least(held, 150, 0.79, false_alarm=1e-5)
    if name not in GUARANTEED:
        assert_rate_at_least(150 - held, 150, 0.16, false_alarm=1e-5)
    # The low end of an interval of 80% is the one-sided bound of 90%.
    assert_rate_at_least(sum(low <= truth for _, low, _ in found), 150, 0.89, false_alarm=1e-5)
    assert lower_bound(lambda level: OF_MEANS[name](samples[0], level), 0.9) == pytest.approx(found[0][1])


@pytest.mark.parametrize("name", OF_MEANS)
def test_more_sessions_narrower_intervals(name):
    """A known defect: a width that grows with n. Those of normal limits fall as 1 / √n."""
    draw = np.random.default_rng(2)
    values = np.minimum(draw.exponential(0.5, 64_000), 4.0)
    widths = [np.subtract(*OF_MEANS[name](values[:count])[:0:-1]) for count in (1000, 4000, 16_000, 64_000)]
    assert (np.diff(widths) < 0).all()
    if name not in ("bernstein", "sequence"):
        assert math.log2(widths[0] / widths[2]) == pytest.approx(2.0, abs=0.2)


def test_student_by_hand_and_two_sided():
    """A known defect: the quantile of 1 - α, which leaves out 10% at 95%."""
    values = np.array([1.0, 2.0, 4.0, 7.0, 11.0])
    mean, low, high = student_interval(values)
    half = 2.7764451 * values.std(ddof=1) / math.sqrt(5)
    assert (mean, low, high) == pytest.approx((5.0, 5.0 - half, 5.0 + half))
    assert lower_bound(lambda level: student_interval(values, level)) == pytest.approx(
        5.0 - 2.1318468 * values.std(ddof=1) / math.sqrt(5)
    )


def test_hoeffding_and_bernstein_by_hand():
    values = np.tile([0.0, 1.0], 500)
    half = math.sqrt(math.log(40.0) / 2000)
    assert hoeffding_interval(values, 0.0, 1.0) == pytest.approx((0.5, 0.5 - half, 0.5 + half))
    half = math.sqrt(2 * values.var(ddof=1) * math.log(80) / 1000) + 7 * math.log(80) / (3 * 999)
    assert bernstein_interval(values, 0.0, 1.0) == pytest.approx((0.5, 0.5 - half, 0.5 + half))
    assert bernstein_interval([0.4], 0.0, 1.0) == (0.4, 0.0, 1.0)


def test_a_bound_is_known_beforehand():
    """A known defect: with the observed maximum for a bound, rare large values are never in the interval."""
    rare = np.zeros(100)
    assert bernstein_interval(rare, 0.0, 50.0)[2] > 1.0
    with pytest.raises(InputError, match="largest weight"):
        bernstein_interval(np.array([0.0, 3.0]), 0.0, 1.0)
    with pytest.raises(InputError, match="known beforehand"):
        hoeffding_interval(rare, 0.0, math.inf)
    with pytest.raises(InputError, match="known beforehand"):
        mean_sequence(rare, 0.0, 0.0)


def test_a_ratio_lets_its_denominator_vary():
    """A known defect: a frozen denominator, many times too wide where reward and weight go together."""
    weight, _ = weighted(2000, 0, noise=1.0)
    gain = 0.8 + 0.02 * np.random.default_rng(0).normal(size=2000)
    value, low, high = ratio_interval(weight * gain, weight)
    assert value == pytest.approx((weight * gain).sum() / weight.sum())
    _, frozen_low, frozen_high = student_interval(weight * gain / weight.mean())
    assert (frozen_high - frozen_low) > 10 * (high - low)
    assert ratio_interval(weight * 0.8, weight) == pytest.approx((0.8, 0.8, 0.8))
    assert euclidean_interval(weight * 0.8, weight) == pytest.approx((0.8, 0.8, 0.8), abs=1e-7)
    assert math.isnan(ratio_interval(weight * 0, weight * 0)[1])


def test_ratios_cover():
    """150 samples of 500; each assertion fails by chance once in 100,000 times."""
    held = {"delta": 0, "euclidean": 0, "likelihood": 0}
    for seed in range(150):
        weight, click = weighted(500, seed, noise=0.7)
        paid = weight * click
        found = {
            "delta": ratio_interval(paid, weight, 0.8),
            "euclidean": euclidean_interval(paid, weight, 0.8),
            "likelihood": likelihood_interval(paid, 0.8, weights=weight),
        }
        for name, (_, low, high) in found.items():
            held[name] += low <= 0.3 <= high
    for count in held.values():
        assert_rate_at_least(count, 150, 0.79, false_alarm=1e-5)
        assert_rate_at_least(150 - count, 150, 0.16, false_alarm=1e-5)


def test_the_known_mean_of_the_weights_takes_noise_out():
    weight, click = weighted(2000, 3, noise=1.0)
    click = np.maximum(click, 0.5)
    plain = likelihood_interval(weight * click)
    known = likelihood_interval(weight * click, weights=weight)
    assert known[2] - known[1] < 0.8 * (plain[2] - plain[1])
    assert plain[0] == pytest.approx((weight * click).mean())
    with pytest.raises(InputError, match="one side of 1"):
        likelihood_interval(click, weights=np.full(2000, 2.0))
    with pytest.raises(InputError, match="one per value"):
        likelihood_interval(click, weights=weight[:5])


def test_likelihood_by_its_definition():
    """At the bounds the likelihood ratio, found by a general solver, is the quantile; few clicks, so it is skew."""
    from scipy import optimize

    values = np.array([0.0] * 37 + [1.0] * 3)
    value, low, high = likelihood_interval(values)
    assert 0 < low < value < high < 1 and high - value > value - low
    limit = stats.f.ppf(0.95, 1, 39)
    for mean in (low, high):
        # For values 0 and 1 the weights are those of a binomial likelihood.
        ratio = 37 * math.log((1 - mean) / (37 / 40)) + 3 * math.log(mean / (3 / 40))
        assert -2 * ratio == pytest.approx(limit, rel=1e-6)
    uneven = np.array([0.1, 0.5, 0.7, 2.0, 3.5])
    _, low, _ = likelihood_interval(uneven)

    def slope(multiplier):
        return float(((uneven - low) / (1 + multiplier * (uneven - low))).sum())

    ends = -1 / (uneven - low).max() + 1e-9, -1 / (uneven - low).min() - 1e-9
    best = optimize.brentq(slope, *ends)
    assert 2 * np.log1p(best * (uneven - low)).sum() == pytest.approx(stats.f.ppf(0.95, 1, 4), rel=1e-6)
    assert math.isnan(likelihood_interval(np.ones(5))[1])


def test_euclidean_bounds_by_their_definition():
    weight, click = weighted(300, 4)
    value, *ends = euclidean_interval(weight * click, weight)
    for end in ends:
        score = weight * click - end * weight
        assert 300 * score.mean() ** 2 / score.var(ddof=1) == pytest.approx(stats.f.ppf(0.95, 1, 299))
    assert value == pytest.approx((weight * click).sum() / weight.sum())
    noise = np.array([1.0, -1.0, 1.0, -0.9])
    assert euclidean_interval(np.ones(4), noise)[1:] == (-math.inf, math.inf)


def test_a_difference_is_paired():
    weight, click = weighted(1000, 5, noise=0.8)
    other = weight * np.random.default_rng(0).uniform(0.9, 1.1, 1000)
    value, low, high = ratio_difference_interval((weight * click, weight), (other * click, other))
    apart = [ratio_interval(w * click, w) for w in (weight, other)]
    assert value == pytest.approx(apart[0][0] - apart[1][0])
    unpaired = math.hypot(*(part[2] - part[1] for part in apart))
    assert high - low < 0.3 * unpaired
    same = ratio_difference_interval((weight * click, weight), (weight * click, weight))
    assert same == (0.0, 0.0, 0.0)
    with pytest.raises(InputError, match="one log"):
        ratio_difference_interval((click, weight), (click[:9], weight[:9]))


def test_sequences_hold_at_every_time():
    """200 runs of 2,000 looks each: the running interval of Student's t is left by many, the sequence by few."""
    draw = np.random.default_rng(6)
    left = of_student = 0
    for _ in range(200):
        clicks = (draw.random(2000) < 0.3).astype(float)
        found = mean_sequence(clicks, 0.0, 1.0, 0.9)
        left += bool(((found.low > 0.3) | (found.high < 0.3)).any())
        time = np.arange(1, 2001)
        mean = np.cumsum(clicks) / time
        half = 1.645 * np.sqrt(mean * (1 - mean) / time)
        of_student += bool((np.abs(mean - 0.3) > half)[50:].any())
        assert (np.diff(found.high - found.low) <= 1e-12).all()
    assert_rate_at_least(200 - left, 200, 0.9, false_alarm=1e-5)
    assert of_student > 60


def test_a_sequence_for_a_policy_needs_no_bound_on_its_weights():
    """100 runs with lognormal weights; fails by chance once in 100,000 times."""
    draw = np.random.default_rng(7)
    held = 0
    for _ in range(100):
        weight = np.exp(draw.normal(size=3000) - 0.5)
        gain = (draw.random(3000) < 0.3) * 2.0
        found = policy_sequence(weight, gain, 2.0, 0.9)
        held += bool(((found.low <= 0.6) & (found.high >= 0.6)).all())
    assert_rate_at_least(held, 100, 0.9, false_alarm=1e-5)
    assert 0.4 < found.last[1] < 0.6 < found.last[2] < 0.8
    assert found.clear_of(0.1) < 2000 and found.clear_of(0.6) is None
    with pytest.raises(InputError, match="negative"):
        policy_sequence([-1.0, 2.0], [0.0, 1.0], 1.0)
    with pytest.raises(InputError, match="one per session"):
        policy_sequence([1.0, 2.0], [0.0], 1.0)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 4), min_size=2, max_size=40), st.floats(0.5, 0.99))
def test_intervals_hold_their_value_and_keep_order(values, confidence):
    for name, interval in OF_MEANS.items():
        value, low, high = interval(values, confidence)
        if not math.isnan(low) and name != "sequence":
            assert low <= value + 1e-9 and value - 1e-9 <= high
        if name in (*GUARANTEED, "likelihood") and not math.isnan(low):
            assert low >= min(0.0, *values) and high <= max(4.0, *values)


@pytest.mark.parametrize("scale", [1e-320, 1e-200, 1.0, 1e200])
def test_the_likelihood_interval_has_the_units_of_its_values(scale):
    """Squares of the smallest numbers are 0: the search for a bound once went on for ever."""
    values = np.array([0.0, 0.0, 1.0, 3.0, 0.5, 0.0])
    wanted = likelihood_interval(values)
    found = likelihood_interval(values * scale)
    assert [part / scale for part in found] == pytest.approx(wanted, rel=1e-3 if scale < 1e-300 else 1e-9)


def test_bad_input():
    with pytest.raises(InputError, match="at least one"):
        student_interval([])
    with pytest.raises(InputError, match="not finite"):
        likelihood_interval([1.0, math.nan])
    with pytest.raises(InputError, match="one-sided"):
        lower_bound(lambda level: student_interval([1.0, 2.0], level), 0.3)
    with pytest.raises(InputError, match="one per session"):
        ratio_interval([1.0, 2.0], [1.0])


def test_scores_of_a_log_are_what_estimates_are_means_of():
    small = case(sessions=300)
    rows = evaluate(small.target, small.log, estimators=("ips", "snips", "dr", "rips", "cips"), replicates=500)
    for name in ("ips", "dr", "rips", "cips"):
        scores = session_scores(small.target, small.log, name)
        value, low, high = student_interval(scores.score)
        assert value == pytest.approx(rows[name].raw.value, rel=1e-9)
        assert high - low == pytest.approx(rows[name].raw.high - rows[name].raw.low, rel=0.25)
    assert np.mean(scores.weight) == pytest.approx(rows["ips"].diagnostics.mean_weight)
    value, low, high = ratio_interval(scores.weight * scores.returns, scores.weight)
    assert value == pytest.approx(rows["snips"].raw.value)
    assert high - low == pytest.approx(rows["snips"].raw.high - rows["snips"].raw.low, rel=0.25)
    order = np.arange(300)[::-1].copy()
    turned = session_scores(small.target, small.log.select(order), "ips")
    np.testing.assert_allclose(turned.score, session_scores(small.target, small.log, "ips").score[order])
    with pytest.raises(InputError, match="no mean over sessions"):
        session_scores(small.target, small.log, "snips")
