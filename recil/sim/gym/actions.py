"""What agents hand in: slates and their probabilities, checked."""

from __future__ import annotations

from typing import Any

import numpy as np

from recil.errors import InputError
from recil.sim.gym.layout import Layout


def check_slates(slates: np.ndarray, catalogue: int, rows: np.ndarray, place: str) -> None:
    """InputError at the first of these rows (bool [N]) whose slate cannot be shown. slates: [N, K].

    place: what the slates are, with {row} where the row's number belongs.
    """
    outside = (slates < 0) | (slates >= catalogue)
    ordered = np.sort(slates, 1)
    twice = (ordered[:, 1:] == ordered[:, :-1]).any(1)
    bad = np.flatnonzero((outside.any(1) | twice) & rows)
    if not len(bad):
        return
    row = int(bad[0])
    slate = slates[row].tolist()
    if outside[row].any():
        problem = f"{slate}: {slate[int(outside[row].argmax())]} is no item"
    else:
        problem = f"{slate}: item {next(item for item in slate if slate.count(item) > 1)} stands twice"
    raise InputError(place.format(row=row), problem, f"show {len(slate)} different items of 0 to {catalogue - 1}")


def slates_of(actions: Any, layout: Layout, going: np.ndarray, place: str) -> np.ndarray:
    """Actions as slates, int64 [N, K]. actions: [N, K], or [N] where K is 1; checked where a session is going on."""
    given = np.asarray(actions)
    wanted = (len(going), layout.slate_size)
    if given.dtype.kind not in "iu" or given.shape not in (wanted, wanted[:1] if layout.slate_size == 1 else wanted):
        raise InputError(
            place.format(row="..."),
            f"{given.dtype} of shape {list(given.shape)}",
            f"give whole numbers of shape {list(wanted)}, one item for each position of each slate",
        )
    slates = given.astype(np.int64).reshape(wanted)
    check_slates(slates, layout.catalogue, going, place)
    return slates


def propensities_of(values: Any, shape: tuple[int, int]) -> np.ndarray:
    """Probabilities of shown items, float64 [N, K]; NaN: not known. InputError where they are none."""
    given = np.array(values, dtype=np.float64)
    if given.size != shape[0] * shape[1]:
        raise InputError("propensity", f"shape {list(given.shape)}", f"give one for each of {list(shape)} positions")
    wrong = (given <= 0) | (given > 1)
    if wrong.any():
        raise InputError("propensity", f"{given[wrong][0]:g}", "a shown item has a probability above 0 and at most 1")
    return given.reshape(shape)
