"""A policy's value among an ensemble of fitted users, and two policies' difference, apart from any verdict."""

from __future__ import annotations

import numpy as np

from recil.evaluate.components import EnsembleDifference, EnsembleValue
from recil.evaluate.simulate import simulated_value
from recil.policies.protocol import Policy
from recil.sim.ensemble import UserEnsemble
from recil.sim.world import World


def ensemble_value(
    policy: Policy,
    ensemble: UserEnsemble,
    horizon: int,
    sessions: int,
    seed: int = 0,
    *,
    slate_size: int = 0,
    gamma: float = 1.0,
    confidence: float = 0.95,
) -> EnsembleValue:
    """See `simulated_value`, which this is without the world's verdict."""
    found = simulated_value(
        policy, World.of(ensemble, horizon, slate_size), sessions, seed, gamma=gamma, confidence=confidence
    )
    assert found.ensemble is not None
    return found.ensemble


def ensemble_difference(
    policy_a: Policy,
    policy_b: Policy,
    ensemble: UserEnsemble,
    horizon: int,
    sessions: int,
    seed: int = 0,
    *,
    slate_size: int = 0,
    gamma: float = 1.0,
    confidence: float = 0.95,
) -> EnsembleDifference:
    """The value of policy_a minus that of policy_b. What both share cancels in each part."""
    world = World.of(ensemble, horizon, slate_size)
    one, other = (simulated_value(policy, world, sessions, seed, gamma=gamma) for policy in (policy_a, policy_b))
    apart = [one.returns - other.returns, *(one.member_returns - other.member_returns)]
    return EnsembleDifference.of(np.stack(apart), confidence)
