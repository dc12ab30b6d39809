"""A training loop over sessions: shuffled batches, early stopping on held-out sessions, checkpoints."""

from __future__ import annotations

import copy
import itertools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from recil.random import Streams
from recil.train.checkpoint import load_checkpoint, save_checkpoint
from recil.train.diverged import Diverged
from recil.train.rows import Tables

SECONDS_BETWEEN_CHECKPOINTS = 60.0

OnMetrics = Callable[[int, dict[str, float]], None]


@dataclass(frozen=True)
class Objective:
    """What is trained, and on what.

    name      the section of the metrics, and the place in error messages
    model     the weights to fit
    loss      sessions (int64 [B], positions in the log), number of the step (what a loss draws is addressed by it) ->
              sum of the loss over items of the batch, and their number
    held_out  () -> mean loss on the held-out sessions
    sessions  int64 [S], the sessions to train on
    names     [*], the name behind each position in the log, for error messages
    lengths   int64 [S], their steps: batches hold sessions of similar length
    items     mean number of items of a session: what a step's loss is divided by does not depend on its batch, or items
              of short sessions would count for more
    settings  text that fixes everything but the number of epochs; a checkpoint of other settings is refused
    tables    weights of the model of which a step touches some rows: the loss says which, and only those move
    """

    name: str
    model: nn.Module
    loss: Callable[[np.ndarray, int], tuple[Tensor, int]]
    held_out: Callable[[], float]
    sessions: np.ndarray
    names: np.ndarray
    lengths: np.ndarray
    items: float
    settings: str = ""
    tables: Tables | None = None


@dataclass(frozen=True)
class Schedule:
    """How long and how fast.

    epochs         passes over the training sessions at most
    batch          sessions in one step of the optimiser
    learning_rate  step size of AdamW; halved after each epoch that does not lower the held-out loss
    weight_decay   share of each weight (but no bias) taken off per step, times the learning rate
    patience       epochs in a row without a better held-out loss before stopping
    largest_norm   gradients longer than this are shortened to it
    annealed       the step size falls with every step, along half a cosine to 0 at the end of the last epoch, whatever
                   the held-out loss; no epoch is left out and the last weights are kept. Source: Loshchilov & Hutter
                   (2017), "SGDR", without restarts
    """

    epochs: int
    batch: int
    learning_rate: float
    weight_decay: float
    patience: int
    largest_norm: float = 10.0
    annealed: bool = False

    def rate(self, step: int, batches: int, failures: int) -> float:
        """The step size of step `step`, with so many batches to an epoch and epochs so far that failed."""
        if not self.annealed:
            return self.learning_rate * 0.5**failures
        return self.learning_rate * (1 + math.cos(math.pi * step / (batches * self.epochs))) / 2


@dataclass
class _State:
    """Where a run stands: `epoch` and `cursor` name the next batch; `total` and `items` sum this epoch's loss.

    failures: epochs so far that did not lower the held-out loss.
    """

    epoch: int = 0
    cursor: int = 0
    step: int = 0
    total: float = 0.0
    items: int = 0
    best_loss: float = math.inf
    best_epoch: int = -1
    failures: int = 0
    best: dict[str, Tensor] = field(default_factory=dict)

    def after_batch(self, loss: float, items: int) -> None:
        self.cursor += 1
        self.step += 1
        self.total += loss
        self.items += items

    def progress(self, settings: str) -> dict[str, Any]:
        numbers = {name: value for name, value in vars(self).items() if name != "best"}
        return numbers | {"best_loss": None if math.isinf(self.best_loss) else self.best_loss, "settings": settings}


@dataclass(frozen=True)
class Fitted:
    """What came out: the epoch whose weights the model now has, its held-out loss, and the epochs that were run."""

    best_epoch: int
    best_loss: float
    epochs: int


def fit(
    objective: Objective,
    schedule: Schedule,
    streams: Streams,
    on_metrics: OnMetrics | None = None,
    checkpoint: str | Path | None = None,
) -> Fitted:
    """Train until the held-out loss stops falling, or as `annealed` says; the model ends with its best weights.

    A run that was stopped and started again with the same `checkpoint` ends with the same bits as one that was not. The
    file is written after each epoch and at least every minute, which is what an interruption costs at most.
    """
    optimisers = optimisers_of(objective, schedule)
    state = _resume(checkpoint, objective, optimisers)
    groups = [group for part in optimisers.values() for group in part.param_groups]
    steps = math.ceil(len(objective.sessions) / schedule.batch)

    def save() -> float:
        if checkpoint is not None:
            modules = {"model": objective.model}
            save_checkpoint(checkpoint, modules, optimisers, state.progress(objective.settings), state.best)
        return time.monotonic()

    saved = time.monotonic()
    while state.epoch < schedule.epochs and state.epoch - state.best_epoch <= schedule.patience:
        objective.model.train()
        epoch = batches(objective.sessions, objective.lengths, schedule.batch, streams, state.epoch)
        for sessions in itertools.islice(epoch, state.cursor, None):
            for group in groups:
                group["lr"] = schedule.rate(state.step, steps, state.failures)
            loss, items = take_step(objective, optimisers["main"], schedule, sessions, state.step)
            state.after_batch(loss, items)
            if time.monotonic() - saved > SECONDS_BETWEEN_CHECKPOINTS:
                saved = save()
        objective.model.eval()
        _end_epoch(objective, schedule, state, on_metrics)
        saved = save()
    if state.best:
        objective.model.load_state_dict(state.best)
    objective.model.eval()
    return Fitted(state.best_epoch, state.best_loss, state.epoch)


def optimisers_of(objective: Objective, schedule: Schedule) -> dict[str, torch.optim.Optimizer]:
    """Biases do not decay: they hold how often things occur, and shrinking them would make the rare common."""
    weights: list[Tensor] = []
    biases: list[Tensor] = []
    tables, model = objective.tables, objective.model
    for parameter in model.parameters() if tables is None else tables.others(model):
        (weights if parameter.ndim > 1 and parameter.shape[-1] > 1 else biases).append(parameter)
    main = torch.optim.AdamW(
        [{"params": weights, "weight_decay": schedule.weight_decay}, {"params": biases, "weight_decay": 0.0}],
        lr=schedule.learning_rate,
    )
    return {"main": main} if tables is None else {"main": main, "tables": tables.optimiser}


def batches(
    sessions: np.ndarray, lengths: np.ndarray, batch: int, streams: Streams, epoch: int
) -> Iterator[np.ndarray]:
    """The sessions of one epoch in shuffled batches of similar length; the order depends on (seed, epoch) alone."""
    generator = streams.numpy("batches", epoch)
    order = generator.permutation(len(sessions))
    # Sorting within blocks of sixteen batches saves most of the padding and leaves most of the chance.
    block = 16 * batch
    order = np.concatenate(
        [
            chunk[np.argsort(lengths[chunk], kind="stable")]
            for chunk in (order[start : start + block] for start in range(0, len(order), block))
        ]
    )
    starts = np.arange(0, len(order), batch)
    for start in generator.permutation(starts):
        yield sessions[order[start : start + batch]]


def take_step(
    objective: Objective, optimiser: torch.optim.Optimizer, schedule: Schedule, sessions: np.ndarray, step: int
) -> tuple[float, int]:
    """One step on these sessions. Returns the sum of their loss and the number of their items."""
    loss, items = objective.loss(sessions, step)
    if not torch.isfinite(loss):
        raise _not_a_number(objective, sessions, step, float(loss.detach()))
    if items:
        optimiser.zero_grad()
        (loss / (objective.items * schedule.batch)).backward()
        rows = [] if objective.tables is None else objective.tables.leaves()
        nn.utils.clip_grad_norm_([*objective.model.parameters(), *rows], schedule.largest_norm)
        optimiser.step()
        if objective.tables is not None:
            objective.tables.step()
    return float(loss.detach()), items


@torch.no_grad()
def _not_a_number(objective: Objective, sessions: np.ndarray, step: int, loss: float) -> Diverged:
    """Names the sessions whose loss is not finite on their own, or all of the batch where none or every one is."""
    alone = [session for session in sessions if not torch.isfinite(objective.loss(np.array([session]), step)[0])]
    names = [str(objective.names[session]) for session in (alone or sessions)]
    few = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    return Diverged(
        f"{objective.name} step {step}",
        f"the loss is {loss} on a batch of {len(sessions)} sessions, by {len(names)} of them: {few}",
        "look at these sessions' columns, or lower the learning rate",
    )


@torch.no_grad()
def _end_epoch(objective: Objective, schedule: Schedule, state: _State, on_metrics: OnMetrics | None) -> None:
    held_out = objective.held_out()
    if schedule.annealed or held_out < state.best_loss:
        state.best_loss, state.best_epoch = held_out, state.epoch
        state.best = copy.deepcopy(objective.model.state_dict())
    else:
        state.failures += 1
    if on_metrics is not None:
        mean = state.total / max(state.items, 1)
        on_metrics(state.step, {f"{objective.name}/nll": mean, f"{objective.name}/held_out_nll": held_out})
    state.epoch += 1
    state.cursor, state.total, state.items = 0, 0.0, 0


def _resume(
    checkpoint: str | Path | None, objective: Objective, optimisers: dict[str, torch.optim.Optimizer]
) -> _State:
    found = checkpoint and load_checkpoint(checkpoint, {"model": objective.model}, optimisers, objective.settings)
    if not found:
        return _State()
    progress, best = found
    numbers = {name: value for name, value in progress.items() if name != "settings"}
    loss = math.inf if numbers["best_loss"] is None else numbers["best_loss"]
    return _State(**numbers | {"best_loss": loss}, best=best)
