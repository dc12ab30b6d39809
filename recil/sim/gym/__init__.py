"""recil's environments for agents trained with Gymnasium, and such agents as recil policies.

Importing it registers the worlds: `gymnasium.make("recil.sim.gym:recil/InterestEvolution-v0", items=50)`.
"""

try:
    from gymnasium.vector import AutoresetMode as _AutoresetMode  # noqa: F401
except ImportError as error:
    raise ImportError('recil.sim.gym needs Gymnasium, 1.1 or later: pip install "recil[gym]"') from error

from recil.sim.gym.agent import AgentPolicy
from recil.sim.gym.env import RecommendationEnv
from recil.sim.gym.layout import Layout
from recil.sim.gym.registry import make_env, make_vector_env, register_worlds
from recil.sim.gym.vector import RecommendationVectorEnv

register_worlds()

__all__ = [
    "AgentPolicy",
    "Layout",
    "RecommendationEnv",
    "RecommendationVectorEnv",
    "make_env",
    "make_vector_env",
]
