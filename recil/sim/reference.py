"""The reference: a neural response model that tells how much of the clicks can be learned at all.

It simulates nobody and explains nothing. It is held beside fitted users, so that the distance of an interpretable
model to what is learnable can be seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from recil.errors import InputError
from recil.logs.session_log import Column, SessionLog
from recil.policies.folder import catalogue_digest
from recil.random import Streams
from recil.sim.earlier import with_earlier
from recil.sim.fit import check_rewards, enough_units
from recil.sim.optimise import Metrics
from recil.sim.reference_config import ReferenceConfig
from recil.sim.reference_fit import optimise_reference, predict_clicks, start_at_rates
from recil.sim.reference_network import ReferenceLayout, ResponseNetwork
from recil.sim.reference_repeats import repeats_of
from recil.sim.units import set_aside

__all__ = ["ReferenceConfig", "ResponseReference", "fit_reference"]


@dataclass(frozen=True, eq=False)
class ResponseReference:
    """P(click on item k at step t | the steps before t, the user, the context of t, the slate and its order).

    network     the weights, fixed
    item_ids    [A], the catalogue
    categories  name -> digest of the categories of each column it looks at, None for a numeric one
    report      what the fit ended with, in words -> number
    """

    network: ResponseNetwork
    item_ids: np.ndarray
    categories: Mapping[str, str | None]
    report: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.item_ids.shape != (self.network.layout.catalogue,):
            raise ValueError(f"{self.item_ids.shape} item ids for {self.network.layout.catalogue} items")

    def predict(self, log: SessionLog, before: SessionLog | None = None) -> np.ndarray:
        """float64 [M]: probability of a click on each item shown, in row order.

        before: another part of the log, whose sessions lead in those of the same id (see `with_earlier`).
        Raises InputError where the log has another catalogue, longer slates, or not the columns it looks at.
        """
        self._check(log)
        whole, rows = with_earlier(log, before)
        probability = predict_clicks(self.network, whole, np.arange(whole.sessions), repeats_of(whole))
        return probability[rows][log.items >= 0]

    def _check(self, log: SessionLog) -> None:
        layout, remedy = self.network.layout, "use a log like the one the reference was fitted to"
        if catalogue_digest(log.item_ids) != catalogue_digest(self.item_ids):
            raise InputError("log", f"its catalogue of {log.catalogue} items is not the reference's", remedy)
        if log.slate_size > layout.slate_size:
            raise InputError("log", f"slates of {log.slate_size}; the reference knows {layout.slate_size}", remedy)
        for feature, column in layout.looked_at(log):
            if column is None:
                raise InputError("log", f"column {feature.name} is missing", remedy)
            if digest_of(column) != self.categories[feature.name]:
                raise InputError("log", f"column {feature.name} has other categories than the reference", remedy)


def digest_of(column: Column) -> str | None:
    """A digest of a column's categories, by which codes are known to mean the same; None for a numeric column."""
    return None if column.categories is None else catalogue_digest(np.asarray(column.categories))


def fit_reference(
    log: SessionLog, config: ReferenceConfig | None = None, seed: int = 0, *, on_metrics: Metrics | None = None
) -> ResponseReference:
    """A reference fitted to the log's clicks, on every column of it.

    on_metrics is called after each epoch with `reference/nll` and `reference/held_out_log_loss`, per impression, nats.
    Raises InputError when rewards are not 0/1, none is 1, or there are too few users (sessions, where the log names no
    users) to hold some out.
    """
    config = config or ReferenceConfig()
    check_rewards(log)
    units, streams = enough_units(log, config.cluster, "a reference"), Streams(seed)
    count = min(max(1, int(config.held_out * log.sessions)), log.sessions - 1)
    held_out, train = set_aside(units, count, streams.numpy("reference.held_out"))
    layout = ReferenceLayout.of(log, config.width)
    columns = {
        feature.name: log.item_features[feature.name].tensor(np.arange(log.catalogue)) for feature in layout.items
    }
    network = ResponseNetwork(layout, columns)
    network.begin(streams, config.vector_scale, config.effect_scale)
    start_at_rates(network, log.select(train), config)
    report = optimise_reference(network, log, (train, held_out), config, streams, on_metrics)
    network.requires_grad_(False)
    categories = {feature.name: digest_of(column) for feature, column in layout.looked_at(log) if column is not None}
    return ResponseReference(network, log.item_ids, categories, report)
