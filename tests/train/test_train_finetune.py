"""Finetuning in a world whose best policy is known: what it gains, what it must not lose, and that it resumes."""

from __future__ import annotations

import copy
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from taste_world import TastePolicy, TasteWorld

from recil.errors import InputError
from recil.logs.history import History
from recil.random import Streams
from recil.train import policy_step
from recil.train.choice import paired_gain
from recil.train.clone import CloneConfig, clone
from recil.train.critic import Critic, give_credit, returns_after
from recil.train.finetune import finetune
from recil.train.finetune_config import FinetuneConfig
from recil.train.logged_sessions import LoggedSessions
from recil.train.policy_step import Learner, log_propensity

SESSIONS = 6000


def case(seed: int, world: TasteWorld | None = None, sessions: int = SESSIONS, epochs: int = 6):
    """A world (sparse unless given), the log of its demonstrator and the clone of the log."""
    world = world or TasteWorld.sparse(seed)
    log = world.log(world.demonstrator(seed), sessions, seed)
    return world, log, clone(log, CloneConfig(width=16, epochs=epochs), seed)


def easy_world() -> TasteWorld:
    """Few tastes, few items, many clicks."""
    world = TasteWorld.sparse(0, tastes=3, items=20, liked=3)
    return replace(world, click=4 * world.click)


@pytest.fixture(scope="module")
def small():
    """One small case for everything that is not a statistical claim."""
    return case(0, easy_world(), sessions=1200, epochs=12)


def standard_errors(world: TasteWorld, policy, other) -> float:
    """Paired difference of the two policies' true values, in its standard errors."""
    difference = world.returns(policy) - world.returns(other)
    return float(difference.mean() / (difference.std() / len(difference) ** 0.5))


def weights(policy) -> list[torch.Tensor]:
    return [value.clone() for value in policy.state_dict().values()]


def assert_same(one, other) -> None:
    assert all(torch.equal(a, b) for a, b in zip(weights(one), weights(other), strict=True))


@pytest.mark.parametrize("seed", [1, 2, 3])
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


@pytest.mark.parametrize("with_log", [False, True])
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


@pytest.mark.parametrize("from_log", [True, False])
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


def test_the_policy_learned_does_not_depend_on_the_unit_of_the_reward():
    # One-step sessions, so that the reward is credit only and never a policy's input; twice the reward is exact.
    _, log, start = case(7, replace(easy_world(), horizon=1), sessions=1200)
    config = FinetuneConfig(epochs=6, margin=0.0, batch=50)
    single = finetune(start, log, config)
    assert_same(finetune(start, replace(log, reward=2 * log.reward), config), single)
    assert not torch.equal(single.bias.weight, start.bias.weight)


def test_the_paired_gain_is_the_difference_of_two_self_normalised_means():
    draws = np.random.default_rng(3)
    weight, other, credit = draws.gamma(2.0, size=400), draws.gamma(3.0, size=400), draws.normal(size=400)

    def sums(w):
        return torch.from_numpy(np.stack([w, w * credit], -1))

    gain = paired_gain(sums(weight), sums(other), torch.from_numpy(np.log(weight)))
    value = (weight * credit).sum() / weight.sum() - (other * credit).sum() / other.sum()
    assert gain.value == pytest.approx(value, abs=1e-12)
    assert gain.ess == pytest.approx(weight.sum() ** 2 / (weight**2).sum() / 400)
    repeats = []
    for _ in range(2000):
        pick = draws.integers(0, 400, 400)
        w, o, c = weight[pick], other[pick], credit[pick]
        repeats.append((w * c).sum() / w.sum() - (o * c).sum() / o.sum())
    # The bootstrap's own relative error is 1 / sqrt(4000) = 1.6%; four of them, and 4% for the linearisation.
    assert gain.error == pytest.approx(np.std(repeats), rel=0.1)
    none = paired_gain(sums(weight), sums(weight), torch.from_numpy(np.log(weight)))
    assert (none.value, none.error) == (0.0, 0.0)


def test_returns_after_a_slate():
    reward, value = torch.tensor([[1.0, 2.0, 4.0, 0.0]]), torch.tensor([[9.0, 5.0, 7.0, 0.0]])
    torch.testing.assert_close(returns_after(reward, value, 0.5, 1.0), torch.tensor([[2.0, 2.0, 0.0, 0.0]]))
    torch.testing.assert_close(returns_after(reward, value, 0.5, 0.0), torch.tensor([[2.5, 3.5, 0.0, 0.0]]))
    half = torch.tensor([[0.5 * (2.5 + 0.5 * (2 + 0.5 * (3.5 + 2)))], [0.5 * (3.5 + 2)], [0.0], [0.0]]).T
    torch.testing.assert_close(returns_after(reward, value, 0.5, 0.5), half)


def test_propensities_are_the_logs_own_or_else_the_clones(small):
    _, log, start = small
    rows = np.arange(30)
    torch.testing.assert_close(LoggedSessions(log, start).batch(rows).propensity, log.batch(rows).propensity)
    supplied = LoggedSessions(replace(log, propensity=None), start).batch(rows)
    with torch.no_grad():
        expected = start.log_prob_of_sessions(log.batch(rows))
    torch.testing.assert_close(log_propensity(supplied), expected)
    assert not torch.allclose(supplied.propensity, log.batch(rows).propensity)


class RecordingWorld(TasteWorld):
    """Notes which sessions were acted in."""

    def rollout(self, policy, sessions, streams):
        SEEN.extend(sessions.tolist())
        return super().rollout(policy, sessions, streams)


SEEN: list[int] = []


def test_every_simulated_session_is_a_new_one_and_the_budget_is_kept(small):
    world, _, start = small
    SEEN.clear()
    finetune(start, RecordingWorld(world.click), FinetuneConfig(sessions=250, sessions_per_iteration=100))
    assert sorted(SEEN) == list(range(250))


class Expecting(torch.nn.Module):
    """A critic that expects .5 of every position and 2 of what follows."""

    def forward(self, states):
        return torch.full((*states.shape[:2], 2), 0.5), torch.full(states.shape[:2], 2.0)


def test_credit_by_hand():
    history = History(
        items=torch.tensor([[[1, 2], [3, -1], [-1, -1]]]),
        reward=torch.tensor([[[2.0, 0.0], [4.0, 0.0], [0.0, 0.0]]]),
        length=torch.tensor([2]),
        session=torch.tensor([0]),
    )
    states, config = torch.zeros(1, 4, 16), FinetuneConfig(discount=0.5, trace=0.0)
    own = give_credit(Expecting(), states, history, 2.0, config)
    # After the first slate: half of what the second, one item long, is expected to bring. After the last: nothing.
    torch.testing.assert_close(own.after, torch.tensor([[0.5 * (0.5 + 2), 0.0, 0.0]]))
    expected = torch.tensor([[[1 - 0.5 + 1.25 - 2, 0 - 0.5 + 1.25 - 2], [2 - 0.5 - 2, 0.0], [0.0, 0.0]]])
    torch.testing.assert_close(own.advantage, expected)
    slate = give_credit(Expecting(), states, history, 2.0, replace(config, credit="slate"))
    expected = torch.tensor([[[1 - 1 + 1.25 - 2, 1 - 1 + 1.25 - 2], [2 - 0.5 - 2, 0.0], [0.0, 0.0]]])
    torch.testing.assert_close(slate.advantage, expected)


def test_an_iteration_ends_once_the_policy_has_moved_far_enough(small):
    world, log, start = small

    def steps(iteration_kl: float) -> int:
        rows: list[dict] = []
        config = FinetuneConfig(sessions=400, sessions_per_iteration=200, batch=50, iteration_kl=iteration_kl)
        finetune(start, world, config, log=log, on_metrics=lambda _, metrics: rows.append(metrics))
        assert any("finetune/log_objective" in row for row in rows)
        return sum("finetune/objective" in row for row in rows)

    # Two iterations of three passes of four batches; the first step acts with the policy that acted, at KL 0.
    assert steps(9.0) == 24
    assert steps(1e-6) == 4


def test_the_critic_reads_states_without_gradient_and_learns_the_mean(small):
    world, log, start = small
    config = FinetuneConfig(critic_width=8)
    learner = Learner.of("finetune", copy.deepcopy(start), start, config, 0.0, world.slate_size, Streams(0))
    sessions = LoggedSessions(replace(log, propensity=None), start)
    learner.scale = sessions.scale()
    history = sessions.batch(np.arange(log.sessions))
    for _ in range(200):
        learner.warm_up(history)
    assert_same(learner.policy, start)
    with torch.no_grad():
        own, _ = learner.critic(start.encode(history)[:, :-1])
    # Rewards are counted in the mean reward of an item shown: on average the critic expects 1.
    assert float(own[history.shown].mean()) == pytest.approx(1.0, abs=0.15)
    states = torch.ones(2, 3, 16, requires_grad=True)
    own, after = Critic(16, 3, 8, torch.Generator().manual_seed(0))(states)
    assert not torch.autograd.grad(own.sum() + after.sum(), states, allow_unused=True)[0]


def test_logits_in_blocks_give_the_same_scores_and_gradient(small, monkeypatch):
    _, log, start = small
    history, policy = log.batch(np.arange(40)), copy.deepcopy(start)
    with torch.no_grad():
        policy.bias.weight += torch.linspace(-1, 1, policy.catalogue)[:, None]

    def gradient():
        policy.zero_grad()
        scores = policy_step.score(policy, start, policy.encode(history), history)
        (scores.log_prob.sum() + scores.kl + scores.entropy).backward()
        return scores, [weight.grad.clone() for weight in policy.parameters()]

    whole, whole_gradient = gradient()
    torch.testing.assert_close(whole.log_prob, policy.log_prob_of_sessions(history))
    monkeypatch.setattr(policy_step, "LOGITS_AT_ONCE", 7 * policy.catalogue)
    parts, parts_gradient = gradient()
    for one, other in zip(
        [*vars(whole).values(), *whole_gradient], [*vars(parts).values(), *parts_gradient], strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_a_policy_that_acted_has_ratios_of_one(small):
    world, _, start = small
    with torch.no_grad():
        history = world.rollout(start, torch.arange(50), Streams(1))
        log_prob = start.log_prob_of_sessions(history)
    torch.testing.assert_close(log_prob, log_propensity(history), rtol=1e-4, atol=1e-4)


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
