"""Prior means drawn anew, so that the members of an ensemble differ in what the log does not tell.

A bootstrap of shrunk estimates spreads less than what is unknown: an item with a click or two is pulled to the others
in every member alike. Where each member pulls towards a mean of its own, drawn from the prior, members spread as the
posterior does, exactly so for Gaussian likelihoods (Papandreou & Yuille 2010, "Gaussian sampling by local
perturbations"; Bardsley et al. 2014, "Randomize-then-optimize").
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from recil.logs.session_log import SessionLog
from recil.policies.inputs import Feature
from recil.random import Streams
from recil.sim.behaviour import Behaviour
from recil.sim.user_config import UserConfig

Centre = Mapping[str, Tensor]
OWN = "item_appeal"


def column(place: int) -> str:
    """The name of the appeal that the items' column number `place` adds."""
    return f"item_effects.tables.{place}"


def draw_centre(behaviour: Behaviour, config: UserConfig, streams: Streams) -> Centre:
    """Means of items' own appeal [A] and of what their columns add to it [C], in log-odds. config: settled."""
    assert config.appeal_scale is not None and config.item_scales is not None, "settled by start_at_rates"
    generator = streams.generator("users.prior_centre")

    def drawn(like: Tensor, scale: float) -> Tensor:
        return torch.randn(len(like), generator=generator, dtype=torch.float64).to(like.dtype) * scale

    centre = {OWN: drawn(behaviour.item_appeal, config.appeal_scale)}
    for place, (table, scale) in enumerate(zip(behaviour.item_effects.tables, config.item_scales, strict=True)):
        centre[column(place)] = drawn(table, scale)
    return centre


@torch.no_grad()
def start_towards(
    behaviour: Behaviour, centre: Centre, item_columns: Mapping[str, Tensor], log: SessionLog, config: UserConfig
) -> None:
    """Move a fit's start as far towards these means as the log's clicks let it, each for itself.

    A fit that stops early would else stay with the items' own rates.
    """
    assert config.appeal_scale is not None and config.item_scales is not None, "settled by start_at_rates"
    shown = np.bincount(log.items[log.items >= 0], minlength=log.catalogue)
    rate = torch.sigmoid(behaviour.appeal + behaviour.catalogue(item_columns).appeal)
    curve = torch.from_numpy(shown).to(rate.dtype) * rate * (1 - rate)
    tight = config.appeal_scale**-2
    behaviour.item_appeal.add_(centre[OWN] * tight / (tight + curve))
    effects = behaviour.item_effects
    for place, (table, scale) in enumerate(zip(effects.tables, config.item_scales, strict=True)):
        told = _told(effects.features[place], item_columns, len(table), curve)
        table[:, 0] += centre[column(place)] * scale**-2 / (scale**-2 + told)


def _told(feature: Feature, item_columns: Mapping[str, Tensor], size: int, curve: Tensor) -> Tensor:
    """[C]: what the clicks tell of a column's effect, as curvature. curve: [A], what they tell of each item."""
    values = item_columns[feature.name]
    if feature.categories is None:
        known = torch.nan_to_num((values - feature.mean) / feature.scale, nan=0.0, posinf=0.0, neginf=0.0)
        return (curve * known.square()).sum()[None]
    codes = values.reshape(len(values), -1)
    present = codes >= 0
    share = present.to(curve.dtype) / present.sum(1, keepdim=True).clamp(min=1)
    weight = share.square() * curve[:, None]
    return curve.new_zeros(size).index_add(0, codes[present], weight[present])
