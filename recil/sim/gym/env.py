"""A recil environment for agents trained with Gymnasium: one session is one episode, a slate is an action."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium.error import ResetNeeded

from recil.errors import InputError
from recil.policies.environment import TurnByTurn
from recil.random import Streams
from recil.sim.gym.actions import propensities_of, slates_of
from recil.sim.gym.layout import Layout, Observation
from recil.sim.gym.sessions import Sessions
from recil.sim.gym.spaces import action_space, observation_space

HERE = np.zeros(1, dtype=np.int64)


def streams_from(generator: np.random.Generator) -> Streams:
    """The draws that a Gymnasium seed stands for; one number is taken from its generator."""
    return Streams(int(generator.integers(2**63)))


def session_wanted(options: Mapping[str, Any] | None) -> Any:
    """What the options of a reset say about the session, or None. InputError where they say anything else."""
    unknown = sorted(set(options or ()) - {"session"})
    if unknown:
        raise InputError("options", f"{unknown}", "the one option of a reset is 'session', an address")
    return (options or {}).get("session")


class RecommendationEnv(gymnasium.Env[dict[str, Any], Any]):
    """One session at a time. Action: K different items (one item where K is 1); reward: the slate's, summed.

    terminated  the user left (also where that falls on the horizon); truncated: the horizon came first
    info        session: the address; after a step reward_by_position, float32 [K], and propensity, float64 [K]: the
                probability of each item shown, if the agent declared it, else None. An action alone does not say how
                likely it was: 1.0 would call every agent deterministic

    A seed stands for `streams`; with it the sessions 0, 1, 2, ... are played, one for each reset without seed: those of
    `recil.simulate(..., seed=env.streams.seed)`. `reset(options={"session": address})` goes to another, and on from
    there. InputError where an action is no slate of the catalogue.
    """

    metadata = {"render_modes": []}  # noqa: RUF012 (Gymnasium's own declaration)

    def __init__(self, environment: TurnByTurn, window: int = 10) -> None:
        """window: how many slates of the past are observed."""
        self.environment = environment
        self.layout = Layout.of(environment, window)
        self.observation_space = observation_space(self.layout)
        self.action_space = action_space(self.layout)
        self._sessions: Sessions | None = None
        self._declared: np.ndarray | None = None

    @property
    def streams(self) -> Streams:
        """All the draws of users under the present seed."""
        return self._begun().streams

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """The next session, or session 0 of a new seed."""
        wanted = session_wanted(options)
        super().reset(seed=seed)
        if seed is not None or self._sessions is None:
            self._sessions = Sessions(self.environment, self.layout, streams_from(self.np_random), 1)
        if wanted is not None:
            self._sessions.call(np.asarray(wanted)[None])
        self._declared = None
        first = self._sessions.seat(HERE)
        return _only(first), {"session": int(self._sessions.address[0])}

    def declare_propensity(self, propensity: Any) -> None:
        """How likely each item of the coming step's slate was, [K], given those before it: only the agent knows."""
        self._declared = propensities_of(propensity, (1, self.layout.slate_size))

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Show a slate."""
        sessions = self._begun()
        if sessions.waiting[0]:
            raise ResetNeeded("the session is over: call reset() before the next step()")
        size = self.layout.slate_size
        items = slates_of(np.asarray(action)[None], self.layout, ~sessions.waiting, "action")
        declared, self._declared = self._declared, None
        shown = sessions.show(items, np.full((1, size), np.nan) if declared is None else declared)
        info = {
            "session": int(sessions.address[0]),
            "reward_by_position": shown.reward[0],
            "propensity": None if declared is None else declared[0],
        }
        reward = float(shown.reward[0].sum(dtype=np.float64))
        return _only(shown.observation), reward, bool(shown.terminated[0]), bool(shown.truncated[0]), info

    def close(self) -> None:
        """Forget the session; a closed environment can be reset."""
        self._sessions = None

    def _begun(self) -> Sessions:
        if self._sessions is None:
            raise ResetNeeded("no session has begun: call reset() first")
        return self._sessions


def _only(observation: Observation) -> Observation:
    return {key: values[0] for key, values in observation.items()}
