"""Diagnostics, verdicts and how they are shown."""

import math

import numpy as np
import pytest
import torch
from logs_of_worlds import case
from matplotlib.figure import Figure
from sums_of_sessions import arrays_from
from tiny_worlds import MoodyWorld, RecallPolicy

from recil.evaluate import ESTIMATORS, Thresholds, evaluate, simulate
from recil.evaluate.diagnostics import Diagnostics, diagnose
from recil.evaluate.facts import Faults, LogFacts
from recil.evaluate.on_log import estimates_of
from recil.evaluate.pass_over import Passed
from recil.evaluate.sums import SessionSums
from recil.evaluate.support import Support
from recil.evaluate.verdict import judge

SOUND = Diagnostics(
    sessions=2000,
    rewarded=400,
    rewarded_ess=300.0,
    ess=1200.0,
    mean_weight=1.01,
    mean_weight_error=0.02,
    largest_share=0.004,
    capped_share=0.0,
    unseen_share=0.0,
)


def sums_of(ratio, reward):
    arrays = arrays_from(ratio, reward)
    counts = torch.poisson(torch.ones(201, len(reward)), generator=torch.Generator().manual_seed(0)).double()
    counts[0] = 1.0
    return SessionSums.of(arrays, counts)


def answers(ratio, reward, **options):
    passed = Passed(sums_of(ratio, reward), Support(10, 0))
    return estimates_of(passed, tuple(ESTIMATORS), LogFacts(len(reward)), **options)


def two_heavy_sessions():
    """10,000 one-step sessions of which two carry the weight: ESS about 2, mean weight about 3."""
    generator = torch.Generator().manual_seed(1)
    ratio = torch.full((10_000, 1), 0.1, dtype=torch.float64)
    ratio[0], ratio[1] = 17_000.0, 13_000.0
    return ratio, (torch.rand(10_000, 1, generator=generator, dtype=torch.float64) < 0.1).double()


def test_two_effective_sessions_of_ten_thousand_are_refused():
    estimates = answers(*two_heavy_sessions())
    for name in ("ips", "snips", "pdis", "pdwis", "dr"):
        row = estimates[name]
        assert row.ess < 3 and row.diagnostics.mean_weight > 3
        assert row.verdict == "refuse"
        assert math.isnan(row.value) and math.isnan(row.low) and math.isnan(row.high)
        assert math.isfinite(row.raw.value)
    assert estimates["logged"].verdict == "trust"
    assert estimates.best.verdict == "refuse"


def test_a_refused_number_is_not_printed():
    estimates = answers(*two_heavy_sessions())
    table = str(estimates)
    assert max(map(len, table.splitlines())) <= 80
    for name in ("ips", "pdwis"):
        line = next(line for line in table.splitlines() if line.startswith(f"{name} "))
        assert line.split()[1:4] == ["-", "-", "-"]
        assert f"{estimates[name].raw.value:.5g}" not in table
    assert "ips, snips, pdis, pdwis, dr: refuse: the weights leave 2.1 effective of 10,000 sessions" in table.replace(
        "\n  ", " "
    )
    frame = estimates.to_frame()
    assert frame.set_index("estimator").loc["ips", ["value", "low", "high"]].isna().all()
    assert "effective" in frame.set_index("estimator").loc["ips", "reasons"]


@pytest.mark.parametrize(
    ("change", "verdict", "reason"),
    [
        ({}, "trust", ""),
        ({"ess": 150.0}, "caution", "150.0 effective of 2,000"),
        ({"ess": 20.0}, "refuse", "20.0 effective"),
        ({"sessions": 10_000}, "caution", "1,200.0 effective of 10,000"),
        ({"sessions": 1_000_000}, "refuse", "effective of 1,000,000"),
        ({"unit": "user", "ess": 150.0}, "caution", "of 2,000 sessions by user"),
        ({"unit": "user", "effective_units": 20.0, "ess": 300.0}, "refuse", "20 effective users: too few"),
        ({"largest_share": 0.1}, "caution", "one session carries 10%"),
        ({"largest_share": 0.4, "unit": "user"}, "refuse", "one user carries 40%"),
        ({"mean_weight": 1.07}, "caution", "1.07 ± 0.02: propensities are too small"),
        ({"mean_weight": 1.09}, "refuse", "1.09 ± 0.02: propensities are too small"),
        ({"mean_weight": 1.3, "mean_weight_error": 0.2}, "trust", ""),
        ({"mean_weight": 1.00001, "mean_weight_error": 1e-9}, "trust", ""),
        ({"priced": 0.09}, "trust", ""),
        ({"priced": 0.5, "mean_weight": 0.97}, "caution", "0.97 ± 0.02, below 1: what the log does not show may move"),
        ({"priced": 1.1, "unseen_share": 0.04}, "refuse", "4.0% of the target's slates hold items"),
        ({"capped_share": 0.05}, "caution", "cap changed 5%"),
        ({"capped_share": 0.5}, "refuse", "cap changed 50%"),
        ({"rewarded": 0, "rewarded_ess": 0.0}, "trust", ""),
        ({"rewarded": 0, "rewarded_ess": 0.0, "known_range": False}, "refuse", "no session has any reward"),
        ({"rewarded_ess": 7.5, "two_sided": True}, "refuse", "7.5 effective sessions with reward, gains and losses"),
        ({"skewness": 0.5}, "trust", ""),
        ({"skewness": 0.35, "flat": False}, "refuse", "a few large rewards decide it"),
        ({"skewness": 0.2, "flat": False}, "trust", ""),
        ({"skewness": 0.2, "flat": False, "tail_index": 1.5}, "refuse", "tail index 1.5"),
        ({"skewness": 0.1, "flat": False, "tail_index": 1.5}, "trust", ""),
        ({"fitted_propensities": True}, "caution", "fitted model's"),
        ({"model_alone": True}, "refuse", "model alone answers"),
        ({"model_alone": True, "assumed": True}, "caution", "model alone answers"),
        (
            {"supposes": "pigs fly"},
            "refuse",
            "supposes that pigs fly; if you know better, name the estimator in assume=",
        ),
        ({"supposes": "pigs fly", "assumed": True}, "caution", "supposes that pigs fly"),
        ({"shrunk_share": 0.05}, "caution", "5.0% of the weight is shrunk away"),
        ({"shrunk_share": 0.5}, "refuse", "50.0% of the weight"),
        ({"shrunk_share": 0.01, "lost_of_width": 0.2}, "caution", "1.0% of the weight is shrunk away"),
        ({"bias_of_width": 0.3, "bias_error": 0.1}, "caution", "0.3 ± 0.1 half widths"),
        ({"bias_of_width": 0.3, "bias_error": 0.25}, "trust", ""),
        ({"bias_of_width": 2.0, "bias_error": 0.8}, "caution", "less biased estimate"),
        ({"bias_of_width": 2.0, "bias_error": 0.3}, "refuse", "2 ± 0.3 half widths"),
    ],
)
def test_each_threshold(change, verdict, reason):
    found, reasons = judge(0.2, 0.1, 0.3, Diagnostics(**{**vars(SOUND), **change}), Thresholds())
    assert found == verdict
    assert bool(reasons) == bool(reason)
    assert reason in "; ".join(reasons)


def test_gravest_reason_first_and_thresholds_are_settable():
    bad = Diagnostics(**{**vars(SOUND), "largest_share": 0.1, "ess": 5.0})
    verdict, reasons = judge(0.2, 0.1, 0.3, bad, Thresholds())
    assert verdict == "refuse" and "effective" in reasons[0] and "one session" in reasons[1]
    lenient = Thresholds(ess=(1.0, 0.0), ess_share=(0.0, 0.0), largest_share=(1.0, 1.0))
    assert judge(0.2, 0.1, 0.3, bad, lenient) == ("trust", ())


def test_faults_of_the_log_reach_every_verdict_that_they_touch():
    weighs, about_sessions = ("refuse", "propensities are wrong"), ("caution", "40 sessions stand twice")
    faults = Faults(propensities=(weighs,), sessions=(about_sessions,))
    assert judge(0.2, 0.1, 0.3, SOUND, Thresholds(), faults) == ("refuse", (weighs[1], about_sessions[1]))
    mean = Diagnostics(**{**vars(SOUND), "mean_weight": 1.0, "mean_weight_error": 0.0, "unseen_share": math.nan})
    assert judge(0.2, 0.1, 0.3, mean, Thresholds(), faults) == ("caution", (about_sessions[1],))


def test_undefined_is_refused():
    assert judge(math.nan, math.nan, math.nan, SOUND, Thresholds())[0] == "refuse"


def test_effective_sizes_by_hand():
    """Two steps, two sessions, one of which ends after the first: weights 1, 3 then 3, 3 (absorbing)."""
    ratio = torch.tensor([[1.0, 3.0], [3.0, 1.0]]).double()
    happened = torch.tensor([[True, True], [True, False]])
    arrays = arrays_from(ratio, torch.tensor([[0.0, 1.0], [2.0, 0.0]]).double(), happened)
    counts = torch.tensor([[1.0, 1.0], [2.0, 0.0], [0.0, 2.0], [1.0, 1.0]]).double()
    sums = SessionSums.of(arrays, counts)
    passed = Passed(sums, Support())
    whole, step = (diagnose(ESTIMATORS[name], passed, LogFacts(2), 1.0) for name in ("ips", "pdis"))
    assert whole.ess == pytest.approx(2.0)
    assert whole.mean_weight == pytest.approx(3.0) and whole.largest_share == pytest.approx(0.5)
    # Step 0 was reached by both (share 2/3, ESS 1.6), step 1 by one (share 1/3, ESS 2).
    assert step.ess == pytest.approx(1 / (2 / 3 / 1.6 + 1 / 3 / 2))
    assert step.mean_weight == pytest.approx(2 / 3 * 2 + 1 / 3 * 3)
    assert step.largest_share == pytest.approx(2 / 3 * 0.75 + 1 / 3 * 0.5)
    # Contributions: logged 1 and 2; session 3 and 6; step 3 and 6.
    for name in ("logged", "ips", "pdis"):
        assert diagnose(ESTIMATORS[name], passed, LogFacts(2), 1.0).rewarded_ess == pytest.approx(9 / 5)
    # Replicates of the last weight's mean: 3, 3, 3; of the steps': (2/3 + 1), (2 + 1), (4/3 + 1).
    assert whole.mean_weight_error == pytest.approx(0.0, abs=1e-12)
    assert step.mean_weight_error == pytest.approx(float(np.std([5 / 3, 3, 7 / 3], ddof=1)))


def test_items_that_the_log_never_shows_are_found():
    """The logging policy holds item 3 back; the target shows it most of the time."""
    world = MoodyWorld.make(4, 1, 2)
    behaviour, target = torch.zeros(5, 2, 4).double(), torch.zeros(5, 2, 4).double()
    behaviour[..., 3] = -torch.inf
    target[..., 3] = 3.0
    log = simulate(RecallPolicy(behaviour), world, 500, 0)
    row = evaluate(RecallPolicy(target), log, replicates=50)["snips"]
    share = float(target[0, 0].softmax(0)[3])
    error = math.sqrt(share * (1 - share) / len(log.items))
    assert row.diagnostics.unseen_share == pytest.approx(share, abs=5 * error)
    assert row.verdict == "refuse"
    assert any("hardly or never shows" in reason for reason in row.reasons)
    # What the items that are not shown may earn is in the interval all the same.
    assert row.raw.high - row.raw.value > share * (1 - row.raw.value)


def test_best_is_the_best_verdict_then_a_fixed_order():
    good = case()
    estimates = evaluate(good.target, good.log, replicates=50)
    assert estimates.best.estimator in ("pdwis", "dr")
    only = evaluate(good.target, good.log, replicates=50, estimators=("logged", "ips", "snips"))
    assert only.best.estimator == "snips"
    with pytest.raises(ValueError, match="logging policy's own"):
        _ = evaluate(good.target, good.log, replicates=50, estimators=("logged",)).best


def test_figure_without_pyplot():
    figure = answers(*two_heavy_sessions()).plot()
    assert isinstance(figure, Figure)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == ["refused"] * 5
