"""How the numbers that only some estimators look at are worked out from a batch of logged sessions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from recil.errors import InputError
from recil.evaluate.arrays import Extra
from recil.evaluate.reward_model import RewardModel
from recil.evaluate.scoring import WholeCatalogue, category_log_prob
from recil.logs.history import History
from recil.logs.session_log import PAD, Column, SessionLog
from recil.policies.protocol import Policy

# The table of moves between states holds steps * states**2 numbers for each replicate.
_MOST_MOVES = 4096
# Log-probabilities in single precision: a probability of 1 may come out a little below.
_CERTAIN = -1e-3


@dataclass(frozen=True)
class Models:
    """Models fitted on other sessions: of rewards; of the target's return; of least variance. None: not needed."""

    reward: RewardModel | None = None
    fqe: RewardModel | None = None
    mrdr: RewardModel | None = None


@dataclass(frozen=True)
class Look:
    """B logged sessions under one policy.

    scores, log_propensity  float64 [B, T, K], log-probabilities by the target and by the logging policy
    log_ratio               float64 [B, T]
    own                     int64 [draws, B, T, K], slates the target would have shown
    discount                float64 [T]
    fold                    int64 [B]
    """

    policy: Policy
    behaviour: Policy | None
    history: History
    scores: Tensor
    log_propensity: Tensor
    log_ratio: Tensor
    own: Tensor
    discount: Tensor
    models: Models
    fold: Tensor
    state: Column | None
    state_name: str | None
    category: Tensor | None

    def predicted(self, model: RewardModel) -> Tensor:
        """[B, T], the value of the logged slates, discounted."""
        return model.value(self.history.items, self.history.happened, self.fold) * self.discount

    def starts(self, model: RewardModel) -> Tensor:
        """[B, 1, F], the mean value of the target's own first slates by the model of every fold."""
        return torch.stack([model.starts(slates[:, 0]) for slates in self.own]).mean(0)[:, None]

    def expected(self, model: RewardModel) -> Tensor:
        """[B, T], the mean value of the target's own slates, discounted."""
        happened = self.history.happened
        return torch.stack([model.value(slates, happened, self.fold) for slates in self.own]).mean(0) * self.discount


def extras_of(look: Look, needs: frozenset[Extra]) -> dict[Extra, Tensor]:
    return {extra: _EXTRAS[extra](look) for extra in needs}


def state_column(log: SessionLog, name: str | None) -> Column:
    """The context column whose codes are the state. InputError where there is none, or too many states."""
    column = log.known_context.get(name or "")
    if column is None or column.categories is None:
        raise InputError(
            "state",
            f"{name!r} is no categorical context column",
            f"name the state's column: {', '.join(log.known_context) or 'the log has no context columns'}",
        )
    moves = int(log.lengths.max()) * (len(column.categories) + 1) ** 2
    if moves > _MOST_MOVES:
        raise InputError("state", f"{len(column.categories)} states are too many to count moves", "give fewer states")
    return column


def category_codes(log: SessionLog, name: str | None, policy: Policy, behaviour: Policy | None) -> Tensor:
    """int64 [A], the category of each item; a missing one is a category too. InputError where MIPS is impossible."""
    column = log.item_features.get(name or "")
    if column is None or column.categories is None or column.values.ndim != 1:
        raise InputError(
            "category",
            f"{name!r} is no column with one category per item",
            f"name the items' column: {', '.join(log.item_features) or 'the log has no item columns'}",
        )
    most = int((log.items != PAD).sum(1).max())
    if most > 1:
        raise InputError("mips", f"the log has slates of {most} items", "it weighs slates of one item only")
    for role, one in (("policy", policy), ("behaviour", behaviour)):
        if not isinstance(one, WholeCatalogue):
            raise InputError(
                role,
                "mips needs the probability of every item, by the target and by the logging policy",
                "give policies with next_logits; behaviour= is the logging policy or its clone",
            )
    return torch.from_numpy(column.values.astype("int64")) + 1


def _rewards(look: Look) -> Tensor:
    reward = torch.where(look.history.shown, look.history.reward, 0.0).double()
    return reward * look.discount[:, None]


def _position_log_ratio(look: Look) -> Tensor:
    return torch.where(look.history.shown, look.scores - look.log_propensity, 0.0)


def _reward_model(look: Look) -> RewardModel:
    assert look.models.reward is not None
    return look.models.reward


def _position_predicted(look: Look) -> Tensor:
    return _reward_model(look).by_position(look.history.items, look.fold) * look.discount[:, None]


def _position_expected(look: Look) -> Tensor:
    model = _reward_model(look)
    values = torch.stack([model.by_position(slates, look.fold) for slates in look.own])
    return values.mean(0) * look.discount[:, None]


def _ahead(look: Look) -> Tensor:
    ahead = _reward_model(look).ahead[look.fold, : look.history.steps]
    return torch.where(look.history.happened, ahead, 0.0) * look.discount


def _agrees(look: Look) -> Tensor:
    total = torch.where(look.history.shown, look.scores, 0.0).sum(-1)
    return ((total > _CERTAIN) & look.history.happened).double()


def _state(look: Look) -> Tensor:
    assert look.state is not None and look.state.categories is not None and look.state_name is not None
    codes = look.history.context[look.state_name][:, : look.history.steps].long() + 1
    happened = look.history.happened
    states = torch.nn.functional.one_hot(torch.where(happened, codes, 0), len(look.state.categories) + 1).double()
    return states * happened[:, :, None]


def _category_log_ratio(look: Look) -> Tensor:
    assert look.category is not None
    assert isinstance(look.policy, WholeCatalogue) and isinstance(look.behaviour, WholeCatalogue)
    target = category_log_prob(look.policy, look.history, look.category)
    return target - category_log_prob(look.behaviour, look.history, look.category)


def _fitted(look: Look, model: RewardModel | None) -> RewardModel:
    assert model is not None
    return model


_EXTRAS: Mapping[Extra, Callable[[Look], Tensor]] = MappingProxyType(
    {
        Extra.STEP_LOG_RATIO: lambda look: look.log_ratio,
        Extra.SHOWN: lambda look: look.history.shown.double(),
        Extra.POSITION_LOG_RATIO: _position_log_ratio,
        Extra.POSITION_REWARD: _rewards,
        Extra.POSITION_PREDICTED: _position_predicted,
        Extra.POSITION_EXPECTED: _position_expected,
        Extra.AHEAD: _ahead,
        Extra.ITEMS: lambda look: look.history.items.clamp(min=0),
        Extra.OWN_ITEMS: lambda look: look.own.clamp(min=0).permute(1, 2, 0, 3),
        Extra.AGREES: _agrees,
        Extra.STATE: _state,
        Extra.CATEGORY_LOG_RATIO: _category_log_ratio,
        Extra.MODEL_STARTS: lambda look: look.starts(_reward_model(look)),
        Extra.FQE_STARTS: lambda look: look.starts(_fitted(look, look.models.fqe)),
        Extra.FQE_PREDICTED: lambda look: look.predicted(_fitted(look, look.models.fqe)),
        Extra.FQE_EXPECTED: lambda look: look.expected(_fitted(look, look.models.fqe)),
        Extra.MRDR_PREDICTED: lambda look: look.predicted(_fitted(look, look.models.mrdr)),
        Extra.MRDR_EXPECTED: lambda look: look.expected(_fitted(look, look.models.mrdr)),
    }
)
