"""A log as an MLflow dataset: what a run was made from, found again by its content."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mlflow.data.dataset import Dataset
from mlflow.data.sources import LocalArtifactDatasetSource  # type: ignore[attr-defined]  # made at run time

from recil.logs.history import PAD
from recil.logs.session_log import SessionLog


class SessionDataset(Dataset):
    """Lineage of a SessionLog. name: up to 500 characters; source: the path it was read from.

    The digest is the log's own, over its whole content; the profile counts sessions, items shown and reward.
    """

    def __init__(self, log: SessionLog, name: str, source: str | Path) -> None:
        self._log = log
        super().__init__(LocalArtifactDatasetSource(str(source)), name=name)

    def _compute_digest(self) -> str:
        return self._log.digest[:36]

    @property
    def profile(self) -> dict[str, float]:
        log = self._log
        shown = log.items != PAD
        return {
            "num_sessions": log.sessions,
            "num_steps": log.steps,
            "num_impressions": log.impressions,
            "num_items": log.catalogue,
            "reward_rate": float(log.reward[shown].mean(dtype="float64")) if shown.any() else 0.0,
        }

    @property
    def schema(self) -> dict[str, Any]:
        log = self._log
        columns: dict[str, str] = {"items": "int32 [N, K]", "reward": "float32 [N, K]"}
        if log.propensity is not None:
            columns["propensity"] = "float32 [N, K]"
        groups = {"feedback": log.feedback, "context": log.context, "user": log.user_features}
        for group, members in (groups | {"item": log.item_features}).items():
            for column, values in members.items():
                columns[f"{group}.{column}"] = "numeric" if values.categories is None else "categorical"
        return columns

    def to_dict(self) -> dict[str, str]:
        return super().to_dict() | {"schema": json.dumps(self.schema), "profile": json.dumps(self.profile)}
