"""What is watched while a story takes its first steps: draws that bypass the resolver, values changed in place.

Either would make likelihoods silently wrong, so it is refused by the name of the variable.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from recsim_ng.core.value import Value
from torch import Tensor
from torch.distributions import Distribution
from torch.utils._python_dispatch import TorchDispatchMode


class StoryError(ValueError):
    """A story that cannot be run as it is written. The message names the variable."""


class _Watch(TorchDispatchMode):
    """Refuses torch's random operators, whatever generator they are given: their draws have no address."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch.Tag.nondeterministic_seeded in func.tags and not _idle_dropout(func, args):
            raise StoryError(
                f"variable '{self._name}': {func.name().removeprefix('aten::')} draws random numbers outside the"
                " runtime, which would falsify likelihoods; put the distribution into a RandomField, or switch dropout"
                " off with eval()"
            )
        return func(*args, **(kwargs or {}))


def _idle_dropout(func: Any, args: Any) -> bool:
    """Dropout that is switched off carries the tag of random operators and draws nothing."""
    return "dropout" in func.name() and (False in args[1:] or 0.0 in args[1:])


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Within the block, an arithmetic error on a distribution says whose it is; others get the name as a note."""
    try:
        yield
    except StoryError:
        raise
    except TypeError as error:
        words = re.findall(r"\w+", str(error))
        kind = next((kind for kind in _kinds(Distribution) if kind in words), None)
        if kind is None:
            error.add_note(f"in the value of variable '{name}'")
            raise
        raise StoryError(
            f"variable '{name}': arithmetic on a {kind} ({error}); a distribution becomes a number only in its"
            " RandomField, for the variables that depend on it"
        ) from error
    except Exception as error:
        error.add_note(f"in the value of variable '{name}'")
        raise


def _kinds(kind: type) -> Iterator[str]:
    below: type
    for below in kind.__subclasses__():
        yield below.__name__
        yield from _kinds(below)


@contextmanager
def watching(name: str, arguments: Sequence[Value]) -> Iterator[None]:
    """Within the block: no draws by torch, numpy or Python, and no argument changed in place."""
    tensors = [value for argument in arguments for value in argument.as_dict.values() if isinstance(value, Tensor)]
    versions = [tensor._version for tensor in tensors]
    python, numpy = random.getstate(), _numpy_state()
    with _Watch(name):
        yield
    if random.getstate() != python:
        raise StoryError(f"variable '{name}': Python's random draws outside the runtime; use a RandomField")
    if _numpy_state() != numpy:
        raise StoryError(f"variable '{name}': numpy draws random numbers outside the runtime; use a RandomField")
    if versions != [tensor._version for tensor in tensors]:
        raise StoryError(f"variable '{name}': its function changes a value it was given in place; make a new tensor")


def _numpy_state() -> tuple[bytes, int]:
    _, keys, position, *_ = np.random.get_state()
    return bytes(np.asarray(keys)), int(position)
