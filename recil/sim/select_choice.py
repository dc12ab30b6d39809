"""Which way of choosing from a slate a log speaks for: decided on sessions that the candidates never saw."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch

from recil.logs.session_log import SessionLog
from recil.random import Streams
from recil.sim.behaviour import Behaviour, ChoiceName
from recil.sim.layout import layout_of, possible_choices
from recil.sim.optimise import by_length, optimise, session_log_prob
from recil.sim.start import start_at_rates
from recil.sim.user_config import UserConfig
from recil.sim.users import item_columns_of

# The choice models differ in how items on a slate stand in each other's way: a question that part of a log answers.
SESSIONS = 4000
EPOCHS = 8


def select_choice(log: SessionLog, config: UserConfig, streams: Streams) -> tuple[ChoiceName, Mapping[str, float]]:
    """The choice model that predicts held-out sessions best, and each candidate's negative log-likelihood per session.

    Every candidate is fitted briefly, with few types, to the same part of the log and judged on the same sessions. The
    simplest stands unless another is better by more than a standard error.
    """
    candidates = possible_choices(log, config)
    if len(candidates) == 1:
        return candidates[0], {}
    order = streams.numpy("users.choice").permutation(log.sessions)[:SESSIONS]
    part = log.select(np.sort(order))
    sessions = streams.numpy("users.choice.held_out").permutation(part.sessions)
    held_out, train = np.split(sessions, [max(1, part.sessions // 4)])
    brief = replace(config, types=min(2, config.types), epochs=min(EPOCHS, config.epochs))
    scores: dict[ChoiceName, np.ndarray] = {}
    for choice in candidates:
        behaviour, columns = Behaviour(layout_of(part, brief, choice), streams), item_columns_of(part)
        start_at_rates(behaviour, part.select(np.sort(train)), brief)
        optimise(behaviour, columns, part, (train, held_out), brief, streams, None)
        with torch.no_grad():
            groups = by_length(part, np.sort(held_out), brief.batch)
            likelihood = [session_log_prob(behaviour, columns, part, group).double() for group in groups]
        scores[choice] = torch.cat(likelihood).numpy()
    report = {f"choice_{choice}_nll": -float(values.mean()) for choice, values in scores.items()}
    return _clearly_best(scores), report


def _clearly_best(scores: Mapping[ChoiceName, np.ndarray]) -> ChoiceName:
    """The first, unless another is better by more than the standard error of the paired difference."""
    first = next(iter(scores))
    best = max(scores, key=lambda choice: scores[choice].mean())
    gain = scores[best] - scores[first]
    return best if gain.mean() > gain.std() / np.sqrt(len(gain)) else first
