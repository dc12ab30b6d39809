"""Between which values an environment's rewards and columns lie, as far as it says."""

from __future__ import annotations

from itertools import chain

import numpy as np

from recil.policies.environment import Environment
from recil.sim.spaces import Flags, Integers, Reals, Space
from recil.sim.world import World
from recil.sim.worlds.built import BuiltWorld

Bounds = tuple[float, float]

# Spaces with infinite bounds are warned of; these are the largest values that arrays of float32 and codes can hold.
LARGEST_NUMBER = float(np.finfo(np.float32).max)
LARGEST_CODE = 2**31 - 1


def bounds_of(environment: Environment) -> dict[str, Bounds]:
    """Smallest and largest value by the name of the column, or `reward`; what is not there is not known."""
    if isinstance(environment, World):
        layout = environment.users.behaviour.layout
        coded = {
            feature.name: (0.0, feature.categories - 1.0)
            for feature in chain(layout.users, layout.contexts)
            if feature.categories is not None
        }
        return {"reward": (0.0, 1.0)} | coded
    if isinstance(environment, BuiltWorld):
        specs = environment.user(environment.population).specs().get("outcome").as_dict
        names = [name for name in ("reward", *environment.feedback) if getattr(specs[name], "space", None) is not None]
        return {name: _bounds(specs[name].space) for name in names}
    return {}


def _bounds(space: Space) -> Bounds:
    if isinstance(space, Reals):
        return max(space.low, -LARGEST_NUMBER), min(space.high, LARGEST_NUMBER)
    if isinstance(space, Integers):
        return float(space.start), float(space.start + space.count - 1)
    if isinstance(space, Flags):
        return 0.0, 1.0
    return -LARGEST_NUMBER, LARGEST_NUMBER
