"""Observations and slates as Gymnasium spaces."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from recil.errors import InputError
from recil.logs.history import PAD
from recil.sim.gym.layout import Layout


class SlateSpace(spaces.MultiDiscrete):
    """Slates of K different items of a catalogue: a MultiDiscrete whose samples can be shown. shape: [..., K]."""

    def __init__(self, catalogue: int, shape: tuple[int, ...]) -> None:
        super().__init__(np.full(shape, catalogue, dtype=np.int64))

    def sample(self, mask: Any = None, probability: Any = None) -> np.ndarray:
        """A slate (or [...] slates), all being equally likely."""
        if mask is not None or probability is not None:
            raise InputError("action_space.sample", "a mask or probabilities", "slates are sampled without either")
        *rows, size = self.shape
        catalogue = int(self.nvec.flat[0])
        drawn = [self.np_random.choice(catalogue, size, replace=False) for _ in range(int(np.prod(rows)))]
        return np.stack(drawn).reshape(self.shape)

    def contains(self, x: Any) -> bool:
        if not super().contains(x):
            return False
        ordered = np.sort(np.asarray(x), -1)
        return bool((ordered[..., 1:] != ordered[..., :-1]).all())


def action_space(layout: Layout) -> spaces.Space[Any]:
    """A slate; where it holds one item, that item."""
    if layout.slate_size == 1:
        return spaces.Discrete(layout.catalogue)
    return SlateSpace(layout.catalogue, (layout.slate_size,))


def action_spaces(layout: Layout, count: int) -> spaces.Space[Any]:
    """`count` actions."""
    if layout.slate_size == 1:
        return spaces.MultiDiscrete(np.full(count, layout.catalogue, dtype=np.int64))
    return SlateSpace(layout.catalogue, (count, layout.slate_size))


def observation_space(layout: Layout) -> spaces.Dict:
    """The space of one session's observation; see Layout."""
    slates = (layout.window, layout.slate_size)
    reward = (min(layout.rewards[0], 0.0), max(layout.rewards[1], 0.0))
    made: dict[str, spaces.Space[Any]] = {
        "items": _box((PAD, layout.catalogue - 1), slates, np.int64),
        "reward": _box(reward, slates, np.float32),
        "step": _box((0, layout.horizon), (1,), np.int64),
    }
    for column in layout.columns:
        made[column.key] = _box(column.bounds, column.shape, np.float32 if column.floating else np.int64)
    return spaces.Dict(made)


def _box(bounds: tuple[float, float], shape: tuple[int, ...], kind: type) -> spaces.Box:
    return spaces.Box(np.full(shape, bounds[0], kind), np.full(shape, bounds[1], kind), dtype=kind)
