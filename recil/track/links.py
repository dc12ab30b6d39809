"""Links that open where the numbers are: MLflow's own front page opens in another mode."""

from __future__ import annotations

from recil.track.store import Store
from recil.track.view import VIEW

UI_ADDRESS = "http://127.0.0.1:5000"


def _base(store: Store) -> str:
    return store.uri if store.uri.startswith(("http://", "https://")) else UI_ADDRESS


def runs_link(store: Store, experiment_id: str) -> str:
    """The runs of an experiment in the training view. For a store that is no server: where `recil ui` serves it."""
    return f"{_base(store)}/#/experiments/{experiment_id}/runs?workflowType=machine_learning"


def charts_link(runs: str) -> str:
    """The ready-made view of the charts (`recil.track.view`), out of the link to the runs."""
    return f"{runs}&viewStateShareKey={VIEW}&compareRunsMode=CHART"


def run_link(store: Store, experiment_id: str, run_id: str) -> str:
    """The page of one run."""
    return f"{_base(store)}/#/experiments/{experiment_id}/runs/{run_id}?workflowType=machine_learning"
