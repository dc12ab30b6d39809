"""evaluate(): invariants of a whole log, intervals, logs without propensities, bad input."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from logs_of_worlds import case, take
from tiny_worlds import RecallPolicy

from recil.errors import InputError
from recil.evaluate import ESTIMATORS, evaluate
from recil.evaluate.pass_over import PassConfig, pass_over, session_batches
from recil.evaluate.scoring import stretches
from recil.logs.session_log import PAD
from recil.policies.protocol import log_prob_of_sessions


@pytest.fixture(scope="module")
def small():
    return case()


@pytest.fixture(scope="module")
def estimates(small):
    return evaluate(small.target, small.log, replicates=200)


def raws(estimates):
    return np.array([row.raw for row in estimates])


def test_every_estimator_by_default(estimates):
    assert [row.estimator for row in estimates] == list(ESTIMATORS)
    assert all(row.raw.low <= row.raw.value <= row.raw.high for row in estimates)


def test_the_logging_policy_is_worth_what_was_logged(small):
    rows = evaluate(small.behaviour, small.log, replicates=50)
    mean = small.log.reward.sum() / small.log.sessions
    for row in rows:
        if row.estimator != "dr":
            assert row.raw.value == pytest.approx(mean, rel=1e-6)
    assert rows["ips"].diagnostics.ess == pytest.approx(small.log.sessions, rel=1e-6)
    assert all("mean weight" not in reason for row in rows for reason in row.reasons)


def test_the_package_answers_to_its_name(small, estimates):
    import recil.evaluate

    np.testing.assert_array_equal(raws(recil.evaluate(small.target, small.log, replicates=200)), raws(estimates))


def test_order_of_sessions_changes_nothing(small, estimates):
    shuffled = take(small.log, np.random.default_rng(0).permutation(small.log.sessions))
    np.testing.assert_allclose(raws(evaluate(small.target, shuffled, replicates=200)), raws(estimates), rtol=1e-9)


def test_names_of_items_change_nothing(small, estimates):
    order = np.array([2, 0, 3, 1])
    renamed = replace(
        small.log,
        items=np.where(small.log.items == PAD, PAD, order[small.log.items]).astype(np.int32),
        item_ids=small.log.item_ids[np.argsort(order)],
    )
    back = torch.from_numpy(np.argsort(order))
    table = small.target.table[torch.cat([torch.tensor([0]), back + 1])][:, :, back]
    values = raws(evaluate(RecallPolicy(table), renamed, replicates=200, estimators=("ips", "snips", "pdis", "pdwis")))
    np.testing.assert_allclose(values, raws(estimates)[1:5], rtol=1e-9)


def test_names_of_sessions_change_no_value(small, estimates):
    renamed = replace(small.log, session_ids=np.array([f"visit {i}" for i in range(small.log.sessions)]))
    values = raws(evaluate(small.target, renamed, replicates=200))[:5]
    np.testing.assert_allclose(values[:, 0], raws(estimates)[:5, 0], rtol=1e-12)
    assert not np.allclose(values[:, 1], raws(estimates)[:5, 1], rtol=1e-12)


def test_two_halves_merge_into_the_whole(small):
    """Replicates included; the reward model is left out, for its folds are those of each half."""
    config = PassConfig(replicates=50, model=False)
    halves = [np.arange(0, 400, 2), np.arange(1, 400, 2)]
    parts = [pass_over({"": small.target}, take(small.log, half), None, config)[""] for half in halves]
    whole = pass_over({"": small.target}, small.log, None, config)[""].sums
    merged = parts[0].sums.merge(parts[1].sums)
    for name in ("logged", "ips", "snips", "pdis", "pdwis"):
        torch.testing.assert_close(ESTIMATORS[name].value(merged), ESTIMATORS[name].value(whole), rtol=1e-10, atol=0)


def test_size_of_batches_changes_nothing(small, estimates, monkeypatch):
    monkeypatch.setattr("recil.evaluate.pass_over._MOST_SESSIONS", 37)
    np.testing.assert_allclose(raws(evaluate(small.target, small.log, replicates=200)), raws(estimates), rtol=1e-9)


@pytest.mark.parametrize("scores", [1, 60, 1 << 25])
def test_batches_hold_every_session_once(small, monkeypatch, scores):
    monkeypatch.setattr("recil.evaluate.pass_over._MOST_SCORES", scores)
    batches = list(session_batches(small.log))
    assert sorted(np.concatenate(batches)) == list(range(small.log.sessions))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * small.log.lengths[batch].max() * small.log.catalogue <= scores


def test_same_seed_same_figures_other_seed_other_interval(small, estimates):
    again = evaluate(small.target, small.log, replicates=200)
    other = evaluate(small.target, small.log, replicates=200, seed=1)
    np.testing.assert_array_equal(raws(again), raws(estimates))
    assert other["snips"].raw.value == estimates["snips"].raw.value
    assert other["snips"].raw.low != estimates["snips"].raw.low


def test_sessions_without_reward_are_not_dropped(small):
    silent = replace(small.log, reward=np.zeros_like(small.log.reward), session_ids=small.log.session_ids + 10_000)
    both = replace(
        small.log,
        **{
            name: np.concatenate([getattr(small.log, name), getattr(silent, name)])
            for name in ("items", "reward", "propensity", "session_ids", "terminated")
        },
        offsets=np.concatenate([small.log.offsets, small.log.offsets[1:] + small.log.steps]),
    )
    names = ("logged", "ips", "snips", "pdis", "pdwis")
    blind = RecallPolicy(small.target.table[:, :1].expand(-1, 2, -1))  # its weights do not depend on the clicks
    halved = raws(evaluate(blind, both, estimators=names, replicates=20))[:, 0]
    np.testing.assert_allclose(halved, raws(evaluate(blind, small.log, estimators=names))[:, 0] / 2, rtol=1e-9)


def test_constant_reward_is_returned_without_an_interval(small):
    reward = np.zeros_like(small.log.reward)
    reward[small.log.offsets[:-1], 0] = 0.25
    rows = evaluate(small.target, replace(small.log, reward=reward), estimators=("logged", "snips", "pdwis"))
    for row in rows:
        assert row.raw == pytest.approx((0.25, 0.25, 0.25), abs=1e-12)


def test_self_normalised_interval_has_the_width_of_the_delta_method(small):
    """A frozen denominator would make it several times wider."""
    row = evaluate(small.target, small.log, estimators=("snips",), replicates=2000)["snips"]
    history = small.log.batch()
    ratio = (log_prob_of_sessions(small.target, history) - history.propensity.double().log()).sum((1, 2)).exp()
    returns = history.reward.double().sum((1, 2))
    value = float((ratio * returns).sum() / ratio.sum())
    error = float((ratio.square() * (returns - value).square()).sum().sqrt() / ratio.sum())
    assert row.raw.value == pytest.approx(value, rel=1e-9)
    low, high = row.margins.noise(row.raw.value, row.replicates, 0.95)
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.15)


def test_wider_confidence_wider_interval(small, estimates):
    narrow = evaluate(small.target, small.log, replicates=200, confidence=0.5)
    for one, other in zip(narrow, estimates, strict=True):
        assert other.raw.low < one.raw.low < one.raw.high < other.raw.high


def test_a_log_in_runs_is_the_whole_log(small, estimates, monkeypatch):
    """Runs of 50 steps in place of one, in the pass and in the fit of the reward model."""
    for module in ("pass_over._MOST_STEPS", "reward_model._STEPS_AT_ONCE"):
        monkeypatch.setattr(f"recil.evaluate.{module}", 50)
    asked = ("dr", "mrdr", "fqe_dr", "magic")
    runs = evaluate(small.target, small.log, replicates=200)
    np.testing.assert_allclose(raws(runs), raws(estimates), rtol=1e-9)
    monkeypatch.undo()
    whole = evaluate(small.target, small.log, replicates=50, estimators=asked)
    for module in ("pass_over._MOST_STEPS", "reward_model._STEPS_AT_ONCE"):
        monkeypatch.setattr(f"recil.evaluate.{module}", 50)
    np.testing.assert_allclose(
        raws(evaluate(small.target, small.log, replicates=50, estimators=asked)), raws(whole), rtol=1e-7
    )


def test_runs_hold_every_session_once_and_copy_nothing(small):
    held = list(stretches(small.log, 50))
    assert [start for start, _ in held] == list(np.cumsum([0, *(run.sessions for _, run in held)])[:-1])
    assert sum(run.sessions for _, run in held) == small.log.sessions and len(held) > 10
    for start, run in held:
        assert run.steps <= 50 and np.shares_memory(run.items, small.log.items)
        first = small.log.offsets[start]
        np.testing.assert_array_equal(run.items, small.log.items[first : first + run.steps])
        np.testing.assert_array_equal(run.session_ids, small.log.session_ids[start : start + run.sessions])
    assert [run.sessions for _, run in stretches(small.log, 1)] == [1] * small.log.sessions


def test_no_discount(small):
    rows = evaluate(small.target, small.log, gamma=0.0, replicates=50)
    assert np.isfinite(raws(rows)).all()
    first = take_first_steps(small.log)
    alone = evaluate(small.target, first, replicates=50)
    assert rows["pdis"].raw.value == pytest.approx(alone["pdis"].raw.value, rel=1e-12)
    assert rows["pdwis"].diagnostics.ess == pytest.approx(alone["pdwis"].diagnostics.ess, rel=1e-12)


def take_first_steps(log):
    rows = log.offsets[:-1]
    return replace(
        log,
        items=log.items[rows],
        reward=log.reward[rows],
        propensity=log.propensity[rows],
        offsets=np.arange(log.sessions + 1),
    )


def test_the_clone_stands_in_for_propensities(small, estimates):
    bare = replace(small.log, propensity=None)
    rows = evaluate(small.target, bare, behaviour=small.behaviour, replicates=200)
    np.testing.assert_allclose(raws(rows), raws(estimates), rtol=1e-5)
    assert rows.best.verdict == "caution"
    assert "fitted model's" in rows.best.reasons[0]
    assert rows["logged"].verdict == "trust"


def test_logged_propensities_come_before_a_behaviour_policy(small, estimates):
    rows = evaluate(small.target, small.log, behaviour=small.target, replicates=200)
    np.testing.assert_array_equal(raws(rows), raws(estimates))


def test_a_cap_lowers_the_weights_and_is_counted(small):
    rows = evaluate(small.target, small.log, cap=1.0, replicates=50)
    free = evaluate(small.target, small.log, replicates=50)
    assert rows["ips"].raw.value < free["ips"].raw.value
    assert rows["ips"].diagnostics.largest_share < free["ips"].diagnostics.largest_share
    assert rows["ips"].verdict == "refuse"
    assert "the cap changed" in rows["ips"].reasons[0]


def test_a_deterministic_target_that_never_agrees_is_undefined(small):
    table = torch.full_like(small.target.table, -torch.inf)
    table[..., 0] = 0.0
    table[..., 1] = -1e4
    row = evaluate(RecallPolicy(table), take_without_item(small.log, 0), estimators=("snips", "pdwis"), replicates=50)
    assert [r.verdict for r in row] == ["refuse", "refuse"]
    assert "undefined" in row["snips"].reasons[0]
    assert str(row).count(" - ") >= 6


def take_without_item(log, item):
    holds = np.add.reduceat((log.items == item).any(1), log.offsets[:-1])
    return take(log, np.flatnonzero(holds == 0))


@pytest.mark.parametrize(
    ("change", "place", "remedy"),
    [
        ({"gamma": 1.5}, "gamma", "from 0 to 1"),
        ({"confidence": 95}, "confidence", ".95"),
        ({"cap": 0.0}, "cap", "positive"),
        ({"replicates": 1}, "replicates", "1,000"),
        ({"estimators": ("snip",)}, "estimators", "snips"),
        ({"estimators": ()}, "estimators", "choose"),
    ],
)
def test_options_that_mean_nothing(small, change, place, remedy):
    with pytest.raises(InputError, match=remedy) as error:
        evaluate(small.target, small.log, **change)
    assert error.value.place == place


def test_a_log_that_cannot_be_evaluated_on(small):
    with pytest.raises(InputError, match="behaviour="):
        evaluate(small.target, replace(small.log, propensity=None))
    with pytest.raises(InputError, match="5 items, the log has 4"):
        evaluate(RecallPolicy.make(5, 0), small.log)
    for wrong in (0.0, 1.5, np.nan):
        propensity = small.log.propensity.copy()
        propensity[7, 1] = wrong
        with pytest.raises(InputError, match="step row 7, position 1"):
            evaluate(small.target, replace(small.log, propensity=propensity))
    nothing = take(replace(small.log), np.arange(1))
    empty = replace(
        nothing,
        **{name: getattr(nothing, name)[:0] for name in ("items", "reward", "propensity", "session_ids", "terminated")},
        offsets=np.zeros(1, dtype=np.int64),
    )
    with pytest.raises(InputError, match="no session"):
        evaluate(small.target, empty)


def test_a_policy_whose_probabilities_are_none(small):
    broken = RecallPolicy(torch.full_like(small.target.table, torch.nan))
    with pytest.raises(InputError, match="no log-probability"):
        evaluate(broken, small.log)
    never = RecallPolicy(torch.where(torch.arange(4) == 2, -torch.inf, small.behaviour.table))
    with pytest.raises(InputError, match="probability 0"):
        evaluate(small.target, replace(small.log, propensity=None), behaviour=never)


def test_one_session_is_refused_but_answered(small):
    rows = evaluate(small.target, take(small.log, np.array([3])), replicates=50)
    assert all(row.verdict == "refuse" for row in rows)
    assert all(np.isfinite(row.raw.value) for row in rows)
