"""Worlds by name, for `gymnasium.make`: what is named can be written into a spec and made again elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium

from recil.errors import InputError
from recil.policies.environment import TurnByTurn
from recil.sim.gym.env import RecommendationEnv
from recil.sim.gym.vector import RecommendationVectorEnv
from recil.sim.storage import load_users
from recil.sim.world import World
from recil.sim.worlds.interest_evolution import InterestEvolutionSettings, interest_evolution
from recil.sim.worlds.latent_variable import LatentVariableSettings, latent_variable
from recil.sim.worlds.long_term_satisfaction import LongTermSatisfactionSettings, long_term_satisfaction
from recil.sim.worlds.sparse_clicks import Settings, sparse_clicks


def _built(world: Callable[[Any], TurnByTurn], settings: Callable[..., Any]) -> Callable[..., TurnByTurn]:
    return lambda **given: world(settings(**given))


def _fitted_users(users: str, horizon: int, slate_size: int = 0) -> TurnByTurn:
    return World(load_users(users), horizon, slate_size)


def _sparse_clicks(**settings: Any) -> TurnByTurn:
    return sparse_clicks(Settings.model_validate(settings))


# The id is recil/<name>-v0; settings are keywords of `gymnasium.make`, of types that JSON holds.
WORLDS: dict[str, Callable[..., TurnByTurn]] = {
    "InterestEvolution": _built(interest_evolution, InterestEvolutionSettings),
    "LongTermSatisfaction": _built(long_term_satisfaction, LongTermSatisfactionSettings),
    "LatentVariable": _built(latent_variable, LatentVariableSettings),
    "SparseClicks": _sparse_clicks,
    "FittedUsers": _fitted_users,
}


def _world(name: str, settings: dict[str, Any]) -> TurnByTurn:
    if name not in WORLDS:
        raise InputError("world", f"{name!r} is unknown", f"known are {', '.join(WORLDS)}")
    return WORLDS[name](**settings)


def make_env(world: str, window: int = 10, **settings: Any) -> RecommendationEnv:
    """The world of this name, with these settings, one session at a time."""
    return RecommendationEnv(_world(world, settings), window)


def make_vector_env(world: str, num_envs: int = 1, window: int = 10, **settings: Any) -> RecommendationVectorEnv:
    """The world of this name, with these settings, `num_envs` sessions at a time."""
    return RecommendationVectorEnv(_world(world, settings), num_envs, window)


def register_worlds() -> None:
    """Make the worlds known to Gymnasium."""
    for name in WORLDS:
        gymnasium.register(
            f"recil/{name}-v0",
            entry_point="recil.sim.gym:make_env",
            vector_entry_point="recil.sim.gym:make_vector_env",
            kwargs={"world": name},
        )
