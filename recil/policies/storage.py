"""Save any policy to a folder and load it back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from recil.errors import InputError
from recil.policies.folder import Parts, read_folder, write_folder
from recil.policies.frequencies import Frequencies
from recil.policies.markov import Transitions
from recil.policies.neighbours import Neighbours
from recil.policies.protocol import Policy
from recil.policies.scored import ScoredPolicy
from recil.policies.softmax import SoftmaxPolicy


class Storable(Policy, Protocol):
    """A policy that knows its parts."""

    def parts(self) -> Parts: ...


KINDS: dict[str, Callable[[Parts], Policy]] = {
    "softmax": SoftmaxPolicy.from_parts,
    "frequencies": lambda parts: ScoredPolicy(Frequencies.from_parts(parts.config, parts.tensors), parts.item_ids),
    "neighbours": lambda parts: ScoredPolicy(Neighbours.from_parts(parts.config, parts.tensors), parts.item_ids),
    "transitions": lambda parts: ScoredPolicy(Transitions.from_parts(parts.config, parts.tensors), parts.item_ids),
}


def save(policy: Storable, path: str | Path) -> None:
    """Write policy.json and weights.safetensors into the folder `path`, whole or not at all."""
    write_folder(path, policy.parts())


def load(path: str | Path) -> Policy:
    """The policy that was saved in this folder. InputError where the folder does not hold one."""
    parts = read_folder(path)
    if parts.kind not in KINDS:
        raise InputError(f"policy folder {path}", f"kind {parts.kind!r} is unknown", f"known are {', '.join(KINDS)}")
    try:
        return KINDS[parts.kind](parts)
    except (KeyError, TypeError, ValueError, RuntimeError, IndexError) as error:
        raise InputError(
            f"policy folder {path}", f"is damaged ({type(error).__name__}: {error})", "save the policy again"
        ) from error
