"""Sessions side by side: each as if alone, the next one a step after its end, simulated in batches."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("gymnasium")

import gymnasium
from agents_for_gym import EVOLVING, LEAVING, SINGLE, WORLDS, Ranker, Watched, alone, assert_equal
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers.vector import RecordEpisodeStatistics

from recil.errors import InputError
from recil.evaluate.simulate import simulated_value
from recil.sim.gym import AgentPolicy, RecommendationEnv, RecommendationVectorEnv

PLACES = 5


class Place:
    """What one place should do, by a single environment that is reset by hand."""

    def __init__(self, world, place: int, seed: int) -> None:
        self.env = RecommendationEnv(world)
        self.seen, info = self.env.reset(seed=seed, options={"session": place})
        self.session, self.ended = info["session"], False

    def step(self, action):
        if self.ended:
            self.session += PLACES
            self.seen, _ = self.env.reset(options={"session": self.session})
            self.ended = False
            return 0.0, False, False, None
        self.seen, reward, terminated, truncated, info = self.env.step(action)
        self.ended = terminated or truncated
        return reward, terminated, truncated, info


def acting(agent: Ranker, seen):
    actions = agent(seen)
    return actions[:, 0] if agent.slate_size == 1 else actions


@pytest.mark.parametrize("name", WORLDS)
def test_every_place_is_the_environment_alone(name):
    world, agent = WORLDS[name], Ranker.of(WORLDS[name])
    together = RecommendationVectorEnv(world, PLACES)
    seen, infos = together.reset(seed=4)
    places = [Place(world, place, seed=4) for place in range(PLACES)]
    restarts = 0
    for _ in range(4 * world.horizon):
        assert seen in together.observation_space
        for row, place in enumerate(places):
            assert_equal({key: values[row] for key, values in seen.items()}, place.seen)
            assert infos["session"][row] == place.session
        actions = acting(agent, seen)
        seen, rewards, terminated, truncated, infos = together.step(actions)
        assert rewards.dtype == np.float64 and terminated.dtype == truncated.dtype == np.bool_
        for row, place in enumerate(places):
            reward, left, cut, info = place.step(actions[row])
            assert (rewards[row], terminated[row], truncated[row]) == (reward, left, cut)
            assert infos["_reward_by_position"][row] == (info is not None)
            restarts += info is None
            if info is not None:
                np.testing.assert_array_equal(infos["reward_by_position"][row], info["reward_by_position"])
    assert restarts >= 2 * PLACES


def test_the_step_after_an_end_begins_the_next_session_and_ignores_the_action():
    env = RecommendationVectorEnv(Watched(LEAVING), PLACES)
    assert env.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    seen, _ = env.reset(seed=1)
    ended, begun = np.zeros(PLACES, dtype=bool), 0
    for _ in range(30):
        actions = Ranker.of(LEAVING)(seen)
        actions[ended] = -7
        before = seen
        seen, rewards, terminated, truncated, infos = env.step(actions)
        assert not (terminated & truncated).any()
        assert not (rewards[ended].any() or terminated[ended].any() or truncated[ended].any())
        assert (seen["step"][ended] == 0).all() and (seen["items"][ended] == -1).all()
        assert (seen["step"][~ended] == before["step"][~ended] + 1).all()
        assert (infos["_reward_by_position"] == ~ended).all() and not infos["_propensity"].any()
        begun += int(ended.sum())
        ended = terminated | truncated
    assert begun > PLACES


def test_an_invalid_action_is_named_by_its_place():
    env = RecommendationVectorEnv(LEAVING, 3)
    env.reset(seed=0)
    with pytest.raises(InputError, match=r"actions\[2\]: \[1, 1\]: item 1 stands twice"):
        env.step([[0, 1], [2, 3], [1, 1]])
    with pytest.raises(InputError, match=r"actions\[1\]: \[2, 8\]: 8 is no item"):
        env.step([[0, 1], [2, 8], [1, 1]])
    with pytest.raises(InputError, match=r"shape \[2, 2\] -> give whole numbers of shape \[3, 2\]"):
        env.step([[0, 1], [2, 3]])


def test_sessions_that_start_together_are_one_batch():
    world = Watched(EVOLVING)
    env = RecommendationVectorEnv(world, 6)
    world.batches.clear()
    env.reset(seed=0)
    for _ in range(3 * (EVOLVING.horizon + 1)):
        env.step(env.action_space.sample())
    assert world.batches == [6, 6, 6, 6]


def test_there_are_no_more_batches_at_a_time_than_steps_to_the_horizon():
    env = RecommendationVectorEnv(LEAVING, 40)
    seen, _ = env.reset(seed=0)
    alive = []
    for _ in range(60):
        seen, *_ = env.step(Ranker.of(LEAVING)(seen))
        alive.append(len(env._sessions._cohorts))
    assert 2 < max(alive) <= LEAVING.horizon


def test_a_reset_moves_every_place_on_and_a_seed_begins_again():
    env = RecommendationVectorEnv(EVOLVING, 3)
    first, infos = env.reset(seed=9)
    assert infos["session"].tolist() == [0, 1, 2] and infos["_session"].all()
    after = env.step([[0, 1, 2]] * 3)
    env.step([[0, 1, 2]] * 3)
    assert env.reset()[1]["session"].tolist() == [3, 4, 5]
    assert env.reset(options={"session": [10, 4, 20]})[1]["session"].tolist() == [10, 4, 20]
    assert env.reset()[1]["session"].tolist() == [13, 7, 23]
    assert infos["session"].tolist() == [0, 1, 2]
    again, _ = env.reset(seed=9)
    assert_equal(first, again)
    assert_equal(after[0], env.step([[0, 1, 2]] * 3)[0])
    with pytest.raises(InputError, match="a whole number for each of 3 sessions"):
        env.reset(options={"session": [1, 2]})


def test_declared_propensities_are_told_of_those_who_were_shown_something():
    env = RecommendationVectorEnv(SINGLE, 3)
    env.reset(seed=0)
    given = np.array([[0.5], [np.nan], [0.25]])
    assert not env.step([0, 1, 2])[4]["_propensity"].any()
    for _ in range(SINGLE.horizon - 2):
        env.declare_propensity(given)
        infos = env.step([0, 1, 2])[4]
        np.testing.assert_array_equal(infos["propensity"], given)
        assert infos["_propensity"].tolist() == [True, False, True]
    _, _, _, truncated, infos = env.step([0, 1, 2])
    assert truncated.all() and np.isnan(infos["propensity"]).all() and not infos["_propensity"].any()
    env.declare_propensity(given)
    assert not env.step([0, 1, 2])[4]["_propensity"].any()
    assert given[0, 0] == 0.5


def test_a_wrapper_of_gymnasium_counts_the_returns_that_recil_simulates():
    agent = Ranker.of(LEAVING)
    env = RecordEpisodeStatistics(RecommendationVectorEnv(LEAVING, 8))
    seen, infos = env.reset(seed=2)
    returns: dict[int, float] = {}
    while not set(range(24)) <= set(returns):
        session = infos["session"]
        seen, _, terminated, truncated, infos = env.step(agent(seen))
        for row in np.flatnonzero(terminated | truncated):
            assert infos["session"][row] == session[row]
            returns[int(session[row])] = float(infos["episode"]["r"][row])
    policy = AgentPolicy.of_actions(agent, env.unwrapped.layout)
    expected = simulated_value(policy, LEAVING, 24, seed=env.unwrapped.streams.seed)
    np.testing.assert_allclose([returns[session] for session in range(24)], expected.returns)
    assert expected.value > 0


def test_sampled_actions_can_be_shown():
    env = RecommendationVectorEnv(EVOLVING, 4)
    for _ in range(50):
        slates = env.action_space.sample()
        assert slates.shape == (4, 3) and slates in env.action_space
        assert all(len(set(slate)) == 3 and np.array(slate) in env.single_action_space for slate in slates.tolist())
    assert np.array([[0, 1, 2]] * 3 + [[0, 1, 0]]) not in env.action_space


def test_steps_need_a_reset_and_places():
    env = RecommendationVectorEnv(SINGLE, 2)
    with pytest.raises(ResetNeeded, match="call reset"):
        env.step([0, 1])
    env.reset()
    env.close()
    with pytest.raises(ResetNeeded):
        env.step([0, 1])
    with pytest.raises(InputError, match="num_envs"):
        RecommendationVectorEnv(SINGLE, 0)


def test_observations_of_a_batch_are_those_of_gymnasiums_own():
    env = RecommendationVectorEnv(EVOLVING, 2)
    own = gymnasium.vector.SyncVectorEnv([lambda: RecommendationEnv(EVOLVING)] * 2)
    assert own.observation_space == env.observation_space
    assert own.single_action_space == env.single_action_space
    seen, _ = own.reset(seed=3, options={"session": 0})
    alike, _ = env.reset(seed=3)
    assert_equal(alone({key: values[0] for key, values in seen.items()}), {k: v[:1] for k, v in alike.items()})
