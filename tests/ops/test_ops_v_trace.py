"""V-trace against every session of a small world."""

from __future__ import annotations

import pytest
import torch
from random_mdps import layered_mdp, random_logits
from torch import Tensor

from recil.errors import InputError
from recil.exact import solve
from recil.exact.enumerate import enumerate_sessions
from recil.exact.episodes import Episodes, episodes_of
from recil.exact.policy import TabularPolicy
from recil.exact.world import TabularWorld
from recil.ops.v_trace import VTrace, v_trace
from recil.train.values import discounts_of

CLOSE = {"rtol": 0, "atol": 1e-10}
LAYERS, WIDTH, ACTIONS = 3, 2, 2


class Listed:
    """A world of three layers, two policies, and every session of the one that acts."""

    def __init__(self) -> None:
        self.mdp = layered_mdp(0, LAYERS, WIDTH, ACTIONS)
        size = len(self.mdp.states)
        self.behaviour, self.target = (random_logits(self.mdp, seed).softmax(-1) for seed in (1, 2))
        every = enumerate_sessions(TabularWorld(self.mdp, LAYERS), TabularPolicy(self.behaviour))
        self.probability = every.probability
        self.episodes: Episodes = episodes_of(every.sessions, size, ACTIONS)
        self.state, self.action = self.episodes.state[0], self.episodes.action[0]

    def trace(self, values: Tensor, **caps: float | None) -> VTrace:
        place = self.state[:, :-1], self.action
        log_ratio = self.target.log()[place] - self.behaviour.log()[place]
        discount = discounts_of(self.episodes, self.mdp.gamma)[0]
        return v_trace(log_ratio, self.episodes.reward[0], discount, values[self.state], **caps)

    def mean_by_state(self, per_step: Tensor) -> Tensor:
        """Expectation of a number per step given its state, [S - 1]."""
        weight = self.probability[:, None].expand_as(per_step)
        code = self.state[:, :-1]
        total = torch.zeros(len(self.mdp.states), dtype=torch.float64).index_put((code,), weight * per_step, True)
        count = torch.zeros_like(total).index_put((code,), weight, True)
        return (total / count)[:-1]


@pytest.fixture(scope="module")
def listed() -> Listed:
    return Listed()


def some_values(listed: Listed) -> Tensor:
    values = torch.linspace(-2, 3, len(listed.mdp.states), dtype=torch.float64)
    values[-1] = 0
    return values


def test_sessions_are_all_there(listed):
    assert len(listed.probability) == WIDTH * (ACTIONS * WIDTH) ** (LAYERS - 1) * ACTIONS
    assert float(listed.probability.sum()) == pytest.approx(1.0, abs=1e-12)


def test_without_caps_the_target_is_unbiased_whatever_the_values_are(listed):
    truth = solve.state_values(listed.mdp, listed.target)
    for values in (torch.zeros_like(truth), some_values(listed), truth):
        found = listed.trace(values, rho_cap=None, c_cap=None)
        torch.testing.assert_close(listed.mean_by_state(found.target), truth[:-1], **CLOSE)


@pytest.mark.parametrize(("c_cap", "trace"), [(1.0, 1.0), (0.5, 1.0), (1.0, 0.6), (1.0, 0.0)])
@pytest.mark.parametrize("rho_cap", [0.7, 1.0, 1.3])
def test_with_caps_the_fixed_point_is_the_value_of_the_capped_policy(listed, rho_cap, c_cap, trace):
    assert float((listed.target / listed.behaviour).max()) > rho_cap
    kept = torch.minimum(rho_cap * listed.behaviour, listed.target)
    values = solve.state_values(listed.mdp, kept / kept.sum(-1, keepdim=True))
    found = listed.trace(values, rho_cap=rho_cap, c_cap=c_cap, trace=trace)
    torch.testing.assert_close(listed.mean_by_state(found.target), values[:-1], **CLOSE)
    assert float((found.target - values[listed.state[:, :-1]]).abs().max()) > 0.1
    other = solve.state_values(listed.mdp, listed.target)
    moved = listed.mean_by_state(listed.trace(other, rho_cap=rho_cap, c_cap=c_cap, trace=trace).target)
    assert float((moved - other[:-1]).abs().max()) > 1e-3


def test_a_smaller_trace_cap_does_not_move_the_fixed_point_without_ratio_cap(listed):
    truth = solve.state_values(listed.mdp, listed.target)
    found = listed.trace(truth, rho_cap=None, c_cap=0.5, trace=0.7)
    torch.testing.assert_close(listed.mean_by_state(found.target), truth[:-1], **CLOSE)


def test_the_advantage_is_the_ratio_times_the_actions_advantage(listed):
    truth = solve.state_values(listed.mdp, listed.target)
    q = solve.action_values(listed.mdp, listed.target)
    found = listed.trace(truth, rho_cap=None, c_cap=None)
    for action in range(ACTIONS):
        taken = (listed.action == action).double() / listed.behaviour[:, action][listed.state[:, :-1]]
        wanted = (listed.target / listed.behaviour)[:, action] * (q[:, action] - truth)
        torch.testing.assert_close(listed.mean_by_state(taken * found.advantage), wanted[:-1], **CLOSE)


def test_one_step_ahead_when_the_trace_is_cut(listed):
    values = some_values(listed)
    found = listed.trace(values, rho_cap=1.0, c_cap=1.0, trace=0.0)
    place = listed.state[:, :-1], listed.action
    rho = (listed.target / listed.behaviour)[place].clamp(max=1.0)
    goes_on = torch.tensor([0.9, 0.9, 0.0], dtype=torch.float64)
    surprise = listed.episodes.reward[0] + goes_on * values[listed.state[:, 1:]] - values[place[0]]
    torch.testing.assert_close(found.target, values[place[0]] + rho * surprise, **CLOSE)


def test_on_policy_it_is_the_return():
    reward = torch.tensor([[1.0, 2.0, 4.0]], dtype=torch.float64)
    discount = torch.tensor([[0.5, 0.5, 0.0]], dtype=torch.float64)
    value = torch.tensor([[7.0, -3.0, 2.0, 0.0]], dtype=torch.float64)
    found = v_trace(torch.zeros_like(reward), reward, discount, value)
    assert found.target.tolist() == [[3.0, 4.0, 4.0]]
    assert found.advantage.tolist() == [[-4.0, 7.0, 2.0]]
    value[:, -1] = 8.0
    cut = v_trace(torch.zeros_like(reward), reward, torch.full_like(reward, 0.5), value)
    assert cut.target.tolist() == [[4.0, 6.0, 8.0]]


def test_what_does_not_fit_is_refused():
    zeros = torch.zeros(2, 3)
    with pytest.raises(InputError, match="v_trace"):
        v_trace(zeros, zeros, zeros, zeros)
    with pytest.raises(InputError, match="one type"):
        v_trace(zeros, zeros, zeros.double(), torch.zeros(2, 4))
    with pytest.raises(InputError, match=r"trace: 1\.5"):
        v_trace(zeros, zeros, zeros, torch.zeros(2, 4), trace=1.5)
