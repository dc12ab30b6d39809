"""The two players of adversarial imitation: a discriminator of (history, item), and a policy paid by it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from recil.logs.history import History
from recil.ops import policy_gradient
from recil.ops.adversarial import discriminator_loss
from recil.policies.softmax import SoftmaxPolicy
from recil.train.adversarial_config import AdversarialConfig
from recil.train.critic import Critic, critic_loss, give_credit
from recil.train.diverged import Diverged
from recil.train.policy_loss import Credited, log_propensity, policy_loss
from recil.train.policy_step import ratio_diagnostics
from recil.train.reinforce import untrained

# A discriminator's logit -> reward; see recil.ops.adversarial.
ImitationReward = Callable[[Tensor], Tensor]


@dataclass
class Discriminator:
    """Logits of (history, item): how much likelier a pair is the demonstrator's than the learner's.

    network: an untrained policy like the learner; an item's score in a state is its logit, a sigmoid instead of the
    softmax. So it sees of a history what the policy sees, by an encoder of the same kind.
    """

    network: SoftmaxPolicy
    optimiser: torch.optim.Optimizer
    largest_norm: float
    step: int = 0

    @staticmethod
    def like(policy: SoftmaxPolicy, config: AdversarialConfig, seed: int) -> Discriminator:
        network = untrained(policy, seed).eval()
        weights = [weight for weight in network.parameters() if weight.ndim > 1 and weight.shape[-1] > 1]
        biases = [weight for weight in network.parameters() if not (weight.ndim > 1 and weight.shape[-1] > 1)]
        groups = [
            {"params": weights, "weight_decay": config.discriminator_decay},
            {"params": biases, "weight_decay": 0.0},
        ]
        optimiser = torch.optim.AdamW(groups, lr=config.discriminator_learning_rate)
        return Discriminator(network, optimiser, config.gradient_norm)

    def logits(self, sessions: History) -> Tensor:
        """[B, T, K] of the items shown, 0 at pads; without an [.., A] tensor."""
        states = self.network.before_steps(sessions)
        items = sessions.items.clamp(min=0)
        scores = (states[:, :, None] * nn.functional.embedding(items, self.network.output())).sum(-1)
        return torch.where(sessions.shown, scores + self.network.bias(items)[..., 0], 0.0)

    def tell_apart(self, demonstrated: History, acted: History) -> dict[str, float]:
        """One step on sessions of both sides. Returns loss and accuracy before it (chance: log 4 and one half)."""
        ours, theirs = self.logits(acted)[acted.shown], self.logits(demonstrated)[demonstrated.shown]
        loss = discriminator_loss(theirs, ours)
        descend("discriminator", self.network, self.optimiser, loss, self.largest_norm, acted, self.step)
        self.step += 1
        right = ((theirs > 0).double().mean() + (ours < 0).double().mean()) / 2
        return {"discriminator_loss": float(loss.detach()), "discriminator_accuracy": float(right)}


@dataclass
class Imitator:
    """The policy, what it stays near (or None), and a critic of the discriminator's rewards. step: steps so far."""

    policy: SoftmaxPolicy
    start: SoftmaxPolicy | None
    critic: Critic
    optimisers: dict[str, torch.optim.Optimizer]
    config: AdversarialConfig
    step: int = 0

    def fit_critic(self, acted: History, reward: Tensor) -> float:
        """One step of the critic alone. reward: [B, T, K], the discriminator's. Returns its loss."""
        with torch.no_grad():
            states = self.policy.encode(acted)
            log_prob = self.policy.log_prob_of_sessions(acted)
        weight = policy_gradient.per_step_weight(log_prob, log_propensity(acted), self.config.cap)
        return self._fit_critic(acted, reward, states, weight)

    def improve(self, acted: History, reward: Tensor) -> dict[str, float]:
        """One step of the policy and of the critic on sessions it acted. Returns the step's diagnostics."""
        config, behaviour = self.config, log_propensity(acted)
        states = self.policy.encode(acted)
        credit = give_credit(self.critic, states, judged(acted, reward), 1.0, config)
        weigh = partial(policy_gradient.per_step_weight, cap=config.cap, top_k=config.top_k)
        credited = Credited(behaviour, credit.advantage, weigh)
        costs = config.kl, config.entropy_floor
        found = policy_loss(self.policy, self.start, states, acted, credited, *costs, self.step)
        norm = descend(
            "policy", self.policy, self.optimisers["policy"], found.loss, config.gradient_norm, acted, self.step
        )
        capped = policy_gradient.per_step_weight(found.log_prob, behaviour, config.cap)
        critic = self._fit_critic(acted, reward, states, capped)
        self.step += 1
        return {
            **ratio_diagnostics((found.log_prob - behaviour)[acted.shown], config.cap),
            "entropy": float(found.entropy),
            "kl_start": float(found.kl),
            "below_entropy_floor": float(found.below),
            "critic_loss": critic,
            "gradient_norm": norm,
        }

    def _fit_critic(self, acted: History, reward: Tensor, states: Tensor, weight: Tensor) -> float:
        credit = give_credit(self.critic, states, judged(acted, reward), 1.0, self.config)
        loss = critic_loss(self.critic, states, credit, weight, acted.shown)
        descend("critic", self.critic, self.optimisers["critic"], loss, self.config.gradient_norm, acted, self.step)
        return float(loss.detach())


def judged(acted: History, reward: Tensor) -> History:
    """The sessions with the discriminator's rewards for clicks: for credit alone, since policies look at clicks."""
    return replace(acted, reward=reward, memo={})


def descend(
    part: str,
    module: nn.Module,
    optimiser: torch.optim.Optimizer,
    loss: Tensor,
    largest_norm: float,
    sessions: History,
    step: int,
) -> float:
    """One step down this loss; returns the gradient's length. InputError, and no step, where either is not finite."""
    optimiser.zero_grad()
    loss.backward()
    norm = nn.utils.clip_grad_norm_(module.parameters(), largest_norm)
    if not (torch.isfinite(loss) and torch.isfinite(norm)):
        few = ", ".join(map(str, sessions.session[:8].tolist())) + (", ..." if sessions.batch > 8 else "")
        raise Diverged(
            f"adversarial step {step}",
            f"the {part}'s loss is {float(loss.detach())}, its gradient {float(norm)} long, on the "
            f"{sessions.batch} simulated sessions {few}",
            "lower the learning rates, or look at the columns of the demonstrations",
        )
    optimiser.step()
    return float(norm)
