"""Policies that are the clone of the logging policy on most slates and a finetuned policy on some, in three worlds.

The finetuned policy was trained in users fitted to other sessions, for a while: it is truly better than the one that
logged, and far from it. What is learned depends on the seed alone; each world is learned in once.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from hard_logs import Case, Kind, Make

import recil
from recil.evaluate.simulate import simulate
from recil.policies.mixture import Mixture
from recil.policies.protocol import Policy
from recil.sim.generate import Settings, Truth, load_settings

DEMO = Path(__file__).resolve().parents[1] / "data" / "demo" / "settings.toml"
SHARES = (0.01, 0.05, 0.2)
_TRUTH_SESSIONS = 40_000


@cache
def truth_of(world: str) -> Truth:
    if world == "demo":
        return Truth(load_settings(DEMO))
    one_step = Settings(
        seed=3, horizon=1, items=60, slate_size=1, dimension=4, types=16, click_rate=0.05, sessions=6000
    )
    if world == "one slate":
        return Truth(one_step)
    return Truth(
        Settings(seed=4, horizon=5, items=120, slate_size=2, dimension=4, types=16, click_rate=0.03, sessions=6000)
    )


@cache
def learned(world: str) -> tuple[Policy, Policy]:
    """The clone and the finetuned policy."""
    log, truth = truth_of(world).log(), truth_of(world)
    clone = recil.clone(log, recil.CloneConfig(width=32), seed=0)
    users = recil.World(recil.fit_users(log, seed=0), horizon=truth.world.horizon)
    return clone, recil.finetune(clone, users, recil.FinetuneConfig(sessions=30_000), seed=0)


@cache
def values(world: str, share: float) -> tuple[float, float]:
    """Of the mixture and of the logging policy, in the true world."""
    truth = truth_of(world)
    clone, better = learned(world)
    return tuple(
        recil.simulated_value(policy, truth.world, _TRUTH_SESSIONS, seed=3).value
        for policy in (Mixture(better, clone, share), truth.logging_policy)
    )


def mixed(world: str, share: float, sessions: int) -> Make:
    def make(g: np.random.Generator) -> Case:
        truth = truth_of(world)
        clone, better = learned(world)
        log = simulate(truth.logging_policy, truth.world, sessions, int(g.integers(1 << 40)))
        return Case(log, Mixture(better, clone, share), *values(world, share))

    return make


MIXTURES = tuple(
    Kind(f"{world}, {share:.0%} finetuned", mixed(world, share, sessions))
    for world, sessions in (("demo", 2000), ("one slate", 4000), ("five steps", 2000))
    for share in SHARES
)
