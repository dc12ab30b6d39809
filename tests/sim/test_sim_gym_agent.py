"""An agent from elsewhere is a policy: it keeps the contract, and its sessions are those of the environment."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

pytest.importorskip("gymnasium")

from agents_for_gym import LEAVING, WORLDS, Ranker, assert_equal, played
from agents_with_columns import LAYOUT
from logs_for_policies import ITEMS, log_with_all_columns, with_garbage_behind

from recil.errors import InputError
from recil.evaluate.simulate import simulate, simulated_value
from recil.logs.history import PAD, History
from recil.random import Streams
from recil.sim.gym import AgentPolicy, Layout, RecommendationEnv
from recil.sim.gym.layout import Observation


@pytest.mark.parametrize("name", WORLDS)
def test_an_agent_is_worth_what_it_earns_in_the_environment(name):
    world, agent = WORLDS[name], Ranker.of(WORLDS[name])
    env = RecommendationEnv(world)
    episodes = [played(env, agent, **({"seed": 21} if session == 0 else {})) for session in range(20)]
    policy = AgentPolicy.of_actions(agent, env.layout)
    expected = simulated_value(policy, world, 20, seed=env.streams.seed)
    np.testing.assert_array_equal([sum(episode.rewards) for episode in episodes], expected.returns)
    assert expected.value > 0


def test_the_log_of_an_agent_holds_its_propensities():
    layout = Layout.of(LEAVING, 3)

    def leaning(seen: Observation) -> np.ndarray:
        return -0.5 * np.abs(np.arange(LEAVING.catalogue) - seen["items"][:, -1, :1])

    certain = simulate(AgentPolicy.of_actions(Ranker.of(LEAVING), layout), LEAVING, 30)
    assert (certain.propensity == 1).all()
    log = simulate(AgentPolicy.of_logits(leaning, layout), LEAVING, 300)
    sessions = log.batch()
    previous = torch.cat([torch.full((300, 1), PAD), sessions.items[:, :-1, 0]], 1)
    weights = (-0.5 * (torch.arange(LEAVING.catalogue) - previous[..., None]).abs()).double().exp()
    first, second = sessions.items.clamp(min=0).unbind(-1)
    one = weights.gather(-1, first[..., None])[..., 0]
    two = weights.gather(-1, second[..., None])[..., 0]
    happened = sessions.happened
    torch.testing.assert_close(
        sessions.propensity[happened].double(),
        torch.stack([one / weights.sum(-1), two / (weights.sum(-1) - one)], -1)[happened],
        rtol=1e-5,
        atol=1e-7,
    )


def test_a_slate_that_the_agent_does_not_mean_is_impossible():
    policy = AgentPolicy.of_actions(lambda seen: np.array([[4, 2, 7]] * len(seen["step"])), LAYOUT)
    history = History.start(torch.arange(1), 3)

    def log_prob(*slate: int) -> list[float]:
        return policy.log_prob(history, torch.tensor([slate]))[0].tolist()

    never = float("-inf")
    assert log_prob(4, 2, 7) == [0, 0, 0]
    assert log_prob(4, 7, 2) == [0, never, never]
    assert log_prob(2, 2, 7) == [never, 0, 0]
    assert log_prob(PAD, 4, PAD, 2) == [0, 0, 0, 0]
    assert log_prob(4, 2, 7, 7) == [0, 0, 0, never]
    with pytest.raises(InputError, match="slates of 3 -> here it must show 4"):
        policy.sample(history, 4, Streams(7))


def test_an_agent_of_one_mind_still_shows_other_slates_at_other_steps():
    policy = AgentPolicy.of_logits(lambda seen: np.zeros((len(seen["step"]), ITEMS)), LAYOUT)
    start = History.start(torch.arange(200), 3)
    later = start.append(torch.tensor([[0, 1, 2]] * 200), torch.zeros(200, 3))
    first, second = (policy.sample(history, 3, Streams(7)).items for history in (start, later))
    assert float((first != second).any(1).float().mean()) > 0.9


def test_an_agent_of_single_items_may_answer_with_a_row():
    policy = AgentPolicy.of_actions(lambda seen: np.arange(len(seen["step"])), replace(LAYOUT, slate_size=1))
    assert policy.sample(History.start(torch.arange(4), 1), 1, Streams(7)).items.tolist() == [[0], [1], [2], [3]]


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (np.zeros((3, 2)), "float64 of shape"),
        (np.array([[0, 1], [1, 1], [0, 1]]), r"agent's actions\[1\]: \[1, 1\]: item 1 stands twice"),
        (np.array([[0, 1], [1, 0], [0, ITEMS]]), rf"agent's actions\[2\]: \[0, {ITEMS}\]: {ITEMS} is no item"),
        (np.array([[0, 1]]), "give one for each of 3"),
        (np.array(1), "give one for each of 3"),
    ],
)
def test_answers_that_are_no_actions_are_refused(answer, problem):
    policy = AgentPolicy.of_actions(lambda seen: answer, LAYOUT)
    with pytest.raises(InputError, match=problem):
        policy.sample(History.start(torch.arange(3), 3), 2, Streams(7))


def logits_with(value: float, count: int = 1) -> np.ndarray:
    logits = np.zeros((3, ITEMS), np.float32)
    logits[1, :count] = value
    return logits


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (np.zeros((3, ITEMS - 1)), f"give one for each of {ITEMS}"),
        (logits_with(np.nan), r"agent's logits\[1\]: NaN or \+inf"),
        (logits_with(np.inf), r"agent's logits\[1\]: NaN or \+inf"),
        (logits_with(-np.inf, ITEMS - 1), r"agent's logits\[1\]: 1 items above -inf -> here it must show 2"),
    ],
)
def test_answers_that_are_no_logits_are_refused(answer, problem):
    policy = AgentPolicy.of_logits(lambda seen: answer, LAYOUT)
    with pytest.raises(InputError, match=problem):
        policy.sample(History.start(torch.arange(3), 3), 2, Streams(7))


def test_what_an_agent_masks_is_never_shown():
    policy = AgentPolicy.of_logits(lambda seen: torch.tensor(logits_with(-np.inf, ITEMS - 2)), LAYOUT)
    history = History.start(torch.arange(3), 3)
    for seed in range(20):
        slate = policy.sample(history, 2, Streams(seed)).items
        assert set(slate[1].tolist()) == {ITEMS - 2, ITEMS - 1}
    assert policy.log_prob(history, torch.tensor([[0, 1]] * 3))[1, 0] == -torch.inf


@dataclass
class Reading:
    """The observation of one session, read off its history position by position."""

    history: History
    row: int

    def slates(self, values: torch.Tensor, pad: float) -> list[list[float]]:
        length, rows = int(self.history.length[self.row]), []
        for step in (length - 2, length - 1):
            row = []
            for position in range(3):
                there = step >= 0 and int(self.history.items[self.row, step, position]) >= 0
                row.append(values[self.row, step, position].item() if there else pad)
            rows.append(row)
        return rows

    def contexts(self, values: torch.Tensor, pad: float) -> list[float]:
        length = int(self.history.length[self.row])
        steps = (length - 2, length - 1, length)
        return [values[self.row, step].item() if 0 <= step < values.shape[1] else pad for step in steps]


def test_an_observation_is_the_end_of_the_history():
    history = log_with_all_columns(30, seed=4).batch()
    length = torch.where(history.session % 5 == 0, 0, history.length)
    length = torch.where(history.session % 5 == 1, length.clamp(max=2), length)
    # What a reader left where nothing was shown is nobody's answer.
    feedback = {name: torch.where(history.shown, values, 3) for name, values in history.feedback.items()}
    history = replace(history, length=length, feedback=feedback)
    seen = LAYOUT.observe(history)
    for row in range(history.batch):
        one = Reading(history, row)
        assert seen["items"][row].tolist() == one.slates(history.items, PAD)
        assert seen["reward"][row].tolist() == one.slates(history.reward, 0.0)
        assert seen["step"][row].tolist() == [int(length[row])]
        assert seen["feedback_answer"][row].tolist() == one.slates(history.feedback["answer"], PAD)
        assert seen["feedback_seconds"][row].tolist() == one.slates(history.feedback["seconds"], 0.0)
        assert seen["context_tab"][row].tolist() == one.contexts(history.context["context_tab"], PAD)
        assert seen["context_hour"][row].tolist() == one.contexts(history.context["context_hour"], 0.0)
        assert seen["user_kind"][row].tolist() == [int(history.user["user_kind"][row])]
        assert seen["user_age"][row].tolist() == [float(history.user["user_age"][row])]


def test_what_stands_behind_the_length_is_not_seen():
    history = log_with_all_columns(30, seed=4).batch()
    history = replace(history, length=history.length.clamp(max=3))
    assert_equal(LAYOUT.observe(with_garbage_behind(history, 3)), LAYOUT.observe(history))


def test_what_a_history_lacks_is_missing():
    start = History.start(torch.arange(4), 2)
    assert_equal(LAYOUT.observe(start), LAYOUT.blank(4))
    grown = start.append(torch.tensor([[3, 1]] * 4), torch.tensor([[0.0, 1.0]] * 4))
    seen = LAYOUT.observe(grown)
    assert seen["items"][0].tolist() == [[PAD, PAD, PAD], [3, 1, PAD]]
    assert seen["reward"][0].tolist() == [[0, 0, 0], [0, 1, 0]]
    assert (seen["feedback_answer"] == PAD).all() and not seen["feedback_seconds"].any()
    with pytest.raises(InputError, match="slates of 4 -> the agent was made for 3"):
        LAYOUT.observe(History.start(torch.arange(4), 4))


def test_observations_do_not_share_memory_with_the_history():
    history = log_with_all_columns(10, seed=4).batch()
    before = {name: values.clone() for name, values in (history.user | history.context | history.feedback).items()}
    items, length = history.items.clone(), history.length.clone()
    for values in LAYOUT.observe(history).values():
        values.fill(1)
    assert torch.equal(history.items, items) and torch.equal(history.length, length)
    for name, values in (history.user | history.context | history.feedback).items():
        assert torch.equal(values, before[name]), name


def test_numbers_that_spaces_cannot_hold_are_made_plain():
    history = log_with_all_columns(4, seed=4).batch()
    ages = torch.tensor([float("nan"), float("inf"), -float("inf"), 30.0])
    seen = LAYOUT.observe(replace(history, user={**history.user, "user_age": ages}))["user_age"]
    assert np.isfinite(seen).all() and seen[0, 0] == 0 and seen[1, 0] > 1e38 > -1e38 > seen[2, 0] and seen[3, 0] == 30
