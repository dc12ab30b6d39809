"""Plans come true: what a plan foretells of logs with exploration is what `evaluate` then finds on such logs."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from logs_of_worlds import take
from tiny_worlds import MoodyWorld, RecallPolicy

import recil
from recil.errors import InputError
from recil.evaluate import Thresholds, compare, evaluate, simulate
from recil.evaluate.estimators import find
from recil.evaluate.exploration import PLANNED, Centre, moments_of
from recil.evaluate.facts_of_log import facts_of
from recil.evaluate.pass_over import PassConfig, pass_over
from recil.evaluate.planned import rounded_up
from recil.evaluate.scoring import scores_of
from recil.logs.session_log import SessionLog

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
hard = import_module("hard_logs")
sys.path.pop(0)

LOGGED, TARGET = np.array([0.5, 0.4, 0.1]), np.array([0.1, 0.3, 0.6])
RATES = np.array([0.2, 0.4, 0.3])


def explored(world, behaviour, target, share, sessions, seed) -> SessionLog:
    """A log of which the target serves a share of sessions, with the propensities of the mixture over sessions.

    Of an item: Σ a_j β_j(session up to it) / Σ a_j β_j(session before it).
    """
    by_target = np.random.default_rng(seed).random(sessions) < share
    logs = [simulate(policy, world, sessions, seed) for policy in (behaviour, target)]
    parts = [take(log, np.flatnonzero(chosen)) for log, chosen in zip(logs, (~by_target, by_target), strict=True)]
    log = replace(
        parts[0],
        items=np.concatenate([part.items for part in parts]),
        reward=np.concatenate([part.reward for part in parts]),
        propensity=np.concatenate([part.propensity for part in parts]),
        offsets=np.concatenate([parts[0].offsets, parts[0].steps + parts[1].offsets[1:]]),
        session_ids=np.arange(sessions),
        terminated=None,
    )
    log = take(log, np.random.default_rng(seed).permutation(sessions))
    everyone = np.arange(log.sessions)
    batch = log.batch(everyone)
    joint = []
    for prior, policy in ((1 - share, behaviour), (share, target)):
        scores = torch.where(batch.shown, scores_of(policy, batch, "policy").double(), 0.0)
        joint.append(math.log(prior) + scores.flatten(1).cumsum(1))
    whole = torch.logaddexp(*joint)
    conditional = (whole - torch.nn.functional.pad(whole[:, :-1], (1, 0))).view(batch.shown.shape).exp()
    place, inside = log.rows(everyone)
    propensity = np.empty(log.items.shape)
    propensity[place[inside]] = conditional.numpy()[inside]
    return replace(log, propensity=propensity.clip(max=1.0))


@pytest.fixture(scope="module")
def mild():
    """Weights up to some 50 in sessions of up to three slates."""
    world = MoodyWorld.make(4, 1, 3)
    behaviour, target = (RecallPolicy.make(4, seed, 0.9) for seed in (1, 2))
    return world, behaviour, target, simulate(behaviour, world, 6000, 5)


@pytest.mark.parametrize("share", [0.05, 0.3])
def test_half_widths_are_those_of_logs_that_explore(mild, share):
    world, behaviour, target, log = mild
    sessions, logs = 1500, 6
    drawn = [explored(world, behaviour, target, share, sessions, 100 + seed) for seed in range(logs)]
    found = [evaluate(target, one, estimators=PLANNED, replicates=300) for one in drawn]
    for name in PLANNED:
        planned = recil.plan(target, log, estimator=name, sessions=[sessions], explore=[share], replicates=50)
        cell, rows = planned.cell(sessions, share), [one[name] for one in found]
        half = np.mean([0.5 * (row.raw.high - row.raw.low) for row in rows])
        assert cell.half_width == pytest.approx(half, rel=0.1), name
        assert cell.ess == pytest.approx(np.mean([row.ess for row in rows]), rel=0.1), name
        assert cell.verdict in {row.verdict for row in rows}, name


def test_clear_differences_are_those_of_logs_that_explore(mild):
    world, behaviour, target, log = mild
    pair = {"target": target, "logger": behaviour}
    for name in ("pdwis", "snips"):
        cell = recil.plan(target, log, estimator=name, sessions=[1500], explore=[0.3], replicates=50).cells[0]
        halves = []
        for seed in range(4):
            drawn = explored(world, behaviour, target, 0.3, 1500, 200 + seed)
            found = compare(pair, drawn, estimator=name, replicates=300).difference("target", "logger")
            halves.append(0.5 * (found.high - found.low))
        assert cell.difference == pytest.approx(np.mean(halves), rel=0.1), name


def counted(items: int, clicks: np.ndarray, shown: np.ndarray, propensity: np.ndarray) -> SessionLog:
    """One-step sessions: `shown` of each item, `clicks` of these clicked."""
    clicked = np.concatenate([np.arange(number) < hit for number, hit in zip(shown, clicks, strict=True)])
    order = np.random.default_rng(0).permutation(len(clicked))
    item = np.repeat(np.arange(items), shown)[order]
    return hard.log_of(item, clicked[order] * 1.0, propensity[item], items)


def moments(policy, log, name, mass, shares):
    chosen, facts = find(name), facts_of(log)
    config = PassConfig(replicates=2, model=chosen.needs_model, estimators=(chosen,))
    passed = pass_over({"": policy}, log, None, config, facts)[""]
    value = float(chosen.value(passed.sums)[0])
    found = moments_of(policy, log, None, chosen, config, facts, Centre.of(passed, facts, value), mass, shares)
    return value, found.moments


@pytest.mark.parametrize("name", ["ips", "snips"])
def test_moments_by_enumeration(name):
    """A log in which items and clicks are as often as they are likely: its means are expectations."""
    shown = (1000 * LOGGED).round().astype(int)
    log = counted(3, (shown * RATES).round().astype(int), shown, LOGGED)
    value, found = moments(hard.policy_of(TARGET), log, name, 0.0, (0.0, 0.1, 0.5))
    assert value == pytest.approx(TARGET @ RATES, rel=1e-6)
    logged = LOGGED @ RATES
    for share, moment in zip((0.0, 0.1, 0.5), found, strict=True):
        mixture = (1 - share) * LOGGED + share * TARGET
        weight, of_logger = TARGET / mixture, LOGGED / mixture
        square = apart = cube = 0.0
        for item in range(3):
            for click, likely in ((1.0, RATES[item]), (0.0, 1 - RATES[item])):
                influence = weight[item] * (click - value) if name == "snips" else weight[item] * click - value
                chance = mixture[item] * likely
                square += chance * influence**2
                cube += chance * abs(influence) ** 3
                apart += chance * (influence - of_logger[item] * (click - logged)) ** 2
        assert (moment.square, moment.cube, moment.apart) == pytest.approx((square, cube, apart), rel=1e-5)
        assert float(moment.weight_square[0]) == pytest.approx(mixture @ weight**2, rel=1e-6)
        assert float(moment.largest[0]) == pytest.approx(weight.max(), rel=1e-6)
        assert moment.share == share


def test_what_was_never_shown_has_the_weight_of_exploration():
    logging, target = np.array([0.5, 0.5, 0.0]), np.array([0.3, 0.6, 0.1])
    log = counted(3, np.array([100, 100, 0]), np.array([500, 500, 0]), logging)
    policy = hard.policy_of(target)
    _, (none, some) = moments(policy, log, "snips", 0.1, (0.0, 0.2))
    mixture = 0.8 * logging + 0.2 * target
    assert float(some.weight_square[0]) == pytest.approx(mixture @ (target / mixture) ** 2, rel=1e-6)
    assert float(some.largest[0]) == pytest.approx(5.0) and float(some.mean[0]) == pytest.approx(1.0)
    assert float(none.mean[0]) == pytest.approx(0.9)
    # The item is taken for one with the click rate of the others, .2, and a slate of it for a toss between 0 and 1.
    seen = mixture[:2] @ (target[:2] / mixture[:2]) ** 2
    assert some.square == pytest.approx(seen * 0.2 * 0.8 + 0.1 / 0.2 * (0.2 * 0.8 + 0.25), rel=1e-5)


def test_missing_support_is_mended_by_exploration_and_not_by_sessions():
    """Two items that the log never shows, each 2% of the target."""
    case = hard.unseen(1000, 0.04)(np.random.default_rng(0))
    found = recil.plan(case.policy, case.log, estimator="snips", explore=(0, 0.1), replicates=100)
    assert all(found.cell(size).verdict == "refuse" for size in (1000, 2000, 5000, 10_000, 100_000))
    alone, some = found.ways
    assert alone.sessions is None and "not in the log" in alone.lasting[0] and 0.04 < found.mass < 0.08
    assert "Without exploration: more sessions do not help" in str(found)
    # Five showings of each are to be expected where the target serves 250 sessions.
    assert some.verdict == "trust" and some.sessions == pytest.approx(2500, rel=0.35)
    logging, target = np.r_[hard.LOGGED, 0, 0], np.r_[0.96 * hard.TARGET, 0.02, 0.02]
    rates, mixture = np.r_[hard.CLICKS, 0.9, 0.9], 0.9 * logging + 0.1 * target
    for sessions, trusted in ((1000, False), (10_000, True)):
        draw = np.random.default_rng(1)
        items = draw.choice(len(mixture), sessions, p=mixture)
        log = hard.log_of(items, hard.clicks(draw, items, rates), mixture[items], len(mixture))
        row, cell = evaluate(case.policy, log, estimators=["snips"])["snips"], found.cell(sessions, 0.1)
        assert trusted is (cell.verdict == "trust") is (row.verdict == "trust")
        assert cell.half_width == pytest.approx(0.5 * (row.raw.high - row.raw.low), rel=0.2)


def test_items_hardly_shown_are_mended_by_sessions():
    """Two showings of each are to be expected in 1,000 sessions, and so five in 2,500."""
    case = hard.hardly_seen(1000, 0.04, 2.0)(np.random.default_rng(3))
    found = recil.plan(case.policy, case.log, estimator="ips", explore=[0], sessions=[1500, 20_000], replicates=50)
    few, many = found.cells
    assert any("hardly or never" in reason for reason in few.reasons)
    assert not any("hardly or never" in reason for reason in many.reasons)


def drawn_from(chances: np.ndarray, sessions: int) -> SessionLog:
    draw = np.random.default_rng(3)
    items = draw.choice(3, sessions, p=chances)
    return hard.log_of(items, (draw.random(sessions) < RATES[items]) * 1.0, chances[items], 3)


def test_noise_is_mended_by_sessions():
    found = recil.plan(hard.policy_of(LOGGED), drawn_from(LOGGED, 150), estimator="ips", explore=[0], replicates=100)
    (way,) = found.ways
    assert found.today.verdict == "caution" and way.verdict == "trust" and way.sessions == pytest.approx(200, abs=3)
    assert found.cell(15_000).half_width == pytest.approx(found.cell(1500).half_width / math.sqrt(10), rel=0.02)


def test_one_session_weighs_less_among_more():
    """A 150th of the weight today, and a 500th is asked for."""
    asked = Thresholds(units=(0, 0), ess=(0, 0), largest_share=(0.002, 0.5))
    log = drawn_from(LOGGED, 150)
    found = recil.plan(hard.policy_of(LOGGED), log, estimator="ips", explore=[0], replicates=50, thresholds=asked)
    assert found.today.verdict == "caution" and found.ways[0].sessions == pytest.approx(500, abs=6)


def test_propensities_that_are_too_small_stay():
    log = drawn_from(LOGGED, 20_000)
    wrong = replace(log, propensity=0.9 * log.propensity)
    found = recil.plan(hard.policy_of(TARGET), wrong, estimator="ips", explore=(0, 0.2), replicates=50)
    assert found.least is None and {way.verdict for way in found.ways} == {"refuse"}
    assert all(any(why.startswith("mean weight 1.1") for why in way.lasting) for way in found.ways)
    assert all(any(why.startswith("mean weight 1.1") for why in cell.reasons) for cell in found.cells)


def test_thin_weights_are_mended_by_exploration_only():
    thin, far = np.array([0.9, 0.09, 0.01]), np.array([0.2, 0.3, 0.5])
    policy, log = hard.policy_of(far), drawn_from(thin, 20_000)
    found = recil.plan(policy, log, estimator="ips", explore=(0, 0.3), replicates=100)
    alone, some = found.ways
    assert found.today.verdict == alone.verdict == "refuse" and "% of sessions effective" in alone.lasting[0]
    assert some.verdict == "trust" and 0 < found.least <= 0.3
    loose = Thresholds(ess_share=(0.0, 0.0))
    assert recil.plan(policy, log, estimator="ips", explore=[0], replicates=100, thresholds=loose).least == 0.0


def test_todays_cell_is_what_evaluate_answers(mild):
    _, _, target, log = mild
    found = recil.plan(target, log, explore=(0, 0.5))
    row = evaluate(target, log)[found.today.estimator]
    cell = found.cell(log.sessions)
    assert (cell.verdict, cell.reasons, cell.ess) == (row.verdict, row.reasons, row.ess)
    assert cell.half_width == 0.5 * (row.raw.high - row.raw.low)
    # The formulas, which every other cell has, agree with it.
    near = recil.plan(target, log, sessions=[log.sessions + 1], explore=(0,)).cell(log.sessions + 1)
    assert near.half_width == pytest.approx(cell.half_width, rel=0.06) and near.ess == pytest.approx(cell.ess, rel=1e-3)


def test_users_are_units_of_a_plan():
    """What sessions of a user have in common no exploration makes smaller."""
    case = hard.users(2000, 20)(np.random.default_rng(1))
    by_user, by_session = (
        recil.plan(case.policy, case.log, estimator="snips", sessions=[20_000], explore=(0, 0.5), cluster=cluster)
        for cluster in ("user", "session")
    )
    larger = hard.users(20_000, 20)(np.random.default_rng(2))
    row = evaluate(case.policy, larger.log, estimators=["snips"], replicates=300)["snips"]
    assert by_user.cell(20_000).half_width == pytest.approx(0.5 * (row.raw.high - row.raw.low), rel=0.15)
    assert by_user.cell(20_000).ess == pytest.approx(row.ess, rel=0.1)
    assert by_user.cell(20_000, 0.5).half_width > 1.5 * by_session.cell(20_000, 0.5).half_width
    assert "2,000 sessions of 100 users" in str(by_user)


def test_heavy_tails_stay(mild):
    case = hard.sizes(3000, 2.0)(np.random.default_rng(0))
    found = recil.plan(case.policy, case.log, explore=(0, 0.2), replicates=100)
    assert all(way.sessions is None and "large rewards keep deciding it" in way.lasting[0] for way in found.ways)
    assert found.least is None and "no exploration up to 20% brings trust" in str(found)


def test_fitted_propensities_never_bring_trust(mild):
    _, behaviour, target, log = mild
    found = recil.plan(target, replace(log, propensity=None), behaviour=behaviour, explore=(0, 0.5), replicates=50)
    assert {way.verdict for way in found.ways} == {"caution"}
    assert all("fitted" in way.lasting[-1] for way in found.ways)


def test_a_target_that_the_log_shows_nothing_of_is_explored():
    logging, target = np.array([0.5, 0.5, 0.0]), np.array([0.0, 0.0, 1.0])
    log = counted(3, np.array([100, 100, 0]), np.array([500, 500, 0]), logging)
    found = recil.plan(hard.policy_of(target), log, estimator="snips", explore=(0, 0.5), replicates=50)
    assert found.cell(1000).verdict == "refuse" and found.mass == 1.0
    assert "too little to go by" in found.answers[0]
    # Half of the sessions are served by the target, and its value is the mean of these.
    cell = found.cell(1000, 0.5)
    assert cell.ess == pytest.approx(500) and cell.verdict == "trust"
    assert cell.half_width == pytest.approx(1.96 * math.sqrt((0.2 * 0.8 + 0.25) / 500), rel=0.05)


def test_a_plan_prints_and_draws(mild):
    _, _, target, log = mild
    found = recil.plan(target, log, explore=[0, *np.linspace(0.05, 0.6, 9)], sessions=[10, 10**9], replicates=50)
    text = str(found)
    assert max(map(len, text.splitlines())) <= 80 and "1,000,000,000" in text and "trust takes" in text
    frame = found.to_frame()
    assert len(frame) == 20 and list(frame.columns)[:4] == ["sessions", "explore", "half_width", "verdict"]
    axes = found.plot().axes[0]
    assert axes.get_xlabel() == "sessions" and len(axes.get_legend().get_texts()) == 10
    with pytest.raises(KeyError, match="not in the plan"):
        found.cell(11)
    assert [rounded_up(number) for number in (7, 99, 101, 12_001)] == [7, 99, 110, 13_000]


@pytest.mark.parametrize(
    ("options", "place"),
    [
        ({"explore": (0.1, 1.0)}, "explore"),
        ({"explore": (-0.1,)}, "explore"),
        ({"explore": ()}, "explore"),
        ({"sessions": (0,)}, "sessions"),
        ({"sessions": ()}, "sessions"),
        ({"sessions": (10**10,)}, "sessions"),
        ({"estimator": "fqe"}, "no plan is made for fqe"),
        ({"estimator": "no_such"}, "no_such"),
        ({"cluster": "city"}, "cluster"),
        ({"reward_range": (1.0, 0.0)}, "reward_range"),
        ({"confidence": 95.0}, "confidence"),
        ({"gamma": 2.0}, "gamma"),
    ],
)
def test_bad_options(mild, options, place):
    _, _, target, log = mild
    with pytest.raises(InputError, match=place):
        recil.plan(target, log, **options)


def test_a_log_without_propensities_needs_a_clone(mild):
    _, _, target, log = mild
    with pytest.raises(InputError, match="no propensities"):
        recil.plan(target, replace(log, propensity=None))
