"""State models: how the state of a user, an item or a recommender begins and moves from step to step."""

from recil.sim.states.finite import FiniteStateMarkov
from recil.sim.states.history import FiniteHistory
from recil.sim.states.linear import ControlledLinearGaussian, LinearGaussian, Matrix, Scale
from recil.sim.states.mixture import Mixture, normal_mixture, one_of
from recil.sim.states.noise import DiagonalNoise, FullNoise, Noise
from recil.sim.states.protocol import StateModel
from recil.sim.states.recurrent import GRU
from recil.sim.states.static import (
    GaussianMixture,
    HierarchicalStaticTensor,
    MixtureComponent,
    StaticMixture,
    StaticTensor,
)
from recil.sim.states.switching import NoOpOrContinue, ResetOrContinue, Switching, select

__all__ = [
    "GRU",
    "ControlledLinearGaussian",
    "DiagonalNoise",
    "FiniteHistory",
    "FiniteStateMarkov",
    "FullNoise",
    "GaussianMixture",
    "HierarchicalStaticTensor",
    "LinearGaussian",
    "Matrix",
    "Mixture",
    "MixtureComponent",
    "NoOpOrContinue",
    "Noise",
    "ResetOrContinue",
    "Scale",
    "StateModel",
    "StaticMixture",
    "StaticTensor",
    "Switching",
    "normal_mixture",
    "one_of",
    "select",
]
