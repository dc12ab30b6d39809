"""The cases that finetuning is tested on: a world, its demonstrator's log, and the clone of it."""

from __future__ import annotations

from dataclasses import replace

import torch
from taste_world import TasteWorld

from recil.train.clone import CloneConfig, clone

SESSIONS = 6000


def case(seed: int, world: TasteWorld | None = None, sessions: int = SESSIONS, epochs: int = 6):
    """A world (sparse unless given), the log of its demonstrator and the clone of the log."""
    world = world or TasteWorld.sparse(seed)
    log = world.log(world.demonstrator(seed), sessions, seed)
    return world, log, clone(log, CloneConfig(width=16, epochs=epochs), seed)


def small_case():
    """One small case for everything that is not a statistical claim."""
    return case(0, easy_world(), sessions=1200, epochs=12)


def easy_world() -> TasteWorld:
    """Few tastes, few items, many clicks."""
    world = TasteWorld.sparse(0, tastes=3, items=20, liked=3)
    return replace(world, click=4 * world.click)


def standard_errors(world: TasteWorld, policy, other) -> float:
    """Paired difference of the two policies' true values, in its standard errors."""
    difference = world.returns(policy) - world.returns(other)
    return float(difference.mean() / (difference.std() / len(difference) ** 0.5))


def weights(policy) -> list[torch.Tensor]:
    return [value.clone() for value in policy.state_dict().values()]


def assert_same(one, other) -> None:
    assert all(torch.equal(a, b) for a, b in zip(weights(one), weights(other), strict=True))
