"""Members of an ensemble differ in what the log does not tell of items, and not in what it does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from statistics_helper import assert_mean

from recil.logs.session_log import Column, SessionLog
from recil.random import Streams
from recil.sim.behaviour import Behaviour
from recil.sim.ensemble import fit_ensemble
from recil.sim.layout import layout_of
from recil.sim.optimise import log_prior
from recil.sim.prior_draw import OWN, column, draw_centre, start_towards
from recil.sim.start import start_at_rates
from recil.sim.user_config import UserConfig
from recil.sim.users import item_columns_of

CONFIG = UserConfig(types=1, dimension=1, epochs=2, batch=256, appeal_scale=0.5, item_scales=(0.4, 0.3), window=0)
ITEMS, SHOWN = 400, 200


def log_of_coins(sessions: int = 20_000) -> SessionLog:
    """One item a session, of the first 200 of 400: item 0 half of the time. Half of all get a click."""
    draws = np.random.default_rng(0)
    items = np.where(draws.random(sessions) < 0.5, 0, draws.integers(0, SHOWN, sessions))
    # Kinds 0 and 1 are of shown items; 2 is of items that never were.
    kind = np.where(np.arange(ITEMS) < SHOWN, np.arange(ITEMS) % 2, 2)
    return SessionLog(
        item_ids=np.arange(ITEMS),
        items=items[:, None].astype(np.int32),
        reward=(draws.random(sessions) < 0.5)[:, None].astype(np.float32),
        offsets=np.arange(sessions + 1),
        session_ids=np.arange(sessions),
        item_features={
            "item_kind": Column(kind.astype(np.int32), ("odd", "even", "unseen")),
            "item_size": Column(draws.normal(size=ITEMS).astype(np.float32)),
        },
    )


def begun(log: SessionLog) -> tuple[Behaviour, dict[str, torch.Tensor], UserConfig]:
    behaviour = Behaviour(layout_of(log, CONFIG, "multinomial"), Streams(0))
    return behaviour, item_columns_of(log), start_at_rates(behaviour, log, CONFIG)


def test_means_are_drawn_with_the_scales_of_the_priors() -> None:
    behaviour, _, settled = begun(log_of_coins(2000))
    draws = [draw_centre(behaviour, settled, Streams(seed)) for seed in range(40)]
    for name, scale, size in ((OWN, 0.5, ITEMS), (column(0), 0.4, 3), (column(1), 0.3, 1)):
        values = torch.stack([centre[name] for centre in draws])
        assert values.shape == (40, size)
        assert_mean(values.flatten().double().numpy() / scale, 0.0)
        assert_mean(values.flatten().double().numpy() ** 2 / scale**2, 1.0)
    assert torch.equal(draw_centre(behaviour, settled, Streams(7))[OWN], draws[7][OWN])


def test_the_prior_is_highest_at_the_means() -> None:
    behaviour, _, settled = begun(log_of_coins(2000))
    centre = draw_centre(behaviour, settled, Streams(1))
    with torch.no_grad():
        behaviour.item_appeal.copy_(centre[OWN])
        for place, table in enumerate(behaviour.item_effects.tables):
            table[:, 0] = centre[column(place)]
    (slope, *tables) = torch.autograd.grad(
        log_prior(behaviour, settled, centre), [behaviour.item_appeal, *behaviour.item_effects.tables]
    )
    assert not slope.any() and not any(table[:, 0].any() for table in tables)
    (slope,) = torch.autograd.grad(log_prior(behaviour, settled), behaviour.item_appeal)
    torch.testing.assert_close(slope, -centre[OWN] / 0.25)


def test_a_start_goes_as_far_towards_them_as_clicks_let_it() -> None:
    log = log_of_coins()
    behaviour, columns, settled = begun(log)
    before = behaviour.item_appeal.detach().clone()
    tables = [table.detach().clone()[:, 0] for table in behaviour.item_effects.tables]
    centre = draw_centre(behaviour, settled, Streams(2))
    start_towards(behaviour, centre, columns, log, settled)
    moved = behaviour.item_appeal.detach() - before
    torch.testing.assert_close(moved[SHOWN:], centre[OWN][SHOWN:])  # never shown: nothing holds it
    assert abs(moved[0]) < 0.01 * abs(centre[OWN][0])  # 10,000 times: 2,500 of curvature against 4
    share = (moved / centre[OWN])[1:SHOWN]
    curve = np.bincount(log.items[:, 0], minlength=ITEMS)[1:SHOWN] * 0.25
    np.testing.assert_allclose(share, 4 / (4 + curve), rtol=0.1)
    kinds = behaviour.item_effects.tables[0].detach()[:, 0] - tables[0]
    torch.testing.assert_close(kinds[2], centre[column(0)][2])
    assert (kinds[:2].abs() < 0.01 * centre[column(0)][:2].abs()).all()


def test_members_differ_where_the_log_says_nothing() -> None:
    log = log_of_coins(3000)
    config = replace(CONFIG, epochs=1)
    members = fit_ensemble(log, config, members=4).members
    appeal = torch.stack([member.behaviour.catalogue(member.item_columns).appeal for member in members])
    spread = appeal.std(0)
    # Of what was never shown all is open: its own appeal (.5), its kind's (.4) and its size's, little of it.
    assert 0.4 < spread[SHOWN:].mean() < 0.9
    assert spread[0] < 0.2  # 1,500 showings
    assert spread[0] < 0.5 * spread[1:SHOWN].mean() < 0.5 * spread[SHOWN:].mean()
