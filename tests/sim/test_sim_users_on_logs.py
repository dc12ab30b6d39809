"""Fitted users on published logs: what they predict of days, quarters and policies that they never saw.

The quick forms take part of a log and small users; the slow ones are those of benchmarks/users_on_logs.py.
"""

from __future__ import annotations

import importlib
import math
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from recil.logs.session_log import SessionLog
from recil.sim.card import validate
from recil.sim.fit import fit_users
from recil.sim.reference import ReferenceConfig
from recil.sim.user_config import UserConfig

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
QUICK = UserConfig(types=3, dimension=4, epochs=6, batch=256, window=0)


@pytest.fixture
def benchmark(monkeypatch):
    """The benchmark's part of this name."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


def without_feedback(log: SessionLog, sessions: int) -> SessionLog:
    return replace(log.select(np.arange(min(sessions, log.sessions))), feedback={})


def test_kuairand_clicks_of_the_last_days(benchmark, real_logs: Path) -> None:
    kuairand = benchmark("users_on_kuairand")
    train, test = (without_feedback(log, 2500) for log in kuairand.parts(real_logs / "kuairand", "click"))
    found = kuairand.judged(train, test, config=QUICK, reference_config=ReferenceConfig(width=8, epochs=2))
    for card in (found.anew, found.led_in):
        assert all(card.row(model).versus > 3 * card.row(model).error for model in ("constant", "item, tab"))
        assert card.row(kuairand.RATES).versus > 0
        assert card.row("users").calibration_error < 0.04 and card.leaving is None
    assert found.led_in.row("users").log_loss < found.anew.row("users").log_loss
    assert "shift in log-odds" in found.days


@pytest.mark.slow
@pytest.mark.parametrize("reward", ["click", "is_like", "long_view"])
def test_kuairand_rewards_beat_rates_of_tab_item_and_user(benchmark, real_logs: Path, reward: str) -> None:
    kuairand = benchmark("users_on_kuairand")
    found = kuairand.judged(*kuairand.parts(real_logs / "kuairand", reward))
    rates = found.led_in.row(kuairand.RATES)
    assert rates.versus > 2 * rates.error
    assert found.anew.row("item, tab").versus > 2 * found.anew.row("item, tab").error
    value, error = found.led_in.gap
    assert value < 0.01 + 2 * error


def test_entree_leaving_in_the_last_quarter(benchmark, real_logs: Path) -> None:
    """Small users of a sixth of the log, whose oldest sessions were longer: close, if not inside the sampling error."""
    entree = benchmark("users_on_entree")
    train, test = (replace(part, feedback={}, user_features={}) for part in entree.parts(real_logs / "entree"))
    users = fit_users(train.select(np.arange(0, train.sessions, 6)), QUICK)
    table = entree.hazard_of(validate(users, test))
    assert max(group.observed for group in table.groups) > 6 * min(group.observed for group in table.groups)
    assert all(abs(group.miss) < 0.05 for group in table.groups)
    lengths = entree.lengths(test, users)
    assert (lengths.predicted - lengths.observed).abs().max() < 0.03


@pytest.mark.slow
def test_entree_hazard_is_inside_the_sampling_error(benchmark, real_logs: Path) -> None:
    """Of the steps' 95% intervals, at most as many miss as chance has it at a false-alarm rate of 1e-3."""
    entree = benchmark("users_on_entree")
    train, test = entree.parts(real_logs / "entree")
    table = entree.hazard_of(validate(fit_users(train), test))
    off = sum(abs(group.miss) > 1.96 * group.error for group in table.groups)
    assert off <= stats.binom.isf(1e-3, len(table.groups), 0.05)
    assert table.p_value > 1e-3


def test_lengths_are_products_of_hazards(benchmark, held_out, fitted) -> None:
    table = benchmark("users_on_entree").lengths(held_out, fitted)
    assert table.predicted.sum() == pytest.approx(1) and len(table) == 16
    counts = np.bincount(held_out.lengths)[1:] / held_out.sessions
    np.testing.assert_allclose(table.observed[: len(counts)], counts)
    # One of six steps ends by the horizon, not by the user: predicted lengths go no further than observed ones.
    assert abs(table.predicted[0] - counts[0]) < 5 * table.error[0]


@pytest.mark.slow
def test_open_bandit_rates_both_ways(benchmark, real_logs: Path) -> None:
    found = benchmark("users_on_open_bandit").predictions(real_logs / "open_bandit")
    assert found["bts", "random"].holds and found["random", "bts"].holds


def predicted_by(benchmark, monkeypatch, rates: list[float], clicks: int, shown: int) -> SimpleNamespace:
    """The prediction of an ensemble whose users say each a rate, the central first, on a log of so many clicks."""
    module: ModuleType = benchmark("users_on_open_bandit")
    log = SimpleNamespace(items=np.zeros((shown, 1)), reward=(np.arange(shown) < clicks)[:, None].astype(float))
    monkeypatch.setattr(module, "predict", lambda users, log: SimpleNamespace(click=np.full((shown, 1), users)))
    return module.predicted_rate(SimpleNamespace(central=rates[0], members=tuple(rates[1:])), log)


def test_the_interval_of_a_rate_has_fits_and_chance_in_it(benchmark, monkeypatch) -> None:
    found = predicted_by(benchmark, monkeypatch, [0.1, 0.08, 0.1, 0.12], 12, 100)
    between, binomial = 0.02**2, 0.1 * 0.9 / 100
    degrees = (between + binomial) ** 2 / (between**2 / 2)
    half = stats.t.ppf(0.975, degrees) * math.sqrt(between + binomial)
    assert (found.low, found.high) == pytest.approx((0.1 - half, 0.1 + half)) and found.observed == 0.12
    assert found.holds and not predicted_by(benchmark, monkeypatch, [0.1, 0.08, 0.1, 0.12], 25, 100).holds
    alike = predicted_by(benchmark, monkeypatch, [0.1, 0.1, 0.1], 12, 100)
    assert alike.high - alike.low == pytest.approx(2 * stats.norm.ppf(0.975) * math.sqrt(binomial))


def test_a_fit_of_a_generated_log_is_measured(benchmark, monkeypatch) -> None:
    scale = benchmark("users_at_scale")
    log = scale.generated_log(2000)
    assert (log.sessions, log.steps, log.slate_size, log.catalogue) == (2000, 20_000, 5, 10_000)
    clicks = log.reward.sum(1)
    assert clicks.max() == 1 and 0.05 < clicks.mean() < 0.2
    small = log.select(np.arange(60))
    monkeypatch.setattr(scale, "generated_log", lambda sessions: small)
    from recil.sim import fit

    climb = fit.optimise
    cost = scale.measure(60, 1)
    assert fit.optimise is climb
    assert all(part[0] > 0 for part in (cost.before, cost.epoch, cost.after)) and cost.peak >= cost.start > 0
    assert cost.seconds(3) == pytest.approx(cost.before[0] + 3 * cost.epoch[0] + cost.after[0])


def test_a_page_keeps_its_other_sections(benchmark) -> None:
    module = benchmark("users_on_logs")
    page = module.HEAD
    for name, text in (("scale", "seconds"), ("kuairand", "| a |\n\n### more\nb"), ("scale", "minutes")):
        page = module.with_section(page, module.TITLES[name], text)
    first, second = module.TITLES["kuairand"], module.TITLES["scale"]
    assert page == f"{module.HEAD}\n## {first}\n\n| a |\n\n### more\nb\n\n## {second}\n\nminutes\n"
