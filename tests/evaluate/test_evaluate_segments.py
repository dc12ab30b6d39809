"""Values by segment: each as a log of its own, intervals corrected for their number, differences from the rest."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from logs_of_worlds import case
from statistics_helper import assert_rate_at_least
from tiny_worlds import MoodyWorld, RecallPolicy

from recil.errors import InputError
from recil.evaluate import balanced, compare, evaluate, segments, simulate
from recil.evaluate.bootstrap import poisson_counts
from recil.evaluate.diagnostics import Diagnostics
from recil.evaluate.estimates import Estimate, Estimates, Interval, interval_of
from recil.evaluate.segments import compare_by, difference, evaluate_by, replicates_for, segments_of
from recil.logs.session_log import POLICY, Column, SessionLog
from recil.random import Streams

FEW = {"estimator": "pdis", "seed": 3}


def by_tier(log: SessionLog, codes: np.ndarray, names: str = "abcdefghij") -> SessionLog:
    return replace(log, user_features={"user_tier": Column(codes.astype(np.int32), tuple(names))})


def divided(sessions: int = 900, parts: int = 3):
    one = case(sessions)
    return one, by_tier(one.log, np.arange(sessions) % parts)


def test_each_segment_is_a_log_of_its_own_with_its_share_of_the_error() -> None:
    one, log = divided()
    found = evaluate_by(one.target, log, "user_tier", **FEW)
    assert [(row.name, row.sessions) for row in found] == [("a", 300), ("b", 300), ("c", 300)]
    for number, row in enumerate(found):
        part = log.select(np.arange(900) % 3 == number)
        wanted = evaluate(one.target, part, estimators=["pdis"], confidence=1 - 0.05 / 3, replicates=1200, seed=3)[
            "pdis"
        ]
        assert row.estimate.raw == wanted.raw and row.verdict == wanted.verdict
        rest = evaluate(
            one.target,
            log.select(np.arange(900) % 3 != number),
            estimators=["pdis"],
            confidence=1 - 0.05 / 3,
            replicates=1200,
            seed=3,
        )["pdis"]
        apart = torch.cat([rest.replicates.new_tensor([wanted.raw.value]), wanted.replicates])
        apart = apart - torch.cat([rest.replicates.new_tensor([rest.raw.value]), rest.replicates])
        assert row.apart == interval_of(apart, 1 - 0.05 / 3, wanted.margins.minus(rest.margins))


def test_two_segments_have_one_difference() -> None:
    one, log = divided(600, 2)
    found = evaluate_by(one.target, log, "user_tier", **FEW)
    first, second = found["a"].apart, found["b"].apart
    assert first is not None and second is not None
    assert (first.value, first.low, first.high) == pytest.approx((-second.value, -second.high, -second.low), rel=0.05)
    estimates = [found[name].estimate for name in "ab"]
    assert first == difference(*estimates, 0.95) and found.each == 0.975


def test_one_segment_is_the_whole_log_and_differs_from_nothing() -> None:
    one, log = divided(200, 1)
    found = evaluate_by(one.target, log, "user_tier", **FEW)
    whole = evaluate(one.target, log, estimators=["pdis"], replicates=1000, seed=3)["pdis"]
    assert found["a"].estimate.raw == whole.raw and found["a"].apart is None and not found["a"].clear


def test_what_segments_share_is_paired() -> None:
    """Every user has the same session in both segments: the difference is 0, but for what no log can show."""
    one = case(200)
    twice = by_tier(one.log.select(np.tile(np.arange(200), 2)), np.repeat([0, 1], 200))
    twice = replace(twice, session_ids=np.arange(400), user_ids=np.tile(np.arange(200), 2))
    first, second = evaluate_by(one.target, twice, "user_tier", **FEW)
    assert first.apart is not None
    margins = first.estimate.margins.minus(second.estimate.margins)
    unseen = (0.0, -margins.unseen_low, margins.unseen_high)
    assert tuple(first.apart) == pytest.approx(unseen, abs=1e-9)
    alone = evaluate_by(one.target, replace(twice, user_ids=None), "user_tier", **FEW)["a"].apart
    assert alone is not None and alone.high > margins.unseen_high + 0.1


def test_what_an_interval_holds_beyond_its_replicates_counts_in_a_difference() -> None:
    one, log = divided(600, 2)
    first, second = (row.estimate for row in evaluate_by(one.target, log, "user_tier", **FEW))
    plain = difference(first, second, 0.95)
    margins = first.margins
    more = replace(margins, unseen_low=margins.unseen_low + 0.5, unseen_high=margins.unseen_high + 0.2)
    found = difference(replace(first, margins=more), second, 0.95)
    assert found == pytest.approx((plain.value, plain.low - 0.5, plain.high + 0.2))
    found = difference(second, replace(first, margins=more), 0.95)
    assert found.low == pytest.approx(difference(second, first, 0.95).low - 0.2)
    fitted = [replace(row, diagnostics=replace(row.diagnostics, between_fits=0.1), models=6) for row in (first, second)]
    assert difference(*fitted, 0.95).low == pytest.approx(
        plain.value - np.hypot(plain.value - plain.low, 0.2 * 2.5706), rel=1e-4
    )


def test_a_segment_with_few_sessions_is_refused_counted_and_has_no_difference() -> None:
    one, log = divided(900, 3)
    few = by_tier(log, np.where(np.arange(900) < 4, 3, np.arange(900) % 2), "abcdx")
    found = evaluate_by(one.target, few, "user_tier")
    assert found.refused == ("d",) and found.verdict == "refuse"
    assert found["d"].apart is None and not found["d"].clear
    frame = found.to_frame().set_index("segment")
    assert np.isnan(frame.loc["d", "value"]) and np.isnan(frame.loc["d", "apart"])
    assert frame.loc[["a", "b"], "apart"].notna().all() and list(frame["sessions"]) == [448, 448, 4]
    text = str(found)
    assert max(map(len, text.splitlines())) <= 80 and "3 segments, 1 refused" in text and "98.33% intervals" in text
    assert len(found.plot().axes[0].get_yticklabels()) == 3
    with pytest.raises(KeyError, match="x: not among a, b, d"):
        _ = found["x"]


def test_a_segment_that_differs_is_clear_and_the_others_are_not() -> None:
    one, log = divided(1500, 3)
    lower = log.reward * np.where(np.repeat(np.arange(1500) % 3 == 1, log.lengths), 0.5, 1.0)[:, None]
    found = evaluate_by(one.target, replace(log, reward=lower.astype(np.float32)), "user_tier", **FEW)
    assert found["b"].clear and found["b"].apart is not None and found["b"].apart.high < 0
    same = evaluate_by(one.target, log, "user_tier", **FEW)
    assert not any(row.clear for row in same)


def test_ten_segments_alike_are_seldom_told_apart(monkeypatch) -> None:
    """All ten differences at once hold in 95% of logs; the estimate is the sessions' mean."""
    random, sessions = np.random.default_rng(0), 300
    log = by_tier(case(sessions).log, np.arange(sessions) % 10)
    counts = poisson_counts(Streams(0), torch.arange(sessions), replicates_for(1 - 0.05 / 10)).double()
    gains = torch.zeros(sessions, dtype=torch.float64)
    fine = Diagnostics(sessions, sessions, sessions, sessions, 1.0, 0.0, 0.01, 0.0)

    def mean_of(_, part: SessionLog, confidence: float, replicates: int, **__: object) -> Estimates:
        taken = counts[: replicates + 1, part.session_ids]
        values = taken @ gains[part.session_ids] / taken.sum(1)
        row = Estimate(
            "pdis", Interval(float(values[0]), float(values[0]), float(values[0])), "trust", (), fine, values[1:]
        )
        return Estimates((row,), confidence, part.sessions, part.impressions)

    log = replace(log, session_ids=np.arange(sessions))
    monkeypatch.setattr(segments, "evaluate", mean_of)
    quiet = 0
    for _ in range(30):
        gains[:] = torch.from_numpy(random.normal(1.0, 1.0, sessions))
        found = evaluate_by(RecallPolicy.make(4, 1), log, "user_tier", estimator="pdis")
        quiet += not any(row.clear for row in found)
    assert_rate_at_least(quiet, 30, 0.95, false_alarm=1e-3)
    gains[::10] += 5.0
    assert evaluate_by(RecallPolicy.make(4, 1), log, "user_tier", estimator="pdis")["a"].clear


def test_the_estimator_is_one_for_all() -> None:
    one, log = divided(400, 2)
    assert evaluate_by(one.target, log, "user_tier").estimator == "pdwis"
    assert {row.estimate.estimator for row in evaluate_by(one.target, log, "user_tier", estimator="snips")} == {"snips"}


def test_replicates_reach_beyond_each_end() -> None:
    assert [replicates_for(level) for level in (0.95, 1 - 0.05 / 10, 1 - 0.05 / 20)] == [400, 4000, 8000]
    one, log = divided(200, 4)
    rows = evaluate_by(one.target, log, "user_tier", replicates=50, **FEW).rows
    assert {len(row.estimate.replicates) for row in rows} == {1600}


def frame(sessions: int = 60) -> pd.DataFrame:
    session = np.repeat(np.arange(sessions), 2)
    columns = {"session_id": session, "step": np.tile([0, 1], sessions), "item_id": np.arange(2 * sessions) % 3}
    return pd.DataFrame({**columns, "click": 1, "propensity": 0.5})


def test_segments_are_the_values_of_a_column_by_session() -> None:
    table = frame()
    session, step = table["session_id"], table["step"]
    log = SessionLog.from_frame(
        table.assign(
            user_age=session % 20,
            user_many=session % 21,
            user_size=(session % 2) / 10,
            user_town=np.where(session % 3, "x", None),
            context_tab=np.where(step == 1, "later", np.where(session % 2, "left", "right")),
            user_name=np.char.add("n", (session % 51).astype(str)),
            policy=session % 2,
        )
    )
    assert segments_of(log, "user_size")[0] == ("0", "0.1") and len(segments_of(log, "user_age")[0]) == 20
    names, of = segments_of(log, "user_town")
    assert names == ("(missing)", "x") and of.tolist() == [int(number % 3 > 0) for number in range(60)]
    names, of = segments_of(log, "context_tab")
    assert names == ("left", "right") and of.tolist() == [1 - number % 2 for number in range(60)]
    assert segments_of(log, POLICY)[0] == ("0", "1")
    with pytest.raises(InputError, match="'user_many' has 21 different numbers, and may have 20"):
        segments_of(log, "user_many")
    with pytest.raises(InputError, match="'user_name' has 51 values, and may have 50"):
        segments_of(log, "user_name")
    with pytest.raises(InputError, match=r"'tier' is no column of users or contexts.*user_age.*context_tab"):
        segments_of(log, "tier")


def test_a_segment_is_balanced_by_its_own_shares_of_the_loggers() -> None:
    world = MoodyWorld.make(4, 1, 2)
    policies = {name: RecallPolicy.make(4, number, 0.4) for number, name in enumerate("ab")}
    parts = [simulate(policies[name], world, 300, number).to_frame() for number, name in enumerate("ab")]
    table = pd.concat(
        [part.assign(session_id=part["session_id"] + 1000 * at, policy="ab"[at]) for at, part in enumerate(parts)]
    )
    # Policy a serves four of five sessions at home, and one of five abroad.
    home = (table["session_id"] % 5 == 0) == (table["policy"] == "b")
    log = SessionLog.from_frame(table.assign(user_place=np.where(home, "home", "abroad")))
    log = balanced(log, policies)
    target = RecallPolicy.make(4, 5, 0.4)
    found = evaluate_by(target, log, "user_place", **FEW)
    for row in found:
        of = np.array(log.user_features["user_place"].categories)[log.user_features["user_place"].values] == row.name
        wanted = evaluate(target, balanced(log.select(of)), estimators=["pdis"], seed=3, replicates=50)["pdis"]
        assert row.estimate.raw.value == wanted.raw.value
    own = evaluate_by(policies["a"], log, POLICY, **FEW)["a"]
    assert own.estimate.diagnostics.ess == pytest.approx(300)  # of its own sessions alone, at weights of 1


def test_policies_are_compared_by_segment() -> None:
    one, log = divided(600, 3)
    policies = {"old": one.behaviour, "new": one.target}
    found = compare_by(policies, log, "user_tier", estimator="pdis", seed=3)
    wanted = compare(
        policies,
        log.select(np.arange(600) % 3 == 1),
        estimator="pdis",
        seed=3,
        confidence=1 - 0.05 / 3,
        replicates=1200,
    )
    assert found["b"] == wanted
    assert len(found.to_frame()) == 9 and set(found.differences_frame()["segment"]) == set("abc")
    assert max(map(len, str(found).splitlines())) <= 80 and "user_tier b, 200 sessions" in str(found)
    with pytest.raises(KeyError, match="x: not among a, b, c"):
        _ = found["x"]
