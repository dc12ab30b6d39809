"""Encoders: the sessions so far as vectors, before every step (training) or before the next one (rollout)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from recil.errors import InputError
from recil.logs.history import History
from recil.logs.session_log import SessionLog
from recil.policies.inputs import Feature, FeatureList, ItemTable, StepInput, blank, features_of
from recil.policies.transformer import CausalTransformer

# Some entries of a tensor set to 0 and the others enlarged, so that the mean stays.
Drop = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class EncoderConfig:
    """What an encoder is built from.

    kind      "bag" (decayed means of the steps), "gru" (a recurrent network) or "transformer" (causal self-attention)
    width     D, the number of entries of a state
    feedback  columns seen after a slate, part of the step's input
    context   columns known before a slate, they condition its state
    user      columns of the session's user, they condition every state
    blocks    of a transformer: how many times attention and hidden units follow each other
    heads     of a transformer: parts of a state that attend each by itself; they divide the width
    """

    kind: str = "bag"
    width: int = 32
    feedback: tuple[Feature, ...] = ()
    context: tuple[Feature, ...] = ()
    user: tuple[Feature, ...] = ()
    blocks: int = 2
    heads: int = 2

    def __post_init__(self) -> None:
        if self.kind not in MEMORIES:
            raise InputError("encoder kind", f"{self.kind!r} is unknown", f"choose one of {', '.join(MEMORIES)}")
        if self.width < 1:
            raise InputError("encoder width", f"{self.width} is below 1", "give a positive width")
        if self.blocks < 1 or self.heads < 1:
            raise InputError("encoder", f"{self.blocks} blocks of {self.heads} heads", "give 1 or more of each")
        if self.kind == "transformer" and (self.width % self.heads or self.width < 2 * self.heads):
            raise InputError(
                "encoder heads", f"{self.heads} heads in a width of {self.width}", "give a multiple of the heads"
            )

    def looking_at(self, log: SessionLog) -> EncoderConfig:
        """The same encoder with every feedback, context and user column of this log as input."""
        return replace(
            self,
            feedback=features_of(log.feedback),
            context=features_of(log.known_context),
            user=features_of(log.user_features),
        )


class DecayedMeans(nn.Module):
    """Each entry of the state is a mean of the steps' inputs with a decay of its own, from the last step to all."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.mix = blank(nn.Linear, inputs, width, bias=False)
        # Half of the decays start near the last step alone, the others reach back up to about ten steps.
        self.decay = nn.Parameter(torch.linspace(-4.0, 2.2, width))

    def scan(self, inputs: Tensor, took_place: Tensor, carry: Tensor | None) -> tuple[Tensor, Tensor]:
        """inputs: [B, T, inputs]; took_place: bool [B, T]; carry: [B, D + 1] or None at the start of the sessions.

        Returns the states before each step and after the last [B, T + 1, D], and the carry after the last: the decayed
        sum and the number of steps behind it.
        """
        if carry is None and not inputs.shape[1]:  # the mean of nothing
            nothing = inputs.new_zeros((len(inputs), len(self.decay) + 1))
            return nothing[:, None, 1:], nothing
        vectors = self.mix(inputs)
        if carry is None:
            carry = vectors.new_zeros((len(vectors), vectors.shape[2] + 1))
        total, before = carry[:, :-1], carry[:, -1:]
        totals, decay = [total], self.decay.sigmoid()
        for vector, happened in zip(vectors.unbind(1), took_place[..., None].unbind(1), strict=True):
            total = torch.where(happened, torch.addcmul(vector, decay, total), total)
            totals.append(total)
        steps = torch.cat([before, before + took_place.cumsum(1)], 1)
        return torch.stack(totals, 1) / self._sum_of_weights(steps), torch.cat([total, steps[:, -1:]], 1)

    def _sum_of_weights(self, steps: Tensor) -> Tensor:
        """1 + decay + decay² + ... over this many steps [B, S], at least 1. Returns [B, S, D]."""
        log_decay = nn.functional.logsigmoid(self.decay)
        return -torch.expm1(steps.clamp(min=1)[..., None] * log_decay) * (1 + self.decay.exp())


class Recurrent(nn.Module):
    """A gated recurrent unit over the steps' inputs."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.gru = blank(nn.GRU, inputs, width, batch_first=True)

    def scan(self, inputs: Tensor, took_place: Tensor, carry: Tensor | None) -> tuple[Tensor, Tensor]:
        """As DecayedMeans.scan, with the state as the carry, [1, B, D]."""
        if carry is None:
            carry = inputs.new_zeros((1, len(inputs), self.gru.hidden_size))
        if not inputs.shape[1]:
            return carry.transpose(0, 1), carry
        # Steps that took place come first, so that the others are read by nobody.
        order = torch.argsort((~took_place).to(torch.int8), dim=1, stable=True)
        compact = inputs.gather(1, order[..., None].expand_as(inputs))
        states = torch.cat([carry.transpose(0, 1), self.gru(compact, carry)[0]], 1)
        seen = torch.cat([torch.zeros_like(order[:, :1]), took_place.cumsum(1)], 1)
        states = states.gather(1, seen[..., None].expand(-1, -1, states.shape[2]))
        return states, states[:, -1][None]


MEMORIES: dict[str, Callable[[int, EncoderConfig], DecayedMeans | Recurrent | CausalTransformer]] = {
    "bag": lambda inputs, config: DecayedMeans(inputs, config.width),
    "gru": lambda inputs, config: Recurrent(inputs, config.width),
    "transformer": lambda inputs, config: CausalTransformer(inputs, config.width, config.blocks, config.heads),
}


class Encoder(nn.Module):
    """States of sessions: a memory of the steps, plus what is known before a slate (its context, the user)."""

    def __init__(self, config: EncoderConfig, items: ItemTable) -> None:
        super().__init__()
        self.config, self.items = config, items
        self.step_input = StepInput(config.feedback, config.width)
        self.memory = MEMORIES[config.kind](self.step_input.parts * config.width, config)
        self.context = FeatureList(config.context, config.width)
        self.user = FeatureList(config.user, config.width)

    def encode(self, history: History, drop: Drop | None = None) -> Tensor:
        """The state before each step, and the one before the coming slate. [B, T + 1, D]

        From index `length` on a session's state stays what it is after its last step. drop: applied to the steps'
        inputs and to the states, in training.
        """
        states, _ = self._scan(history, None, drop)
        steps = torch.arange(history.steps + 1, device=history.items.device)
        states = self._with_known(history, torch.minimum(steps, history.length[:, None]), states)
        return states if drop is None else drop(states)

    def last(self, history: History) -> Tensor:
        """The state before the coming slate [B, D]; without gradients, only the steps since the last call are read."""
        if torch.is_grad_enabled():
            states, _ = self._scan(history, None)
        else:
            states = self._resume(history)
        state = states[:, -1:]
        return self._with_known(history, history.length[:, None], state)[:, 0]

    def _scan(self, history: History, carry: Any, drop: Drop | None = None) -> tuple[Tensor, Any]:
        took_place = history.happened & history.shown.any(-1)
        inputs = self.step_input(self.items(), history)
        return self.memory.scan(inputs if drop is None else drop(inputs), took_place, carry)

    def _resume(self, history: History) -> Tensor:
        # The weights' version counters tell an encoder that was trained on since.
        version = sum(weight._version for weight in self.parameters())
        known, seen, carry = history.memo.get(self, (version, 0, None))
        if known != version:
            seen, carry = 0, None
        states, carry = self._scan(_steps_from(history, seen), carry)
        history.memo[self] = (version, history.steps, carry)
        return states

    def _with_known(self, history: History, step: Tensor, states: Tensor) -> Tensor:
        """States [B, S, D] plus vectors for the context of each step (int64 [B, S]) and for the user."""
        for part in self.context:
            values = history.context.get(part.feature.name)
            states = states + part(None if values is None else _at(values, step), tuple(step.shape), states)
        for part in self.user:
            user = history.user.get(part.feature.name)
            states = states + part(user, (history.batch,), states)[:, None]
        return states


def _at(values: Tensor, step: Tensor) -> Tensor:
    """values: [B, C] at step [B, S]; missing (-1, or 0 for numbers) where the step has no context yet."""
    missing = 0.0 if values.is_floating_point() else -1
    if not values.shape[1]:
        return torch.full(step.shape, missing, dtype=values.dtype, device=values.device)
    return torch.where(step < values.shape[1], values.gather(1, step.clamp(max=values.shape[1] - 1)), missing)


def _steps_from(history: History, start: int) -> History:
    """The steps from `start` on, as far as a step's input needs them."""
    if not start:
        return history
    return replace(
        history,
        items=history.items[:, start:],
        reward=history.reward[:, start:],
        length=(history.length - start).clamp(min=0),
        propensity=None,
        feedback={name: value[:, start:] for name, value in history.feedback.items()},
    )
