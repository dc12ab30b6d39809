"""Adversarial imitation (GAIL): a policy learns to be taken for the demonstrator, in sessions of one length."""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from recil.errors import InputError
from recil.logs.exact_rewards import narrowest
from recil.logs.history import History
from recil.logs.session_log import SessionLog
from recil.ops.adversarial import log_odds
from recil.policies.environment import Environment, identity_of
from recil.policies.softmax import SoftmaxPolicy
from recil.random import Streams
from recil.train.adversarial_config import AdversarialConfig
from recil.train.adversarial_coverage import Coverage
from recil.train.adversarial_step import Discriminator, ImitationReward, Imitator
from recil.train.checkpoint import digest_of_run, load_checkpoint, save_checkpoint
from recil.train.critic import Critic
from recil.train.diverged import naming
from recil.train.from_log import report
from recil.train.loop import OnMetrics

# Sessions that coverage is counted on, at most.
_COUNTED = 2000


@dataclass(frozen=True)
class Adversarial:
    """What adversarial imitation leaves behind.

    policy         the learner after the last iteration
    coverage       of the catalogue by the learner, in as many sessions as the demonstrations' were counted on
    demonstrated   of the catalogue by the demonstrations: far above `coverage` where the learner has dropped modes
    """

    policy: SoftmaxPolicy
    coverage: Coverage
    demonstrated: Coverage


@dataclass
class _Run:
    """One run: the two players, where they play, and iterations done."""

    imitator: Imitator
    discriminator: Discriminator
    world: Environment
    demonstrations: SessionLog
    reward: ImitationReward
    config: AdversarialConfig
    streams: Streams
    iteration: int = 0

    @property
    def modules(self) -> dict[str, nn.Module]:
        imitator = self.imitator
        return {"policy": imitator.policy, "critic": imitator.critic, "discriminator": self.discriminator.network}

    @property
    def optimisers(self) -> dict[str, torch.optim.Optimizer]:
        return self.imitator.optimisers | {"discriminator": self.discriminator.optimiser}

    def sessions(self, first: int, count: int) -> History:
        """Sessions that the policy acts now, at these addresses."""
        addresses = torch.arange(first, first + count, device=next(self.imitator.policy.parameters()).device)
        with torch.no_grad():
            acted = replace(self.world.rollout(self.imitator.policy, addresses, self.streams.child("world")), memo={})
        require_one_length("the world's sessions", acted.length, self.world.horizon)
        return acted


def adversarial(
    policy: SoftmaxPolicy,
    world: Environment,
    demonstrations: SessionLog,
    config: AdversarialConfig | None = None,
    seed: int = 0,
    *,
    reward: ImitationReward = log_odds,
    on_metrics: OnMetrics | None = None,
    checkpoint: str | Path | None = None,
) -> Adversarial:
    """A copy of `policy` that acts in the world until a discriminator takes it for the demonstrator; no click is used.

    reward: from the discriminator's logit (recil.ops.adversarial): `log_odds`, of either sign and the default; `log_d`,
    never positive; `minus_log_one_minus_d`, never negative. Rewards of one sign pay for short or for long sessions
    whatever the demonstrator did, so all sessions, demonstrated and simulated, must have the world's horizon as their
    length. It seeks modes: compare the coverage with the demonstrations'. With `checkpoint`, written after each
    iteration, a run that was stopped goes on where it stood. InputError: sessions of other lengths, another catalogue,
    a loss that is not finite. Source: Ho & Ermon (2016), "Generative adversarial imitation learning".
    """
    config = config or AdversarialConfig()
    _check(policy, world, demonstrations)
    run = _begin(policy, world, demonstrations, config, seed, reward)
    named = f"{getattr(reward, '__module__', '')}.{getattr(reward, '__qualname__', reward)}"
    data = (demonstrations.items, narrowest(demonstrations.reward), demonstrations.offsets)
    content = [asdict(config), seed, named, identity_of(world)]
    settings = digest_of_run(content, [*policy.state_dict().values(), *data])
    found = checkpoint and load_checkpoint(checkpoint, run.modules, run.optimisers, settings)
    if found:
        done = found[0]
        run.iteration, run.imitator.step, run.discriminator.step = done["iteration"], done["step"], done["judged"]
    while run.iteration * config.sessions_per_iteration < config.sessions:
        with naming(checkpoint):
            _iterate(run, on_metrics)
        if checkpoint is not None:
            steps = {"step": run.imitator.step, "judged": run.discriminator.step}
            progress = {"iteration": run.iteration, "settings": settings} | steps
            save_checkpoint(checkpoint, run.modules, run.optimisers, progress)
    return _with_coverage(run, on_metrics)


def _begin(
    policy: SoftmaxPolicy,
    world: Environment,
    demonstrations: SessionLog,
    config: AdversarialConfig,
    seed: int,
    reward: ImitationReward,
) -> _Run:
    streams = Streams(seed).child("adversarial")
    learner = copy.deepcopy(policy).requires_grad_(True).eval()
    start = copy.deepcopy(policy).requires_grad_(False).eval() if config.kl else None
    critic = Critic(policy.config.encoder.width, world.slate_size, config.critic_width, streams.generator("critic"))
    critic.to(next(policy.parameters()).device)
    optimisers: dict[str, torch.optim.Optimizer] = {
        "policy": torch.optim.Adam(learner.parameters(), config.learning_rate),
        "critic": torch.optim.Adam(critic.parameters(), config.critic_learning_rate),
    }
    imitator = Imitator(learner, start, critic, optimisers, config)
    discriminator = Discriminator.like(policy, config, streams.child("discriminator").seed)
    return _Run(imitator, discriminator, world, demonstrations, reward, config, streams)


def _iterate(run: _Run, on_metrics: OnMetrics | None) -> None:
    """Act; the discriminator learns to tell what was acted from the demonstrations; the policy learns from it."""
    config, number = run.config, run.iteration
    first = number * config.sessions_per_iteration
    acted = run.sessions(first, min(config.sessions_per_iteration, config.sessions - first))
    steps = config.discriminator_steps + (0 if number else config.discriminator_warmup)
    told: dict[str, float] = {}
    for step in range(steps):
        told = run.discriminator.tell_apart(_demonstrated(run, number, step), _some(acted, run, number, step))
    with torch.no_grad():
        reward = torch.where(acted.shown, run.reward(run.discriminator.logits(acted)), 0.0)
    paid = {"imitation_reward": float(reward[acted.shown].mean()), "return": float(acted.reward.sum((1, 2)).mean())}
    report(on_metrics, "adversarial", run.imitator.step, told | paid)
    for step in range(0 if number else config.critic_warmup):
        rows = _draw(acted.batch, run, "critic", step)
        run.imitator.fit_critic(acted.take(rows), reward[rows])
    _improve(run, acted, reward, on_metrics)
    run.iteration += 1


def _improve(run: _Run, acted: History, reward: Tensor, on_metrics: OnMetrics | None) -> None:
    """Passes over an iteration's sessions, until the policy has moved as far from the one that acted as it may."""
    for number in range(run.config.passes):
        order = torch.randperm(acted.batch, generator=run.streams.generator("batches", run.iteration, number))
        for rows in order.split(run.config.batch):
            metrics = run.imitator.improve(acted.take(rows), reward[rows])
            report(on_metrics, "adversarial", run.imitator.step, metrics)
            if metrics["kl_behaviour"] > run.config.iteration_kl:
                return


def _draw(sessions: int, run: _Run, purpose: str, *address: int) -> Tensor:
    """int64 [batch]: rows of a batch of sessions, drawn without replacement."""
    return torch.randperm(sessions, generator=run.streams.generator(purpose, *address))[: run.config.batch]


def _some(acted: History, run: _Run, iteration: int, step: int) -> History:
    return acted.take(_draw(acted.batch, run, "acted", iteration, step))


def _demonstrated(run: _Run, iteration: int, step: int) -> History:
    chosen = _draw(run.demonstrations.sessions, run, "demonstrated", iteration, step)
    return run.demonstrations.batch(chosen.numpy()).to(next(run.imitator.policy.parameters()).device)


def _with_coverage(run: _Run, on_metrics: OnMetrics | None) -> Adversarial:
    count, policy = min(run.demonstrations.sessions, _COUNTED), run.imitator.policy
    chosen = np.sort(_draw_all(run, count))
    shown = replace(run, streams=run.streams.child("coverage")).sessions(0, count)
    coverage = Coverage.of(shown.items, policy.catalogue)
    demonstrated = Coverage.of(run.demonstrations.batch(chosen).items, policy.catalogue)
    metrics = {"coverage": coverage.share, "effective_items": coverage.effective}
    metrics |= {"demonstrated_coverage": demonstrated.share, "demonstrated_effective_items": demonstrated.effective}
    report(on_metrics, "adversarial", run.imitator.step, metrics)
    return Adversarial(policy, coverage, demonstrated)


def _draw_all(run: _Run, count: int) -> np.ndarray:
    return run.streams.numpy("counted").choice(run.demonstrations.sessions, count, replace=False)


def require_one_length(whose: str, lengths: Tensor, horizon: int) -> None:
    """InputError unless all sessions (int64 [B]) have `horizon` steps."""
    other = int((lengths != horizon).sum())
    if other:
        raise InputError(
            "adversarial",
            f"{other} of {whose} do not have {horizon} steps but {int(lengths.min())} to {int(lengths.max())}: a "
            "discriminator's reward would pay for their length",
            f"give a world that nobody leaves and demonstrations of its horizon, such as those cut at step {horizon}; "
            "or learn by clone or dagger, which do not mind",
        )


def _check(policy: SoftmaxPolicy, world: Environment, demonstrations: SessionLog) -> None:
    sizes = (world.catalogue, policy.catalogue, demonstrations.catalogue)
    if len(set(sizes)) > 1:
        raise InputError(
            "adversarial",
            "the world has {} items, the policy {}, the demonstrations {}".format(*sizes),
            "give all of them over one catalogue",
        )
    if demonstrations.slate_size != world.slate_size:
        raise InputError(
            "adversarial",
            f"the demonstrations have slates of {demonstrations.slate_size} items and the world of {world.slate_size}",
            "give a world with the demonstrations' slate size",
        )
    require_one_length("the demonstrations", torch.from_numpy(demonstrations.lengths), world.horizon)
