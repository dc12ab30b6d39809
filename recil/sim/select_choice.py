"""Which way of choosing from a slate, and whether a memory of items, a log speaks for: decided on sessions that the
candidates never saw. The simplest stands unless another is better by more than a standard error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from recil.logs.clusters import clusters_of
from recil.logs.session_log import SessionLog
from recil.random import Streams
from recil.sim.behaviour import Behaviour, ChoiceName
from recil.sim.layout import layout_of, possible_choices
from recil.sim.optimise import by_length, optimise, session_log_prob
from recil.sim.start import start_at_rates
from recil.sim.units import error_of_mean, set_aside
from recil.sim.user_config import UserConfig
from recil.sim.users import item_columns_of

# The choice models differ in how items on a slate stand in each other's way: a question that part of a log answers.
SESSIONS = 4000
# Small batches: so short a fit must come far in few epochs.
EPOCHS, BATCH = 4, 100


def select_choice(log: SessionLog, config: UserConfig, streams: Streams) -> tuple[ChoiceName, Mapping[str, float]]:
    """The choice model that predicts held-out sessions best, and each candidate's negative log-likelihood per session.

    They are compared without a memory of items, which is a question of its own.
    """
    candidates = possible_choices(log, config)
    if len(candidates) == 1:
        return candidates[0], {}
    shapes = [(choice, 0) for choice in candidates]
    scores, of = _held_out_scores(log, config, shapes, streams)
    report = {f"choice_{choice}_nll": -float(each.mean()) for choice, each in zip(candidates, scores, strict=True)}
    return candidates[_clearly_best(scores, of)], report


def select_window(
    log: SessionLog, config: UserConfig, choice: ChoiceName, streams: Streams
) -> tuple[int, Mapping[str, float]]:
    """Slates that users remember item by item, 0 or as many as the config has; and what each predicts, as above.

    Where interests differ, a memory takes up some of that; policies that repeat themselves are then judged by it.
    """
    if layout_of(log, config, choice).window == 0:
        return 0, {}
    windows = (0, config.window)
    scores, of = _held_out_scores(log, config, [(choice, window) for window in windows], streams)
    report = {f"window_{window}_nll": -float(values.mean()) for window, values in zip(windows, scores, strict=True)}
    return windows[_clearly_best(scores, of)], report


def _held_out_scores(
    log: SessionLog, config: UserConfig, shapes: Sequence[tuple[ChoiceName, int]], streams: Streams
) -> tuple[list[np.ndarray], np.ndarray | None]:
    """Log-likelihood of the same held-out sessions, float64 [S], of users of each way of choosing and window.

    All are fitted briefly, with few types, to the same part of the log. With the unit of each session, None where each
    is its own; no unit has sessions on both sides.
    """
    order = streams.numpy("users.choice").permutation(log.sessions)[:SESSIONS]
    part = log.select(np.sort(order))
    units = clusters_of(part, config.cluster)
    held_out, train = set_aside(units, max(1, part.sessions // 4), streams.numpy("users.choice.held_out"))
    groups = by_length(part, np.sort(held_out), min(BATCH, config.batch))
    epochs, batch = min(EPOCHS, config.epochs), min(BATCH, config.batch)
    brief = replace(config, types=min(2, config.types), epochs=epochs, batch=batch)
    columns, climbed = item_columns_of(part), part.select(np.sort(train))
    scores = []
    for choice, window in shapes:
        behaviour = Behaviour(layout_of(part, replace(brief, window=window), choice), streams)
        settled = start_at_rates(behaviour, climbed, brief)
        optimise(behaviour, columns, part, (train, held_out), settled, streams, None)
        with torch.no_grad():
            likelihood = [session_log_prob(behaviour, columns, part, group).double() for group in groups]
        scores.append(torch.cat(likelihood).numpy())
    return scores, None if units.of is None else units.of[np.concatenate(groups)]


def _clearly_best(scores: Sequence[np.ndarray], of: np.ndarray | None) -> int:
    """0, unless another is better than the first by more than the standard error of the paired difference."""
    best = max(range(len(scores)), key=lambda place: scores[place].mean())
    gain = scores[best] - scores[0]
    return best if gain.mean() > error_of_mean(gain, of) else 0
