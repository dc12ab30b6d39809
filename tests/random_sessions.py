"""Random sessions as estimators see them: everything any of them looks at, without a log behind it."""

from __future__ import annotations

import torch
from torch import Tensor

from recil.evaluate.arrays import Extra, SessionArrays
from recil.ops.importance import cumulative_log_weight
from recil.ops.returns import discounts

OF_POSITIONS = (Extra.POSITION_PREDICTED, Extra.POSITION_EXPECTED)
OF_STEPS = (Extra.FQE_PREDICTED, Extra.FQE_EXPECTED, Extra.MRDR_PREDICTED, Extra.MRDR_EXPECTED, Extra.AHEAD)
OF_FOLDS = (Extra.MODEL_STARTS, Extra.FQE_STARTS)
MODELS = (*OF_POSITIONS, *OF_STEPS, *OF_FOLDS)


def some_sessions(seed: int, gamma: float = 1.0, sessions: int = 12, steps: int = 5) -> SessionArrays:
    """Sessions of 1 to `steps` steps with slates of 1 or 2, ratios around 1, sparse rewards, models that are wrong."""
    draw = torch.Generator().manual_seed(seed)
    happened = torch.arange(steps) < torch.randint(1, steps + 1, (sessions, 1), generator=draw)
    discount = discounts(steps, gamma, torch.zeros(0, dtype=torch.float64))

    def numbers() -> Tensor:
        return torch.where(happened, torch.rand(sessions, steps, generator=draw, dtype=torch.float64), 0.0)

    second = torch.rand(sessions, steps, generator=draw) < 0.7
    shown = torch.stack([happened, happened & second], 2)
    clicks = torch.where(shown & (torch.rand(shown.shape, generator=draw) > 0.6), 1.0, 0.0).double()
    ratio = torch.where(shown, 3 * torch.rand(shown.shape, generator=draw, dtype=torch.float64) - 1.5, 0.0)
    state = torch.nn.functional.one_hot(torch.randint(0, 2, (sessions, steps), generator=draw), 2)
    at_positions = [torch.where(shown, torch.rand(shown.shape, generator=draw).double(), 0.0) for _ in OF_POSITIONS]
    extra = {
        Extra.SHOWN: shown.double(),
        Extra.POSITION_LOG_RATIO: ratio,
        Extra.STEP_LOG_RATIO: ratio.sum(2),
        Extra.POSITION_REWARD: clicks * discount[:, None],
        **{name: part * discount[:, None] for name, part in zip(OF_POSITIONS, at_positions, strict=True)},
        Extra.AGREES: torch.where(numbers() > 0.2, 1.0, 0.0).double(),
        Extra.STATE: (state * happened[:, :, None]).double(),
        Extra.CATEGORY_LOG_RATIO: 2 * numbers() - 1,
        **{name: numbers() * discount for name in OF_STEPS},
        **{name: torch.rand(sessions, 1, 3, generator=draw, dtype=torch.float64) for name in OF_FOLDS},
    }
    return SessionArrays(
        log_weight=cumulative_log_weight(ratio.sum(2), happened),
        reward=clicks.sum(2) * discount,
        happened=happened,
        capped=torch.zeros_like(happened),
        predicted=numbers() * discount,
        expected=numbers() * discount,
        extra=extra,
    )
