"""Policies as tables of logits: cloned by counting, made better by policy gradient; many runs at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from recil.errors import InputError
from recil.exact.draw import Moves, ladder, pick
from recil.exact.episodes import Episodes
from recil.exact.mdp import TabularMDP
from recil.ops.demonstrations import demonstration_weight, with_demonstrations
from recil.random import Streams
from recil.train.finetune_config import require


@dataclass(frozen=True)
class TabularReinforceConfig:
    """How a table of logits is made better by its own sessions.

    sessions        of each run, in all
    batch           sessions of a run between two steps
    step_size       alpha: a return of 1 above the baseline moves the logit of what was shown by alpha (1 - pi); a step
                    sums over its sessions, so that alpha means the same with every batch
    baseline        share of the way to a batch's mean return that the baseline goes after it; 0 is none
    demonstrations  demonstrated sessions beside a batch, drawn anew for each; 0: what is given is not looked at
    scale, decay    lambda0 and lambda1 of their weight; see `demonstration_weight`
    """

    sessions: int = 5000
    batch: int = 50
    step_size: float = 1.0
    baseline: float = 0.05
    demonstrations: int = 0
    scale: float = 0.1
    decay: float = 0.95

    def __post_init__(self) -> None:
        for name in ("sessions", "batch"):
            require(self, name, getattr(self, name) >= 1, "give 1 or more")
        for name in ("demonstrations", "scale"):
            require(self, name, getattr(self, name) >= 0, "give 0 or more")
        require(self, "step_size", self.step_size > 0, "give a number above 0")
        for name in ("baseline", "decay"):
            require(self, name, 0 <= getattr(self, name) <= 1, "give a number from 0 to 1")


class Reinforced(NamedTuple):
    """sessions: so far, of each run; logits: float64 [R, S, A], the policies after them."""

    sessions: int
    logits: Tensor


def tabular_clone(demonstrations: Episodes, smoothing: float = 0.1) -> Tensor:
    """Logits of the most likely policy of each run's sessions, float64 [R, S, A]: log of (times shown + smoothing).

    smoothing: times that everything counts as shown beforehand, so that nothing is impossible; uniform where nobody
    has been.
    """
    if not smoothing > 0:
        raise InputError("tabular_clone smoothing", f"{smoothing} cannot be used", "give a number above 0")
    runs = len(demonstrations.action)
    run, _, _ = taken = demonstrations.happened.nonzero(as_tuple=True)
    state, action = demonstrations.state[..., :-1][taken], demonstrations.action[taken]
    shown = torch.full((runs, demonstrations.states, demonstrations.actions), smoothing, dtype=torch.float64)
    one = torch.ones(len(run), dtype=torch.float64)
    return shown.index_put_((run, state, action), one, accumulate=True).log()


def tabular_reinforce(
    mdp: TabularMDP,
    logits: Tensor,
    config: TabularReinforceConfig | None = None,
    seed: int = 0,
    demonstrations: Episodes | None = None,
) -> Iterator[Reinforced]:
    """REINFORCE from these logits, [R, S, A]: act, step, act again. Yields the start, and what each step came to.

    With demonstrations (of as many runs) every step adds theirs, weighted as DAPG does. A run's draws depend on the
    seed, its number and the session's. Sources: Williams (1992), "Simple statistical gradient-following algorithms for
    connectionist reinforcement learning"; Rajeswaran et al. (2018), "Learning complex dexterous manipulation with deep
    reinforcement learning and demonstrations".
    """
    config = config or TabularReinforceConfig()
    beside = demonstrations if config.demonstrations else None
    _check(mdp, logits, config, beside)
    table, streams = logits.clone().requires_grad_(), Streams(seed).child("tabular reinforce")
    acting, baseline = _Acting(mdp, streams), torch.zeros(len(logits), 1, 1, dtype=torch.float64)
    yield Reinforced(0, table.detach().clone())
    for iteration, first in enumerate(range(0, config.sessions, config.batch)):
        count = min(config.batch, config.sessions - first)
        own = acting.sessions(table.detach().softmax(-1), first, count)
        advantage = torch.where(own.happened, own.to_go - baseline, 0.0)
        log_policy = table.log_softmax(-1)
        log_prob = log_policy[own.run, own.state, own.action]
        if beside is None:
            gain = (advantage * log_prob).sum()
        else:
            shown, weight = _demonstrated(beside, log_policy, advantage, iteration, config, streams)
            gain = with_demonstrations(log_prob.flatten(), advantage.flatten(), shown, weight)
        (gradient,) = torch.autograd.grad(gain, table)
        table.data.add_(gradient, alpha=config.step_size)
        brought = own.to_go[..., :1].mean(1, keepdim=True)
        baseline = baseline + config.baseline * (brought - baseline)
        yield Reinforced(first + count, table.detach().clone())


class _Acted(NamedTuple):
    """What a batch did, all [R, B, T]; to_go: the return from a step on, undiscounted; run: [R, 1, 1]."""

    run: Tensor
    state: Tensor
    action: Tensor
    to_go: Tensor
    happened: Tensor


class _Acting:
    """Sessions of many policies in one world."""

    def __init__(self, mdp: TabularMDP, streams: Streams) -> None:
        self.mdp, self.moves, self.streams = mdp, Moves.of(mdp), streams

    def sessions(self, policies: Tensor, first: int, count: int, longest: int = 10_000) -> _Acted:
        """Sessions number `first` to first + count of each run. policies: [R, S, A]."""
        run = torch.arange(len(policies)).repeat_interleave(count)
        address = (run << 32) + torch.arange(first, first + count).repeat(len(policies))
        choice = ladder(policies).flatten(0, 1)
        state = self.moves.start(self.streams.uniform("start", address, dtype=torch.float64)[:, 0])
        going, steps = torch.ones_like(run, dtype=torch.bool), []
        for step in range(longest):
            draws = self.streams.uniform("step", address, step, 2, torch.float64)
            action = pick(choice[run * self.mdp.size[0] + state], draws[:, 0])
            after, paid = self.moves.step(state, action, draws[:, 1])
            steps.append((state, action, torch.where(going, paid, 0.0), going))
            going = going & ~self.mdp.terminal[after]
            if not bool(going.any()):
                break
            state = torch.where(going, after, state)
        states, actions, rewards, happened = (
            torch.stack(part, -1).unflatten(0, (-1, count)) for part in zip(*steps, strict=True)
        )
        to_go = rewards.flip(-1).cumsum(-1).flip(-1)
        return _Acted(torch.arange(len(policies))[:, None, None], states, actions, to_go, happened)


def _demonstrated(
    demonstrations: Episodes,
    log_policy: Tensor,
    advantage: Tensor,
    iteration: int,
    config: TabularReinforceConfig,
    streams: Streams,
) -> tuple[Tensor, Tensor]:
    """log pi of what drawn sessions demonstrate, and the weight of each, [n]; a run's weight is its own."""
    runs, sessions, _ = demonstrations.shape
    run = torch.arange(runs)
    drawn = streams.uniform("demonstration", run, iteration, config.demonstrations, torch.float64)
    session = (drawn * sessions).long()
    row = run[:, None]
    state, action = demonstrations.state[row, session][..., :-1], demonstrations.action[row, session]
    happened = demonstrations.happened[row, session]
    weight = torch.stack([demonstration_weight(own, iteration, config.scale, config.decay) for own in advantage])
    one = run[:, None, None].expand_as(happened)[happened]
    return log_policy[one, state[happened], action[happened]], weight[one]


def _check(mdp: TabularMDP, logits: Tensor, config: TabularReinforceConfig, beside: Episodes | None) -> None:
    if logits.ndim != 3 or tuple(logits.shape[1:]) != mdp.size or logits.dtype != torch.float64:
        raise InputError("logits", f"are {logits.dtype} {tuple(logits.shape)}", f"give float64 [R, {mdp.size}]")
    if not bool(logits.isfinite().all()):
        raise InputError("logits", "are not finite", "give what is never shown a small probability")
    if config.demonstrations and beside is None:
        raise InputError("TabularReinforceConfig demonstrations", "are asked for, and none are given", "give them")
    if beside is not None and (beside.shape[0], beside.states, beside.actions) != tuple(logits.shape):
        shape = (beside.shape[0], beside.states, beside.actions)
        raise InputError("demonstrations", f"are {shape}", f"give runs, states and actions as {tuple(logits.shape)}")
