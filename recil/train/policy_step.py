"""One step of corrected policy gradient on a batch of sessions: the same step from a log and in a world."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from recil.logs.history import History
from recil.ops import policy_gradient
from recil.ops.importance import effective_sample_size
from recil.policies.softmax import SoftmaxPolicy
from recil.random import Streams
from recil.train.critic import Critic, critic_loss, give_credit
from recil.train.diverged import Diverged
from recil.train.finetune_config import GradientConfig
from recil.train.policy_loss import Credited, guarded, log_propensity, policy_loss
from recil.train.sampled_steps import SampledSteps


@dataclass
class Learner:
    """What policy-gradient training changes, and what it needs to do so.

    name    the section of the metrics and the place in error messages
    policy  the policy that is trained
    clone   the frozen policy it stays near, or None
    config  the gradient's settings
    kl      cost of a nat of KL(policy || clone), in units of `scale`
    scale   mean absolute reward of an item shown: credits are counted in it
    step    policy steps so far
    items   mean number of items of a session where batches hold sessions of similar length, as those of a log do: then
            a step's losses are divided by the items of an average batch. None: by those of its own
    sampled what stands for a large catalogue, or None where all of it is scored
    """

    name: str
    policy: SoftmaxPolicy
    clone: SoftmaxPolicy | None
    config: GradientConfig
    kl: float
    critic: Critic
    optimisers: dict[str, torch.optim.Optimizer]
    scale: float = 1.0
    step: int = 0
    items: float | None = None
    sampled: SampledSteps | None = None

    @staticmethod
    def of(
        name: str,
        policy: SoftmaxPolicy,
        clone: SoftmaxPolicy | None,
        config: GradientConfig,
        kl: float,
        slate_size: int,
        streams: Streams,
        sampled: SampledSteps | None = None,
    ) -> Learner:
        critic = Critic(policy.config.encoder.width, slate_size, config.critic_width, streams.generator("critic"))
        critic.to(next(policy.parameters()).device)
        whole = policy.parameters() if sampled is None else sampled.tables.others(policy)
        optimisers: dict[str, torch.optim.Optimizer] = {
            "policy": torch.optim.Adam(whole, config.learning_rate),
            "critic": torch.optim.Adam(critic.parameters(), config.critic_learning_rate),
        }
        if sampled is not None:
            optimisers["tables"] = sampled.tables.optimiser
        return Learner(name, policy, clone, config, kl, critic, optimisers, sampled=sampled)

    @property
    def modules(self) -> dict[str, nn.Module]:
        return {"policy": self.policy, "critic": self.critic}

    def warm_up(self, sessions: History, step: int = 0) -> float:
        """One step of the critic alone, the `step`-th, with the policy as it is. Returns its loss."""
        with torch.no_grad():
            if self.sampled is not None:
                seen = self.sampled.look(self.policy, self.clone, sessions, "warm-up", step)
                states, log_prob, behaviour = seen.states, seen.log_prob(), seen.behaviour(sessions)
            else:
                states, behaviour = self.policy.encode(sessions), log_propensity(sessions)
                log_prob = self.policy.log_prob_of_sessions(sessions)
        weight = policy_gradient.per_step_weight(log_prob, behaviour, self.config.cap)
        return self._fit_critic(sessions, states, weight)

    def improve(self, sessions: History) -> dict[str, float]:
        """One step of the policy and of the critic on sessions with propensities. Returns the step's diagnostics."""
        config, shown, seen = self.config, sessions.shown, None
        if self.sampled is not None:
            seen = self.sampled.look(self.policy, self.clone, sessions, "steps", self.step, learn=True)
        states = self.policy.encode(sessions) if seen is None else seen.states
        behaviour = log_propensity(sessions) if seen is None else seen.behaviour(sessions)
        credit = give_credit(self.critic, states, sessions, self.scale, config)
        weigh = partial(policy_gradient.per_step_weight, cap=config.cap, top_k=config.top_k)
        credited = Credited(behaviour, credit.advantage, weigh)
        if seen is None:
            costs = self.kl, config.entropy_floor
            found = policy_loss(self.policy, self.clone, states, sessions, credited, *costs, self.step)
        else:
            found = guarded(seen.run, sessions, credited, self.kl, config.entropy_floor)
        norm = self._descend("policy", self.policy, found.loss * self._share(sessions), sessions)
        weight = weigh(found.log_prob, behaviour)
        capped = policy_gradient.per_step_weight(found.log_prob, behaviour, config.cap)
        critic = self._fit_critic(sessions, states, capped)
        self.step += 1
        return {
            "objective": float((weight * credit.advantage)[shown].mean()) * self.scale,
            **ratio_diagnostics((found.log_prob - behaviour)[shown], config.cap),
            "kl_clone": float(found.kl),
            "entropy": float(found.entropy),
            "below_entropy_floor": float(found.below),
            "critic_loss": critic,
            "gradient_norm": norm,
        }

    def _fit_critic(self, sessions: History, states: Tensor, weight: Tensor) -> float:
        credit = give_credit(self.critic, states, sessions, self.scale, self.config)
        loss = critic_loss(self.critic, states, credit, weight, sessions.shown) * self._share(sessions)
        self._descend("critic", self.critic, loss, sessions)
        return float(loss.detach())

    def _share(self, sessions: History) -> float:
        """How many items the sessions hold, of those of an average batch."""
        return 1.0 if self.items is None else float(sessions.shown.sum()) / (self.items * sessions.batch)

    def _descend(self, part: str, module: nn.Module, loss: Tensor, sessions: History) -> float:
        """One step down this loss; InputError, and no step, where loss or gradient is not finite."""
        self.optimisers[part].zero_grad()
        loss.backward()
        tables = self.sampled.tables if self.sampled is not None and part == "policy" else None
        rows = [] if tables is None else tables.leaves()
        norm = nn.utils.clip_grad_norm_([*module.parameters(), *rows], self.config.gradient_norm)
        if not (torch.isfinite(loss) and torch.isfinite(norm)):
            few = ", ".join(map(str, sessions.session[:8].tolist())) + (", ..." if sessions.batch > 8 else "")
            raise Diverged(
                f"{self.name} step {self.step}",
                f"the {part}'s loss is {float(loss.detach())}, its gradient {float(norm)} long, on the "
                f"{sessions.batch} sessions {few}",
                "look at these sessions' rewards, propensities and columns, or lower the learning rate",
            )
        self.optimisers[part].step()
        if tables is not None:
            tables.step()
        return float(norm)


def ratio_diagnostics(log_ratio: Tensor, cap: float) -> dict[str, float]:
    """What the ratios [n] say: effective share, share above the cap, mean (1 under full overlap), KL(beta || pi)."""
    kept = log_ratio.clamp(max=math.log(cap))
    return {
        "ess": float(effective_sample_size(kept)) / max(len(kept), 1),
        "capped_share": float((log_ratio > kept).to(kept.dtype).mean()),
        "mean_weight": float(log_ratio.exp().mean()),
        "kl_behaviour": float(policy_gradient.sampled_kl(log_ratio, torch.zeros_like(log_ratio)).mean()),
    }
