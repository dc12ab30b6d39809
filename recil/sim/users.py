"""Users fitted to a log: their behaviour, and the sessions' own starts to draw from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from recil.logs.history import History
from recil.logs.session_log import SessionLog
from recil.policies.inputs import Feature
from recil.random import Streams
from recil.sim.behaviour import Behaviour
from recil.sim.feedback import codes_of
from recil.sim.identity import digest_of
from recil.sim.likelihood import LogProb
from recil.sim.rates import Rates
from recil.sim.runtime import TorchRuntime
from recil.sim.stories import ANSWERS, CLICKS, LEAVES, logged_story


@dataclass(frozen=True)
class Starts:
    """How the log's sessions begin; a simulated session begins like one of them.

    kinds     [S, M], probability of each user type given the whole session
    user      name -> [S], the session's user columns
    context   name -> [S, C], the contexts of its steps; lengths int64 [S] says how many, later steps repeat them
    """

    kinds: Tensor
    user: Mapping[str, Tensor] = field(default_factory=dict)
    context: Mapping[str, Tensor] = field(default_factory=dict)
    lengths: Tensor | None = None

    def draw(self, sessions: Tensor, slate_size: int, horizon: int, streams: Streams) -> tuple[Tensor, History]:
        """Types (int64 [B]) and empty histories of the sessions at these addresses."""
        uniforms = streams.uniform("start", sessions, count=2, dtype=torch.float64)
        chosen = (uniforms[:, 0] * self.kinds.shape[0]).long()
        edges = self.kinds[chosen].double().cumsum(-1)
        kind = (edges < uniforms[:, 1:] * edges[:, -1:]).sum(-1).clamp(max=self.kinds.shape[1] - 1)
        context = {}
        if self.context:
            assert self.lengths is not None
            steps = torch.arange(horizon) % self.lengths[chosen][:, None]
            context = {name: values[chosen].gather(1, steps) for name, values in self.context.items()}
        user = {name: values[chosen] for name, values in self.user.items()}
        return kind, History.start(sessions, slate_size, user, context)


@dataclass(frozen=True)
class UserModel:
    """Fitted users.

    item_columns   name -> [A] or [A, M], the items table
    baselines      rates fitted to the same log, which the users must beat (recil.sim.card)
    leaving_rate   sessions ended by the user, per step of that log
    report         what the fit saw of itself (epochs, held-out negative log-likelihood per session)
    """

    behaviour: Behaviour
    starts: Starts
    item_ids: np.ndarray
    item_columns: Mapping[str, Tensor]
    baselines: Mapping[str, Rates] = field(default_factory=dict)
    leaving_rate: float = 0.0
    report: Mapping[str, float] = field(default_factory=dict)

    @cached_property
    def digest(self) -> str:
        """Equal where simulated sessions go the same way."""
        return digest_of(self)

    def log_prob(self, sessions: History) -> tuple[Tensor, LogProb]:
        """Score sessions under every type: log p(session | type), [B, M]; and the parts, B * M rows, type fastest."""
        return score(self.behaviour, self.item_columns, sessions)

    @torch.no_grad()
    def kinds(self, sessions: History) -> Tensor:
        """[B, M]: probability of each type given the whole session."""
        by_kind, _ = self.log_prob(sessions)
        return torch.softmax(by_kind + self.behaviour.type_log_prior(), -1)


def ends_of(log: SessionLog) -> np.ndarray:
    """float64 [N]: 1 at steps after which the user left. Where the log does not say why it ends, the user left."""
    ends = np.zeros(log.steps)
    ends[log.offsets[1:] - 1] = 1.0 if log.terminated is None else log.terminated
    return ends


def observations(
    sessions: History, leaves: bool, dtype: torch.dtype = torch.float32, feedback: tuple[Feature, ...] = ()
) -> dict[str, Tensor]:
    """What a log says about users: clicks [T, B, K], departures [T, B], and each kind of feedback [T, B, K].

    Where a log does not say whether a session's end was the user's choice, it counts as one. dtype: that of the users'
    parameters, since torch scores a float32 value in float32.
    """
    clicks = (sessions.reward > 0).to(dtype).transpose(0, 1)
    last = torch.arange(sessions.steps)[:, None] == sessions.length - 1
    if sessions.terminated is not None:
        last = last & sessions.terminated
    answers = {f"{ANSWERS}.{kind.name}": _answered(sessions, kind).transpose(0, 1) for kind in feedback}
    return {CLICKS: clicks, LEAVES: (last & torch.tensor(leaves)).to(clicks.dtype), **answers}


def _answered(sessions: History, kind: Feature) -> Tensor:
    """int64 [B, T, K]: the class answered, -1 where nothing was shown, answered, or logged."""
    if kind.name not in sessions.feedback:
        return torch.full_like(sessions.items, -1)
    return torch.where(sessions.shown, codes_of(kind, sessions.feedback[kind.name]), -1)


def score(behaviour: Behaviour, item_columns: Mapping[str, Tensor], sessions: History) -> tuple[Tensor, LogProb]:
    """Log p(session | type), [B, M], through the story that simulates; and the parts, with B * M rows, type fastest."""
    kinds = behaviour.layout.types
    rows = torch.arange(sessions.batch).repeat_interleave(kinds)
    kinds_of_feedback = {kind.name for kind in behaviour.layout.feedback}
    kept = {name: values for name, values in sessions.feedback.items() if name in kinds_of_feedback}
    wide = replace(sessions, propensity=None, feedback=kept).take(rows)
    network = logged_story(behaviour, wide, item_columns, torch.arange(kinds).repeat(sessions.batch))
    observed = observations(wide, behaviour.layout.leaves, behaviour.appeal.dtype, behaviour.layout.feedback)
    scored = TorchRuntime(network).log_prob(observed, sessions.steps)
    return scored.total.reshape(sessions.batch, kinds), scored


def item_columns_of(log: SessionLog) -> dict[str, Tensor]:
    """The items table as tensors, name -> [A] or [A, M]."""
    everything = np.arange(log.catalogue)
    return {name: column.tensor(everything) for name, column in log.item_features.items()}
