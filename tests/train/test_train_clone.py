"""Cloning: it finds the recommender behind a log, stops in time, and refuses what it cannot clone."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from logs_for_policies import ITEMS, log_with_all_columns

from recil.errors import InputError
from recil.evaluate.cloning import clone_report
from recil.logs.read import read_log
from recil.logs.session_log import Column, SessionLog
from recil.policies.baselines import markov, popular, uniform
from recil.policies.encoders import EncoderConfig
from recil.policies.protocol import log_prob_of_sessions
from recil.policies.softmax import SoftmaxPolicy
from recil.train.clone import CloneConfig, clone, held_out_sessions

QUICK = CloneConfig(width=16, epochs=12, batch=64)


def log_of_a_known_recommender(sessions: int, seed: int) -> tuple[SessionLog, float]:
    """Slates of 2 out of 6 by a table over (last item, its answer); the recommender's own mean loss per item.

    The first item shown at a step is drawn from the row of the last step's first item, turned round by its answer.
    """
    draw = np.random.default_rng(seed)
    table = np.random.default_rng(99).dirichlet(np.full(6, 0.3), 12)
    items, answers, losses = [], [], []
    for _ in range(sessions):
        state = None
        for _ in range(6):
            chances = np.full(6, 1 / 6) if state is None else table[state]
            first = int(draw.choice(6, p=chances))
            rest = np.where(np.arange(6) == first, 0, chances) / (1 - chances[first])
            second = int(draw.choice(6, p=rest / rest.sum()))
            answer = int(draw.integers(2))
            items.append((first, second))
            answers.append((answer, -1))
            losses += [-math.log(chances[first]), -math.log(rest[second])]
            state = first + 6 * answer
    log = SessionLog(
        np.arange(6),
        np.array(items, dtype=np.int32),
        np.zeros((len(items), 2), np.float32),
        np.arange(0, len(items) + 1, 6),
        np.arange(sessions) + 1000 * seed,
        feedback={"answer": Column(np.array(answers, dtype=np.int32), ("no", "yes"))},
    )
    return log, float(np.mean(losses))


def loss_on(policy, log: SessionLog) -> float:
    with torch.no_grad():
        return -float(log_prob_of_sessions(policy, log.batch())[log.batch().shown].double().mean())


@pytest.mark.parametrize("encoder", ["bag", "gru"])
def test_a_clone_comes_close_to_the_recommender_and_beats_popularity(encoder):
    """Ordered slates hide which item came first from a bag of them, so a gap remains; popularity's is far larger."""
    log, _ = log_of_a_known_recommender(1500, seed=1)
    fresh, best = log_of_a_known_recommender(500, seed=2)
    policy = clone(log, replace(QUICK, encoder=encoder, epochs=25))
    gap, gap_of_popularity = loss_on(policy, fresh) - best, loss_on(popular(log, 1.0), fresh) - best
    assert gap < 0.35 * gap_of_popularity
    assert gap_of_popularity > 0.3


def test_a_log_without_any_reward_can_be_cloned_and_each_epoch_is_reported():
    log, _ = log_of_a_known_recommender(100, seed=1)
    seen = []
    policy = clone(log, replace(QUICK, epochs=3), on_metrics=lambda step, metrics: seen.append((step, metrics)))
    assert isinstance(policy, SoftmaxPolicy)
    assert [step for step, _ in seen] == [2, 4, 6]
    assert all(set(metrics) == {"clone/nll", "clone/held_out_nll"} for _, metrics in seen)
    assert seen[-1][1]["clone/nll"] < seen[0][1]["clone/nll"]


def test_a_clone_starts_at_how_often_items_were_shown():
    log = log_with_all_columns(200)
    losses = []
    config = replace(QUICK, epochs=1, learning_rate=1e-9, held_out=0.5)
    clone(log, config, on_metrics=lambda _, metrics: losses.append(metrics["clone/held_out_nll"]))
    training, held_out = (log.select(sessions) for sessions in held_out_sessions(log, 0.5))
    by_frequency = loss_on(popular(replace(training, reward=np.zeros_like(training.reward)), 1.0), held_out)
    assert losses[0] < by_frequency + 0.05 < loss_on(uniform(log), held_out) - 0.1


def test_the_best_weights_are_returned_not_the_last():
    log = log_with_all_columns(60)
    losses = []
    config = CloneConfig(width=64, epochs=20, batch=8, learning_rate=0.03, patience=4, held_out=0.3)
    policy = clone(log, config, on_metrics=lambda _, metrics: losses.append(metrics["clone/held_out_nll"]))
    _, held_out = held_out_sessions(log, 0.3)
    assert min(losses) < losses[-1], "this log is small enough to be overfitted"
    assert len(losses) == int(np.argmin(losses)) + 1 + 4
    assert loss_on(policy, log.select(held_out)) == pytest.approx(min(losses), rel=1e-5)


def test_only_rewarded_items_are_imitated_where_that_is_asked():
    log = log_with_all_columns(200, seed=4)
    # Only items of the upper half are ever rewarded, though all are shown.
    log = replace(log, reward=np.where(log.items >= ITEMS // 2, 1, 0).astype(np.float32))
    shares = []
    for only_rewarded in (True, False):
        policy = clone(log, replace(QUICK, only_rewarded=only_rewarded, item_features=False))
        with torch.no_grad():
            shares.append(policy.next_logits(log.batch()).softmax(1)[:, ITEMS // 2 :].sum(1).mean().item())
    assert shares[0] > 0.9
    assert shares[1] < 0.5


def test_same_seed_same_clone_and_no_global_draw():
    log = log_with_all_columns(60)
    before = torch.get_rng_state()
    one, same, other = (clone(log, replace(QUICK, epochs=2), seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one.bias.weight, same.bias.weight)
    assert not torch.equal(one.bias.weight, other.bias.weight)


def test_held_out_sessions_are_chosen_by_their_ids():
    log = log_with_all_columns(300)
    training, held_out = held_out_sessions(log, 0.2)
    assert sorted([*training, *held_out]) == list(range(300))
    assert 30 < len(held_out) < 90
    order = np.random.default_rng(0).permutation(300)
    _, shuffled = held_out_sessions(log.select(order), 0.2)
    assert set(log.session_ids[order][shuffled]) == set(log.session_ids[held_out])
    for share in (1e-9, 1 - 1e-9):
        sides = held_out_sessions(log, share)
        assert min(len(side) for side in sides) == 1


def test_a_log_that_cannot_be_cloned_is_refused():
    log = log_with_all_columns(30)
    with pytest.raises(InputError, match="the log has 1 session"):
        clone(log.select([0]))
    twice = log.items.copy()
    twice[3, 1] = twice[3, 0]
    with pytest.raises(InputError, match="1 slates hold an item twice"):
        clone(replace(log, items=twice))
    with pytest.raises(InputError, match="no reward above 0"):
        clone(replace(log, reward=np.zeros_like(log.reward)), CloneConfig(only_rewarded=True))


def test_a_loss_that_is_not_a_number_stops_with_the_step_and_the_sessions():
    log = log_with_all_columns(30)
    broken = log.reward.copy()
    # The second step's input follows from the first step's reward.
    session = int(np.argmax(log.lengths))
    broken[log.offsets[session], 0] = np.nan
    held_out = set(held_out_sessions(log, 0.1)[1].tolist())
    assert session not in held_out
    with pytest.raises(InputError, match=f"clone step 0: the loss is nan on .*, by 1 of them: {100 + session} "):
        clone(replace(log, reward=broken), CloneConfig(batch=30))


@pytest.mark.parametrize(
    "change",
    [
        {"encoder": "lstm"},
        {"width": 0},
        {"epochs": 0},
        {"batch": 0},
        {"patience": 0},
        {"learning_rate": float("nan")},
        {"weight_decay": -1.0},
        {"held_out": 1.0},
    ],
)
def test_a_bad_config_is_refused_by_name(change):
    with pytest.raises(InputError, match=next(iter(change)).split("_")[0]):
        CloneConfig(**change)


def test_the_report_counts_by_hand():
    log = SessionLog(
        np.arange(30),
        np.array([[0], [1], [0], [2], [0], [29]], dtype=np.int32),
        np.zeros((6, 1), np.float32),
        np.array([0, 2, 4, 6]),
        np.arange(3),
    )
    policy = popular(log, temperature=1.0)
    report = clone_report(policy, log)
    chances = np.array([4, 2, 4, 2, 4, 2]) / 36
    assert report.nll == pytest.approx(-np.log(chances).mean(), rel=1e-5)
    assert report.items == 6
    assert report.hit_rate_at_10 == 1.0
    # Items 1, 2 and 29 tie behind item 0: each has rank 2.
    assert report.ndcg_at_10 == pytest.approx((1 + 1 / math.log2(4)) / 2)
    assert report.coverage_at_10 == pytest.approx(1 / 3)
    assert report.log_coverage == pytest.approx(4 / 30)
    later = clone_report(policy, log, from_step=1)
    assert (later.items, later.nll) == (3, pytest.approx(-math.log(2 / 36), rel=1e-5))
    assert "hit_rate_at_10" in str(later)


def test_the_report_is_the_same_in_one_pass_as_step_by_step():
    log = log_with_all_columns(50)
    policy = SoftmaxPolicy.for_log(log, EncoderConfig("gru", 8))

    class StepByStep:
        catalogue, next_logits, log_prob = policy.catalogue, policy.next_logits, policy.log_prob

    one, other = clone_report(policy, log, 1), clone_report(StepByStep(), log, 1)
    assert one.items == other.items
    assert one.nll == pytest.approx(other.nll, rel=1e-5)
    assert one.hit_rate_at_10 == other.hit_rate_at_10
    assert one.ndcg_at_10 == pytest.approx(other.ndcg_at_10)
    assert one.coverage_at_10 == other.coverage_at_10


def test_the_report_refuses_another_catalogue_and_steps_that_nobody_has():
    log = log_with_all_columns(10)
    with pytest.raises(InputError, match="the policy has 6 items and the log 12"):
        clone_report(popular(log_of_a_known_recommender(5, 1)[0]), log)
    with pytest.raises(InputError, match="no session has a step 60"):
        clone_report(popular(log), log, from_step=60)


@pytest.mark.slow
def test_on_entree_a_clone_guesses_the_next_restaurant_better_than_a_markov_chain(real_logs):
    """Items that follow a recorded operation; a session's first item answers a query that no one recorded."""
    train, test = read_log(real_logs / "entree", format="entree").split(by="time", test=0.2)
    chain = clone_report(markov(train, ("operation",)), test, from_step=1)
    policy = clone(train, CloneConfig(encoder="gru", epochs=5))
    assert clone_report(policy, test, from_step=1).nll < chain.nll - 0.1


@pytest.mark.parametrize(
    "change", [{"tied": True}, {"dropout": 0.3}, {"bfloat16": True}, {"tied": True, "dropout": 0.2}]
)
def test_a_clone_with_less_freedom_comes_close_too(change, tmp_path):
    log, _ = log_of_a_known_recommender(400, 1)
    other, own = log_of_a_known_recommender(400, 2)
    policy = clone(log, replace(QUICK, epochs=20, **change))
    plain = clone(log, replace(QUICK, epochs=20))
    nearness = (loss_on(plain, other) - own) / (math.log(6) - own)
    assert loss_on(policy, other) < own + (nearness + 0.15) * (math.log(6) - own)
    policy.save(tmp_path / "policy")
    again = SoftmaxPolicy.from_parts(policy.parts())
    assert loss_on(again, other) == loss_on(policy, other)
    assert len(list(policy.parameters())) == len(list(plain.parameters())) - bool(change.get("tied"))


def test_dropout_is_drawn_by_the_step_and_not_where_sessions_are_held_out():
    log, _ = log_of_a_known_recommender(120, 1)
    config = replace(QUICK, epochs=2, dropout=0.4)
    rows = []
    first = clone(log, config, 1, on_metrics=lambda _, row: rows.append(row))
    again = clone(log, config, 1)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    _, held_out = held_out_sessions(log, config.held_out)
    best = min(row["clone/held_out_nll"] for row in rows)
    assert loss_on(first, log.select(held_out)) == pytest.approx(best, rel=1e-5)
    without = clone(log, replace(config, dropout=0.0), 1)
    assert not torch.equal(without.output.own.weight, first.output.own.weight)
