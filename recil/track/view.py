"""A ready-made view of an experiment's charts: seeds averaged, methods side by side, what policies are worth on top.

MLflow keeps such views in tags of the experiment, in a form it has not written down. Where another version of it does
not read this one, its own charts are shown.
"""

from __future__ import annotations

import base64
import json
import logging
import zlib
from collections.abc import Sequence
from typing import Any

from recil.track.store import Store, connect

logger = logging.getLogger("recil.track")
VIEW = "recil"
WORTH = ("true/return", "sim/return", "ope/pdwis", "ope/dr")
LEARNING = (
    "clone/held_out_nll",
    "finetune/held_out_gain",
    "finetune/kl_clone",
    "finetune/ess",
    "reinforce/return",
)
_MOST_RUNS = 30
# What the sections have in common with those MLflow makes: nothing moved, nothing left out.
_AS_IT_IS: dict[str, Any] = {
    "groupsExpanded": {}, "runsHiddenMode": "SHOW_ALL", "runsHidden": [], "runsPinned": [], "runsExpanded": {},
    "selectedColumns": [], "viewMaximized": False, "runListHidden": False, "autoRefreshEnabled": False,
    "hideEmptyCharts": True, "useGroupedValuesInCharts": True, "orderByKey": "attributes.start_time",
    "orderByAsc": False, "startTime": "ALL", "lifecycleFilter": "Active", "datasetsFilter": [],
    "modelVersionFilter": "All Runs",
    "globalLineChartConfig": {"xAxisKey": "step", "lineSmoothness": 0, "selectedXAxisMetricKey": ""},
}  # fmt: skip


def share_view(store: Store, experiment_id: str, sweep: str) -> bool:
    """Leaves the view of this sweep's runs in the experiment, in place of an older sweep's. False: it could not."""
    try:
        connect(store.uri).set_experiment_tag(experiment_id, f"mlflow.sharedViewState.{VIEW}", packed(view_of(sweep)))
    except Exception as error:  # the numbers do not depend on it, and a store that is away is told of elsewhere
        logger.info("no ready-made view of the charts: %s", error)
        return False
    return True


def view_of(sweep: str) -> dict[str, Any]:
    """The state of MLflow's page: the policies of one sweep, grouped by method."""
    policies = "tags.`recil.stage` != 'summary' and tags.`recil.stage` != 'users'"
    return _AS_IT_IS | {
        "searchFilter": f"tags.`recil.sweep` = '{sweep}' and {policies}",
        "groupBy": {"aggregateFunction": "average", "groupByKeys": [{"mode": "tag", "groupByData": "recil.method"}]},
        # As if they had been moved by hand: else they are sorted among the sections of all metrics, by name.
        "isAccordionReordered": True,
        "compareRunSections": [_section("worth", "What policies are worth"), _section("learning", "Learning")],
        "compareRunCharts": _charts("worth", "BAR", WORTH) + _charts("learning", "LINE", LEARNING),
    }


def packed(state: dict[str, Any]) -> str:
    """A state as the tag holds it."""
    return "deflate;" + base64.b64encode(zlib.compress(json.dumps(state).encode(), 9)).decode()


def _section(key: str, name: str) -> dict[str, Any]:
    return {"uuid": f"recil-{key}", "name": name, "display": True, "isReordered": True}


def _charts(section: str, kind: str, metrics: Sequence[str]) -> list[dict[str, Any]]:
    of_lines = {
        "selectedXAxisMetricKey": "", "xAxisKey": "step", "useGlobalXaxisKey": False, "lineSmoothness": 0,
        "scaleType": "linear", "range": {}, "yAxisKey": "metric", "yAxisExpressions": [],
    }  # fmt: skip
    return [
        {
            "uuid": f"recil-{section}-{number}",
            "type": kind,
            "metricKey": metric,
            "displayName": metric,
            "metricSectionId": f"recil-{section}",
            "runsCountToCompare": _MOST_RUNS,
            "deleted": False,
            "isGenerated": False,
        }
        | ({"selectedMetricKeys": [metric], **of_lines} if kind == "LINE" else {})
        for number, metric in enumerate(metrics)
    ]
