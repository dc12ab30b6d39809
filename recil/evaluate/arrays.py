"""What the estimators look at: numbers of a batch of sessions under one target policy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from torch import Tensor


class Extra(Enum):
    """Numbers that only some estimators look at; they are worked out where one of these is asked for.

    Rewards and predictions are discounted. [B, T, K] by position, [B, T] by step; 0 where nothing was shown. What is of
    the first step alone is [B, 1, F].
    """

    STEP_LOG_RATIO = "log ratio of the step's slate, before any cap, [B, T]"
    SHOWN = "1 where an item stands, [B, T, K]"
    POSITION_LOG_RATIO = "log ratio of the item at each position given those before it, [B, T, K]"
    POSITION_REWARD = "reward by position, [B, T, K]"
    POSITION_PREDICTED = "the reward model's part for the item shown at each position, [B, T, K]"
    POSITION_EXPECTED = "the same for the item the target would have shown there, [B, T, K]"
    AHEAD = "the reward model's expectation of what comes after the step, [B, T]"
    ITEMS = "the slate, int64 [B, T, K]"
    OWN_ITEMS = "slates the target drew itself, int64 [B, T, draws, K]"
    AGREES = "1 where the target shows exactly the logged slate, with probability 1, [B, T]"
    STATE = "1 at the state before the step, of S states, [B, T, S]"
    CATEGORY_LOG_RATIO = "log ratio of the category of the item shown, [B, T]"
    MODEL_STARTS = "value of the target's first slate by the reward model of each of F folds, [B, 1, F]"
    FQE_STARTS = "the same by fitted Q evaluation, [B, 1, F]"
    FQE_PREDICTED = "fitted Q evaluation of the slate shown, [B, T]"
    FQE_EXPECTED = "fitted Q evaluation of the target's own slate, [B, T]"
    MRDR_PREDICTED = "value of the slate shown by the model that minimises the variance, [B, T]"
    MRDR_EXPECTED = "value of the target's own slate by the model that minimises the variance, [B, T]"


@dataclass(frozen=True)
class SessionArrays:
    """What is known about B sessions under one target policy; all float64, rewards and predictions discounted.

    log_weight    [B, T], log w_{0:t} after the cap, an ended session keeps its last one
    reward        [B, T], gamma**t r_t summed over the slate
    happened      bool [B, T]
    capped        bool [B, T], the cap changed this weight, an ended session's too
    predicted     [B, T], gamma**t Q(x_t, slate_t); expected [B, T], gamma**t E_pi Q(x_t, .); None without a model
    extra         what else was asked for
    """

    log_weight: Tensor
    reward: Tensor
    happened: Tensor
    capped: Tensor
    predicted: Tensor | None = None
    expected: Tensor | None = None
    extra: Mapping[Extra, Tensor] = field(default_factory=dict)

    def each(self, change: Callable[[Tensor], Tensor]) -> SessionArrays:
        """The same change made to every tensor, for instance a choice of sessions."""
        return SessionArrays(
            log_weight=change(self.log_weight),
            reward=change(self.reward),
            happened=change(self.happened),
            capped=change(self.capped),
            predicted=None if self.predicted is None else change(self.predicted),
            expected=None if self.expected is None else change(self.expected),
            extra={name: change(values) for name, values in self.extra.items()},
        )
