"""Offline policy evaluation inside `mlflow.models.evaluate`: the plugin `recil-ope`.

MLflow loads this file whenever its evaluation is imported; what is heavy is imported when it is used.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow.models.evaluation.base import EvaluationResult, ModelEvaluator

from recil.errors import InputError

if TYPE_CHECKING:
    from recil.evaluate.estimates import Estimates
    from recil.logs.session_log import SessionLog
    from recil.track.serve import ServedPolicy

MODEL_TYPE = "recommender-ope"
_OPTIONS = ("estimators", "gamma", "replicates", "confidence", "seed", "cap")
_KEYS = ("reward", "behaviour", *_OPTIONS)


class OpeEvaluator(ModelEvaluator):
    """What a logged policy is worth, estimated from a log's table that another policy wrote.

    mlflow.models.evaluate(model, data=table, model_type="recommender-ope", evaluators="recil-ope"). table: one row per
    item shown (docs/log.md), with propensities unless evaluator_config names a behaviour policy. evaluator_config:
    reward (the column), behaviour (the folder of a clone of the logging policy, from other sessions), and estimators,
    gamma, replicates, confidence, seed, cap as in `recil.evaluate`.
    """

    @classmethod
    def can_evaluate(cls, *, model_type, evaluator_config, **kwargs) -> bool:
        return model_type == MODEL_TYPE

    def evaluate(
        self,
        *,
        model_type,
        dataset,
        run_id,
        evaluator_config,
        model=None,
        extra_metrics=None,
        custom_artifacts=None,
        predictions=None,
        model_id=None,
        **kwargs,
    ) -> EvaluationResult:
        """Logs `ope/<estimator>`, `_low`, `_high` and `_ess`, a table of them, and the verdict as the tag ope.verdict.

        What is refused has no value, only its effective sample size; its reasons are in the table.
        """
        import mlflow

        options = dict(evaluator_config or {})
        for key in options:
            if key not in _KEYS:
                raise InputError(f"evaluator_config.{key}", "unknown key", f"the keys are {', '.join(_KEYS)}")
        found = _estimates(_policy_of(model), dataset.features_data, options)
        metrics = metrics_of(found)
        mlflow.log_metrics(metrics, run_id=run_id, model_id=model_id)
        client = mlflow.MlflowClient()
        client.log_table(run_id, found.to_frame().astype(object).where(lambda frame: frame.notna(), None), "ope.json")
        client.log_text(run_id, f"{found}\n", "ope.txt")
        client.set_tag(run_id, "ope.verdict", found.best.verdict)
        return EvaluationResult(metrics=metrics, artifacts={}, run_id=run_id)


def metrics_of(found: Estimates) -> dict[str, float]:
    """Estimates as metrics; what is refused is no number."""
    return {
        f"ope/{row.estimator}{end}": value
        for row in found
        for end, value in (("", row.value), ("_low", row.low), ("_high", row.high), ("_ess", row.ess))
        if math.isfinite(value)
    }


def _policy_of(model: Any) -> ServedPolicy:
    """The policy inside a loaded model."""
    try:
        return model.unwrap_python_model().served
    except Exception as error:  # MLflow raises of its own accord for models of other flavours
        raise InputError(
            "model", "it is no policy of recil's", "give one that recil.track.model.log_policy logged"
        ) from error


def _estimates(served: ServedPolicy, table: Any, options: Mapping[str, Any]) -> Estimates:
    from recil.evaluate.on_log import evaluate
    from recil.policies.storage import load

    behaviour = options.get("behaviour")
    return evaluate(
        served.policy,
        log_of(table, served, options.get("reward")),
        behaviour=None if behaviour is None else load(Path(behaviour)),
        **{key: options[key] for key in _OPTIONS if key in options},
    )


def log_of(table: Any, served: ServedPolicy, reward: str | None = None) -> SessionLog:
    """The table as a log over the policy's catalogue, categories in the policy's codes."""
    import pandas as pd

    from recil.logs.session_log import SessionLog

    if not isinstance(table, pd.DataFrame):
        raise InputError("data", f"{type(table).__name__} where a table was expected", "give a pandas DataFrame")
    items = pd.DataFrame({"item_id": served.item_ids})
    return SessionLog.from_frame(served.columns.coded(table), items, reward or served.columns.reward, place="data")
