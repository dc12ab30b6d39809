"""What a log says about the shape of its users: which columns they have, what they can do, what they remember."""

from __future__ import annotations

import numpy as np

from recil.errors import InputError
from recil.logs.session_log import Column, SessionLog
from recil.policies.inputs import Feature, features_of
from recil.sim.behaviour import ChoiceName, UserLayout
from recil.sim.user_config import UserConfig

# More classes than this are not answers but numbers or names.
_MOST_CLASSES = 32
# Sessions that are looked at together, so that nothing of the size of the log is made.
_SESSIONS = 4096


def layout_of(log: SessionLog, config: UserConfig, choice: ChoiceName) -> UserLayout:
    """The shape of users for this log, who choose from slates in this way."""
    return UserLayout(
        catalogue=log.catalogue,
        slate_size=log.slate_size,
        types=config.types,
        dimension=config.dimension,
        choice=choice,
        leaves=tells_of_leaving(log),
        hazard_steps=min(config.horizon, int(log.lengths.max())),
        window=config.window if shows_items_again(log) else 0,
        items=features_of(log.item_features),
        users=features_of(log.user_features),
        contexts=features_of(log.known_context),
        feedback=tuple(Feature.of(name, column) for name, column in sorted(log.feedback.items()) if is_answer(column)),
    )


def tells_of_leaving(log: SessionLog) -> bool:
    """Whether users can be seen to go on and to leave: a session has two steps, and not all were cut short."""
    return int(log.lengths.max()) > 1 and (log.terminated is None or bool(log.terminated.any()))


def possible_choices(log: SessionLog, config: UserConfig) -> tuple[ChoiceName, ...]:
    """The ways of choosing that could have written this log, of those that the config allows; the first is simplest.

    Raises InputError where the config wants one that could not.
    """
    most = int((log.reward > 0).sum(-1).max(initial=0))
    if most > 1:
        if config.choice not in ("auto", "independent"):
            problem = f'"{config.choice}", but the log has slates with two clicks'
            raise InputError("users.choice", problem, 'use "independent" or "auto"')
        return ("independent",)
    if config.choice != "auto":
        return (config.choice,)
    # Of a single item all three say the same.
    return ("multinomial", "cascade", "independent") if log.slate_size > 1 else ("multinomial",)


def is_answer(column: Column) -> bool:
    """A kind of feedback with a few classes: coded, or a number that is 0 or 1 wherever it is known."""
    if column.categories is not None:
        return len(column.categories) <= _MOST_CLASSES
    known = column.values[np.isfinite(column.values)]
    return bool(np.isin(known, (0.0, 1.0)).all())


def shows_items_again(log: SessionLog) -> bool:
    """Whether some session shows an item at two steps."""
    for first in range(0, log.sessions, _SESSIONS):
        ends = log.offsets[first : first + _SESSIONS + 1]
        items = log.items[ends[0] : ends[-1]]
        owner = np.repeat(np.arange(len(ends) - 1), np.diff(ends))
        key = (owner[:, None] * log.catalogue + items)[items >= 0]
        if len(np.unique(key)) < len(key):
            return True
    return False
