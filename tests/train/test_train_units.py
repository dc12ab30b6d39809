"""Learners hold out whole users, and choose by errors and thresholds that count them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from logs_for_policies import log_with_all_columns

from recil.errors import InputError
from recil.logs.session_log import SessionLog
from recil.policies.softmax import SoftmaxPolicy
from recil.train import choice, from_log
from recil.train import finetune as finetuning
from recil.train.choice import Judge, paired_gain
from recil.train.clone import CloneConfig, clone, cloning, held_out_sessions
from recil.train.finetune import finetune
from recil.train.finetune_config import FinetuneConfig

SMALL = CloneConfig(width=4, epochs=1, batch=64, held_out=0.3)
SHORT = FinetuneConfig(epochs=1, critic_warmup=1, batch=64)


@pytest.fixture(scope="module")
def log() -> SessionLog:
    """200 sessions of 40 users, of whom some come often."""
    log = log_with_all_columns(200)
    return replace(log, user_ids=np.sort(np.random.default_rng(0).geometric(0.1, 200) % 40))


@pytest.fixture(scope="module")
def start(log) -> SoftmaxPolicy:
    return clone(log, SMALL)


def shared(log: SessionLog, training: np.ndarray, held_out: np.ndarray) -> set[int]:
    """Users on both sides; all sessions stand on one."""
    assert sorted([*training, *held_out]) == list(range(log.sessions))
    return set(log.user_ids[training].tolist()) & set(log.user_ids[held_out].tolist())


def test_whole_users_are_held_out_by_their_names(log) -> None:
    training, held_out = held_out_sessions(log, 0.3)
    assert not shared(log, training, held_out)
    assert shared(log, *held_out_sessions(log, 0.3, "session"))
    users = set(log.user_ids[held_out].tolist())
    part = log.select(np.isin(log.user_ids, np.unique(log.user_ids)[::2]))
    _, fewer = held_out_sessions(part, 0.3)
    assert set(part.user_ids[fewer].tolist()) == users & set(part.user_ids.tolist())
    for share in (1e-9, 1 - 1e-9):
        sides = held_out_sessions(log, share)
        assert not shared(log, *sides)
        assert min(len(set(log.user_ids[side].tolist())) for side in sides) == 1


def test_users_of_one_session_are_held_out_as_sessions_are(log) -> None:
    alone = replace(log, user_ids=np.array([f"user {name}" for name in log.session_ids], dtype=object))
    for one, other in zip(held_out_sessions(alone, 0.3), held_out_sessions(log, 0.3, "session"), strict=True):
        assert one.tolist() == other.tolist()
    configs = replace(SMALL, cluster="user"), replace(SMALL, cluster="session")
    first, second = (clone(alone, config) for config in configs)
    assert torch.equal(first.bias.weight, second.bias.weight)
    assert torch.equal(first.bias.weight, clone(replace(log, user_ids=None), SMALL).bias.weight)


def test_one_user_cannot_be_held_out(log) -> None:
    one = log.select(log.user_ids == log.user_ids[0])
    assert one.sessions > 2
    with pytest.raises(InputError, match=r'held_out: the log has 1 user -> .*or cluster="session"'):
        clone(one, SMALL)
    assert clone(one, replace(SMALL, cluster="session")).catalogue == log.catalogue


def test_a_clone_learns_from_no_user_who_says_when_to_stop(log) -> None:
    _, objective, _ = cloning(log, SMALL, 0)
    assert not shared(log, objective.sessions, np.setdiff1d(np.arange(log.sessions), objective.sessions))
    _, objective, _ = cloning(log, replace(SMALL, cluster="session"), 0)
    assert shared(log, objective.sessions, np.setdiff1d(np.arange(log.sessions), objective.sessions))
    _, objective, _ = cloning(log, replace(SMALL, cluster="user_kind"), 0)
    assert len(set(log.user_features["user_kind"].values[objective.sessions].tolist())) == 1


@pytest.mark.parametrize("cluster", [None, "session"])
def test_finetuning_learns_from_no_user_who_chooses(log, start, monkeypatch, cluster: str | None) -> None:
    seen: dict[str, np.ndarray] = {}
    batches, of = from_log.batches, Judge.of

    def learned_from(sessions, *rest):
        seen["training"] = sessions
        return batches(sessions, *rest)

    def chosen_by(learner, sessions, held_out, batch):
        seen["held_out"] = held_out
        seen["judge"] = of(learner, sessions, held_out, batch)
        return seen["judge"]

    monkeypatch.setattr(from_log, "batches", learned_from)

    def compared(*given):
        units.append(given[3])
        return paired_gain(*given)

    units: list[np.ndarray | None] = []
    monkeypatch.setattr(Judge, "of", staticmethod(chosen_by))
    monkeypatch.setattr(choice, "paired_gain", compared)
    told: dict[str, float] = {}
    finetune(start, log, replace(SHORT, cluster=cluster), on_metrics=lambda _, metrics: told.update(metrics))
    assert bool(shared(log, seen["training"], seen["held_out"])) == (cluster == "session")
    # What the choice rests on counts users, too.
    rewarded = [session for session in seen["held_out"] if log.reward[slice(*log.offsets[session : session + 2])].any()]
    count = len(rewarded) if cluster else len(set(log.user_ids[rewarded].tolist()))
    assert told["finetune/held_out_rewarded"] == count
    if cluster is None:
        names = log.user_ids[seen["held_out"]]
        assert (np.unique(names, return_inverse=True)[1] == np.unique(units[0], return_inverse=True)[1]).all()
        assert len(set(names[np.isin(seen["held_out"], rewarded)].tolist())) < len(rewarded)
    else:
        assert units == [None]


def test_negatives_are_counted_among_those_learned_from(log, start, monkeypatch) -> None:
    seen = []
    counts = finetuning.item_counts
    monkeypatch.setattr(finetuning, "item_counts", lambda told, given: seen.append(given) or counts(told, given))
    finetune(start, log, replace(SHORT, negatives=4))
    assert not shared(log, seen[0], np.setdiff1d(np.arange(log.sessions), seen[0]))


def test_a_session_that_stands_twice_makes_no_gain_clearer() -> None:
    draws = np.random.default_rng(3)
    weight, other, credit = draws.gamma(2.0, size=100), draws.gamma(3.0, size=100), draws.normal(size=100)
    sums = [torch.from_numpy(np.stack([ratio, ratio * credit], -1)) for ratio in (weight, other)]
    logs = torch.from_numpy(np.log(weight))
    alone = paired_gain(*sums, logs)
    twice, unit = [part.repeat_interleave(2, 0) for part in sums], np.repeat(np.arange(100), 2)
    together, naive = paired_gain(*twice, logs, unit), paired_gain(*twice, logs)
    assert together.value == pytest.approx(alone.value) and together.error == pytest.approx(alone.error)
    assert naive.error == pytest.approx(alone.error / np.sqrt(2))


def test_a_run_of_other_users_does_not_go_on_from_a_checkpoint(log, start, tmp_path) -> None:
    finetune(start, log, SHORT, checkpoint=tmp_path / "run")
    with pytest.raises(InputError, match="under other settings or on another log"):
        finetune(start, replace(log, user_ids=log.user_ids // 2), SHORT, checkpoint=tmp_path / "run")
