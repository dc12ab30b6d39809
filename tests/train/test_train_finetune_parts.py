"""The parts of finetuning: credit, weights, what is reported, and what a batch counts."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from finetune_case import assert_same, small_case
from taste_world import TasteWorld

from recil.logs.history import History
from recil.ops import one_pass, policy_gradient
from recil.random import Streams
from recil.train import policy_loss as policy_loss_module
from recil.train import turns as turns_module
from recil.train.choice import paired_gain
from recil.train.critic import Critic, give_credit, returns_after
from recil.train.finetune import finetune
from recil.train.finetune_config import FinetuneConfig
from recil.train.logged_sessions import LoggedSessions
from recil.train.policy_loss import Credited, log_propensity, policy_loss
from recil.train.policy_step import Learner


@pytest.fixture(scope="module")
def small():
    return small_case()


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


def test_logits_in_blocks_give_the_same_loss_and_gradient(small, monkeypatch):
    _, log, start = small
    history, policy = log.batch(np.arange(40)), copy.deepcopy(start)
    with torch.no_grad():
        policy.bias.weight += torch.linspace(-1, 1, policy.catalogue)[:, None]
    credited = Credited(
        log_propensity(history),
        history.reward - 0.1,
        lambda one, other: policy_gradient.per_step_weight(one, other, 3.0),
    )

    def gradient(floor):
        policy.zero_grad()
        found = policy_loss(policy, start, policy.encode(history), history, credited, 0.5, floor)
        found.loss.backward()
        return found, [weight.grad.clone() for weight in policy.parameters()]

    for floor in (0.0, 10.0):
        monkeypatch.undo()
        whole, whole_gradient = gradient(floor)
        assert whole.below == (floor > 0)
        torch.testing.assert_close(whole.log_prob, policy.log_prob_of_sessions(history).detach())
        monkeypatch.setattr(one_pass, "LOGITS_AT_ONCE", 7 * policy.catalogue)
        parts, parts_gradient = gradient(floor)
        names = ("loss", "log_prob", "entropy", "kl", "reference_entropy")
        tensors = [[vars(found)[name] for name in names] for found in (whole, parts)]
        for one, other in zip([*tensors[0], *whole_gradient], [*tensors[1], *parts_gradient], strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_a_reference_seen_by_turns_gives_the_same_gradient_on_average(small, monkeypatch):
    """Weighted with the steps of each turn's sessions; the slates' own part is that of all sessions in every turn."""
    _, log, start = small
    history, policy = log.batch(np.arange(40)), copy.deepcopy(start)
    with torch.no_grad():
        policy.bias.weight += torch.linspace(-1, 1, policy.catalogue)[:, None]
    weigh = partial(policy_gradient.per_step_weight, cap=3.0)
    credited = Credited(log_propensity(history), history.reward - 0.1, weigh)
    count = int((history.happened & history.shown.any(-1)).sum())

    def gradient(turn, floor):
        policy.zero_grad()
        found = policy_loss(policy, start, policy.encode(history), history, credited, 0.5, floor, turn)
        found.loss.backward()
        return [found.loss.detach(), found.kl, found.log_prob, *(weight.grad.clone() for weight in policy.parameters())]

    for floor in (0.0, 10.0):
        monkeypatch.undo()
        whole = gradient(0, floor)
        monkeypatch.setattr(policy_loss_module, "REFERENCE_LOGITS", count * policy.catalogue // 4 + policy.catalogue)
        monkeypatch.setattr(turns_module, "FEWEST_STEPS", 1)
        turns = [gradient(turn, floor) for turn in range(4)]
        assert not torch.allclose(turns[0][1], turns[1][1])
        torch.testing.assert_close(gradient(4, floor), turns[0])
        steps = [int((history.happened & history.shown.any(-1))[turn::4].sum()) for turn in range(4)]
        for place, one in enumerate(whole):
            mean = sum(found[place] * share / count for found, share in zip(turns, steps, strict=True))
            torch.testing.assert_close(mean, one, rtol=1e-4, atol=1e-5)


def test_no_sessions_weigh_more_for_standing_in_a_batch_of_their_like(small):
    """Batches hold sessions of similar length: the sum of their gradients is that of the whole log, not of means."""
    _, log, start = small
    cut = np.where(np.arange(log.sessions) % 2 == 0, 1, log.lengths)
    rows = np.concatenate([np.arange(log.offsets[s], log.offsets[s] + n) for s, n in enumerate(cut)])
    few = replace(
        log, items=log.items[rows], reward=log.reward[rows], propensity=log.propensity[rows],
        offsets=np.concatenate([[0], np.cumsum(cut)]), timestamp=None, feedback={}, context={}, terminated=None,
    )  # fmt: skip
    sessions = LoggedSessions(few, start)
    learner = Learner.of("finetune", copy.deepcopy(start), start, FinetuneConfig(), 0.0, 1, Streams(0))
    learner.items = few.impressions / few.sessions
    short, long = np.arange(0, 40, 2), np.arange(1, 40, 2)
    shares = [learner._share(sessions.batch(part)) for part in (short, long)]
    assert shares[1] / shares[0] == pytest.approx(few.lengths[long].mean())
    assert learner._share(sessions.batch(np.arange(few.sessions))) == pytest.approx(1.0)


def test_a_policy_that_acted_has_ratios_of_one(small):
    world, _, start = small
    with torch.no_grad():
        history = world.rollout(start, torch.arange(50), Streams(1))
        log_prob = start.log_prob_of_sessions(history)
    torch.testing.assert_close(log_prob, log_propensity(history), rtol=1e-4, atol=1e-4)
