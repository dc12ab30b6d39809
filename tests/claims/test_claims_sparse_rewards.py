"""Sparse rewards: the smallest form holds, would not with the starts exchanged, and has the figures of closed forms."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from claims_helper import smallest

from recil.claims.studies import sparse_rewards
from recil.train.tabular_policy import Reinforced


@pytest.fixture(scope="module")
def tried():
    return smallest("sparse_rewards")


def stands(tried, says: str) -> str:
    (point,) = [point for point in tried.points if says in point.says]
    return point.standing


def test_it_holds(tried):
    assert tried.standing == "holds", tried.points


def test_it_would_not_if_the_starts_changed_places(tried):
    exchanged = tried.swapped("scratch 0.1", "clone 0.1")
    assert stands(exchanged, "less than a fifth") != "holds" and exchanged.standing == "does not hold"
    deep = tried.swapped("scratch depth 10", "clone depth 10")
    assert stands(deep, "ever meet it") == "does not hold" and stands(deep, "19 of 20") == "does not hold"


def test_it_would_not_if_rare_clicks_took_no_longer(tried):
    flat = replace(tried, found=replace(tried.found, runs=tuple(map(unhurried, tried.found.runs))))
    assert stands(flat, "inverse proportion") == "does not hold"


def unhurried(run):
    return replace(run, values={**run.values, "sessions": 100.0 + run.seed})


def test_starts_are_worth_what_can_be_worked_out(tried):
    # One of 50 items fits, and the others are clicked at a fiftieth of its rate; the demonstrator shows it at .2.
    for rate in tried.settings.rates:
        assert tried.found.mean(f"scratch {rate:g}", "start_share").value == pytest.approx(0.02 + 0.98 * 0.02)
        assert tried.found.mean(f"clone {rate:g}", "start_share").value == pytest.approx(0.2 + 0.8 * 0.02, abs=0.02)
    for depth in tried.settings.depths:
        assert tried.found.mean(f"scratch depth {depth}", "start_hits").value == pytest.approx(2.0**-depth)
        assert tried.found.mean(f"clone depth {depth}", "start_hits").value == pytest.approx(0.9**depth, abs=0.03)


def test_what_was_censored_is_left_out_of_the_slope_and_said(tried):
    short = smallest("sparse_rewards", rates=(0.3, 0.03), depths=(), budget=8000, runs=3)
    assert short.found.mean("scratch 0.03", "sessions").value == 8000
    assert short.found.mean("scratch 0.03", "reached").value == 0
    point = next(point for point in short.points if "From scratch" in point.says)
    assert point.standing == "undecided" and "without 0.03" in point.shown


def test_sessions_until_a_share_are_counted_between_steps():
    steps = [Reinforced(0, torch.tensor([0.1, 0.6])), Reinforced(50, torch.tensor([0.3, 0.7]))]
    steps += [Reinforced(100, torch.tensor([0.7, 0.1]))]
    times = sparse_rewards._sessions_until(steps, lambda logits: logits, 0.5)
    assert times.tolist() == pytest.approx([75.0, 0.0])
    assert sparse_rewards._sessions_until(steps, lambda logits: logits, 0.8).isinf().all()
