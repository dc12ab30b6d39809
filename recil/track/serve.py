"""A saved policy that answers requests: slates with the propensity of each item and the policy's version."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recil.errors import InputError
from recil.logs.session_log import SessionLog
from recil.policies.folder import Parts, read_folder
from recil.policies.protocol import Policy
from recil.policies.storage import load
from recil.random import Streams
from recil.track.serve_columns import Columns
from recil.track.serve_request import Asked, Draw, Reader, history_of

MOST_SESSIONS = 256  # in one pass; more would hold too many scores of a large catalogue


@dataclass(frozen=True)
class Answer:
    """A slate for one session.

    items       ids, best place first
    propensity  of each item given those before it: exactly as drawn; 1 where the slate is the greedy one
    policy      its version: a digest of what it is made of
    step        the number of the slate in its session, from 0
    """

    session_id: str
    step: int
    items: tuple[Any, ...]
    propensity: tuple[float, ...]
    policy: str
    draw: Draw
    seed: int

    def to_dict(self) -> dict[str, Any]:
        content = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return content | {"items": list(self.items), "propensity": list(self.propensity)}


@dataclass(frozen=True, eq=False)
class ServedPolicy:
    """A policy and what it needs to be asked. item_ids: [A]; version: its digest."""

    policy: Policy
    item_ids: np.ndarray
    columns: Columns
    version: str
    kind: str = ""
    index: Mapping[Any, int] = field(default_factory=dict, repr=False)

    @staticmethod
    def load(folder: str | Path, log: SessionLog | None = None) -> ServedPolicy:
        """The policy saved in this folder. log: one like it was trained on, which names the categories of columns."""
        folder = Path(folder)
        parts = read_folder(folder)
        policy = load(folder)
        ids = np.arange(policy.catalogue) if parts.item_ids is None else parts.item_ids
        if log is not None and not np.array_equal(log.item_ids, ids):
            raise InputError(
                f"policy folder {folder}", "the log has another catalogue", "give the log it was trained on"
            )
        named = Columns.beside(folder) or Columns() if log is None else Columns.of_log(log)
        columns = named.of_policy(parts.config)
        index = {item: number for number, item in enumerate(ids.tolist())}
        return ServedPolicy(policy, ids, columns, policy_digest(parts), parts.kind, index)

    def reader(self, k: int | None = None, draw: Draw = "sample") -> Reader:
        """What reads requests for this policy. k: items of a slate unless a request says otherwise."""
        reader = Reader(self.index, self.columns, min(self.columns.slate_size, len(self.index)), draw)
        return reader if k is None else Reader(self.index, self.columns, reader.checked_k(k), draw)

    @torch.inference_mode()
    def answer(self, asked: Sequence[Asked], seed: int = 0) -> list[Answer]:
        """A slate for every session, in their order. What a session gets does not depend on the others.

        The draws of a sampled slate are addressed by (seed, session_id, step).
        """
        answers: dict[int, Answer] = {}
        alike: dict[tuple[int, Draw], list[int]] = {}
        for place, session in enumerate(asked):
            alike.setdefault((session.k, session.draw), []).append(place)
        for (k, draw), places in alike.items():
            for start in range(0, len(places), MOST_SESSIONS):
                chosen = places[start : start + MOST_SESSIONS]
                found = self._slates([asked[place] for place in chosen], k, draw, seed)
                answers.update(zip(chosen, found, strict=True))
        return [answers[place] for place in range(len(asked))]

    def _slates(self, asked: Sequence[Asked], k: int, draw: Draw, seed: int) -> list[Answer]:
        history = history_of(asked, self.columns)
        if draw == "sample":
            slates = self.policy.sample(history, k, Streams(seed).child("serve"))
            items, propensity = slates.items, slates.log_prob.double().exp().clamp(max=1.0)
        else:
            greedy = getattr(self.policy, "greedy", None)
            if greedy is None:
                raise InputError("draw", "this policy has no greedy slates", 'give "sample"')
            items = greedy(history, k)
            propensity = torch.ones(items.shape, dtype=torch.float64)
        ids = self.item_ids[items.numpy()].tolist()
        return [
            Answer(
                session.session_id, len(session.steps), tuple(slate), tuple(chances), self.version, session.draw, seed
            )
            for session, slate, chances in zip(asked, ids, propensity.tolist(), strict=True)
        ]


def policy_digest(parts: Parts) -> str:
    """16 hex digits over kind, settings, catalogue and weights: equal where two policies do the same by the same."""
    digest = hashlib.sha256(json.dumps([parts.kind, parts.config], sort_keys=True).encode())
    digest.update(repr(None if parts.item_ids is None else parts.item_ids.tolist()).encode())
    for name in sorted(parts.tensors):
        tensor = parts.tensors[name].detach().cpu().contiguous()
        digest.update(repr((name, str(tensor.dtype), tuple(tensor.shape))).encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
