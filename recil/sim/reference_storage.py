"""A reference as a folder: reference.json says what it is, reference.safetensors holds its tensors; never a pickle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from recil.errors import InputError
from recil.policies.folder import catalogue_digest
from recil.policies.inputs import Feature
from recil.policies.tensor_folder import FolderKind, installed_version, read_tensor_folder, write_tensor_folder
from recil.sim.reference import ResponseReference
from recil.sim.reference_network import ReferenceLayout, ResponseNetwork

REFERENCE = FolderKind("reference", "reference.json", "reference.safetensors", "save_reference")
SCHEMA = 2


def save_reference(reference: ResponseReference, path: str | Path) -> None:
    """Write reference.json and reference.safetensors into the folder, whole or not at all; an older one is replaced.

    Raises InputError where `path` is something else or cannot be written.
    """
    description = {
        "recil_reference": SCHEMA,
        "recil": installed_version(),
        "layout": asdict(reference.network.layout),
        "item_ids": reference.item_ids.tolist(),
        "item_ids_type": reference.item_ids.dtype.str,
        "catalogue_digest": catalogue_digest(reference.item_ids),
        "categories": dict(reference.categories),
        "report": {name: float(value) for name, value in reference.report.items()},
    }
    write_tensor_folder(path, REFERENCE, description, reference.network.state_dict())


def load_reference(path: str | Path) -> ResponseReference:
    """The reference that was saved in this folder, equal in every part. InputError where the folder holds none."""
    description, tensors = read_tensor_folder(path, REFERENCE)
    found = description.get("recil_reference")
    if found != SCHEMA:
        raise InputError(
            REFERENCE.place(path), f"has schema {found}, this version reads {SCHEMA}", "use the version that wrote it"
        )
    try:
        return _restored(description, tensors)
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise InputError(
            REFERENCE.place(path), f"is damaged ({type(error).__name__}: {error})", "save the reference again"
        ) from error


def _restored(description: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> ResponseReference:
    layout = dict(description["layout"])
    for name in ("items", "users", "contexts", "feedback"):
        layout[name] = tuple(Feature(**feature) for feature in layout[name])
    built = ReferenceLayout(**layout)
    columns = {feature.name: tensors[f"items.column_{index}"] for index, feature in enumerate(built.items)}
    network = ResponseNetwork(built, columns)
    network.load_state_dict(dict(tensors))
    network.requires_grad_(False)
    item_ids = np.asarray(description["item_ids"], dtype=np.dtype(description["item_ids_type"]))
    if catalogue_digest(item_ids) != description["catalogue_digest"]:
        raise ValueError("the catalogue's ids are not those the reference was saved with")
    reference = ResponseReference(network, item_ids, description["categories"], description["report"])
    missing = {feature.name for part in (built.users, built.contexts, built.feedback) for feature in part}
    if missing - set(reference.categories):
        raise ValueError(f"no categories for columns {sorted(missing - set(reference.categories))}")
    return reference
