"""A fit between two epochs, in one file: written whole or not at all, read without pickle.

Draws are addressed, so no generator has a state; the learning rate is a function of the steps taken. What is left is
parameters, their average, the best so far, Adam's moments and four numbers.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from recil.errors import InputError
from recil.logs.session_log import SessionLog
from recil.random import Streams
from recil.sim.behaviour import Behaviour
from recil.sim.user_config import UserConfig

SCHEMA = 1
_NUMBERS = ("epoch", "steps", "best", "best_epoch")


@dataclass
class FitState:
    """Where a fit stands after `epoch` passes and `steps` gradient steps.

    average: of the last steps' parameters; kept: the average of best_epoch, whose held-out nll per session was `best`.
    """

    behaviour: Behaviour
    average: Behaviour
    optimiser: torch.optim.Optimizer
    kept: dict[str, Tensor]
    epoch: int = 0
    steps: int = 0
    best: float = math.inf
    best_epoch: int = 0

    def tensors(self) -> dict[str, Tensor]:
        """Everything but the numbers, by name."""
        parts = {"now": self.behaviour.state_dict(), "average": self.average.state_dict(), "kept": self.kept}
        found = {f"{part}.{name}": value for part, values in parts.items() for name, value in values.items()}
        for index, moments in self.optimiser.state_dict()["state"].items():
            found |= {f"adam.{index}.{name}": value for name, value in moments.items()}
        return found

    def restore(self, numbers: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Stand where these numbers and tensors say. RuntimeError, KeyError, TypeError or ValueError if they cannot."""
        self.behaviour.load_state_dict(_below(tensors, "now."))
        self.average.load_state_dict(_below(tensors, "average."))
        if set(_below(tensors, "kept.")) != set(self.kept):
            raise ValueError("the parameters kept are not the users' own")
        self.kept = _below(tensors, "kept.")
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in _below(tensors, "adam.").items():
            index, key = name.split(".", 1)
            moments.setdefault(int(index), {})[key] = value
        self.optimiser.load_state_dict(self.optimiser.state_dict() | {"state": moments})
        self.epoch, self.steps, self.best_epoch = (int(numbers[name]) for name in ("epoch", "steps", "best_epoch"))
        self.best = float(numbers["best"])


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


@dataclass(frozen=True)
class FitCheckpoint:
    """Where a fit is kept, and what it is a fit of: a file of another fit is refused."""

    path: Path
    fit: Mapping[str, Any] = field(repr=False)

    @staticmethod
    def of(path: str | Path, log: SessionLog, config: UserConfig, streams: Streams) -> FitCheckpoint:
        return FitCheckpoint(Path(path), identity_of(log, config, streams))

    def write(self, state: FitState) -> None:
        """Replace the file in one move. InputError where it cannot be written."""
        tensors = {name: value.detach().cpu().clone().contiguous() for name, value in state.tensors().items()}
        described = {
            "recil_fit": SCHEMA,
            "fit": dict(self.fit),
            "numbers": {name: getattr(state, name) for name in _NUMBERS},
            "digest": _digest(tensors),
        }
        unfinished = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            save_file(tensors, unfinished, metadata={"described": json.dumps(described)})
            unfinished.replace(self.path)
        except (OSError, SafetensorError) as error:
            raise InputError(self._place, f"cannot be written ({error})", "give a file to write to") from error
        finally:
            unfinished.unlink(missing_ok=True)

    def read(self, state: FitState) -> None:
        """Put `state` where the file says; nothing happens where there is no file yet.

        InputError where the file is damaged or of a fit to another log, with another config or seed.
        """
        if not self.path.exists():
            return
        afresh = "delete it to start afresh"
        try:
            with safe_open(self.path, framework="pt") as file:
                described = json.loads((file.metadata() or {})["described"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            schema, fit, numbers, digest = (described[name] for name in ("recil_fit", "fit", "numbers", "digest"))
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise InputError(self._place, f"cannot be read ({type(error).__name__}: {error})", afresh) from error
        if schema != SCHEMA:
            raise InputError(self._place, f"has schema {schema}, this version reads {SCHEMA}", afresh)
        check_identity(self._place, fit, self.fit, f"give another checkpoint, or {afresh}")
        try:
            if digest != _digest(tensors):
                raise ValueError("its tensors are not those that were written")
            state.restore(numbers, tensors)
        except (RuntimeError, KeyError, TypeError, ValueError) as error:
            raise InputError(self._place, f"is damaged ({type(error).__name__}: {error})", afresh) from error

    @property
    def _place(self) -> str:
        return f"checkpoint {self.path}"


def identity_of(log: SessionLog, config: UserConfig, streams: Streams) -> dict[str, Any]:
    """What makes one fit another: the content of its log, its config, its seed. Plain values, as JSON has them."""
    return {"log": log.digest, "config": asdict(config), "seed": streams.seed}


def check_identity(place: str, found: Mapping[str, Any], wanted: Mapping[str, Any], remedy: str) -> None:
    """InputError that names what differs: the log, the seed, or fields of the config."""
    if found == wanted:
        return
    differs = [name for name in ("log", "seed") if found.get(name) != wanted[name]]
    other = found.get("config", {})
    differs += [f"users.{name}" for name, value in wanted["config"].items() if other.get(name) != value]
    raise InputError(place, f"is of a fit with another {', '.join(differs) or 'config'}", remedy)


def _digest(tensors: Mapping[str, Tensor]) -> str:
    """Safetensors notices a file cut short, but not a changed byte."""
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}".encode())
        digest.update(tensors[name].numpy().tobytes())
    return digest.hexdigest()
