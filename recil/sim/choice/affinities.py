"""How much a user likes items, from a point the user aims at and the items' places in the same space.

target: [B, D]; items: [B, K, D], or [K, D] where all users see the same; affinities: [B, K]. All raise ValueError where
the last dimensions differ. Gradients are finite everywhere, and 0 along a distance that is 0. The functions are those
of RecSim NG's TargetPointSimilarity.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Below this distance, inverse affinity grows no more.
NEAREST = 1e-6


def _against(items: Tensor, per_user: Tensor, name: str = "target") -> Tensor:
    """`per_user` [B, D] with an axis for the items, [B, 1, D]."""
    if per_user.shape[-1] != items.shape[-1]:
        raise ValueError(
            f"{name} {list(per_user.shape)} and items {list(items.shape)} differ in their last dimension:"
            f" {per_user.shape[-1]} and {items.shape[-1]}"
        )
    return per_user[..., None, :]


def negative_euclidean(target: Tensor, items: Tensor) -> Tensor:
    """Minus the distance, −‖u − v‖."""
    return -torch.linalg.vector_norm(_against(items, target) - items, dim=-1)


def inverse_euclidean(target: Tensor, items: Tensor) -> Tensor:
    """One over the distance, 1 / ‖u − v‖, and no more than one over `NEAREST`."""
    return 1 / torch.linalg.vector_norm(_against(items, target) - items, dim=-1).clamp(min=NEAREST)


def dot(target: Tensor, items: Tensor) -> Tensor:
    """The inner product, u·v."""
    # Not a matrix product: its rounding depends on the size of the batch.
    return (_against(items, target) * items).sum(-1)


def cosine(target: Tensor, items: Tensor) -> Tensor:
    """The cosine of the angle, u·v / (‖u‖ ‖v‖), and 0 where a vector is 0. RecSim NG calls it negative_cosine."""
    return dot(_directed(target), _directed(items))


def single_peaked(target: Tensor, items: Tensor, peaks: Tensor) -> Tensor:
    """The sum over dimensions of p − |u v − p|: best where u v meets the peak, worse on both sides. peaks: [B, D]."""
    peak = _against(items, peaks, "peaks")
    return (peak - (_against(items, target) * items - peak).abs()).sum(-1)


def _directed(vectors: Tensor) -> Tensor:
    length = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return vectors / torch.where(length > 0, length, 1.0)
