"""Q-learning on encoded histories, from a log alone, with a clone beside it on the same encoder."""

from __future__ import annotations

import copy
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from recil.errors import InputError
from recil.logs.session_log import SessionLog
from recil.policies.encoders import EncoderConfig
from recil.policies.softmax import SoftmaxPolicy
from recil.random import Streams
from recil.train.checkpoint import digest_of_run, load_checkpoint, save_checkpoint
from recil.train.diverged import Diverged, naming
from recil.train.from_log import report
from recil.train.loop import OnMetrics, batches
from recil.train.q_learning_config import QLearningConfig
from recil.train.q_learning_network import QNetwork, losses


def q_learning(
    log: SessionLog,
    config: QLearningConfig | None = None,
    seed: int = 0,
    *,
    on_metrics: OnMetrics | None = None,
    checkpoint: str | Path | None = None,
) -> SoftmaxPolicy:
    """The clone of a log re-ranked by what its items are worth: clone * exp(value / config.temperature).

    Not greedy, so that it has propensities and stays with what the log supports; see `fit_values` for the values
    and for what slates of several items assume.
    """
    config = config or QLearningConfig()
    with naming(checkpoint):
        network = fit_values(log, config, seed, on_metrics=on_metrics, checkpoint=checkpoint)
    return network.policy(config.temperature * float(np.abs(log.reward).sum(dtype=np.float64)) / log.impressions)


def fit_values(
    log: SessionLog,
    config: QLearningConfig | None = None,
    seed: int = 0,
    *,
    on_metrics: OnMetrics | None = None,
    checkpoint: str | Path | None = None,
) -> QNetwork:
    """The network behind `q_learning`: its clone, and the value of every item after every history.

    Double Q-learning with a target network over items that the clone's head supports, and the clone's likelihood as a
    second loss; see `losses`. With `checkpoint`, written after each epoch, a run that was stopped goes on where it
    stood, and `epochs` may be raised. InputError: a log without any reward, a loss that is not finite.
    """
    config = config or QLearningConfig()
    _check(log)
    clone = SoftmaxPolicy.for_log(log, EncoderConfig(config.encoder, config.width), config.item_features, seed)
    largest = float(np.abs(log.reward).max())  # squares of shares of it do not overflow
    scale = largest * float(
        np.sqrt(np.square(np.divide(log.reward, largest, dtype=np.float64)).sum() / log.impressions)
    )
    network = QNetwork(clone, scale, seed).eval()
    target = copy.deepcopy(network).requires_grad_(False)
    optimiser = _optimiser(network, config)
    modules, optimisers = {"network": network, "target": target}, {"main": optimiser}
    # The temperature shapes the policy, not the values.
    settings = digest_of_run([asdict(replace(config, epochs=1, temperature=1.0)), seed, log.digest])
    found = checkpoint and load_checkpoint(checkpoint, modules, optimisers, settings)
    epoch, step = (found[0]["epoch"], found[0]["step"]) if found else (0, 0)
    streams, everybody = Streams(seed).child("q_learning"), np.arange(log.sessions)
    while epoch < config.epochs:
        sums = np.zeros(3)
        for chosen in batches(everybody, log.lengths, config.batch, streams, epoch):
            sums += _step(network, target, optimiser, log, chosen, config, step)
            step += 1
            if step % config.target_every == 0:
                target.load_state_dict(network.state_dict())
        epoch += 1
        nll, error = (sums[:2] / sums[2]).tolist()
        report(on_metrics, "q_learning", step, {"nll": nll, "value_error": error})
        if checkpoint is not None:
            save_checkpoint(checkpoint, modules, optimisers, {"epoch": epoch, "step": step, "settings": settings})
    return network


def _step(
    network: QNetwork,
    target: QNetwork,
    optimiser: torch.optim.Optimizer,
    log: SessionLog,
    chosen: np.ndarray,
    config: QLearningConfig,
    step: int,
) -> tuple[float, float, int]:
    """One step of both heads and the encoder. Returns the sums of both losses and the number of items."""
    found = losses(network, target, log.batch(chosen), config.discount, config.support)
    # By the items of an average batch, not of this one: batches hold sessions of similar length, and a mean over each
    # would let last steps, after which nothing comes, count for more than others: values would come out far too low.
    loss = (found.nll + config.value_weight * found.error) / (config.batch * log.impressions / log.sessions)
    optimiser.zero_grad()
    loss.backward()
    norm = nn.utils.clip_grad_norm_(network.parameters(), config.gradient_norm)
    if not (torch.isfinite(loss) and torch.isfinite(norm)):
        few = ", ".join(map(str, log.session_ids[chosen[:8]].tolist())) + (", ..." if len(chosen) > 8 else "")
        raise Diverged(
            f"q_learning step {step}",
            f"the loss is {float(loss.detach())}, its gradient {float(norm)} long, on the {len(chosen)} sessions {few}",
            "look at these sessions' rewards and columns, or lower the learning rate or the discount",
        )
    optimiser.step()
    return float(found.nll.detach()), float(found.error.detach()), found.items


def _optimiser(network: QNetwork, config: QLearningConfig) -> torch.optim.AdamW:
    """Biases do not decay: they hold how often things are shown and what they are worth on average."""
    weights: list[Tensor] = []
    biases: list[Tensor] = []
    for parameter in network.parameters():
        (weights if parameter.ndim > 1 and parameter.shape[-1] > 1 else biases).append(parameter)
    groups = [{"params": weights, "weight_decay": config.weight_decay}, {"params": biases, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.learning_rate)


def _check(log: SessionLog) -> None:
    if not np.isfinite(log.reward).all():
        raise InputError("q_learning", "the log has rewards that are not finite", "check the reward column")
    if not log.reward.any():
        raise InputError(
            "q_learning",
            f"none of the {log.impressions} items shown has a reward: no item is worth more than another",
            "name another reward column, or clone the log",
        )
    in_order = np.sort(log.items, 1)
    repeated = int(((in_order[:, 1:] == in_order[:, :-1]) & (in_order[:, 1:] >= 0)).any(1).sum())
    if repeated:
        raise InputError("q_learning", f"{repeated} slates hold an item twice", "give a log whose slates repeat none")
