"""Climbing the likelihood of the reference: minibatches, priors, averaged weights, early stopping."""

from __future__ import annotations

import copy
import math

import numpy as np
import torch
from torch import Tensor, nn

from recil.errors import InputError
from recil.logs.session_log import SessionLog
from recil.random import Streams
from recil.sim.optimise import Metrics, by_length
from recil.sim.rates import log_losses
from recil.sim.reference_config import ReferenceConfig
from recil.sim.reference_network import ResponseNetwork, click_probabilities, negative_log_likelihood
from recil.sim.reference_repeats import repeats_of


@torch.no_grad()
def start_at_rates(network: ResponseNetwork, log: SessionLog, config: ReferenceConfig) -> None:
    """Set the log's overall rate and the items' own, shrunk as their prior says: s in log-odds is worth 1 / s² clicks.

    What was never shown has nothing of its own: it is its features, and its gradient stays 0.
    """
    present = log.items >= 0
    shown = log.items[present]
    clicks = np.bincount(shown, log.reward[present] > 0, log.catalogue)
    impressions = np.bincount(shown, minlength=log.catalogue)
    rate = float(np.clip(clicks.sum() / impressions.sum(), 1e-6, 1 - 1e-6))
    other = 1 - rate if network.layout.several else max(1 - rate * impressions.sum() / len(log.items), 1e-6)
    worth = config.appeal_scale**-2
    network.base.fill_(math.log(rate / other))
    network.appeal.copy_(torch.from_numpy(np.log((clicks + worth) / (impressions * rate + worth))))
    network.items.own.weight[torch.from_numpy(impressions == 0)] = 0.0


def log_prior(network: ResponseNetwork, config: ReferenceConfig) -> Tensor:
    """Log-density of what belongs to single items, categories and positions, up to a constant."""
    total = -0.5 * (network.appeal / config.appeal_scale).square().sum() - 2.0 * network.position.square().sum()
    total = total - 0.5 * (network.items.own.weight / config.vector_scale).square().sum()
    for weights, scale in ((network.effects(), config.effect_scale), (network.context_effects(), config.context_scale)):
        for weight in weights:
            total = total - 0.5 * (weight / scale).square().sum()
    return total


@torch.no_grad()
def predict_clicks(
    network: ResponseNetwork, log: SessionLog, chosen: np.ndarray, repeats: np.ndarray, batch: int = 512
) -> np.ndarray:
    """float64 [N, K]: probability of a click on each item shown to these sessions; 0 at pads and elsewhere."""
    result, per_item = np.zeros(log.items.shape), network.per_item()
    for group in by_length(log, chosen, batch):
        rows, inside = log.rows(group)
        odds = network(log.batch(group), torch.from_numpy(repeats[rows]), per_item)
        result[rows[inside]] = click_probabilities(odds, network.layout.several).numpy()[inside]
    return result


def _groups(network: ResponseNetwork, config: ReferenceConfig) -> list[dict[str, object]]:
    """Matrices decay; what belongs to items, columns and positions has priors instead, biases neither."""
    effects = {id(weight) for weight in (*network.effects(), *network.context_effects())}
    matrices = {
        id(weight)
        for part in network.modules()
        if isinstance(part, nn.Linear | nn.GRU)
        for name, weight in part.named_parameters(recurse=False)
        if name.startswith("weight") and id(weight) not in effects
    }
    decayed = [weight for weight in network.parameters() if id(weight) in matrices]
    others = [weight for weight in network.parameters() if id(weight) not in matrices]
    return [{"params": decayed, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]


class _Climb:
    """The state of a fit to the sessions `train`: Adam on the mean negative log-posterior per impression.

    average: the mean of about the last epoch of steps (Polyak): with a few clicks per batch, single steps are too noisy
    to be calibrated.
    """

    def __init__(
        self,
        network: ResponseNetwork,
        log: SessionLog,
        train: np.ndarray,
        impressions: int,
        repeats: np.ndarray,
        config: ReferenceConfig,
    ) -> None:
        self.network, self.log, self.train, self.repeats, self.config = network, log, train, repeats, config
        self.impressions, self.steps, self.done = impressions, math.ceil(len(train) / config.batch), 0
        self.average = copy.deepcopy(network)
        rate = config.learning_rate
        self.optimiser = torch.optim.AdamW(_groups(network, config), lr=rate)
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
            self.optimiser, config.epochs * self.steps, eta_min=0.1 * rate
        )

    def epoch(self, order: np.ndarray) -> float:
        """One pass over the sessions in this order; their negative log-likelihood per impression on the way."""
        seen = 0.0
        for first in range(0, len(order), self.config.batch):
            self.optimiser.zero_grad(set_to_none=True)
            loss, nll = self._gradient(order[first : first + self.config.batch])
            if not math.isfinite(loss):
                raise InputError(
                    "fit_reference", f"loss {loss} after {self.done} steps", "lower reference.learning_rate"
                )
            self.optimiser.step()
            self.schedule.step()
            self.done, seen = self.done + 1, seen + nll
            self._follow(max(1 / self.done, 1 / self.steps))
        return seen / self.impressions

    def _gradient(self, chosen: np.ndarray) -> tuple[float, float]:
        """The loss of a batch, gradients set; and the batch's negative log-likelihood.

        A batch holds sessions of all lengths; they are scored in groups of like length only to save padding.
        """
        nll, per_item = torch.zeros(()), self.network.per_item()
        for group in by_length(self.log, chosen, max(64, self.config.batch // 4)):
            rows, _ = self.log.rows(group)
            history = self.log.batch(group)
            odds = self.network(history, torch.from_numpy(self.repeats[rows]), per_item)
            nll = nll + negative_log_likelihood(odds, history.reward, self.network.layout.several)
        whole = nll * (len(self.train) / len(chosen))
        loss = (whole - log_prior(self.network, self.config)) / self.impressions
        loss.backward()
        return float(loss.detach()), float(nll.detach())

    @torch.no_grad()
    def _follow(self, share: float) -> None:
        for kept, now in zip(self.average.parameters(), self.network.parameters(), strict=True):
            kept.lerp_(now, share)


class _Held:
    """The sessions that decide when to stop, and the best weights so far."""

    def __init__(self, log: SessionLog, sessions: np.ndarray, repeats: np.ndarray) -> None:
        self.log, self.sessions, self.repeats = log, sessions, repeats
        rows, inside = log.rows(sessions)
        mask = np.zeros(log.items.shape, dtype=bool)
        mask[rows[inside]] = True
        self.mask = mask & (log.items >= 0)
        self.loss, self.epoch = math.inf, 0
        self.weights: dict[str, Tensor] = {}

    def look(self, network: ResponseNetwork, epoch: int) -> float:
        """The network's mean log loss per impression on them; it is kept if it is the best."""
        probability = predict_clicks(network, self.log, self.sessions, self.repeats)
        loss = float(log_losses(probability[self.mask], self.log.reward[self.mask]).mean())
        if loss < self.loss:
            self.loss, self.epoch, self.weights = loss, epoch, copy.deepcopy(network.state_dict())
        return loss


def optimise_reference(
    network: ResponseNetwork,
    log: SessionLog,
    parts: tuple[np.ndarray, np.ndarray],
    config: ReferenceConfig,
    streams: Streams,
    on_metrics: Metrics | None,
) -> dict[str, float]:
    """Fit the network in place to the sessions parts[0]; those in parts[1] say when to stop.

    The best average of steps by held-out loss is kept, the start among them: a log that teaches nothing leaves rates.
    """
    train, sessions = parts
    repeats = repeats_of(log)
    held = _Held(log, sessions, repeats)
    held.look(network, 0)
    climb = _Climb(network, log, train, log.impressions - int(held.mask.sum()), repeats, config)
    for epoch in range(1, config.epochs + 1):
        inside = climb.epoch(streams.numpy("reference.order", epoch).permutation(train))
        outside = held.look(climb.average, epoch)
        if on_metrics:
            on_metrics(epoch, {"reference/nll": inside, "reference/held_out_log_loss": outside})
        if epoch - held.epoch >= config.patience:
            break
    network.load_state_dict(held.weights)
    return {"epochs": float(held.epoch), "held_out_log_loss": held.loss, "sessions": float(log.sessions)}
