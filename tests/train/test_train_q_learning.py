"""Q-learning on encoded histories: exact values where they are known, the policy it makes, and that it resumes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from logs_for_policies import log_with_all_columns
from torch import Tensor

from recil.errors import InputError
from recil.evaluate.simulate import simulate, simulated_value
from recil.logs.history import History
from recil.policies.encoders import EncoderConfig
from recil.policies.softmax import SoftmaxConfig, SoftmaxPolicy
from recil.random import Streams
from recil.train.q_learning import fit_values, q_learning
from recil.train.q_learning_config import QLearningConfig
from recil.train.q_learning_network import QNetwork, best_worth, losses


@dataclass(frozen=True)
class LastItemWorld:
    """What an item brings depends on the item before it; users leave after a slate with chance `leave`. Slates of one.

    reward: [A + 1, A], rows by the last item, the last row for the first step.
    """

    reward: Tensor
    leave: float = 0.3
    horizon: int = 30
    slate_size = 1

    @staticmethod
    def with_a_detour() -> LastItemWorld:
        """Item 0 brings .3 now and nothing later; item 1 nothing now, but after it item 2 brings 2."""
        reward = torch.zeros(5, 4)
        reward[:, 0] = 0.3
        reward[1, 2] = 2.0
        return LastItemWorld(reward)

    @property
    def catalogue(self) -> int:
        return self.reward.shape[1]

    def rollout(self, policy, sessions: Tensor, streams: Streams) -> History:
        history, last = History.start(sessions, 1), torch.full_like(sessions, self.catalogue)
        here = torch.ones_like(sessions, dtype=torch.bool)
        for step in range(self.horizon):
            slate = policy.sample(history, 1, streams)
            item = slate.items[:, 0]
            items = torch.where(here[:, None], slate.items, -1)
            paid = torch.where(here, self.reward[last, item], 0.0)[:, None]
            history = history.append(items, paid, torch.where(here[:, None], slate.log_prob.exp(), 1.0))
            here = here & (streams.uniform("leave", sessions, step)[:, 0] >= self.leave)
            last = item
        return replace(history, terminated=~here)

    def best_values(self, discount: float) -> Tensor:
        """[A + 1, A]: the solution of Q = r + discount * stay * max Q, by iteration to the last bit."""
        values = torch.zeros(self.reward.shape, dtype=torch.float64)
        for _ in range(200):
            values = self.reward.double() + discount * (1 - self.leave) * values[:-1].amax(1)
        return values


WORLD = LastItemWorld.with_a_detour()
UNIFORM = SoftmaxPolicy(SoftmaxConfig(4), seed=0).eval()
SMALL = QLearningConfig(width=16, epochs=45, batch=64, learning_rate=1e-2, weight_decay=0.0, target_every=20)


@pytest.fixture(scope="module")
def detour_log():
    return simulate(UNIFORM, WORLD, 800, seed=1)


@pytest.fixture(scope="module")
def detour_network(detour_log):
    return fit_values(detour_log, SMALL, 1)


def values_of_a_table(log, discount: float) -> Tensor:
    """[A + 1, A]: what Q-learning with a table of (last item, item) settles at on this log, in double precision."""
    history = log.batch()
    item, happened = history.items[..., 0].clamp(min=0), history.happened
    last = torch.cat([torch.full((history.batch, 1), log.catalogue), item[:, :-1]], 1)
    follows = torch.nn.functional.pad(happened[:, 1:], (0, 1))
    cell = (last * log.catalogue + item)[happened]
    count = torch.bincount(cell, minlength=(log.catalogue + 1) * log.catalogue)
    values = torch.zeros(log.catalogue + 1, log.catalogue, dtype=torch.float64)
    for _ in range(100):
        goal = history.reward[..., 0].double() + discount * torch.where(follows, values.amax(1)[item], 0.0)
        values = (torch.bincount(cell, goal[happened], len(count)) / count).reshape(values.shape)
    return values


def after(item: int | None) -> History:
    """A session of one step with this item, as the world pays it at the start; or an empty one."""
    history = History.start(torch.zeros(1, dtype=torch.int64), 1)
    return history if item is None else history.append(torch.tensor([[item]]), WORLD.reward[4, item].reshape(1, 1))


def test_values_are_those_of_a_table_on_the_same_log(detour_log, detour_network):
    """And the table's are those of the exact solution, up to what 800 sessions leave open."""
    table, exact = values_of_a_table(detour_log, 0.9), WORLD.best_values(0.9)
    found = torch.cat([detour_network.next_values(after(item)) for item in (0, 1, 2, 3, None)]).double()
    assert float((table - exact).abs().mean()) < 0.25
    assert float(exact[:-1].max() - exact[:-1].min()) == pytest.approx(2.0, abs=0.01)
    assert float((found - table)[:-1].abs().mean()) < 0.15
    assert torch.equal(found[:-1].argmax(1), exact[:-1].argmax(1))
    assert found[-1].argmax() == 1


def test_it_finds_the_detour_that_a_clone_and_a_short_sighted_policy_miss(detour_log, detour_network):
    far = detour_network.policy(0.05)
    near = q_learning(detour_log, replace(SMALL, epochs=10, temperature=0.05, discount=0.0), 1)
    value = {
        name: simulated_value(policy, WORLD, 2000).value
        for name, policy in (("far", far), ("near", near), ("clone", detour_network.clone))
    }
    assert value["far"] > 0.9 * float(WORLD.best_values(1.0)[4].max())
    assert value["far"] > 1.3 * max(value["near"], value["clone"])


def test_with_a_transformer_it_prefers_the_detour_too(detour_log):
    network = fit_values(detour_log, replace(SMALL, encoder="transformer", epochs=10, learning_rate=4e-3), 1)
    assert [int(network.next_values(after(item)).argmax()) for item in (None, 0, 1, 3)] == [1, 1, 2, 1]


def test_the_temperature_goes_from_greedy_to_the_clone(detour_log, detour_network):
    network = detour_network
    history = detour_log.batch(np.arange(50))
    with torch.no_grad():
        state = network.clone.encoder.last(history)
        for temperature in (0.2, 3.0):
            wanted = network.clone.logits(state) + network.scale * network.values(state) / temperature
            torch.testing.assert_close(network.policy(temperature).next_logits(history), wanted, rtol=1e-4, atol=1e-4)
        gap = (network.policy(1e6).next_logits(history) - network.clone.logits(state)).abs().max()
    assert float(gap) < 1e-4


def test_columns_and_slates_of_several_items(tmp_path):
    """All columns, pads in slates, item features in the clone's head; the policy is stored like any other."""
    from recil.policies.storage import load

    log = log_with_all_columns(80)
    rows: list = []
    policy = q_learning(log, QLearningConfig(width=8, epochs=4, batch=20), on_metrics=lambda *row: rows.append(row))
    assert [step for step, _ in rows] == [4, 8, 12, 16]
    assert rows[-1][1]["q_learning/nll"] < rows[0][1]["q_learning/nll"]
    policy.save(tmp_path / "policy")
    loaded, history = load(tmp_path / "policy"), log.batch()
    with torch.no_grad():
        assert torch.equal(loaded.next_logits(history), policy.next_logits(history))


def network_of(values: list[float], logits: list[float], scale: float = 1.0) -> QNetwork:
    """Values and logits that are the same in every state."""
    network = QNetwork(SoftmaxPolicy(SoftmaxConfig(len(values), EncoderConfig(width=2))), scale, 0)
    with torch.no_grad():
        network.value.weight.zero_()
        network.clone.output.own.weight.zero_()
        network.offset.weight[:, 0] = torch.tensor(values)
        network.clone.bias.weight[:, 0] = torch.tensor(logits)
    return network


def test_the_network_picks_among_what_is_supported_and_the_target_values_it():
    network = network_of([1.0, 5.0, 3.0, 9.0], [0.0, 0.0, 0.0, -3.0])
    target = network_of([10.0, 20.0, 40.0, 80.0], [0.0] * 4)
    states = torch.zeros(4, 2)

    def worth(count: list[int], support: float) -> list[float]:
        return best_worth(
            network, target, states[: len(count)], states[: len(count)], torch.tensor(count), support
        ).tolist()

    # Item 3, the best, is e^-3 = .05 as probable as the most probable ones.
    assert worth([1, 2, 3, 4], 0.1) == [20, 60, 70, 150]
    assert worth([1, 2, 3, 4], 0.01) == [80, 100, 140, 150]
    assert worth([1, 2, 3, 4], 0.0) == worth([1, 2, 3, 4], 0.01)
    assert worth([0], 0.1) == [0]


def test_targets_by_hand():
    """Own reward, and an equal part of what the next slate is worth; nothing after the last step, nothing from pads."""
    network = network_of([1.0, 2.0, 3.0, 4.0], [0.0] * 4, scale=0.5)
    target = network_of([10.0, 20.0, 30.0, 40.0], [0.0] * 4, scale=0.5)
    sessions = History(
        items=torch.tensor([[[0, 1], [2, -1], [3, 0]], [[1, -1], [-1, -1], [-1, -1]]]),
        reward=torch.tensor([[[1.0, 0.0], [0.5, 0.0], [0.0, 1.0]], [[0.5, 0.0], [9.0, 9.0], [0.0, 0.0]]]),
        length=torch.tensor([3, 1]),
        session=torch.arange(2),
    )
    with torch.no_grad():
        found = losses(network, target, sessions, 0.5, 0.1)
    # After the first slate (2 items) one item is shown: worth 40. After the second (1 item) two are: worth 70.
    goals = [(1.0, 2 + 0.5 * 40 / 2), (2.0, 0 + 0.5 * 40 / 2), (3.0, 1 + 0.5 * 70), (4.0, 0.0), (1.0, 2.0), (2.0, 1.0)]
    assert found.items == 6
    assert float(found.error) == pytest.approx(sum((value - goal) ** 2 for value, goal in goals))
    assert float(found.nll) == pytest.approx(4 * np.log(4) + 2 * np.log(3), rel=1e-5)


def test_values_learn_from_a_target_that_stands_still():
    """A network is never its own target between the updates: gradients of values do not reach the target."""
    network, target = (network_of([1.0, 2.0], [0.0, 0.0]) for _ in range(2))
    target.requires_grad_(False)
    sessions = History(torch.tensor([[[0], [1]]]), torch.ones(1, 2, 1), torch.tensor([2]), torch.tensor([0]))
    found = losses(network, target, sessions, 0.9, 0.1)
    (gradient,) = torch.autograd.grad(found.error, network.offset.weight)
    # d/dv (v0 - 1 - .9 * 2)^2 and (v1 - 1)^2; the chosen item's own value in the goal is a constant.
    torch.testing.assert_close(gradient[:, 0], torch.tensor([2 * (1 - 2.8), 2 * (2 - 1.0)]))


class Stopped(Exception):
    """Stands for whatever ends a process."""


@pytest.mark.parametrize("stop", [1, 3])
def test_interrupted_and_resumed_is_straight_through(tmp_path, stop):
    log, path = log_with_all_columns(60), tmp_path / "run"
    config = QLearningConfig(width=8, epochs=5, batch=20, target_every=4)
    straight: list = []
    whole = q_learning(log, config, 3, on_metrics=lambda *row: straight.append(row))
    seen: list = []

    def stop_there(*row):
        seen.append(row)
        if len(seen) == stop:
            raise Stopped

    with pytest.raises(Stopped):
        q_learning(log, config, 3, on_metrics=stop_there, checkpoint=path)
    after_it: list = []
    resumed = q_learning(log, config, 3, on_metrics=lambda *row: after_it.append(row), checkpoint=path)
    pairs = zip(resumed.state_dict().values(), whole.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert straight[-len(after_it) :] == after_it
    assert len(after_it) == 5 - (stop - 1)
    q_learning(log, replace(config, temperature=2.0), 3, checkpoint=path)
    with pytest.raises(InputError, match="other settings"):
        q_learning(log, replace(config, support=0.2), 3, checkpoint=path)


def test_same_seed_same_policy_and_another_seed_another():
    log, config = log_with_all_columns(40), QLearningConfig(width=8, epochs=1, batch=20)
    one, two, other = (q_learning(log, config, seed) for seed in (1, 1, 2))
    assert torch.equal(one.output.own.weight, two.output.own.weight)
    assert not torch.equal(one.output.own.weight, other.output.own.weight)


def test_bad_input_is_one_message_that_names_place_and_remedy():
    log = log_with_all_columns(20)
    with pytest.raises(InputError, match=r"none of the .* has a reward: .* or clone the log"):
        q_learning(replace(log, reward=0 * log.reward))
    with pytest.raises(InputError, match="not finite"):
        q_learning(replace(log, reward=log.reward * np.nan))
    with pytest.raises(InputError, match=r"1 slates hold an item twice"):
        items = log.items.copy()
        items[0, 1] = items[0, 0]
        q_learning(replace(log, items=items))
    with pytest.raises(InputError, match=r"q_learning step 0: the loss is inf, .* sessions 1"):
        q_learning(log, QLearningConfig(value_weight=float("inf")))
    for name, value in (("support", 1.1), ("temperature", 0.0), ("epochs", 0), ("discount", -0.1)):
        with pytest.raises(InputError, match=f"QLearningConfig {name}"):
            QLearningConfig(**{name: value})
