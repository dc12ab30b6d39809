"""Finetuning in a world whose best policy is known: what it gains, what it must not lose, and that it resumes."""

from __future__ import annotations

import copy
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from finetune_case import SESSIONS, assert_same, case, easy_world, small_case, standard_errors
from safetensors.torch import load_file
from taste_world import TastePolicy, TasteWorld

from recil.errors import InputError
from recil.train.clone import CloneConfig, clone
from recil.train.finetune import finetune
from recil.train.finetune_config import FinetuneConfig
from recil.train.policy_step import Learner


@pytest.fixture(scope="module")
def small():
    return small_case()


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (2, 3))])
def test_from_the_log_alone_it_beats_the_clone_and_the_demonstrator(seed):
    # 4.5 standard errors over 8,000 paired sessions: a false alarm in 3 of a million runs, per seed and comparison.
    world, log, start = case(seed)
    better = finetune(start, log, seed=seed)
    assert log.reward.sum() / log.impressions < 0.012
    assert standard_errors(world, better, start) > 4.5
    assert standard_errors(world, better, world.demonstrator(seed)) > 4.5


def test_a_log_without_propensities_has_those_of_the_clone():
    world, log, start = case(4)
    better = finetune(start, replace(log, propensity=None), seed=4)
    assert standard_errors(world, better, start) > 4.5


@pytest.mark.parametrize("with_log", [pytest.param(False, marks=pytest.mark.slow), True])
def test_in_the_world_it_beats_the_clone(with_log):
    world, log, start = case(5)
    returns = []
    better = finetune(
        start,
        world,
        FinetuneConfig(sessions=8000),
        seed=5,
        log=log if with_log else None,
        on_metrics=lambda step, metrics: returns.append(metrics.get("finetune/return")),
    )
    assert standard_errors(world, better, start) > 4.5
    # No collapse on the way: no iteration's return is 4.5 standard errors below the clone's.
    clone_returns = world.returns(start)
    lowest = clone_returns.mean() - 4.5 * clone_returns.std() / 500**0.5
    assert min(value for value in returns if value is not None) > lowest


@pytest.mark.parametrize("from_log", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_it_stays_with_a_demonstrator_that_is_already_best(from_log):
    world = TasteWorld.sparse(6)
    log = world.log(TastePolicy(8.0 * (world.click > 0.01)), SESSIONS, 6)
    start = clone(log, CloneConfig(width=16, epochs=12), 6)
    returns = world.returns(start)
    assert returns.mean() > 0.95 * world.returns(world.best()).mean()
    same = finetune(start, log if from_log else world, FinetuneConfig(sessions=4000), seed=6)
    # Noise is what a log of this size leaves of uncertainty about the demonstrator's own value.
    noise = returns.std() / SESSIONS**0.5
    assert (world.returns(same) - returns).mean() > -4 * noise


def test_the_clone_is_kept_where_no_policy_is_clearly_better(small):
    _, log, start = small
    metrics = []
    kept = finetune(start, log, FinetuneConfig(margin=1e6, epochs=3), on_metrics=lambda _, m: metrics.append(m))
    assert_same(kept, start)
    assert [m["finetune/chosen_epoch"] for m in metrics if "finetune/chosen_epoch" in m] == [-1, -1, -1]


def test_a_handful_of_clicks_is_not_enough_to_leave_the_clone(small):
    _, log, start = small
    few = np.zeros_like(log.reward)
    clicked = np.argwhere(log.reward > 0)[:20]
    few[tuple(clicked.T)] = 1.0
    rows = []
    kept = finetune(
        start, replace(log, reward=few), FinetuneConfig(margin=0.0, epochs=2), on_metrics=lambda _, m: rows.append(m)
    )
    assert 0 < rows[-1]["finetune/held_out_rewarded"] < 10
    assert_same(kept, start)


def test_too_little_overlap_stops_the_run(small):
    _, log, start = small
    shares = []

    def collect(_, metrics):
        shares.extend(value for name, value in metrics.items() if name == "finetune/held_out_ess")

    finetune(
        start,
        log,
        FinetuneConfig(kl=0.0, overlap=0.5, patience=99, epochs=40, batch=50),
        on_metrics=collect,
    )
    assert len(shares) < 40
    assert shares[-1] < 0.5 <= min(shares[:-1])


def test_every_diagnostic_is_reported_and_the_given_policy_is_left_alone(small):
    world, log, start = small
    before = copy.deepcopy(start)
    seen: dict[str, float] = {}
    finetune(start, log, FinetuneConfig(epochs=2), on_metrics=lambda _, metrics: seen.update(metrics))
    finetune(start, world, FinetuneConfig(sessions=500), on_metrics=lambda _, metrics: seen.update(metrics))
    wanted = "objective ess capped_share mean_weight kl_clone entropy return critic_loss held_out_gain"
    assert {f"finetune/{name}" for name in wanted.split()} <= set(seen)
    assert np.isfinite(list(seen.values())).all()
    assert_same(start, before)


def test_same_seed_same_policy_and_another_seed_another(small):
    _, log, start = small
    config = FinetuneConfig(epochs=2, margin=0.0, batch=50)
    one, two, other = (finetune(start, log, config, seed=seed) for seed in (1, 1, 2))
    assert_same(one, two)
    assert not torch.equal(one.bias.weight, other.bias.weight)


class Stopped(Exception):
    """Stands for whatever ends a process."""


@pytest.mark.parametrize("in_world", [False, True])
def test_interrupted_and_resumed_is_straight_through(small, tmp_path, in_world):
    world, log, start = small
    source = world if in_world else log
    config = FinetuneConfig(epochs=4, margin=0.0, batch=100, sessions=1000, sessions_per_iteration=250)
    straight: list[tuple[int, dict]] = []
    whole = finetune(start, source, config, 3, on_metrics=lambda *row: straight.append(row))

    before: list[tuple[int, dict]] = []

    def stop_halfway(*row):
        before.append(row)
        if len(before) == len(straight) // 2:
            raise Stopped

    path = tmp_path / "run.safetensors"
    with pytest.raises(Stopped):
        finetune(start, source, config, 3, on_metrics=stop_halfway, checkpoint=path)
    after: list[tuple[int, dict]] = []
    resumed = finetune(start, source, config, 3, on_metrics=lambda *row: after.append(row), checkpoint=path)
    assert_same(resumed, whole)
    assert 0 < len(after) < len(straight)
    assert straight[-len(after) :] == after
    assert_same(finetune(start, source, config, 3, checkpoint=path), whole)
    with pytest.raises(InputError, match="other settings"):
        finetune(start, source, replace(config, kl=9.0), 3, checkpoint=path)


def test_guards_hold(small):
    _, log, start = small

    def last(**settings) -> dict[str, float]:
        rows: list[dict] = []
        config = FinetuneConfig(epochs=12, overlap=0.0, patience=99, batch=50, learning_rate=1e-2, **settings)
        finetune(start, log, config, on_metrics=lambda _, metrics: rows.append(metrics))
        return [row for row in rows if "finetune/kl_clone" in row]

    free, near, spread = (
        last(kl=0.0, entropy_floor=0.0),
        last(kl=100.0, entropy_floor=0.0),
        last(kl=0.0, entropy_floor=0.9),
    )
    assert near[-1]["finetune/kl_clone"] < 0.05 < 0.5 < free[-1]["finetune/kl_clone"]
    floor = 0.9 * spread[0]["finetune/entropy"]
    assert free[-1]["finetune/entropy"] < 0.8 * floor
    # Where reward pulls below the floor, the policy comes to lie on it: batches a little above and below.
    second_half = [row["finetune/entropy"] for row in spread[len(spread) // 2 :]]
    assert any(row["finetune/below_entropy_floor"] for row in spread)
    assert np.mean(second_half) == pytest.approx(floor, rel=0.03)


def test_numbers_stay_finite_where_nothing_holds_a_policy_back(small):
    """Steps thirty times too long make one item as good as certain, and what is left for a second one rounds to 0."""
    world, _, start = small
    free = {"kl": 0.0, "cap": 1e9, "entropy_floor": 0.0, "critic_warmup": 0, "iteration_kl": 1e9, "gradient_norm": 1e9}
    config = FinetuneConfig(sessions=1600, batch=25, learning_rate=0.1, **free)
    policy = finetune(start, world, config, seed=1)
    assert all(value.isfinite().all() for value in policy.state_dict().values())
    assert not np.array_equal(world.returns(policy), world.returns(start))


def test_a_run_that_diverges_names_its_last_good_checkpoint(small, tmp_path, monkeypatch):
    """Weights broken long after the first iteration, in a run that keeps a checkpoint and in one that does not."""
    world, _, start = small
    config = FinetuneConfig(sessions=1000, sessions_per_iteration=50, batch=50, critic_warmup=1)
    improve = Learner.improve

    def broken(learner, sessions):
        if learner.step == 20:
            with torch.no_grad():
                learner.policy.bias.weight += torch.nan
        return improve(learner, sessions)

    monkeypatch.setattr(Learner, "improve", broken)
    path = tmp_path / "run"
    with pytest.raises(InputError, match=rf"finetune step 20: .* sessions .*; the last good checkpoint is {path} -> "):
        finetune(start, world, config, checkpoint=path)
    kept = load_file(path)
    assert all(value.isfinite().all() for value in kept.values())
    with pytest.raises(InputError, match="finetune step 20") as caught:
        finetune(start, world, config)
    assert "checkpoint" not in str(caught.value)


def test_the_policy_learned_does_not_depend_on_the_unit_of_the_reward():
    # One-step sessions, so that the reward is credit only and never a policy's input; twice the reward is exact.
    _, log, start = case(7, replace(easy_world(), horizon=1), sessions=1200)
    config = FinetuneConfig(epochs=6, margin=0.0, batch=50)
    single = finetune(start, log, config)
    assert_same(finetune(start, replace(log, reward=2 * log.reward), config), single)
    assert not torch.equal(single.bias.weight, start.bias.weight)


class BrokenWorld(TasteWorld):
    """Rewards that are not numbers from the second iteration on."""

    def rollout(self, policy, sessions, streams):
        history = super().rollout(policy, sessions, streams)
        return replace(history, reward=history.reward * torch.nan) if sessions[0] >= 100 else history


def test_bad_input_is_one_message_that_names_place_and_remedy(small):
    world, log, start = small
    with pytest.raises(InputError, match=r"none of the .* has a reward"):
        finetune(start, replace(log, reward=0 * log.reward))
    with pytest.raises(InputError, match="not finite"):
        finetune(start, replace(log, reward=log.reward * np.nan))
    with pytest.raises(InputError, match="1 session,"):
        finetune(start, world.log(world.best(), 1, 0))
    with pytest.raises(InputError, match="two logs"):
        finetune(start, log, log=log)
    larger = TasteWorld.sparse(0, items=101)
    with pytest.raises(InputError, match="101 items"):
        finetune(start, larger)
    with pytest.raises(InputError, match="101 items"):
        finetune(start, larger.log(larger.best(), 5, 0))
    with pytest.raises(InputError, match="slates"):
        finetune(start, replace(world, slate_size=2), log=log)
    broken = BrokenWorld(world.click)
    with pytest.raises(InputError, match=r"finetune step \d+: the policy's loss is nan.* sessions 1\d\d, 1\d\d"):
        finetune(start, broken, FinetuneConfig(sessions=300, sessions_per_iteration=100))


@pytest.mark.parametrize(
    ("field", "value"),
    [("cap", 0.0), ("kl", -1.0), ("credit", "all"), ("held_out", 1.0), ("discount", float("nan")), ("batch", 0)],
)
def test_a_setting_that_cannot_be_is_named(field, value):
    with pytest.raises(InputError, match=f"FinetuneConfig {field}"):
        FinetuneConfig(**{field: value})


def test_the_settings_load_no_torch():
    check = "import sys, recil.train.finetune_config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
