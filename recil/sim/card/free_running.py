"""Whole sessions simulated on logged slates, each as long as it was logged."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from recil.logs.session_log import SessionLog
from recil.random import Streams
from recil.sim.optimise import by_length
from recil.sim.resolvers import Drawn
from recil.sim.runtime import TorchRuntime
from recil.sim.stories import CLICKS, LEAVES, logged_story
from recil.sim.users import UserModel, observations

# A session is chosen among so many by how well it explains when the logged one ended.
CANDIDATES = 8


def free_running(users: UserModel, log: SessionLog, streams: Streams, batch: int = 4096) -> SessionLog:
    """The log with simulated clicks: types drawn from the users' mixture, moods that follow their own clicks.

    A logged session's length tells of its clicks, for those who are served badly leave. So that sessions are compared
    with their like, each is drawn several times and one is kept with the probability of leaving just when the logged
    one did (sampling, importance resampling: Rubin 1987). Draws depend on the streams and the session's position alone.
    """
    drawn = [_drawn(users, log, streams.child("free running", number), batch) for number in range(CANDIDATES)]
    scores = np.stack([score for _, score in drawn])
    weights = np.exp(scores - scores.max(0)).cumsum(0)
    uniforms = streams.numpy("free running").random(log.sessions)
    chosen = (weights < uniforms * weights[-1]).sum(0)
    owner = np.repeat(np.arange(log.sessions), log.lengths)
    clicks = np.stack([clicks for clicks, _ in drawn])[chosen[owner], np.arange(log.steps)]
    return replace(log, reward=clicks.astype(log.reward.dtype), feedback={}, propensity=None)


@torch.no_grad()
def _drawn(users: UserModel, log: SessionLog, streams: Streams, batch: int) -> tuple[np.ndarray, np.ndarray]:
    """Clicks [N, K], bool, and the log-probability of the logged ends given them, [S]."""
    clicks, score = np.zeros(log.items.shape, dtype=bool), np.zeros(log.sessions)
    layout, dtype = users.behaviour.layout, users.behaviour.appeal.dtype
    edges = users.behaviour.type_log_prior().double().exp().cumsum(-1)
    for chosen in by_length(log, np.arange(log.sessions), batch):
        sessions = replace(log.batch(chosen), propensity=None, feedback={})
        uniforms = streams.uniform("type", sessions.session, dtype=torch.float64)[:, 0]
        kind = torch.searchsorted(edges, uniforms * edges[-1]).clamp(max=len(edges) - 1)
        network = logged_story(users.behaviour, sessions, users.item_columns, kind)
        ends = {LEAVES: observations(sessions, layout.leaves, dtype)[LEAVES]}
        scored = TorchRuntime(network).log_prob(ends, sessions.steps, latent=Drawn(streams, sessions.session))
        rows, inside = log.rows(chosen)
        clicks[rows[inside]] = (scored.latent[CLICKS] > 0).transpose(0, 1).numpy()[inside]
        score[chosen] = scored.fields[LEAVES].double().sum(0).numpy()
    return clicks, score
