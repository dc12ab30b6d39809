"""The foil: the same gradient, the same number of simulated sessions, and no clone to start from."""

from __future__ import annotations

import pytest
import torch
from logs_for_policies import log_with_all_columns
from taste_world import TastePolicy, TasteWorld

from recil.policies.softmax import SoftmaxPolicy
from recil.train.clone import CloneConfig, clone
from recil.train.finetune import finetune
from recil.train.finetune_config import FinetuneConfig, ReinforceConfig
from recil.train.reinforce import reinforce, untrained


def architecture(world: TasteWorld, seed: int) -> tuple[SoftmaxPolicy, object]:
    demonstrator = world.demonstrator(seed, skill=2.0)
    log = world.log(demonstrator, 4000, seed)
    return clone(log, CloneConfig(width=16, epochs=6), seed), log


@pytest.mark.parametrize("seed", [1, 2])
def test_from_scratch_stays_below_the_clone_that_finetuning_leaves_behind(seed):
    # 4.5 standard errors over 8,000 paired sessions: a false alarm in 3 of a million runs.
    world = TasteWorld.sparse(seed)
    start, _ = architecture(world, seed)
    foil = world.returns(reinforce(start, world, ReinforceConfig(sessions=6000), seed))
    better = world.returns(finetune(start, world, FinetuneConfig(sessions=6000), seed))
    middle = world.returns(start)
    for higher, lower in ((middle, foil), (better, middle)):
        difference = higher - lower
        assert difference.mean() > 4.5 * difference.std() / len(difference) ** 0.5


def test_from_scratch_it_learns_where_clicks_are_not_rare():
    world = TasteWorld(10 * TasteWorld.sparse(3, tastes=2, items=20).click)
    start, _ = architecture(world, 3)
    learned = world.returns(reinforce(start, world, ReinforceConfig(sessions=10_000), 3))
    uniform = world.returns(TastePolicy(torch.zeros_like(world.click)))
    best = world.returns(world.best())
    assert learned.mean() > 0.5 * (uniform.mean() + best.mean())


def test_it_uses_nothing_of_the_policy_it_is_like_but_its_architecture():
    world = TasteWorld.sparse(4)
    start, log = architecture(world, 4)
    config = ReinforceConfig(sessions=200, sessions_per_iteration=100)
    one = reinforce(start, world, config, 5)
    two = reinforce(SoftmaxPolicy.for_log(log, start.config.encoder, seed=77), world, config, 5)
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))
    fresh = untrained(start, 5)
    assert not torch.equal(fresh.bias.weight, start.bias.weight)
    assert not torch.equal(one.bias.weight, fresh.bias.weight)


def test_a_world_without_any_click_teaches_nothing():
    world = TasteWorld(torch.zeros(3, 10, dtype=torch.float64))
    like = SoftmaxPolicy.for_log(world.log(TastePolicy(torch.zeros(3, 10, dtype=torch.float64)), 20, 0))
    returns = []
    config = ReinforceConfig(sessions=60, sessions_per_iteration=30)
    policy = reinforce(like, world, config, 1, on_metrics=lambda _, metrics: returns.append(metrics))
    assert returns == [{"reinforce/return": 0.0}] * 2
    assert torch.equal(policy.bias.weight, untrained(like, 1).bias.weight)


def test_an_untrained_policy_keeps_the_items_own_columns():
    like = SoftmaxPolicy.for_log(log_with_all_columns())
    columns, fresh = like.output.columns(), untrained(like, 3).output.columns()
    assert columns and set(columns) == set(fresh)
    assert all(torch.equal(columns[name], fresh[name]) for name in columns)
