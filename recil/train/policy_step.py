"""One step of corrected policy gradient on a batch of sessions: the same step from a log and in a world."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from recil.errors import InputError
from recil.logs.history import History
from recil.ops import policy_gradient
from recil.ops.importance import effective_sample_size
from recil.ops.slates import plackett_luce_log_prob
from recil.ops.softmax import LOGITS_AT_ONCE
from recil.policies.softmax import SoftmaxPolicy
from recil.random import Streams
from recil.train.critic import Critic, critic_loss, give_credit
from recil.train.finetune_config import GradientConfig


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

    @staticmethod
    def of(
        name: str,
        policy: SoftmaxPolicy,
        clone: SoftmaxPolicy | None,
        config: GradientConfig,
        kl: float,
        slate_size: int,
        streams: Streams,
    ) -> Learner:
        critic = Critic(policy.config.encoder.width, slate_size, config.critic_width, streams.generator("critic"))
        critic.to(next(policy.parameters()).device)
        optimisers: dict[str, torch.optim.Optimizer] = {
            "policy": torch.optim.Adam(policy.parameters(), config.learning_rate),
            "critic": torch.optim.Adam(critic.parameters(), config.critic_learning_rate),
        }
        return Learner(name, policy, clone, config, kl, critic, optimisers)

    @property
    def modules(self) -> dict[str, nn.Module]:
        return {"policy": self.policy, "critic": self.critic}

    def warm_up(self, sessions: History) -> float:
        """One step of the critic alone, with the policy as it is. Returns its loss."""
        with torch.no_grad():
            states = self.policy.encode(sessions)
            log_prob = self.policy.log_prob_of_sessions(sessions)
        weight = policy_gradient.per_step_weight(log_prob, log_propensity(sessions), self.config.cap)
        return self._fit_critic(sessions, states, weight)

    def improve(self, sessions: History) -> dict[str, float]:
        """One step of the policy and of the critic on sessions with propensities. Returns the step's diagnostics."""
        config, shown, behaviour = self.config, sessions.shown, log_propensity(sessions)
        states = self.policy.encode(sessions)
        scores = score(self.policy, self.clone, states, sessions)
        credit = give_credit(self.critic, states, sessions, self.scale, config)
        weight = policy_gradient.per_step_weight(scores.log_prob, behaviour, config.cap, config.top_k)
        terms = policy_gradient.per_step(scores.log_prob, weight, credit.advantage)
        floor = config.entropy_floor * scores.reference_entropy
        # Below the floor entropy comes first, until it is above it again: no reward outweighs it.
        below = bool(scores.entropy < floor)
        loss = -scores.entropy if below else self.kl * scores.kl - terms.sum() / shown.sum().clamp(min=1)
        norm = self._descend("policy", self.policy, loss, sessions)
        capped = policy_gradient.per_step_weight(scores.log_prob, behaviour, config.cap)
        critic = self._fit_critic(sessions, states, capped)
        self.step += 1
        return {
            "objective": float((weight * credit.advantage)[shown].mean()) * self.scale,
            **ratio_diagnostics((scores.log_prob.detach() - behaviour)[shown], config.cap),
            "kl_clone": float(scores.kl.detach()),
            "entropy": float(scores.entropy.detach()),
            "below_entropy_floor": float(below),
            "critic_loss": critic,
            "gradient_norm": norm,
        }

    def _fit_critic(self, sessions: History, states: Tensor, weight: Tensor) -> float:
        credit = give_credit(self.critic, states, sessions, self.scale, self.config)
        loss = critic_loss(self.critic, states, credit, weight, sessions.shown)
        self._descend("critic", self.critic, loss, sessions)
        return float(loss.detach())

    def _descend(self, part: str, module: nn.Module, loss: Tensor, sessions: History) -> float:
        """One step down this loss; InputError, and no step, where loss or gradient is not finite."""
        self.optimisers[part].zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(module.parameters(), self.config.gradient_norm)
        if not (torch.isfinite(loss) and torch.isfinite(norm)):
            few = ", ".join(map(str, sessions.session[:8].tolist())) + (", ..." if sessions.batch > 8 else "")
            raise InputError(
                f"{self.name} step {self.step}",
                f"the {part}'s loss is {float(loss.detach())}, its gradient {float(norm)} long, on the "
                f"{sessions.batch} sessions {few}",
                "look at these sessions' rewards, propensities and columns, or lower the learning rate",
            )
        self.optimisers[part].step()
        return float(norm)


@dataclass(frozen=True)
class Scores:
    """log_prob [B, T, K] of the slates, 0 at pads; means over the steps: entropy, kl to the clone, reference_entropy.

    The reference is the clone; without one, kl is 0 and the reference uniform.
    """

    log_prob: Tensor
    entropy: Tensor
    kl: Tensor
    reference_entropy: Tensor


def score(policy: SoftmaxPolicy, clone: SoftmaxPolicy | None, states: Tensor, sessions: History) -> Scores:
    """The policy, with gradient, on sessions whose states [B, T + 1, D] under it are known."""
    took_place = sessions.happened & sessions.shown.any(-1)
    slates, states = sessions.items[took_place], states[:, :-1][took_place]
    with torch.no_grad():
        before = states if clone is None else clone.encode(sessions)[:, :-1][took_place]

    def block(state: Tensor, reference_state: Tensor, slate: Tensor) -> tuple[Tensor, Tensor]:
        logits = policy.logits(state)
        entropy = policy_gradient.entropy(logits)
        if clone is None:
            divergence, reference = torch.zeros_like(entropy), torch.full_like(entropy, math.log(policy.catalogue))
        else:
            with torch.no_grad():
                compare = clone.logits(reference_state)
            divergence, reference = policy_gradient.kl_divergence(logits, compare), policy_gradient.entropy(compare)
        return plackett_luce_log_prob(logits, slate), torch.stack([entropy, divergence, reference], -1)

    rows = max(1, LOGITS_AT_ONCE // policy.catalogue)
    blocks = zip(states.split(rows), before.split(rows), slates.split(rows), strict=True)
    if len(states) <= rows:
        parts = [block(states, before, slates)]
    else:
        # Each block's logits are computed again in the backward pass, so that one block is stored at a time.
        parts = [checkpoint(block, *each, use_reentrant=False, preserve_rng_state=False) for each in blocks]
    chosen = torch.cat([log_prob for log_prob, _ in parts])
    entropy, kl, reference = torch.cat([means for _, means in parts]).mean(0).unbind()
    log_prob = chosen.new_zeros(sessions.items.shape).index_put((took_place,), chosen)
    return Scores(log_prob, entropy, kl, reference.detach())


def log_propensity(sessions: History) -> Tensor:
    """[B, T, K] log beta of the logged items, 0 at pads."""
    if sessions.propensity is None:
        raise InputError("sessions", "have no propensities", "give the log the propensities of its policy's clone")
    return torch.where(sessions.shown, sessions.propensity, 1.0).log()


def ratio_diagnostics(log_ratio: Tensor, cap: float) -> dict[str, float]:
    """What the ratios [n] say: effective share, share above the cap, mean (1 under full overlap), KL(beta || pi)."""
    kept = log_ratio.clamp(max=math.log(cap))
    return {
        "ess": float(effective_sample_size(kept)) / max(len(kept), 1),
        "capped_share": float((log_ratio > kept).to(kept.dtype).mean()),
        "mean_weight": float(log_ratio.exp().mean()),
        "kl_behaviour": float(policy_gradient.sampled_kl(log_ratio, torch.zeros_like(log_ratio)).mean()),
    }
