"""Choosing an estimator in a world whose truth is known, and a knob by intervals alone."""

import math

import numpy as np
import pytest
import torch
from logs_of_worlds import case
from scipy import stats
from sums_of_sessions import arrays_from
from tiny_worlds import MoodyWorld, RecallPolicy

from recil.errors import InputError
from recil.evaluate import Estimator, choose_estimator, evaluate, slope, tuned
from recil.evaluate.bootstrap import poisson_counts
from recil.evaluate.diagnostics import Diagnostics
from recil.evaluate.estimates import Estimate, Interval
from recil.evaluate.estimators import TABLE, capped_ips
from recil.evaluate.facts import LogFacts
from recil.evaluate.on_log import estimates_of
from recil.evaluate.pass_over import Passed
from recil.evaluate.sums import SessionSums
from recil.evaluate.support import Support
from recil.exact.enumerate import true_value
from recil.policies.environment import Warrant
from recil.random import Streams


@pytest.fixture(scope="module")
def setting():
    return case(sessions=300, items=3, slate=1, horizon=2, strength=0.6)


def shifted(name: str, by: float, scale: float = 1.0) -> Estimator:
    """ips, wrong by a known amount."""
    return Estimator(
        name, lambda sums: scale * TABLE["ips"].value(sums) + by, "session", "-", "-", "-", score=TABLE["ips"].score
    )


@pytest.fixture(scope="module")
def choice(setting):
    policies = {"target": setting.target, "behaviour": setting.behaviour, "third": RecallPolicy.make(3, 5, 0.6)}
    estimators = ["ips", "snips", "logged", shifted("above", 1.0), shifted("turned", 0.0, -1.0)]
    return choose_estimator(
        policies, setting.log, setting.world, setting.behaviour, estimators=estimators, logs=12, truth_sessions=4000
    )


def test_the_truth_is_that_of_the_world(setting, choice):
    for name, policy in (("target", setting.target), ("behaviour", setting.behaviour)):
        value, error = choice.truth[name]
        assert value == pytest.approx(true_value(setting.world, policy), abs=5 * error)
        assert 0 < error < 0.02


def test_known_mistakes_are_found(choice):
    mean = np.mean([value for value, _ in choice.truth.values()])
    assert choice["above"].bias == pytest.approx(choice["ips"].bias + 1.0 / mean, rel=1e-9)
    assert choice["above"].error > 1.0 / mean / 2
    assert choice["above"].coverage == 0.0 and choice["ips"].coverage > 0.8
    # Adding a constant moves no rank; turning signs turns every rank and picks the worst policy.
    assert choice["above"].rank == pytest.approx(choice["ips"].rank) and choice["above"].regret == choice["ips"].regret
    assert choice["turned"].rank == pytest.approx(-choice["ips"].rank)
    assert choice["turned"].regret > choice["ips"].regret >= 0
    assert choice["turned"].bias == pytest.approx(-2 - choice["ips"].bias, rel=1e-9)
    assert choice.best in ("ips", "snips")
    assert [row.estimator for row in choice.rows][-1] == "turned" and "logged" not in str(choice)


def test_printed_in_eighty_columns_and_as_a_table(choice):
    text = str(choice)
    assert max(map(len, text.splitlines())) <= 80
    assert "3 policies on 12 simulated logs of 300 sessions" in text
    assert list(choice.to_frame()["estimator"]) == [row.estimator for row in choice.rows]
    assert choice["ips"].answers == 36 and 0 < choice["ips"].coverage_error < 0.1


def test_the_same_seed_gives_the_same_choice_and_one_policy_has_no_rank(setting):
    asked = {"logs": 2, "sessions": 60, "truth_sessions": 200, "estimators": ("ips",)}
    one, same = (
        choose_estimator({"target": setting.target}, setting.log, setting.world, setting.behaviour, **asked)
        for _ in range(2)
    )
    assert one.rows[0].error == same.rows[0].error and math.isnan(one.rows[0].rank)
    other = choose_estimator({"t": setting.target}, setting.log, setting.world, setting.behaviour, seed=1, **asked)
    assert other.rows[0].error != one.rows[0].error
    assert "1 policy on 2" in str(one) and str(one).splitlines()[1].split()[4] == "-"


def test_the_worlds_warrant_comes_along(setting):
    class Doubtful(MoodyWorld):
        warrant = Warrant("caution", ("users are off by a little",))

    world = Doubtful(**vars(setting.world))
    asked = {"logs": 1, "sessions": 60, "truth_sessions": 100, "estimators": ("ips",)}
    found = choose_estimator({"t": setting.target}, setting.log, world, setting.behaviour, **asked)
    assert found.verdict == "caution" and "world: caution: users are off by a little" in str(found)


def test_an_estimator_that_is_mostly_refused_comes_last(setting):
    wild = RecallPolicy(12 * setting.target.table)
    found = choose_estimator(
        {"wild": wild}, setting.log, setting.world, setting.behaviour,
        estimators=("ips", shifted("far", 40.0), "dm"), logs=3, truth_sessions=500,
    )  # fmt: skip
    assert found["ips"].refused == 1.0 and found["dm"].refused == 0.0 and found.best == "dm"


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"policies": {}}, "policies"),
        ({"estimators": ("logged",)}, "estimators"),
        ({"logs": 0}, "choose_estimator"),
        ({"world": MoodyWorld.make(4, 1, 2)}, "world"),
    ],
)
def test_what_cannot_be_tried(setting, change, place):
    given = {"policies": {"t": setting.target}, "world": setting.world} | change
    with pytest.raises(InputError) as error:
        choose_estimator(log=setting.log, behaviour=setting.behaviour, **given)
    assert error.value.place == place


def answer(value: float, half: float, name: str = "") -> Estimate:
    seen = Diagnostics(100, 10, 10.0, 100.0, 1.0, 0.1, 0.01, 0.0)
    interval = Interval(value, value - half, value + half)
    return Estimate(name or f"{value}", interval, "trust", (), seen, torch.zeros(2))


def test_slope_goes_on_while_intervals_meet():
    rows = [answer(1.0, 0.4), answer(1.1, 0.2), answer(1.2, 0.1), answer(1.9, 0.01)]
    # Twice the half widths: [.2, 1.8], [.7, 1.5], [1, 1.4], [1.88, 1.92]: the last meets none of them.
    assert slope(rows).raw.value == 1.2
    assert slope(rows[::-1]).raw.value == 1.2
    assert slope([*rows[:3], answer(1.41, 0.01)]).raw.value == 1.41
    assert slope([*rows[:3], answer(1.43, 0.01)]).raw.value == 1.2
    # Every pair of these meets but the first two and the third have no point in common: all must meet.
    assert slope([answer(0.0, 1.0), answer(3.0, 0.9), answer(4.1, 0.8)]).raw.value == 3.0
    assert slope([answer(math.nan, 1.0), answer(2.0, 1.0)]).raw.value == 2.0
    with pytest.raises(InputError, match="no estimate has an interval"):
        slope([answer(math.nan, 1.0)])


def test_tuned_shrinks_where_weights_are_heavy_and_not_where_they_are_light(setting):
    light = tuned(setting.target, setting.log, replicates=100)
    heavy = tuned(RecallPolicy(4 * setting.target.table), setting.log, replicates=100)
    caps = [math.inf if "inf" in row.estimator else float(row.estimator[5:-1] or 10) for row in (light, heavy)]
    plain = evaluate(RecallPolicy(4 * setting.target.table), setting.log, estimators=("pdis",), replicates=100)["pdis"]
    assert caps[1] <= 64
    assert heavy.raw.high - heavy.raw.low <= plain.raw.high - plain.raw.low
    same = evaluate(setting.target, setting.log, estimators=("cips(inf)",), replicates=100)["cips(inf)"]
    assert light.raw.value == pytest.approx(same.raw.value, abs=2 * (same.raw.high - same.raw.low))


def test_tuned_by_any_knob_and_by_given_values(setting):
    for name in ("switch_dr", "dros", "subgaussian"):
        found = tuned(setting.target, setting.log, name, replicates=50)
        assert found.estimator.startswith(name)
    assert tuned(setting.target, setting.log, "cips", knobs=(3.0,), replicates=50).estimator == "cips(3)"
    with pytest.raises(InputError, match="has no knob"):
        tuned(setting.target, setting.log, "snips")
    with pytest.raises(InputError, match="chosen among"):
        tuned(setting.target, setting.log, estimators=("ips",))


def test_the_knob_chosen_has_less_error_than_no_knob():
    """60 logs with log-normal weights; where they are large rewards are noise alone, so that a cap takes no value."""
    caps = [capped_ips(cap) for cap in (math.inf, 64.0, 16.0, 4.0, 1.0)]
    counts = poisson_counts(Streams(0), torch.arange(300), 200)
    truth = 0.5 * float(stats.norm.cdf((math.log(4.0) - 1.28) / 1.6))
    draw, errors = np.random.default_rng(0), []
    for _ in range(60):
        ratio = np.exp(1.6 * draw.standard_normal(300) - 1.28)
        reward = 0.5 * (ratio < 4.0) + draw.standard_normal(300)
        arrays = arrays_from(torch.from_numpy(ratio)[:, None], torch.from_numpy(reward)[:, None])
        terms = [term for cap in caps for term in cap.terms]
        sums = SessionSums.of(arrays, counts, terms, [cap.weighting for cap in caps if cap.weighting])
        rows = estimates_of(Passed(sums, Support(10, 0)), caps, LogFacts(300))
        errors.append((slope(rows).raw.value - truth, rows.rows[0].raw.value - truth))
    chosen, plain = np.square(errors).mean(0)
    assert chosen < 0.5 * plain
