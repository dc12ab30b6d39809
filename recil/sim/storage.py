"""Fitted users as a folder: users.json says what they are, users.safetensors holds their tensors; never a pickle."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recil.errors import InputError
from recil.policies.folder import catalogue_digest
from recil.policies.inputs import Feature
from recil.policies.tensor_folder import FolderKind, installed_version, read_tensor_folder, write_tensor_folder
from recil.sim.behaviour import Behaviour, UserLayout
from recil.sim.rates import Level, Rates
from recil.sim.users import Starts, UserModel

USERS = FolderKind("users", "users.json", "users.safetensors", "save_users")
SCHEMA = 2
FEATURES = ("items", "users", "contexts", "feedback")


def save_users(users: UserModel, path: str | Path) -> None:
    """Write users.json and users.safetensors into the folder `path`, whole or not at all; older users are replaced.

    Raises InputError where `path` is something else or cannot be written.
    """
    write_tensor_folder(path, USERS, _described(users), dict(_tensors(users)))


def load_users(path: str | Path) -> UserModel:
    """The users that were saved in this folder, equal in every part. InputError where the folder does not hold them."""
    description, tensors = read_tensor_folder(path, USERS)
    if description.get("recil_users") != SCHEMA:
        found = description.get("recil_users")
        raise InputError(
            USERS.place(path), f"has schema {found}, this version reads {SCHEMA}", "use the version that wrote it"
        )
    try:
        users = _restored(description, tensors)
        _check(users, description, tensors)
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise InputError(
            USERS.place(path), f"is damaged ({type(error).__name__}: {error})", "save the users again"
        ) from error
    return users


def _described(users: UserModel) -> dict[str, Any]:
    return {
        "recil_users": SCHEMA,
        "recil": installed_version(),
        "layout": asdict(users.behaviour.layout),
        "item_ids": users.item_ids.tolist(),
        "item_ids_type": users.item_ids.dtype.str,
        "catalogue_digest": catalogue_digest(users.item_ids),
        "item_columns": list(users.item_columns),
        "user": list(users.starts.user),
        "context": list(users.starts.context),
        "baselines": [
            {
                "name": name,
                "overall": float(rates.overall),
                "levels": [{"names": level.names, "strength": float(level.strength)} for level in rates.levels],
            }
            for name, rates in users.baselines.items()
        ],
        "leaving_rate": float(users.leaving_rate),
        "report": {name: float(value) for name, value in users.report.items()},
    }


def _tensors(users: UserModel) -> Iterator[tuple[str, Tensor]]:
    for name, value in users.behaviour.state_dict().items():
        yield f"behaviour.{name}", value
    yield "kinds", users.starts.kinds
    if users.starts.lengths is not None:
        yield "lengths", users.starts.lengths
    for part, columns in (
        ("user", users.starts.user),
        ("context", users.starts.context),
        ("item_columns", users.item_columns),
    ):
        for name, value in columns.items():
            yield f"{part}.{name}", value
    for place, rates in enumerate(users.baselines.values()):
        for depth, level in enumerate(rates.levels):
            for name in ("groups", "clicks", "shown"):
                yield f"baselines.{place}.{depth}.{name}", torch.from_numpy(np.ascontiguousarray(getattr(level, name)))


def _restored(description: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> UserModel:
    layout = dict(description["layout"])
    layout |= {name: tuple(Feature(**feature) for feature in layout[name]) for name in FEATURES}
    behaviour = Behaviour(UserLayout(**layout))
    weights = {
        name.removeprefix("behaviour."): value for name, value in tensors.items() if name.startswith("behaviour.")
    }
    behaviour.load_state_dict(weights, assign=True)
    behaviour.requires_grad_(False)

    def columns(part: str) -> dict[str, Tensor]:
        return {name: tensors[f"{part}.{name}"] for name in description[part]}

    return UserModel(
        behaviour=behaviour,
        starts=Starts(tensors["kinds"], columns("user"), columns("context"), tensors.get("lengths")),
        item_ids=np.asarray(description["item_ids"], dtype=np.dtype(description["item_ids_type"])),
        item_columns=columns("item_columns"),
        baselines={
            rates["name"]: Rates(
                rates["overall"],
                tuple(
                    _level(level, tensors, f"baselines.{place}.{depth}") for depth, level in enumerate(rates["levels"])
                ),
            )
            for place, rates in enumerate(description["baselines"])
        },
        leaving_rate=description["leaving_rate"],
        report=description["report"],
    )


def _level(described: Mapping[str, Any], tensors: Mapping[str, Tensor], place: str) -> Level:
    groups, clicks, shown = (tensors[f"{place}.{name}"].numpy() for name in ("groups", "clicks", "shown"))
    if not groups.shape == clicks.shape == shown.shape:
        raise ValueError(f"{place}: {groups.shape}, {clicks.shape} and {shown.shape} groups, clicks and impressions")
    return Level(tuple(described["names"]), groups, clicks, shown, described["strength"])


def _check(users: UserModel, description: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """ValueError where the two files do not belong together."""
    layout, starts = users.behaviour.layout, users.starts
    if catalogue_digest(users.item_ids) != description["catalogue_digest"] or len(users.item_ids) != layout.catalogue:
        raise ValueError("the catalogue's ids are not those the users were saved with")
    strange = set(tensors) - {name for name, _ in _tensors(users)}
    if strange:
        raise ValueError(f"tensors {sorted(strange)} belong to nothing in users.json")
    if starts.kinds.ndim != 2 or starts.kinds.shape[1] != layout.types:
        raise ValueError(f"kinds are {tuple(starts.kinds.shape)}, wanted [sessions, {layout.types}]")
    sessions = starts.kinds.shape[0]
    lengths = {} if starts.lengths is None else {"lengths": starts.lengths}
    if starts.context and not lengths:
        raise ValueError("tensor lengths is missing")
    for columns, rows in (
        ({**starts.user, **starts.context, **lengths}, sessions),
        (users.item_columns, layout.catalogue),
    ):
        for name, value in columns.items():
            if value.shape[:1] != (rows,):
                raise ValueError(f"column {name} has shape {tuple(value.shape)}, wanted {rows} rows")
