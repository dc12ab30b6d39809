"""A digest of everything that simulated sessions come from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from recil.policies.folder import catalogue_digest

if TYPE_CHECKING:
    from recil.sim.users import UserModel


def digest_of(users: UserModel) -> str:
    """Of behaviour, starts and items: equal where sessions go the same way; not of what judges the users."""
    digest = hashlib.blake2b(digest_size=8)
    digest.update(json.dumps(asdict(users.behaviour.layout), sort_keys=True, default=str).encode())
    digest.update(f"{type(users.behaviour).__qualname__} {catalogue_digest(users.item_ids)}".encode())
    for name, value in sorted(_tensors(users).items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _tensors(users: UserModel) -> Mapping[str, Tensor]:
    tensors = {f"behaviour.{name}": value for name, value in users.behaviour.state_dict().items()}
    tensors["kinds"] = users.starts.kinds
    if users.starts.lengths is not None:
        tensors["lengths"] = users.starts.lengths
    for part, columns in (("user", users.starts.user), ("context", users.starts.context), ("item", users.item_columns)):
        tensors |= {f"{part}.{name}": value for name, value in columns.items()}
    return tensors
