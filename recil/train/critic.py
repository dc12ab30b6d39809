"""The critic: what a slate and the rest of the session are expected to bring, as the baseline of an item's credit."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from recil.logs.history import History
from recil.train.finetune_config import GradientConfig


class Critic(nn.Module):
    """Expected reward of each position and expected return after the slate, from a state and its step.

    It reads the policy's states without gradient, so that fitting it never moves the policy.
    """

    def __init__(self, states: int, slate_size: int, width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.hidden = nn.utils.skip_init(nn.Linear, states + 2, width)
        self.out = nn.utils.skip_init(nn.Linear, width, slate_size + 1)
        with torch.no_grad():
            self.hidden.weight.normal_(0.0, (states + 2) ** -0.5, generator=generator)
            self.hidden.bias.zero_()
            self.out.weight.zero_()
            self.out.bias.zero_()

    def forward(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """states [B, T, D] -> expected reward by position [B, T, K], expected return after the slate [B, T]."""
        step = torch.arange(states.shape[1], device=states.device, dtype=states.dtype).expand(states.shape[:2])
        clock = torch.stack([1 / (1 + step), step / (10 + step)], -1)
        out = self.out(torch.tanh(self.hidden(torch.cat([states.detach(), clock], -1))))
        return out[..., :-1], out[..., -1]


@dataclass(frozen=True)
class Credit:
    """advantage [B, T, K] of the logged items; targets own [B, T, K] and after [B, T] that the critic is fitted to."""

    advantage: Tensor
    own: Tensor
    after: Tensor


@torch.no_grad()
def give_credit(critic: Critic, states: Tensor, sessions: History, scale: float, config: GradientConfig) -> Credit:
    """What each logged item brought beyond what the critic expected, in units of `scale`.

    states: [B, T + 1, D] of these sessions. Everything is 0 where nothing was shown.
    """
    shown, took_place = sessions.shown, sessions.happened & sessions.shown.any(-1)
    own = torch.where(shown, (sessions.reward / scale).to(states.dtype), 0.0)
    expected_own, expected_after = critic(states[:, :-1])
    expected_own = torch.where(shown, expected_own, 0.0)
    value = torch.where(took_place, expected_own.sum(-1) + expected_after, 0.0)
    after = returns_after(own.sum(-1), value, config.discount, config.trace)
    surprise = own - expected_own
    if config.credit == "slate":
        surprise = surprise.sum(-1, keepdim=True).expand_as(own)
    advantage = torch.where(shown, surprise + (after - expected_after)[..., None], 0.0)
    return Credit(advantage, own, after)


def returns_after(reward: Tensor, value: Tensor, discount: float, trace: float) -> Tensor:
    """discount * lambda-return of the next step, 0 after the last step.

    reward: [B, T], a step's rewards, 0 at padding; value: [B, T], the critic's V, 0 at padding. Returns [B, T]. Nothing
    is imputed beyond the end of a session, whether the user left or the horizon or the log cut it: what is compared is
    what sessions bring as long as they last. Source: Sutton & Barto (2018), section 12.1.
    """
    following, after = reward.new_zeros(reward.shape[0]), []
    for step in reversed(range(reward.shape[1])):
        after.append(discount * following)
        following = (1 - trace) * value[:, step] + trace * (reward[:, step] + after[-1])
    return torch.stack(after[::-1], 1)


def critic_loss(critic: Critic, states: Tensor, credit: Credit, weight: Tensor, shown: Tensor) -> Tensor:
    """Mean squared error over the items shown, each counted with its (capped) ratio.

    states: [B, T + 1, D]; weight: [B, T, K]; shown: bool [B, T, K].
    """
    expected_own, expected_after = critic(states[:, :-1])
    error = (credit.own - expected_own) ** 2 + ((credit.after - expected_after) ** 2)[..., None]
    return (weight * torch.where(shown, error, 0.0)).sum() / shown.sum().clamp(min=1)
