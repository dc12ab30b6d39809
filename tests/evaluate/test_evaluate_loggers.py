"""Several loggers of one log: their mixture is a policy, and balanced weights are its weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from sums_of_sessions import expectation
from tiny_worlds import MoodyWorld, RecallPolicy

from recil.errors import InputError
from recil.evaluate import check_log, compare, evaluate, simulate
from recil.evaluate.estimators import ESTIMATORS
from recil.evaluate.log_rows import Asked, Check, LogLimits
from recil.evaluate.logger_checks import logger_rows
from recil.evaluate.loggers import LoggerMixture, balanced, balanced_where_known, served
from recil.evaluate.scores import session_scores
from recil.exact.enumerate import Enumeration, enumerate_sessions, true_value
from recil.logs.session_log import POLICY, Column, SessionLog
from recil.policies.protocol import log_prob_of_sessions
from recil.random import Streams

SHAPES = [(3, 1, 2), (3, 2, 2)]
SHARES = {"a": 0.75, "b": 0.25}


def loggers(items: int) -> dict[str, RecallPolicy]:
    return {"a": RecallPolicy.make(items, 1), "b": RecallPolicy.make(items, 2)}


def narrow(policy: RecallPolicy, item: int) -> RecallPolicy:
    """The same, but at the start of a session it never shows this item first."""
    table = policy.table.clone()
    table[0, :, item] = -torch.inf
    return RecallPolicy(table)


def of_all(world: MoodyWorld, policies: dict[str, RecallPolicy], shares: dict[str, float]) -> dict[tuple, float]:
    """Each session's probability when chance assigns it to a logger."""
    found: dict[tuple, float] = {}
    for name, policy in policies.items():
        listed = enumerate_sessions(world, policy)
        for key, probability in zip(keys(listed), listed.probability.tolist(), strict=True):
            found[key] = found.get(key, 0.0) + shares[name] * probability
    return found


def keys(listed: Enumeration) -> list[tuple]:
    """What tells one session from another: items, clicks, length, and how it ended."""
    sessions = listed.sessions
    parts = (sessions.items, sessions.reward, sessions.length[:, None])
    return [tuple(map(float, row)) for row in torch.cat([part.flatten(1).double() for part in parts], 1)]


@pytest.mark.parametrize("shape", SHAPES)
def test_the_mixture_has_the_law_of_a_log_of_several_loggers(shape) -> None:
    world, policies = MoodyWorld.make(*shape), loggers(shape[0])
    listed = enumerate_sessions(world, LoggerMixture(policies, SHARES))
    found: dict[tuple, float] = {}
    for key, probability in zip(keys(listed), listed.probability.tolist(), strict=True):
        found[key] = found.get(key, 0.0) + probability
    assert found == pytest.approx(of_all(world, policies, SHARES), abs=1e-12)


@pytest.mark.parametrize("name", ["ips", "pdis", "pdwis"])
@pytest.mark.parametrize("shape", SHAPES)
def test_balanced_weights_are_unbiased_and_those_of_other_shares_are_not(shape, name) -> None:
    world, policies = MoodyWorld.make(*shape), loggers(shape[0])
    target = RecallPolicy.make(shape[0], 3)
    truth = true_value(world, target)
    listed = enumerate_sessions(world, LoggerMixture(policies, SHARES))
    right = float(ESTIMATORS[name].value(expectation(listed, target)))
    assert right == pytest.approx(truth, abs=1e-12)
    other = LoggerMixture(policies, {"a": 0.25, "b": 0.75})
    wrong = replace(listed.sessions, propensity=log_prob_of_sessions(other, listed.sessions).exp())
    found = float(ESTIMATORS[name].value(expectation(Enumeration(wrong, listed.probability), target)))
    assert abs(found - truth) > (1e-4 if name == "pdwis" else 1e-3)


def listed_log(world: MoodyWorld, policies: dict[str, RecallPolicy], times: dict[str, int]) -> tuple:
    """Every session of every logger as a log, a logger's so many times over; and their probabilities, summing to 1."""
    frames, chances = [], []
    total = sum(times.values())
    for name, policy in policies.items():
        listed = enumerate_sessions(world, policy)
        for again in range(times[name]):
            frames.append(frame_of(listed, policies, f"{name}{again}", name))
            chances.append(listed.probability / total)
    log = SessionLog.from_frame(pd.concat(frames, ignore_index=True), items_of(world))
    return log, torch.cat(chances)


def items_of(world: MoodyWorld) -> pd.DataFrame:
    return pd.DataFrame({"item_id": np.arange(world.catalogue)})


def frame_of(listed: Enumeration, policies: dict[str, RecallPolicy], prefix: str, name: str) -> pd.DataFrame:
    sessions = listed.sessions
    session, step, position = (part.numpy() for part in torch.nonzero(sessions.shown, as_tuple=True))
    place = sessions.shown
    columns: dict[str, object] = {
        "session_id": [f"{prefix}-{number:06d}" for number in session],
        "step": step,
        "position": position,
        "item_id": sessions.items[place].numpy(),
        "click": sessions.reward[place].numpy(),
        "propensity": sessions.propensity[place].numpy(),
        "policy": name,
    }
    for one, policy in policies.items():
        columns[f"propensity_{one}"] = log_prob_of_sessions(policy, sessions)[place].exp().numpy()
    return pd.DataFrame(columns)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_balanced_log_gives_the_true_value_in_expectation(shape) -> None:
    world, policies = MoodyWorld.make(*shape), loggers(shape[0])
    log, chance = listed_log(world, policies, {"a": 3, "b": 1})
    target = RecallPolicy.make(shape[0], 3)
    for name in ("ips", "pdis", "dr"):
        score = torch.from_numpy(session_scores(target, balanced(log), name).score)
        wanted = true_value(world, target)
        # The model of dr draws slates of the target: it has noise of its own, and no bias.
        assert float(chance @ score) == pytest.approx(wanted, rel=2e-2 if name == "dr" else 1e-5)


def test_what_one_logger_never_shows_another_may() -> None:
    world, policies = MoodyWorld.make(3, 1, 2), loggers(3)
    policies = {"a": narrow(policies["a"], 0), "b": narrow(policies["b"], 1)}
    log, chance = listed_log(world, policies, {"a": 3, "b": 1})
    assert served(log) == {name: share * log.sessions for name, share in SHARES.items()}
    target = RecallPolicy.make(3, 3)
    truth = true_value(world, target)
    for name in ("ips", "pdis"):
        score = torch.from_numpy(session_scores(target, balanced(log), name).score)
        assert float(chance @ score) == pytest.approx(truth, rel=1e-5)
        own = torch.from_numpy(session_scores(target, log, name).score)
        assert float(chance @ own) < 0.9 * truth


def test_shares_are_those_of_the_log() -> None:
    """The same sessions, balanced by shares that they do not have, miss the value."""
    world, policies = MoodyWorld.make(3, 1, 2), loggers(3)
    target = RecallPolicy.make(3, 3)
    log, chance = listed_log(world, policies, {"a": 3, "b": 1})
    one_each = np.concatenate([np.flatnonzero(of_a := codes(log) == 0)[: (~of_a).sum()], np.flatnonzero(~of_a)])
    part = balanced(log.select(one_each))
    score = torch.from_numpy(session_scores(target, part, "pdis").score)
    chance = chance[one_each] * torch.where(torch.from_numpy(codes(part) == 0), 3.0, 1.0)
    assert float(chance.sum()) == pytest.approx(1.0)
    assert abs(float(chance @ score) - true_value(world, target)) > 1e-3


def codes(log: SessionLog) -> np.ndarray:
    return log.context[POLICY].values[log.offsets[:-1]]


def several(sessions: dict[str, int], items: int = 5, slate: int = 2, horizon: int = 3) -> tuple[SessionLog, dict]:
    """A simulated log of several loggers, with the propensities of all."""
    world = MoodyWorld.make(items, slate, horizon)
    policies = {name: RecallPolicy.make(items, number) for number, name in enumerate(sessions)}
    return logged(world, policies, sessions), policies


def logged(world: MoodyWorld, policies: dict, sessions: dict[str, int]) -> SessionLog:
    frames = []
    for number, (name, count) in enumerate(sessions.items()):
        frame = simulate(policies[name], world, count, number).to_frame()
        frames.append(frame.assign(session_id=frame["session_id"] + 10_000 * number, policy=name))
    return SessionLog.from_frame(pd.concat(frames, ignore_index=True), items_of(world))


def test_one_logger_leaves_the_log_as_it_is() -> None:
    log, policies = several({"a": 50})
    assert balanced(log, policies) == log
    bare = replace(log, propensity=None)
    again = balanced(bare, policies)
    assert log.propensity is not None and again.propensity is not None
    np.testing.assert_allclose(again.propensity, log.propensity, rtol=1e-6)
    np.testing.assert_array_equal(again.propensity, again.propensity_of["a"])


def test_loggers_that_are_one_policy_leave_the_propensities_as_they_are() -> None:
    log, policies = several({"a": 40, "b": 60})
    alike = balanced(log, {"a": policies["a"], "b": policies["a"]})
    assert alike.propensity is not None
    np.testing.assert_allclose(alike.propensity, alike.propensity_of["a"], rtol=1e-6)


def test_columns_and_policies_say_the_same_and_order_batches_and_parts_change_nothing() -> None:
    log, policies = several({"a": 40, "b": 60})
    whole = balanced(log, policies)
    assert balanced(SessionLog.from_frame(whole.to_frame(), whole.items_frame())) == whole
    assert balanced(whole) == whole == balanced_where_known(whole)
    order = np.random.default_rng(0).permutation(log.sessions)
    assert whole.select(order) == balanced(log.select(order), policies)
    mixture = LoggerMixture.of(log, policies)
    batch = log.batch()
    shown = batch.shown.numpy()
    assert whole.propensity is not None
    found = mixture.log_prob_of_sessions(batch).exp().numpy()[shown]
    np.testing.assert_allclose(found, whole.batch().propensity.numpy()[shown], rtol=1e-5)


def test_a_part_has_shares_of_its_own() -> None:
    log, policies = several({"a": 40, "b": 60})
    whole = balanced(log, policies)
    only_b = whole.select(codes(whole) == 1)
    np.testing.assert_array_equal(balanced(replace(only_b, propensity=None)).propensity, only_b.propensity_of["b"])


def test_weights_are_those_of_the_mixture_of_whole_sessions() -> None:
    """By hand, from the formula: the product of a session's propensities is Σ α_j β_j of the whole session."""
    log, policies = several({"a": 40, "b": 60, "c": 100})
    found = balanced(log, policies)
    shares = {"a": 0.2, "b": 0.3, "c": 0.5}
    assert found.propensity is not None
    for session in (0, 57, 199):
        rows = slice(log.offsets[session], log.offsets[session + 1])
        by_logger = {name: found.propensity_of[name][rows].astype(float).prod() for name in shares}
        mean = sum(shares[name] * chance for name, chance in by_logger.items())
        assert found.propensity[rows].astype(float).prod() == pytest.approx(mean, rel=1e-5)


def test_sessions_of_five_hundred_steps_stay_finite() -> None:
    frame = pd.DataFrame({"session_id": np.repeat([0, 1], 500), "step": np.tile(np.arange(500), 2), "click": 0.0})
    a, b = np.full(1000, 1e-6), np.full(1000, 1e-5)
    b[500:], a[500:] = 1e-6, 1e-5
    frame = frame.assign(item_id=np.arange(1000) % 7, policy=np.repeat(["b", "a"], 500), propensity_a=a, propensity_b=b)
    found = balanced(SessionLog.from_frame(frame))
    assert found.propensity is not None
    np.testing.assert_allclose(found.propensity[[0, 500], 0], 0.5 * (1e-5 + 1e-6), rtol=1e-6)
    np.testing.assert_allclose(found.propensity[[499, 999], 0], 1e-5, rtol=1e-6)


def test_what_is_missing_is_named() -> None:
    log, policies = several({"a": 40, "b": 60})
    with pytest.raises(InputError, match=r"no probabilities under policy 'b', which served 60 sessions.*propensity_b"):
        balanced(log, {"a": policies["a"]})
    assert balanced_where_known(log) is log
    with pytest.raises(InputError, match="no column 'policy'"):
        balanced(replace(log, context={}), policies)
    assert balanced_where_known(replace(log, context={})).context == {}
    column = log.context[POLICY]
    unknown = Column(np.where(np.arange(log.steps) < log.offsets[3], -1, column.values).astype(np.int32), ("a", "b"))
    with pytest.raises(InputError, match="3 sessions name no policy"):
        balanced(replace(log, context={POLICY: unknown}), policies)
    with pytest.raises(InputError, match="loggers: b: it knows 4 items, the log has 5"):
        balanced(log, {**policies, "b": RecallPolicy.make(4, 1)})
    whole = balanced(log, policies)
    never = {**whole.propensity_of, "b": np.where(log.items == 2, 0, whole.propensity_of["b"]).astype(np.float32)}
    with pytest.raises(InputError, match="policy 'b' as good as rules out what it showed"):
        balanced(replace(log, propensity_of=never))


def test_complementary_loggers_weighed_together_need_far_fewer_sessions() -> None:
    """Two loggers that each hardly show what the other shows; the target shows all alike."""
    world, logits = MoodyWorld.make(4, 1, 2), 1.5 * torch.tensor([1.0, 1.0, -1.0, -1.0])
    policies = {
        name: RecallPolicy((sign * logits).double().expand(5, 2, 4).contiguous())
        for name, sign in (("a", 1), ("b", -1))
    }
    target = RecallPolicy(torch.zeros(5, 2, 4, dtype=torch.float64))
    truth = true_value(world, target)
    errors = np.array([_errors(world, policies, target, seed) for seed in range(40)]) - truth
    naive, together = np.sqrt((errors**2).mean(0))
    assert together < 0.5 * naive


def _errors(world: MoodyWorld, policies: dict[str, RecallPolicy], target: RecallPolicy, seed: int) -> list[float]:
    frames = []
    for number, (name, policy) in enumerate(policies.items()):
        frame = simulate(policy, world, 200, 2 * seed + number).to_frame()
        frames.append(frame.assign(session_id=frame["session_id"] + 10_000 * number, policy=name))
    log = SessionLog.from_frame(pd.concat(frames, ignore_index=True), items_of(world))
    return [float(session_scores(target, one, "pdis").score.mean()) for one in (log, balanced(log, policies))]


def test_a_mixture_draws_what_it_says_and_never_by_batch_or_order() -> None:
    policies = loggers(4)
    mixture = LoggerMixture(policies, SHARES)
    log, _ = several({"a": 30}, items=4)
    history = replace(log.batch(), session=torch.arange(30))
    slates = mixture.sample(history, 2, Streams(3))
    assert torch.equal(slates.log_prob, mixture.log_prob(history, slates.items))
    order = torch.randperm(30, generator=torch.Generator().manual_seed(0))
    assert torch.equal(mixture.sample(history.take(order), 2, Streams(3)).items, slates.items[order])
    world = MoodyWorld.make(4, 1, 3)
    drawn = simulate(mixture, world, 4000, 5)
    by_logger = {name: true_value(world, policy) for name, policy in policies.items()}
    value, wanted = float(drawn.reward.sum() / 4000), sum(SHARES[name] * by_logger[name] for name in SHARES)
    spread = np.add.reduceat(drawn.reward.sum(1), drawn.offsets[:-1]).std() / np.sqrt(4000)
    assert abs(value - wanted) < 5 * spread
    assert abs(wanted - by_logger["b"]) > 5 * spread


def test_fitted_loggers_are_known_to_be_fitted() -> None:
    log, policies = several({"a": 300, "b": 300})
    target = RecallPolicy.make(5, 7, 0.3)
    bare = replace(log, propensity=None)
    found = evaluate(target, bare, behaviour=LoggerMixture.of(log, policies), estimators=["pdis"], replicates=50)
    known = evaluate(target, balanced(log, policies), estimators=["pdis"], replicates=50)
    assert found["pdis"].raw.value == pytest.approx(known["pdis"].raw.value, rel=1e-5)
    assert found["pdis"].diagnostics.fitted_propensities and not known["pdis"].diagnostics.fitted_propensities


def test_a_mixture_needs_all_its_policies_over_one_catalogue() -> None:
    with pytest.raises(InputError, match="no policy 'b'"):
        LoggerMixture({"a": RecallPolicy.make(3, 1)}, SHARES)
    with pytest.raises(InputError, match="different numbers of items"):
        LoggerMixture({"a": RecallPolicy.make(3, 1), "b": RecallPolicy.make(4, 1)}, SHARES)


def rows_by_policy(log: SessionLog, cluster: str | None = None) -> dict[str, Check]:
    limits = LogLimits()
    asked = Asked(groups=20, periods=10, off=limits.off, probability=limits.probability, names=[])
    return {row.name: row for row in logger_rows(log, asked, cluster)}


def test_the_check_by_policy_finds_wrong_propensities_and_other_users_and_no_fault_where_there_is_none() -> None:
    log, policies = several({"a": 800, "b": 400})
    log = balanced(log, policies)
    assert {row.verdict for row in rows_by_policy(log).values()} == {"trust"}
    lower = np.where(log.items >= 0, 0.8 * log.propensity_of["b"], 1).astype(np.float32)
    wrong = rows_by_policy(replace(log, propensity_of={**log.propensity_of, "b": lower}))
    assert wrong["sessions of b"].verdict == "refuse" and wrong["sessions of b"].found > 1.1
    assert wrong["reward under b"].verdict == "trust"
    keen = np.repeat(codes(log) == 1, log.lengths)[:, None] & (log.items >= 0)
    keen &= np.random.default_rng(0).random(keen.shape) < 0.4
    other = replace(log, reward=np.where(keen, 1, log.reward).astype(np.float32))
    rows = rows_by_policy(other)
    assert rows["reward under b"].verdict == "refuse" and rows["reward under b"].found > 1.05
    assert rows["sessions of b"].verdict == "trust"
    estimates = evaluate(RecallPolicy.make(5, 7, 0.3), other, estimators=["pdis"], replicates=50)
    assert estimates["pdis"].refused and "the same things brought policy b" in "; ".join(estimates["pdis"].reasons)


def test_the_check_by_policy_counts_users_and_cannot_tell_loggers_with_nothing_in_common() -> None:
    log, policies = several({"a": 300, "b": 300})
    log = balanced(log, policies)
    once = rows_by_policy(log)["sessions of b"].chance
    assert once < 1
    tenfold = log.select(np.repeat(np.arange(600), 10))
    tenfold = replace(tenfold, session_ids=np.arange(6000), user_ids=np.repeat(log.session_ids, 10))
    assert rows_by_policy(tenfold)["sessions of b"].chance == pytest.approx(once)
    assert rows_by_policy(tenfold, "session")["sessions of b"].chance < once
    apart = {name: np.repeat(codes(log) == number, log.lengths)[:, None] for number, name in enumerate("ab")}
    apart = {name: np.where(log.items >= 0, 0.5 * own, 1).astype(np.float32) for name, own in apart.items()}
    assert {row.chance for row in rows_by_policy(replace(log, propensity_of=apart)).values()} == {1.0}


@pytest.mark.parametrize("mixed", [True, False])
def test_a_log_is_checked_against_who_served_at_the_time(mixed) -> None:
    """By chance, or one policy after the other; one of them hardly shows the half of the items."""
    world, strong = MoodyWorld.make(6, 1, 2), torch.tensor([3.0, 3.0, 3.0, -3.0, -3.0, -3.0]).double()
    policies = {"new": RecallPolicy(strong.expand(7, 2, 6).contiguous()), "old": RecallPolicy.make(6, 1, 0.3)}
    log = logged(world, policies, {"new": 1500, "old": 1500})
    if mixed:
        log = log.select(np.random.default_rng(0).permutation(log.sessions))
    together = balanced(log, policies)
    found = check_log(together)
    assert found.verdict == ("trust" if mixed else "caution"), str(found)
    assert {"sessions of new", "reward under old"} <= {row.name for row in found.rows}
    bare = replace(log, propensity=None)
    assert "sessions of new" in [row.name for row in check_log(bare, LoggerMixture.of(log, policies)).rows]
    lower = {**together.propensity_of, "old": (0.8 * together.propensity_of["old"]).astype(np.float32)}
    assert check_log(replace(together, propensity_of=lower)).verdict == "refuse"
    # Without what each policy says, the mixture is held against every policy and every period.
    assert check_log(replace(together, propensity_of={})).verdict == "refuse"


def test_evaluate_and_compare_balance_by_themselves_where_all_loggers_are_known() -> None:
    """The same as on the balanced log, and other than with each row's own propensity."""
    log, policies = several({"a": 60, "b": 60})
    target, whole = RecallPolicy.make(5, 7), balanced(log, policies)
    known, own = replace(whole, propensity=log.propensity), replace(log, propensity_of={})
    found = [evaluate(target, one, estimators=("ips",), replicates=50)["ips"].raw for one in (known, whole, own)]
    assert found[0] == found[1] != found[2]
    tables = [compare({"t": target}, one, estimator="ips", replicates=50)["t"].raw for one in (known, whole, own)]
    assert tables[0] == tables[1] != tables[2]
