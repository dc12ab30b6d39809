"""The columns that requests may carry beside items and rewards, and the names behind a policy's category codes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from recil.errors import InputError
from recil.logs.history import PAD
from recil.logs.session_log import Column, SessionLog

FILE = "columns.json"
_GROUPS = ("feedback", "context", "user")


@dataclass(frozen=True)
class Kind:
    """One column. categories: the names behind its codes, None for numbers; absent: the number for a missing value."""

    categories: tuple[str, ...] | None = None
    absent: float = 0.0

    def codes_of(self, values: list[Any], place: str) -> list[float]:
        """Codes, or numbers. None is a missing value. Raises InputError naming the place."""
        if self.categories is None:
            return [self.absent if value is None else _number(value, place) for value in values]
        known = {name: code for code, name in enumerate(self.categories)}
        return [PAD if value is None else self._code(value, known, place) for value in values]

    def _code(self, value: Any, known: Mapping[str, int], place: str) -> int:
        name = str(value)
        if name not in known:
            names = ", ".join(map(repr, list(known)[:8])) + (", ..." if len(known) > 8 else "")
            raise InputError(place, f"{value!r} is no category of this column", f"give one of {names}, or null")
        return known[name]

    @property
    def fill(self) -> float:
        """What stands where nothing is known."""
        return self.absent if self.categories is None else PAD

    def tensor(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(values.astype(np.float32 if self.categories is None else np.int64))


@dataclass(frozen=True)
class Columns:
    """What a policy's log has beside items and rewards. reward: the reward's name; slate_size: items of a slate."""

    feedback: Mapping[str, Kind] = field(default_factory=dict)
    context: Mapping[str, Kind] = field(default_factory=dict)
    user: Mapping[str, Kind] = field(default_factory=dict)
    reward: str = "click"
    slate_size: int = 10

    def __iter__(self) -> Iterator[tuple[str, Kind]]:
        for group in _GROUPS:
            yield from getattr(self, group).items()

    @staticmethod
    def of_log(log: SessionLog) -> Columns:
        """The columns of this log, by the names of their categories."""
        return Columns(
            _kinds(log.feedback), _kinds(log.context), _kinds(log.user_features), log.reward_name, log.slate_size
        )

    @staticmethod
    def beside(folder: Path) -> Columns | None:
        """Those of columns.json in a policy's folder; None where there is none."""
        return _read(folder / FILE) if (folder / FILE).is_file() else None

    def of_policy(self, config: Mapping[str, Any]) -> Columns:
        """These columns and what a policy of these settings looks at, with its means for numbers left out.

        Categories that have no names here go by their codes: 0, 1, ...
        """
        groups = {}
        for group in _GROUPS:
            features, kinds = _features(config, group), dict(getattr(self, group))
            groups[group] = kinds | {name: _merged(name, kinds.get(name), features[name]) for name in features}
        return Columns(**groups, reward=self.reward, slate_size=self.slate_size)

    def save(self, folder: Path) -> None:
        """Writes columns.json into the folder of a policy."""
        content: dict[str, Any] = {"reward": self.reward, "slate_size": self.slate_size}
        for group in _GROUPS:
            content[group] = {name: kind.categories for name, kind in getattr(self, group).items()}
        (folder / FILE).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    def coded(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The table with its categorical columns as categoricals in the policy's own codes."""
        changed = {}
        for name, kind in self:
            if name in frame.columns and kind.categories is not None:
                names = frame[name].astype(object).where(frame[name].notna(), None)
                text = names.map(lambda value: None if value is None else _plain_text(value))
                unknown = sorted(set(text.dropna()) - set(kind.categories))
                if unknown:
                    remedy = f"the policy knows {', '.join(kind.categories[:8])}"
                    raise InputError(f"column {name}", f"{unknown[0]!r} is no category of the policy's", remedy)
                changed[name] = pd.Categorical(text, categories=list(kind.categories))
        return frame.assign(**changed)


def _plain_text(value: Any) -> str:
    """Whole numbers that a gap made floats read as whole numbers again."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _kinds(columns: Mapping[str, Column]) -> dict[str, Kind]:
    return {name: Kind(column.categories) for name, column in columns.items()}


def _features(config: Mapping[str, Any], group: str) -> dict[str, Mapping[str, Any]]:
    """The policy's features of this group: an encoder's, or the answers of a Markov model."""
    found = list(config.get("encoder", {}).get(group, ())) if isinstance(config.get("encoder"), Mapping) else []
    if group == "feedback":
        found += config.get("answers", ())
    return {feature["name"]: feature for feature in found}


def _merged(name: str, named: Kind | None, feature: Mapping[str, Any]) -> Kind:
    count = feature["categories"]
    if count is None:
        return Kind(None, float(feature["mean"]))
    if named is None or named.categories is None:
        return Kind(tuple(str(code) for code in range(count)))
    if len(named.categories) != count:
        raise InputError(
            f"column {name}",
            f"the policy knows {count} categories, the log {len(named.categories)}",
            "give the log that the policy was trained on",
        )
    return named


def _read(file: Path) -> Columns:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        groups = {
            group: {name: Kind(None if names is None else tuple(names)) for name, names in content[group].items()}
            for group in _GROUPS
        }
        return Columns(**groups, reward=content["reward"], slate_size=int(content["slate_size"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(str(file), f"cannot be read ({type(error).__name__}: {error})", "write it again") from error


def _number(value: Any, place: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 1e38:
        raise InputError(place, f"{value!r} is no finite number", "give a number, or null where it is unknown")
    return float(value)
