"""The last steps of a fit: as many clicks and endings as the log has.

At the most probable parameters the slope of the likelihood in an intercept without a prior is 0, which for logits says
that expected and logged counts are the same. A fit that stops early, or that averages its steps, is not quite there,
most of all on short logs; and an error in a rate is an error in every simulated value. So the two intercepts take a few
steps of Newton's method on all sessions, everything else held.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from recil.logs.session_log import SessionLog
from recil.sim.behaviour import Behaviour
from recil.sim.optimise import by_length, session_log_prob
from recil.sim.users import ends_of

ROUNDS = 3
SESSIONS = 2048


def settle_intercepts(
    behaviour: Behaviour, item_columns: Mapping[str, Tensor], log: SessionLog, sessions: np.ndarray
) -> None:
    """Move readiness to click and to leave, `appeal` and `hazard`, to where these sessions have them. In place.

    The first step takes the curvature of single clicks and endings; what types share in a session makes it smaller, so
    that it does not go too far. The next ones take what the slope was seen to lose. Leaves nothing that requires
    gradients.
    """
    part = log.select(sessions)
    counts = part.reward[part.items >= 0], ends_of(part)
    curve = np.array([max(len(events) * float(events.mean()) * (1 - float(events.mean())), 1.0) for events in counts])
    least = 0.1 * curve
    step = before = np.zeros(2)
    for _ in range(ROUNDS):
        slope = _slope(behaviour, item_columns, part)
        lost = np.divide(before - slope, step, out=curve.copy(), where=np.abs(step) > 1e-4)
        curve, before = np.maximum(lost, least), slope
        step = np.clip(slope / curve, -1.0, 1.0)
        with torch.no_grad():
            behaviour.appeal.add_(float(step[0]))
            behaviour.hazard.add_(float(step[1]))
    behaviour.requires_grad_(False)


def _slope(behaviour: Behaviour, item_columns: Mapping[str, Tensor], log: SessionLog) -> np.ndarray:
    """[2]: of the log-likelihood in `appeal` and in `hazard`; 0 for one that it does not depend on."""
    free = (behaviour.appeal, behaviour.hazard)
    behaviour.requires_grad_(False)
    for intercept in free:
        intercept.requires_grad_(True)
    total = np.zeros(2)
    with torch.enable_grad():
        for chosen in by_length(log, np.arange(log.sessions), SESSIONS):
            likelihood = session_log_prob(behaviour, item_columns, log, chosen).sum()
            slopes = torch.autograd.grad(likelihood, free, allow_unused=True)
            total += np.array([0.0 if slope is None else float(slope) for slope in slopes])
    return total
