"""What a clone is worth where clicks are rare: exact values in a bandit of many contexts, and a sea that is deep."""

from __future__ import annotations

import functools

import pytest
import torch

import recil
from recil.exact.policy import STATE, TabularPolicy
from recil.exact.solve import start_value
from recil.exact.worlds import deep_sea, sparse_click_bandit
from recil.exact.worlds.demonstrated import erring

# No guard at all, and steps under which a clone does not survive without any.
UNGUARDED = {
    "kl": 0.0, "cap": 1e9, "entropy_floor": 0.0, "critic_warmup": 0, "iteration_kl": 1e9, "gradient_norm": 1e9,
}  # fmt: skip
ROUGH = {"batch": 25, "learning_rate": 3e-2}


def shown(policy: recil.SoftmaxPolicy, states: int) -> torch.Tensor:
    """float64 [S, A]: what it shows first in each state."""
    history = recil.History.start(torch.arange(states), 1, context={STATE: torch.arange(states)[:, None]})
    with torch.no_grad():
        return policy.next_logits(history).double().softmax(-1)


@functools.cache
def contexts(skill: float, rates: tuple[float, float]):
    """The world, its log of 20,000 sessions, the clone, and value: policy -> its exact click rate."""
    mdp, demonstrator = sparse_click_bandit(skill=skill, rates=rates)
    world = recil.TabularWorld(mdp, 1)
    log = recil.simulate(TabularPolicy(demonstrator), world, 20_000)

    def value(policy: recil.SoftmaxPolicy) -> float:
        return float((shown(policy, 20) * mdp.mean_reward[:20]).sum(1).mean())

    return world, log, recil.clone(log), value, float(start_value(mdp, demonstrator))


def test_finetuning_beats_clone_and_demonstrator_where_one_item_in_a_hundred_is_clicked() -> None:
    world, log, start, value, demonstrator = contexts(0.07, (0.002, 0.102))
    assert log.reward.mean() < 0.01
    assert value(start) < demonstrator == pytest.approx(0.009)
    on_the_log = value(recil.finetune(start, log))
    in_the_world = value(recil.finetune(start, world, recil.FinetuneConfig(sessions=16_000)))
    # Values are exact, and draws are those of a seed: ten seeds are in docs/learning-benchmark.md.
    assert on_the_log > 5 * demonstrator and in_the_world > 2 * demonstrator
    scratch = value(recil.reinforce(start, world, recil.ReinforceConfig(sessions=5000)))
    assert scratch < value(start), "ten times the first iteration of finetuning, and not yet where the clone begins"


@pytest.mark.parametrize("sessions", [1000, 2000])
def test_the_clone_survives_the_first_steps_with_guards_and_not_without(sessions: int) -> None:
    world, log, start, value, _ = contexts(0.9, (0.0002, 0.0102))
    assert log.reward.mean() < 0.01
    clone = value(start)
    given = recil.FinetuneConfig(sessions=sessions)
    guarded = recil.FinetuneConfig(sessions=sessions, **ROUGH)
    unguarded = recil.FinetuneConfig(sessions=sessions, **ROUGH, **UNGUARDED)
    assert value(recil.finetune(start, world, given)) > 0.95 * clone
    assert value(recil.finetune(start, world, guarded)) > 0.9 * clone
    assert value(recil.finetune(start, world, unguarded)) < 0.9 * clone


def test_from_a_clone_that_errs_one_time_in_ten_a_deep_sea_is_solved() -> None:
    """N = 14: uniform actions find the treasure in one session of 16,384, the demonstrator in .9^14 of them."""
    depth = 14
    mdp = deep_sea(depth)
    expert = torch.zeros(mdp.size, dtype=torch.float64)
    expert[:, 1] = 1.0
    demonstrator = erring(expert, 0.1)
    cost = 0.01 * 0.9
    assert float(start_value(mdp, demonstrator)) == pytest.approx(0.9**depth - cost, abs=1e-12)
    world = recil.TabularWorld(mdp, depth)
    log = recil.simulate(TabularPolicy(demonstrator), world, 200)
    start = recil.clone(log, recil.CloneConfig(width=16))
    gentle = {"sessions": 500, "sessions_per_iteration": 50, "batch": 25, "critic_warmup": 10, "trace": 1.0}
    better = recil.finetune(start, world, recil.FinetuneConfig(**gentle, discount=1.0, learning_rate=1e-2))
    hits = recil.simulate(better, world, 2000, 9).reward.sum() / 2000
    started = recil.simulate(start, world, 2000, 9).reward.sum() / 2000
    scratch = recil.reinforce(start, world, recil.ReinforceConfig(**gentle, discount=1.0, learning_rate=1e-2))
    assert hits > started + 0.1
    assert recil.simulate(scratch, world, 2000, 9).reward.sum() <= 0
