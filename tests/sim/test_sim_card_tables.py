"""The parts that a card is made of, against plain Python and against chance."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from known_users import SMALL, altered, sessions_of, with_baselines
from scipy import stats
from statistics_helper import assert_mean, assert_rate_at_least

import recil
from recil.errors import InputError
from recil.logs.session_log import SessionLog
from recil.random import Streams
from recil.sim.calibration import area_and_error, area_under_curve
from recil.sim.card import CardThresholds, validate
from recil.sim.card.classifier import told_apart
from recil.sim.card.free_running import free_running
from recil.sim.card.groups import group_table, merged
from recil.sim.card.held_out import HeldOut
from recil.sim.card.leaving import leaving_of
from recil.sim.card.session_statistics import per_session
from recil.sim.generate import Truth


def log_of_sessions(sessions: list[list[tuple[list[int], list[int]]]], **more) -> SessionLog:
    """A log of sessions, each a list of (items, clicks) of its steps; slates of two, -1 where nothing stands."""
    steps = [step for session in sessions for step in session]
    lengths = [len(session) for session in sessions]
    return SessionLog(
        item_ids=np.arange(4),
        items=np.array([items for items, _ in steps], dtype=np.int32),
        reward=np.array([clicks for _, clicks in steps], dtype=np.float32),
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        session_ids=np.arange(len(sessions)),
        **more,
    )


TOLD = [
    [([0, 1], [0, 1]), ([1, 2], [1, 0]), ([0, -1], [0, 0]), ([1, 3], [0, 1])],
    [([2, -1], [0, 0])],
    [([3, 0], [0, 0]), ([3, 1], [0, 0]), ([0, 3], [1, 1]), ([3, 0], [1, 1])],
]


def test_what_sessions_held_before_is_seen_as_told() -> None:
    seen = HeldOut(log_of_sessions(TOLD))
    assert seen.clicks.tolist() == [1, 1, 0, 1, 0, 0, 0, 2, 2]
    assert seen.clicks_before.tolist() == [0, 1, 2, 2, 0, 0, 0, 0, 2]
    assert seen.clicked_last.tolist() == [False, True, True, False, False, False, False, False, True]
    assert seen.run.tolist() == [1, 2, 0, 1, 0, 0, 0, 1, 2]
    assert seen.in_vain.tolist() == [0, 0, 1, 0, 1, 1, 2, 0, 0]
    shown, taken = seen.past
    expected = []
    for session in TOLD:
        before: dict[int, int] = {}
        for items, clicks in session:
            expected += [(item in before, before.get(item, 0) > 0) for item in items if item >= 0]
            for item, click in zip(items, clicks, strict=True):
                before[item] = before.get(item, 0) + click
    assert list(zip(shown.tolist(), taken.tolist(), strict=True)) == expected
    # Items by impressions: 2 (2 of 16), 1 (4), 0 and 3 (5 each).
    share = {2: 1 / 16, 1: 4 / 16, 0: 8.5 / 16, 3: 13.5 / 16}
    counts = {item: int((seen.item == item).sum()) for item in share}
    assert counts == {2: 2, 1: 4, 0: 5, 3: 5}
    assert seen.popularity == pytest.approx([share[item] for item in seen.item])
    statistics = per_session(seen)
    assert statistics.tolist() == [[3, 2, 3 / 4, 1, 0], [0, 0, 0, 0, 1], [4, 2, 2 / 4, 2, 2]]


def test_groups_hold_rates_and_errors_over_sessions() -> None:
    generator = np.random.default_rng(0)
    session = np.sort(generator.integers(0, 30, 400))
    code, predicted = generator.integers(-1, 3, 400), generator.random(400)
    observed = (generator.random(400) < 0.5).astype(float)
    table = group_table("kind", "items", "abc", code, predicted, observed, session, np.arange(400))
    excess = np.zeros((30, 3))
    for number, group in enumerate(table.groups):
        inside = code == number
        assert (group.label, group.count) == ("abc"[number], inside.sum())
        assert (group.predicted, group.observed) == pytest.approx((predicted[inside].mean(), observed[inside].mean()))
        apart = [((predicted - observed - group.miss) * inside)[session == s].sum() for s in range(30)]
        floor = (predicted * (1 - predicted))[inside].sum()
        assert group.error == pytest.approx(np.sqrt(max(np.square(apart).sum(), floor)) / inside.sum())
        excess[:, number] = [((predicted - observed) * inside)[session == s].sum() for s in range(30)]
    total, scatter = excess.sum(0), excess.T @ excess
    floors = [(predicted * (1 - predicted))[code == number].sum() for number in range(3)]
    scatter += np.diag(np.maximum(floors - np.diag(scatter), 0))
    assert table.statistic == pytest.approx(total @ np.linalg.solve(scatter, total)) and table.degrees == 3
    assert table.p_value == pytest.approx(stats.chi2.sf(table.statistic, 3))
    weights = np.array([group.count for group in table.groups])
    assert table.calibration_error == pytest.approx(
        np.average([abs(group.miss) for group in table.groups], weights=weights)
    )


def test_the_joint_test_keeps_its_level_where_sessions_differ() -> None:
    """Sessions with rates of their own, which predictions know only on average (false alarm 1e-6 on either side)."""
    generator = np.random.default_rng(0)
    session, code = np.repeat(np.arange(300), 10), np.tile(np.arange(10) % 4, 300)
    values = []
    for _ in range(600):
        rate = generator.beta(1, 4, 300)[session]
        observed = (generator.random(3000) < rate).astype(float)
        same = np.full(3000, 0.2)
        values.append(group_table("", "items", "abcd", code, same, observed, session, np.arange(3000)).p_value)
    below = int((np.array(values) < 0.05).sum())
    assert stats.binom.cdf(below, 600, 0.05) > 1e-6 and stats.binom.sf(below - 1, 600, 0.06) > 1e-6
    # If items were independent, as they are not, so many more would be rejected.
    assert stats.binom.sf(below - 1, 600, 0.2) > 1 - 1e-6


def test_groups_with_few_events_join_their_neighbours() -> None:
    """25 events, and 25 times their absence, in each."""
    code, names = np.repeat([0, 1, 3, 4, 5], [100, 100, 400, 50, 20]), ["a", "b", "none", "c", "d", "e"]

    def joined(rate: float) -> tuple[list[str], list[int]]:
        found, labels = merged(code, names, np.full(len(code), rate))
        return labels, np.bincount(found).tolist()

    assert joined(0.4) == (["a", "b", "c", "d–e"], [100, 100, 400, 70])  # e has 8, d just 20
    assert joined(0.2) == (["a–b", "c–e"], [200, 470])
    assert joined(0.01) == joined(1.0) == (["a–e"], [670])
    apart = merged(np.where(code == 0, -1, code), names, np.full(len(code), 0.4))[0]
    assert (apart[:100] == -1).all() and apart[100] == 0


def test_survival_is_kaplan_and_meiers_and_cuts_are_no_ends() -> None:
    generator = np.random.default_rng(1)
    lengths, left = generator.integers(1, 5, 300), generator.random(300) < 0.7
    log = log_of_sessions([[([0, 1], [0, 0])] * int(length) for length in lengths], terminated=left)
    hazard = generator.random(log.steps) / 2
    found = leaving_of(hazard, 0.2, HeldOut(log))
    observed, predicted, variance = 1.0, 1.0, 0.0
    step = HeldOut(log).step
    for row in found.survival:
        at_risk, ended = int((lengths > row.step).sum()), int(((lengths == row.step + 1) & left).sum())
        observed *= 1 - ended / at_risk
        predicted *= 1 - hazard[step == row.step].mean()
        variance += ended / (at_risk * (at_risk - ended))
        assert (row.at_risk, row.observed, row.predicted) == pytest.approx((at_risk, observed, predicted))
        assert row.error == pytest.approx(observed * np.sqrt(variance))
    assert [row.step for row in found.survival] == [0, 1, 2, 3]
    ends = found.tables[0].groups
    assert sum(group.count * group.observed for group in ends) == pytest.approx(left.sum())


def test_areas_have_errors_over_sessions() -> None:
    """Against redrawn sessions: one score a session, so that items are no more independent than sessions."""
    generator = np.random.default_rng(0)
    areas, errors = [], []
    for _ in range(200):
        cluster = np.repeat(np.arange(60), 6)
        positive = generator.random(360) < 0.4
        score = generator.normal(size=60)[cluster] + 0.5 * positive
        area, error = area_and_error(score, positive, cluster)
        areas.append(area)
        errors.append(error)
    assert area == pytest.approx(area_under_curve(score, positive))
    assert np.mean(errors) == pytest.approx(np.std(areas), rel=0.25)  # 200 draws: known to 5%


def test_a_classifier_tells_what_differs_and_nothing_else() -> None:
    """Against chance: 60 times nothing to tell (beyond two errors at most 1 in 10, false alarm 1e-6)."""
    generator, beyond, areas = np.random.default_rng(0), 0, []
    for seed in range(60):
        session = np.repeat(np.arange(150), 2)
        logged, simulated = generator.normal(size=(2, 300, 4)) + generator.normal(size=(2, 150, 4))[:, session]
        area, error = told_apart(logged, simulated, session, session, Streams(seed))
        beyond += abs(area - 0.5) > 2 * error
        areas.append(area)
    assert_rate_at_least(60 - beyond, 60, 0.9, false_alarm=1e-6)
    assert_mean(np.array(areas), 0.5, false_alarm=1e-6)
    area, error = told_apart(logged + 1, simulated, session, session, Streams(0))
    assert area > 0.8 and area - 2 * error > 0.65
    few = told_apart(logged[:49], simulated, session[:49], session, Streams(0))
    assert np.isnan(few).all()


@pytest.fixture(scope="module")
def on_random_slates():
    """The true users of a world where leaving follows outcomes, and a log by a policy that looks at nothing."""
    world = Truth(SMALL.model_copy(update={"impatience": 1.5, "click_gain": 2.0}))
    policy = recil.uniform(sessions_of(world, 10))
    users = with_baselines(world.world.users, sessions_of(world, 1000, seed=4, policy=policy))
    return users, sessions_of(world, 3000, seed=5, policy=policy)


def test_free_running_sessions_are_like_logged_ones_on_slates_that_do_not_react(on_random_slates) -> None:
    """Users who are the truth: no statistic off by four errors (false alarm about 4e-4), no classifier wiser."""
    users, log = on_random_slates
    judged = CardThresholds(judge_free_running=True)
    card = validate(users, log, judged)
    found = card.simulated
    assert card.verdict == "trust" and found.sessions == 3000
    assert all(abs(row.simulated - row.logged) <= 4 * row.error for row in found.rows)
    assert abs(found.session_area - 0.5) < 4 * found.session_error
    # Users whose moods are dead, who click as often: of two such sessions the logged one has its clicks together.
    dead = validate(altered(users, click_gain=0.0, appeal=users.behaviour.appeal + 0.2), log, judged).simulated
    assert dead.session_area > found.session_area + 4 * dead.session_error
    assert dead.row("variance of clicks").simulated < 0.8 * dead.row("variance of clicks").logged


def test_free_running_sessions_follow_their_own_clicks_for_as_long_as_logged(on_random_slates) -> None:
    users, log = on_random_slates
    never = replace(log, reward=np.zeros_like(log.reward))
    first, again = (free_running(users, log, Streams(seed)) for seed in (0, 0))
    assert np.array_equal(first.reward, again.reward)
    # Logged clicks decide nothing.
    assert np.array_equal(free_running(users, never, Streams(0)).reward, first.reward)
    assert not np.array_equal(free_running(users, log, Streams(1)).reward, first.reward)
    assert ((first.reward > 0) <= (log.items >= 0)).all() and first.reward.sum(1).max() == 1
    assert np.array_equal(first.offsets, log.offsets)
    # A part of the log by itself: draws depend on a session's position alone. The choice among candidates does not.
    few = free_running(users, log.select(np.arange(2000)), Streams(0), batch=100)
    assert (few.reward == first.reward[: few.steps]).mean() > 0.8


class Known:
    """A reference that predicts what it is told to."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def predict(self, log: SessionLog) -> np.ndarray:
        return self.values


def test_a_reference_is_shown_with_its_gap_and_never_judged(fitted, held_out) -> None:
    clicked = (held_out.reward[held_out.items >= 0] > 0).astype(float)
    plain = validate(fitted, held_out)
    assert plain.gap is None
    knows = validate(fitted, held_out, reference=Known(0.9 * clicked + 0.05))
    row = knows.row("reference")
    assert knows.rows[-1] == row and knows.rows[:-1] == plain.rows
    assert (knows.verdict, knows.reasons) == (plain.verdict, plain.reasons)
    assert knows.gap == (pytest.approx(knows.row("users").log_loss - row.log_loss), row.error)
    assert knows.gap[0] > 10 * knows.gap[1] > 0 and "what is learnable beyond the users" in knows.table
    for wrong in (clicked[1:], clicked - 0.1, np.full(len(clicked), np.nan), clicked + 0.1):
        with pytest.raises(InputError, match="reference"):
            validate(fitted, held_out, reference=Known(wrong))


def test_a_seed_gives_one_card_and_touches_nothing_but_draws(fitted, held_out) -> None:
    first, again, other = (validate(fitted, held_out, seed=seed) for seed in (0, 0, 1))
    assert first == again and first != other
    assert first.tables == other.tables and first.rows == other.rows and first.leaving == other.leaving


def test_thresholds_that_mean_nothing_are_refused() -> None:
    with pytest.raises(InputError, match="better_by"):
        CardThresholds(better_by=-1.0)
    with pytest.raises(InputError, match="negligible"):
        CardThresholds(negligible=float("nan"))
    with pytest.raises(InputError, match="between 0 and 1"):
        CardThresholds(level=1.0)
