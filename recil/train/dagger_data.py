"""What DAgger learns from: sessions as they were acted, and beside every slate the one the expert would have made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from recil.errors import InputError
from recil.logs.history import PAD, History
from recil.logs.session_log import SessionLog
from recil.policies.protocol import Policy, Slates
from recil.random import Streams
from recil.sim.record import log_of

EXPERT = "expert_item"


@dataclass(eq=False)
class Recorded:
    """A policy that keeps every slate it makes, whether or not that slate is shown."""

    policy: Policy
    made: list[tuple[Tensor, Tensor, Tensor]] = field(default_factory=list)

    @property
    def catalogue(self) -> int:
        return self.policy.catalogue

    def sample(self, history: History, k: int, streams: Streams) -> Slates:
        slates = self.policy.sample(history, k, streams)
        self.made.append((history.session, history.length, slates.items))
        return slates

    def log_prob(self, history: History, slate: Tensor) -> Tensor:
        return self.policy.log_prob(history, slate)

    def slates_of(self, sessions: History) -> Tensor:
        """int64 [B, T, K]: the slate made before each step of these sessions, whoever's was shown; -1 at padding."""
        slates = torch.full_like(sessions.items, PAD)
        order = torch.argsort(sessions.session)
        addresses = sessions.session[order]
        for made in self.made:
            session, step, items = (part.to(slates.device) for part in made)
            row = order[torch.searchsorted(addresses, session)]
            took_place = step < sessions.length[row]
            slates[row[took_place], step[took_place]] = items[took_place]
        if bool((sessions.happened & (slates == PAD).all(-1)).any()):
            raise InputError("dagger", "the world showed slates it asked nobody for", "give one that asks its policy")
        return slates


def labelled_log(rounds: Sequence[tuple[History, Tensor]], item_ids: np.ndarray) -> SessionLog:
    """All rounds as one log: what was shown, by whom it may be, and in the column `expert_item` what should have been.

    rounds: sessions and the expert's slates, int64 [B, T, K]. The column's categories are the catalogue, in its order.
    """
    histories = [replace(acted, feedback={**acted.feedback, EXPERT: slates}) for acted, slates in rounds]
    return log_of(histories, item_ids, {EXPERT: tuple(str(name) for name in item_ids)})


def expert_slates(data: SessionLog) -> np.ndarray:
    """int32 [N, K], catalogue indices: the expert's slate at each step of a log that DAgger wrote."""
    column = data.feedback.get(EXPERT)
    if column is None:
        raise InputError("log", f"has no column {EXPERT}", "give a log that dagger wrote")
    return column.values


def acted_log(data: SessionLog) -> SessionLog:
    """The same sessions as a log of what was shown alone: without the expert's slates."""
    return replace(data, feedback={name: column for name, column in data.feedback.items() if name != EXPERT})


def apart(history: History) -> tuple[History, Tensor]:
    """A batch of a log that DAgger wrote as what policies may see, and the expert's slates int64 [B, T, K]."""
    seen = {name: values for name, values in history.feedback.items() if name != EXPERT}
    return replace(history, feedback=seen), history.feedback[EXPERT]


_PARTS = ("items", "reward", "length", "session", "propensity", "terminated")
_COLUMNS = ("feedback", "context", "user")


def to_tensors(rounds: Sequence[tuple[History, Tensor]]) -> dict[str, Tensor]:
    """Rounds as tensors with names, for a checkpoint."""
    content: dict[str, Tensor] = {}
    for number, (acted, slates) in enumerate(rounds):
        parts = {name: getattr(acted, name) for name in _PARTS} | {"expert": slates}
        for group in _COLUMNS:
            parts |= {f"{group}.{name}": values for name, values in getattr(acted, group).items()}
        content |= {f"{number}.{name}": value for name, value in parts.items() if value is not None}
    return content


def from_tensors(content: Mapping[str, Tensor], rounds: int) -> list[tuple[History, Tensor]]:
    """The inverse of `to_tensors`."""

    def below(prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): value for name, value in content.items() if name.startswith(prefix)}

    found = []
    for number in range(rounds):
        parts = below(f"{number}.")
        columns = {group: below(f"{number}.{group}.") for group in _COLUMNS}
        history = History(**{name: parts[name] for name in _PARTS if name in parts}, **columns)  # type: ignore[arg-type]
        found.append((history, parts["expert"]))
    return found
