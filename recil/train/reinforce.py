"""Policy gradient from scratch: the foil that shows what a clone is worth as a start."""

from __future__ import annotations

from pathlib import Path

from recil.policies.environment import Environment
from recil.policies.softmax import SoftmaxPolicy
from recil.random import Streams
from recil.train.diverged import naming
from recil.train.finetune import settings_digest
from recil.train.finetune_config import ReinforceConfig
from recil.train.in_world import improve_in_world
from recil.train.loop import OnMetrics
from recil.train.policy_step import Learner


def reinforce(
    like: SoftmaxPolicy,
    environment: Environment,
    config: ReinforceConfig | None = None,
    seed: int = 0,
    *,
    on_metrics: OnMetrics | None = None,
    checkpoint: str | Path | None = None,
) -> SoftmaxPolicy:
    """A policy built like `like` that learned from nothing but its own clicks in the world.

    Nothing of `like` but its architecture and catalogue is used. The loop is that of `finetune` in a world, without
    clone, KL or log; config.sessions is the whole budget. Source: Williams (1992), "Simple statistical
    gradient-following algorithms for connectionist reinforcement learning", with a critic as baseline.
    """
    config = config or ReinforceConfig()
    streams = Streams(seed).child("reinforce")
    policy = untrained(like, seed).eval()
    settings = settings_digest(config, seed, policy)
    learner = Learner.of("reinforce", policy, None, config, 0.0, environment.slate_size, streams)
    with naming(checkpoint):
        improve_in_world(learner, environment, streams, settings, on_metrics, checkpoint)
    return policy


def untrained(like: SoftmaxPolicy, seed: int) -> SoftmaxPolicy:
    """A policy with the architecture, catalogue and item columns of `like`, and fresh weights."""
    fresh = SoftmaxPolicy(like.config, like.item_ids, like.output.columns(), seed)
    return fresh.to(next(like.parameters()).device)
