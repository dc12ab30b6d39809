"""A policy as a folder: policy.json says what it is, weights.safetensors holds its tensors; never a pickle."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from recil.errors import InputError
from recil.policies.tensor_folder import FolderKind, installed_version, read_tensor_folder, write_tensor_folder

POLICY = FolderKind("policy", "policy.json", "weights.safetensors", "policy.save")


class Parts(NamedTuple):
    """What makes a policy: its kind, its settings (anything JSON holds), its tensors, its catalogue's ids or None."""

    kind: str
    config: dict[str, Any]
    tensors: dict[str, Tensor]
    item_ids: np.ndarray | None


def catalogue_digest(item_ids: np.ndarray | None) -> str:
    """A digest of the catalogue: equal where two policies or logs mean the same item by each index."""
    ids = None if item_ids is None else np.asarray(item_ids).tolist()
    return hashlib.blake2b(json.dumps(ids).encode(), digest_size=16).hexdigest()


def write_folder(path: str | Path, parts: Parts) -> None:
    """Write the folder whole or not at all; an older policy at this place is replaced."""
    ids = None if parts.item_ids is None else np.asarray(parts.item_ids)
    description = {
        "kind": parts.kind,
        "recil": installed_version(),
        "config": parts.config,
        "catalogue_digest": catalogue_digest(ids),
        "item_ids": None if ids is None else ids.tolist(),
    }
    write_tensor_folder(path, POLICY, description, parts.tensors)


def read_folder(path: str | Path) -> Parts:
    """The parts of a policy. InputError where the folder is absent, damaged or something else."""
    place = POLICY.place(path)
    described, tensors = read_tensor_folder(path, POLICY)
    try:
        kind, config, ids = described["kind"], described["config"], described["item_ids"]
    except KeyError as error:
        raise InputError(place, f"policy.json lacks {error}", POLICY.remedy) from error
    item_ids = None if ids is None else np.asarray(ids)
    if described.get("catalogue_digest") != catalogue_digest(item_ids):
        raise InputError(place, "the catalogue's ids are not those the policy was saved with", POLICY.remedy)
    return Parts(kind, config, tensors, item_ids)


def checked_tensor(tensors: Mapping[str, Tensor], name: str, shape: tuple[int, ...]) -> Tensor:
    """The tensor of this name, if it has this shape. ValueError otherwise: the reader of the folder says where."""
    if name not in tensors or tuple(tensors[name].shape) != shape:
        found = tuple(tensors[name].shape) if name in tensors else None
        raise ValueError(f"tensor {name} has shape {found}, wanted {shape}")
    return tensors[name]
