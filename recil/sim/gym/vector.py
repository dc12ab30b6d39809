"""Sessions side by side for agents trained with Gymnasium, simulated in batches."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from recil.errors import InputError
from recil.policies.environment import TurnByTurn
from recil.random import Streams
from recil.sim.gym.actions import propensities_of, slates_of
from recil.sim.gym.env import session_wanted, streams_from
from recil.sim.gym.layout import Layout, Observation
from recil.sim.gym.sessions import Sessions
from recil.sim.gym.spaces import action_space, action_spaces, observation_space


class RecommendationVectorEnv(VectorEnv[Observation, Any, np.ndarray]):
    """N sessions at a time, each as RecommendationEnv would play it. Actions: [N, K], or [N] where K is 1.

    A session that ended is followed by another one step later (AutoresetMode.NEXT_STEP): that step ignores the action,
    returns the new session's first observation, reward 0 and neither terminated nor truncated.

    info holds `session` [N], and of those that were shown a slate `reward_by_position` [N, K] and `propensity` [N, K];
    the masks `_session`, `_reward_by_position` and `_propensity`, bool [N], say of whom. A propensity that was not
    declared is NaN, and not in its mask.

    Place i plays the sessions i, i + N, i + 2 N, ... of the seed's `streams`, whenever those of other places end.
    `reset(options={"session": addresses})` goes to others, [N], and on from there, N by N.
    """

    metadata = {"render_modes": [], "autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012

    def __init__(self, environment: TurnByTurn, num_envs: int = 1, window: int = 10) -> None:
        """num_envs: N; window: how many slates of the past are observed."""
        if num_envs < 1:
            raise InputError("num_envs", f"{num_envs}", "wanted 1 or more")
        self.environment, self.num_envs = environment, num_envs
        self.layout = Layout.of(environment, window)
        self.single_observation_space = observation_space(self.layout)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.single_action_space = action_space(self.layout)
        self.action_space = action_spaces(self.layout, num_envs)
        self._sessions: Sessions | None = None
        self._declared: np.ndarray | None = None

    @property
    def streams(self) -> Streams:
        """All the draws of users under the present seed."""
        return self._begun().streams

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """The next session at every place, or the first ones of a new seed."""
        wanted = session_wanted(options)
        super().reset(seed=seed)
        if seed is not None or self._sessions is None:
            self._sessions = Sessions(self.environment, self.layout, streams_from(self.np_random), self.num_envs)
        if wanted is not None:
            self._sessions.call(np.asarray(wanted))
        self._declared = None
        first = self._sessions.seat(np.arange(self.num_envs))
        return first, self._told(self._sessions)

    def declare_propensity(self, propensity: Any) -> None:
        """How likely each item of the coming step's slates was, [N, K], given those before it; NaN: not known."""
        self._declared = propensities_of(propensity, (self.num_envs, self.layout.slate_size))

    def step(self, actions: Any) -> tuple[Observation, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Show a slate wherever a session goes on, and begin one wherever it had ended."""
        sessions = self._begun()
        ended = sessions.waiting.copy()
        items = slates_of(actions, self.layout, ~ended, "actions[{row}]")
        declared, self._declared = self._declared, None
        propensity = np.full(items.shape, np.nan) if declared is None else declared
        propensity[ended] = np.nan
        shown = sessions.show(items, propensity)
        places = np.flatnonzero(ended)
        if len(places):
            for key, values in sessions.seat(places).items():
                shown.observation[key][places] = values
        infos = self._told(sessions) | {
            "reward_by_position": shown.reward,
            "_reward_by_position": ~ended,
            "propensity": propensity,
            "_propensity": ~np.isnan(propensity).any(1),
        }
        reward = shown.reward.sum(1, dtype=np.float64)
        return shown.observation, reward, shown.terminated, shown.truncated, infos

    def close_extras(self, **kwargs: Any) -> None:
        """Forget the sessions."""
        self._sessions = None

    def _told(self, sessions: Sessions) -> dict[str, Any]:
        return {"session": sessions.address.copy(), "_session": np.ones(self.num_envs, dtype=bool)}

    def _begun(self) -> Sessions:
        if self._sessions is None:
            raise ResetNeeded("no session has begun: call reset() first")
        return self._sessions
