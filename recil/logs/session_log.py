"""The one record of sessions: readers make it, the simulator writes it, learners and evaluators read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from recil.logs.history import PAD, History

if TYPE_CHECKING:
    import pandas as pd

    from recil.logs.summary import LogSummary

POLICY = "policy"  # the context column that names the logging policy of each session


@dataclass(frozen=True)
class Column:
    """A column beside the required ones: numeric (float32) or categorical (int32 codes, -1 missing).

    values      [n, ...] in the shape of what it describes; a categorical column of sets has one more axis, padded by -1
    categories  the names behind the codes, or None for a numeric column
    """

    values: np.ndarray
    categories: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        wanted = np.float32 if self.categories is None else np.int32
        if self.values.dtype != wanted:
            raise ValueError(f"Column: values are {self.values.dtype}, wanted {np.dtype(wanted)}")
        if self.categories is not None and self.values.size and int(self.values.max()) >= len(self.categories):
            raise ValueError(
                f"Column: code {int(self.values.max())} has no name among {len(self.categories)} categories"
            )

    def take(self, rows: np.ndarray | slice) -> Column:
        return Column(self.values[rows], self.categories)

    def tensor(self, rows: np.ndarray) -> torch.Tensor:
        values = torch.from_numpy(np.ascontiguousarray(self.values[rows]))
        return values if self.categories is None else values.long()


@dataclass(frozen=True, eq=False)
class SessionLog:
    """S sessions, N steps in all, slates of up to K items out of a catalogue of A.

    item_ids       [A], the catalogue: the id behind each index
    items          int32 [N, K], catalogue index by position, -1 where nothing stands
    reward         float32 or float64 [N, K], 0 at pads; float64 where float32 would change a value
    offsets        int64 [S + 1], session s owns the steps offsets[s] to offsets[s + 1] - 1
    session_ids    [S]
    propensity     float32 [N, K] or None, in (0, 1], 1 at pads: probability of the item given those before it
    timestamp      int64 [N] or None, any unit, never decreasing within a session
    user_ids       [S] or None
    terminated     bool [S] or None: the user left after the last step (False: the log was cut)
    feedback       name -> Column [N, K], seen after the slate
    context        name -> Column [N], known before the slate (columns `context_*` of the table); POLICY among them says
                   which of several logging policies served the session, and is no input of a policy or of a user
    user_features  name -> Column [S] (columns `user_*`)
    item_features  name -> Column [A] or [A, M] (columns `item_*`)
    propensity_of  name of a logging policy -> float32 [N, K] in [0, 1], 1 at pads: what `propensity` would be, had this
                   policy served the session (columns `propensity_<name>`)
    notes          what the reader counted or set aside, in words -> number
    reward_name    the column of the table that is the reward

    Two logs are equal when their contents are (`digest`); notes do not count.
    """

    item_ids: np.ndarray
    items: np.ndarray
    reward: np.ndarray
    offsets: np.ndarray
    session_ids: np.ndarray
    propensity: np.ndarray | None = None
    timestamp: np.ndarray | None = None
    user_ids: np.ndarray | None = None
    terminated: np.ndarray | None = None
    feedback: Mapping[str, Column] = field(default_factory=dict)
    context: Mapping[str, Column] = field(default_factory=dict)
    user_features: Mapping[str, Column] = field(default_factory=dict)
    item_features: Mapping[str, Column] = field(default_factory=dict)
    propensity_of: Mapping[str, np.ndarray] = field(default_factory=dict)
    notes: Mapping[str, int] = field(default_factory=dict)
    reward_name: str = "click"

    def __post_init__(self) -> None:
        steps, sessions = self.items.shape[0], len(self.offsets) - 1
        shapes = {
            "reward": (self.reward, self.items.shape),
            "propensity": (self.propensity, self.items.shape),
            "timestamp": (self.timestamp, (steps,)),
            "session_ids": (self.session_ids, (sessions,)),
            "user_ids": (self.user_ids, (sessions,)),
            "terminated": (self.terminated, (sessions,)),
            **{f"propensity_of {name}": (array, self.items.shape) for name, array in self.propensity_of.items()},
        }
        for name, (array, shape) in shapes.items():
            if array is not None and array.shape != shape:
                raise ValueError(f"SessionLog: {name} is {array.shape}, wanted {shape}")
        for columns, length in (
            (self.feedback, steps),
            (self.context, steps),
            (self.user_features, sessions),
            (self.item_features, self.catalogue),
        ):
            for name, column in columns.items():
                if column.values.shape[0] != length:
                    raise ValueError(f"SessionLog: column {name} has {column.values.shape[0]} rows, wanted {length}")
        if self.offsets[0] != 0 or self.offsets[-1] != steps or (np.diff(self.offsets) <= 0).any():
            raise ValueError("SessionLog: offsets must rise from 0 to the number of steps, no session empty")

    @property
    def catalogue(self) -> int:
        """A, the number of items."""
        return len(self.item_ids)

    @property
    def sessions(self) -> int:
        return len(self.offsets) - 1

    @property
    def steps(self) -> int:
        return self.items.shape[0]

    @property
    def slate_size(self) -> int:
        return self.items.shape[1]

    @cached_property
    def lengths(self) -> np.ndarray:
        """int64 [S], steps per session."""
        return np.diff(self.offsets)

    @property
    def impressions(self) -> int:
        """Items shown."""
        return int((self.items != PAD).sum())

    @property
    def known_context(self) -> dict[str, Column]:
        """The context columns that policies and users may look at: all but the name of the logging policy."""
        return {name: column for name, column in self.context.items() if name != POLICY}

    def rows(self, sessions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Step rows of these sessions as a padded block: int64 [B, T] (0 at padding) and the mask bool [B, T]."""
        lengths = self.lengths[sessions]
        width = int(lengths.max()) if len(sessions) else 0
        inside = np.arange(width) < lengths[:, None]
        return np.where(inside, self.offsets[sessions][:, None] + np.arange(width), 0), inside

    def batch(self, sessions: np.ndarray | None = None) -> History:
        """These sessions (int [B]; all when None) as padded tensors; `session` holds their positions in this log."""
        chosen = np.arange(self.sessions) if sessions is None else np.asarray(sessions, dtype=np.int64)
        rows, inside = self.rows(chosen)
        mask = torch.from_numpy(inside)

        def padded(values: torch.Tensor, fill: float) -> torch.Tensor:
            return torch.where(
                mask.reshape(mask.shape + (1,) * (values.ndim - 2)), values, torch.full((), fill, dtype=values.dtype)
            )

        def column(source: Column) -> torch.Tensor:
            return padded(source.tensor(rows), 0.0 if source.categories is None else PAD)

        return History(
            items=padded(torch.from_numpy(self.items[rows]).long(), PAD),
            reward=padded(torch.from_numpy(self.reward[rows]), 0.0),
            length=torch.from_numpy(self.lengths[chosen]),
            session=torch.from_numpy(chosen),
            propensity=None if self.propensity is None else padded(torch.from_numpy(self.propensity[rows]), 1.0),
            feedback={name: column(source) for name, source in self.feedback.items()},
            context={name: column(source) for name, source in self.known_context.items()},
            user={name: source.tensor(chosen) for name, source in self.user_features.items()},
            terminated=None if self.terminated is None else torch.from_numpy(self.terminated[chosen]),
        )

    @staticmethod
    def from_frame(
        frame: pd.DataFrame, items: pd.DataFrame | None = None, reward: str = "click", **options: Any
    ) -> SessionLog:
        """A log from a table with one row per item shown; see `recil.logs.table.from_frame`, which has all options."""
        from recil.logs.table import from_frame

        return from_frame(frame, items, reward, **options)

    def to_frame(self) -> pd.DataFrame:
        """The long table, one row per item shown: the inverse of `from_frame`."""
        from recil.logs.table import to_frame

        return to_frame(self)

    def items_frame(self) -> pd.DataFrame:
        """The catalogue and its features as a table, one row per item."""
        from recil.logs.items import items_frame

        return items_frame(self)

    def save(self, path: str | Path) -> Path:
        """Write the log as a folder that `read_log` reads, whole or not at all; an older log there is replaced."""
        from recil.logs.storage import save

        return save(self, Path(path))

    def split(
        self,
        by: Literal["time", "session", "user"] = "time",
        test: float = 0.2,
        at: int | None = None,
        seed: int = 0,
        cluster: str | None = None,
    ) -> tuple[SessionLog, SessionLog]:
        """Two logs over the same catalogue, to learn from and to judge by; see `recil.logs.split`."""
        from recil.logs.split import split

        return split(self, by, test, at, seed, cluster)

    def select(self, sessions: np.ndarray | Sequence[int]) -> SessionLog:
        """The log of these sessions (positions int [B] in this order, or a mask bool [S]), same catalogue."""
        from recil.logs.select import select

        return select(self, np.asarray(sessions))

    def summary(self) -> LogSummary:
        """What is in the log, printed as a table of at most 80 columns."""
        from recil.logs.summary import summarise

        return summarise(self)

    @cached_property
    def digest(self) -> str:
        """sha256 (hex) of the content, the same on every machine; notes do not count."""
        from recil.logs.digest import content_digest

        return content_digest(self)

    def __eq__(self, other: object) -> bool:
        return self.digest == other.digest if isinstance(other, SessionLog) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.digest)
