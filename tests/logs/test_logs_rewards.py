"""Rewards keep their value on every way through a log, and what reads them does not mind how they are stored."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from logs_for_policies import log_with_all_columns

import recil
from recil.evaluate.scoring import target_slates
from recil.logs.align import align
from recil.logs.digest import content_digest
from recil.logs.exact_rewards import as_written, narrowest
from recil.logs.history import History
from recil.logs.read import read_log
from recil.logs.session_log import SessionLog
from recil.policies.frequencies import popular, uniform
from recil.policies.inputs import LARGEST_REWARD
from recil.policies.markov import markov
from recil.policies.neighbours import knn
from recil.policies.protocol import Slates
from recil.policies.scored import ScoredPolicy
from recil.random import Streams
from recil.train.finetune import settings_digest
from recil.train.q_learning import q_learning
from recil.train.q_learning_config import QLearningConfig

# Beyond 2^24; below float32's least; beyond its largest; decimal; a subnormal float32 whose digits would go.
HARD = [16777217.0, 1e-50, 1e300, -1e300, 0.1, 1.23456789e-42, 2.0**53 - 1, 5e-324]
PLAIN = [0.0, 1.0, -1.0, 0.5, 16777216.0, 2.0**40, 2.0**-149, float(np.float32(0.1))]


def table(rewards: list[float]) -> pd.DataFrame:
    rows = np.arange(2 * len(rewards))
    return pd.DataFrame(
        {
            "session_id": rows // 3,
            "step": rows % 3,
            "item_id": rows % 5,
            "worth": np.stack([rewards, np.zeros(len(rewards))], 1).ravel(),
            "propensity": 0.2,
            "timestamp": rows,
        }
    )


def shown(log: SessionLog) -> list[float]:
    return log.reward[log.items >= 0].tolist()


def clicks_and_more(more: list[float], sessions: int = 150) -> SessionLog:
    """A log of clicks in which each of these rewards stands six times."""
    log = log_with_all_columns(sessions)
    reward, places = log.reward.astype(np.float64), np.argwhere(log.items >= 0)
    chosen = np.random.default_rng(1).permutation(len(places))[: 6 * len(more)]
    reward[tuple(places[chosen].T)] = np.repeat(more, 6)
    return replace(log, reward=reward, propensity=np.where(log.items >= 0, 0.2, 1).astype(np.float32))


@pytest.mark.parametrize("value", HARD)
def test_float64_is_taken_where_float32_would_change_a_value(value: float) -> None:
    assert narrowest(np.array([0.0, value])).dtype == np.float64
    assert narrowest(np.array([0.0, value])).tolist() == [0.0, value]


def test_float32_is_taken_where_it_changes_none() -> None:
    for value in PLAIN:
        assert narrowest(np.array([1.0, value])).dtype == np.float32
        assert narrowest(np.array([1.0, value])).tolist() == [1.0, value]
    assert narrowest(np.array([True, False])).dtype == np.float32
    assert narrowest(np.array([3, 2**24 + 1])).tolist() == [3, 2**24 + 1]


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=5))
@settings(max_examples=300, deadline=None)
def test_the_text_of_a_table_is_read_as_the_rewards_it_was_written_from(rewards: list[float]) -> None:
    written = as_written(np.array(rewards, dtype=np.float32))
    assert [float(str(value)) for value in written] == rewards


@pytest.mark.parametrize("rewards", [PLAIN, HARD + PLAIN, [0.0, 1.0, 1.0, 0.0]], ids=["plain", "hard", "clicks"])
def test_rewards_come_back_from_every_form(tmp_path: Path, rewards: list[float]) -> None:
    frame = table(rewards)
    want = frame["worth"].tolist()
    log = SessionLog.from_frame(frame, reward="worth")
    assert shown(log) == want
    assert log.reward.dtype == (np.float64 if 1e300 in rewards else np.float32)
    log.save(tmp_path / "saved")
    for name in ("own", "again"):
        source = frame if name == "own" else log.to_frame()
        source.to_csv(tmp_path / f"{name}.csv", index=False)
        source.to_csv(tmp_path / f"{name}.csv.gz", index=False)
        source.to_parquet(tmp_path / f"{name}.parquet")
        (tmp_path / name).mkdir()
        source.iloc[:5].to_parquet(tmp_path / name / "a.parquet")
        source.iloc[5:].to_parquet(tmp_path / name / "b.parquet")
    found = [read_log(file, reward="worth") for file in tmp_path.iterdir()]
    assert len(found) == 9
    for other in [SessionLog.from_frame(log.to_frame(), reward="worth"), *found]:
        assert other == log and shown(other) == want and other.reward.dtype == log.reward.dtype


@pytest.mark.parametrize("kind", [object, str, "Int64", np.int64])
def test_whole_rewards_of_any_type_keep_their_value(kind: object) -> None:
    frame = table([16777217.0, 1.0, 2.0**53]).astype({"worth": np.int64}).astype({"worth": kind})
    log = SessionLog.from_frame(frame, reward="worth")
    assert shown(log)[::2] == [16777217.0, 1.0, 2.0**53] and log.notes == {}


def test_whole_rewards_that_float64_cannot_hold_are_counted() -> None:
    frame = table([1.0, 2.0]).assign(worth=[2**53 + 1, 0, 2**53 + 2, -(2**53) - 1])
    assert SessionLog.from_frame(frame, reward="worth").notes == {"values of worth rounded to float64": 2}


def test_a_reward_that_another_takes_the_place_of_is_rounded_and_counted(tmp_path: Path) -> None:
    SessionLog.from_frame(table([16777217.0, 1.0]).assign(like=1.0), reward="worth").save(tmp_path / "log")
    likes = read_log(tmp_path / "log", reward="like")
    assert likes.feedback["worth"].values.dtype == np.float32
    assert likes.notes == {"values of worth rounded to float32": 1}


def test_parts_of_a_log_keep_rewards() -> None:
    log = SessionLog.from_frame(table(HARD + PLAIN), reward="worth")
    everyone = np.arange(log.sessions)
    assert shown(log.select(everyone)) == shown(align(log, log)) == shown(log)
    for parts in (log.split(by="time", test=0.5), log.split(by="session", test=0.5)):
        assert sorted([*shown(parts[0]), *shown(parts[1])]) == sorted(shown(log))
    history = log.batch()
    assert history.reward.dtype == torch.float64
    assert history.reward[history.shown].tolist() == shown(log)
    assert log.summary().reward_per_item == pytest.approx(np.mean(shown(log)), rel=1e-15)


def test_the_digest_is_that_of_the_values() -> None:
    log = clicks_and_more([])
    assert log.reward.dtype == np.float64
    narrow = replace(log, reward=log.reward.astype(np.float32))
    assert content_digest(log) == content_digest(narrow)
    assert clicks_and_more([16777216.0]) != clicks_and_more([16777217.0])
    assert clicks_and_more([0.0]) != clicks_and_more([1e-50])
    garbage = log.reward.copy()
    garbage[log.items < 0] = 1e300
    assert content_digest(replace(log, reward=garbage)) == content_digest(narrow)


@pytest.mark.parametrize("encoder", ["bag", "gru", "transformer"])
def test_policies_are_cloned_and_finetuned_on_any_reward_and_evaluated(encoder: str) -> None:
    log = clicks_and_more([16777217.0, 1e-50, 1e300])
    clone = recil.clone(log, recil.CloneConfig(width=8, epochs=1, encoder=encoder), seed=0)
    better = recil.finetune(clone, log, recil.FinetuneConfig(epochs=1), seed=0)
    for policy in (clone, better):
        assert all(bool(torch.isfinite(weight).all()) for weight in policy.state_dict().values())
        assert bool(torch.isfinite(policy.log_prob_of_sessions(log.batch())).all())
    smaller = clicks_and_more([16777217.0, 1e-50])
    assert recil.evaluate(better, smaller, replicates=20)["logged"].raw.value == smaller.reward.sum() / 150


@pytest.mark.parametrize("baseline", [uniform, popular, knn, markov])
def test_baselines_read_rewards_of_either_type_alike(baseline) -> None:
    log = clicks_and_more([])
    narrow = replace(log, reward=log.reward.astype(np.float32))
    policies = [baseline(one) for one in (log, narrow)]
    scores = [one.log_prob_of_sessions(part.batch()) for one in policies for part in (log, narrow)]
    assert all(torch.equal(scores[0], other) for other in scores[1:])
    values = [recil.evaluate(policies[0], part, replicates=20).to_frame() for part in (log, narrow)]
    pd.testing.assert_frame_equal(*values)


def test_learners_read_rewards_of_either_type_alike() -> None:
    log = clicks_and_more([], 60)
    narrow = replace(log, reward=log.reward.astype(np.float32))
    clone = recil.clone(narrow, recil.CloneConfig(width=8, epochs=1), seed=0)
    learners = (
        lambda one: recil.clone(one, recil.CloneConfig(width=8, epochs=1, only_rewarded=True), seed=0),
        lambda one: recil.finetune(clone, one, recil.FinetuneConfig(epochs=1), seed=0),
        lambda one: q_learning(one, QLearningConfig(width=8, epochs=1)),
    )
    for learn in learners:
        wide_weights, weights = (learn(one).state_dict() for one in (log, narrow))
        for name, weight in weights.items():
            torch.testing.assert_close(wide_weights[name], weight, rtol=1e-4, atol=1e-6, msg=name)


def test_a_run_goes_on_whichever_type_its_rewards_have() -> None:
    log = clicks_and_more([], 20)
    clone = recil.clone(log, recil.CloneConfig(width=8, epochs=1), seed=0)
    digests = {
        settings_digest(recil.FinetuneConfig(), 0, clone, replace(log, reward=log.reward.astype(kind)))
        for kind in (np.float32, np.float64)
    }
    assert len(digests) == 1


def test_what_draws_along_a_log_sees_its_rewards() -> None:
    log = clicks_and_more([16777217.0, 1e-50, 1e300], 30)
    seen: list[torch.Tensor] = []

    class Watching(ScoredPolicy):
        def sample(self, history: History, k: int, streams: Streams) -> Slates:
            seen.append(history.reward)
            return super().sample(history, k, streams)

    plain = uniform(log)
    batch = log.batch()
    target_slates(Watching(plain.scorer, plain.item_ids), batch, 1, Streams(0))
    assert len(seen) == batch.steps
    assert all(torch.equal(rewards, batch.reward[:, :step]) for step, rewards in enumerate(seen))


def test_values_are_learned_in_units_of_rewards_of_any_size() -> None:
    log = clicks_and_more([16777217.0, 1e300], 60)
    learned = q_learning(log, QLearningConfig(width=8, epochs=1))
    assert all(bool(torch.isfinite(weight).all()) for weight in learned.state_dict().values())


def test_to_a_network_larger_rewards_look_alike() -> None:
    log = clicks_and_more([1.0], 40)
    clone = recil.clone(log, recil.CloneConfig(width=8, epochs=1, encoder="gru"), seed=0)
    scores = [
        clone.log_prob_of_sessions(clicks_and_more([value], 40).batch())
        for value in (1.0, LARGEST_REWARD, LARGEST_REWARD + 1, 1e300)
    ]
    assert torch.equal(scores[1], scores[2]) and torch.equal(scores[1], scores[3])
    assert not torch.equal(scores[0], scores[1])
