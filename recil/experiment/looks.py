"""What a report shows of a policy beside its value: weights on a log, rewards by step, what is shown how often."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from recil.evaluate.pass_over import session_batches
from recil.logs.session_log import SessionLog
from recil.ops.importance import cumulative_log_weight, step_log_ratio
from recil.policies.environment import Environment, population_of
from recil.policies.protocol import Policy, log_prob_of_sessions
from recil.random import Streams

# Bins of log10 of a session's weight; what lies outside falls into the first and the last.
WEIGHT_EDGES = np.linspace(-6.0, 6.0, 49)
# Rewards kept for each policy, seed and world: half a megabyte.
_MOST_REWARDS = 1 << 17
_AT_ONCE = 2048


@torch.no_grad()
def weights_on(policy: Policy, log: SessionLog, behaviour: Policy | None) -> dict[str, np.ndarray]:
    """How the policy's sessions weigh on a log; behaviour supplies propensities where the log has none.

    "weight_counts" int64 [1 + 48]: sessions of weight 0, then by WEIGHT_EDGES; "weight_ess", "weight_mean" float64 [T]:
    effective sessions and the mean weight w_{0:t} after each step, uncapped. A session that has ended keeps its weight.
    """
    counts = np.zeros(len(WEIGHT_EDGES), dtype=np.int64)
    steps = int(log.lengths.max())
    total, squares = (torch.full((steps,), -math.inf, dtype=torch.float64) for _ in range(2))
    for chosen in session_batches(log):
        weights = _log_weights(policy, log, chosen, behaviour)
        counts += _counts(weights[:, -1].numpy())
        # Shorter sessions stand in shorter batches.
        held = torch.cat([weights, weights[:, -1:].expand(-1, steps - weights.shape[1])], 1)
        total = torch.logaddexp(total, torch.logsumexp(held, 0))
        squares = torch.logaddexp(squares, torch.logsumexp(2.0 * held, 0))
    effective = torch.where(total.isneginf(), 0.0, (2.0 * total - squares).exp())
    mean = (total - math.log(log.sessions)).exp()
    return {"weight_counts": counts, "weight_ess": effective.numpy(), "weight_mean": mean.numpy()}


def _log_weights(policy: Policy, log: SessionLog, chosen: np.ndarray, behaviour: Policy | None) -> Tensor:
    """log w_{0:t} of these sessions, float64 [B, T]."""
    batch = log.batch(chosen)
    if batch.propensity is not None:
        log_propensity = batch.propensity.double().log()
    else:
        assert behaviour is not None
        log_propensity = log_prob_of_sessions(behaviour, batch)
    ratio = step_log_ratio(log_prob_of_sessions(policy, batch), log_propensity, batch.shown)
    return cumulative_log_weight(ratio, batch.happened)


def _counts(log_weights: np.ndarray) -> np.ndarray:
    """float64 [B] -> int64 [1 + bins]."""
    possible = log_weights[~np.isneginf(log_weights)] / math.log(10.0)
    inside = np.histogram(np.clip(possible, WEIGHT_EDGES[0], WEIGHT_EDGES[-1]), WEIGHT_EDGES)[0]
    return np.concatenate([[len(log_weights) - len(possible)], inside])


@torch.no_grad()
def sessions_in(policy: Policy, world: Environment, sessions: int, seed: int) -> dict[str, np.ndarray]:
    """The sessions of `simulated_value` with this seed, the first of them: what they brought and what they showed.

    "rewards" float32 [sessions, horizon]: by step, undiscounted, 0 once the user has left; as many sessions as half a
    megabyte holds, those that meet each other as one, their mean. "shown" int64: how often each item was, of those that
    were shown at all, fewest first. "lengths" int64 [1 + horizon]: sessions that had 0, 1, 2, ... steps.
    """
    population, horizon = population_of(world), world.horizon
    count = max(min(sessions, _MOST_REWARDS // horizon) // population, 1) * population
    size = max(_AT_ONCE // population, 1) * population
    rewards = np.zeros((count, horizon), dtype=np.float32)
    shown = np.zeros(world.catalogue, dtype=np.int64)
    lengths = np.zeros(1 + horizon, dtype=np.int64)
    for start in range(0, count, size):
        addresses = torch.arange(start, min(start + size, count))
        history = world.rollout(policy, addresses, Streams(seed)).to("cpu")
        brought = torch.where(history.shown, history.reward, 0.0).sum(-1)
        rewards[start : start + size, : history.steps] = torch.where(history.happened, brought, 0.0).numpy()
        shown += np.bincount(history.items[history.shown].numpy(), minlength=world.catalogue)
        lengths += np.bincount(history.length.numpy(), minlength=1 + horizon)
    rewards = rewards.reshape(-1, population, horizon).mean(1)  # those that meet are not independent
    return {"rewards": rewards, "shown": np.sort(shown[shown > 0]), "lengths": lengths}
