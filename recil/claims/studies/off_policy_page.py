"""What the runs of off_policy say, point by point, and their pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING

from recil.claims.claim import Chart, Panel, Point
from recil.claims.found import Found, above, all_of, below, said

if TYPE_CHECKING:
    from recil.claims.studies.off_policy import Settings

# E[w G] and E[(w G)^2] of the loop, by the horizon that it is cut at.
LOOP = {steps: (1 - 0.9**steps, 0.25 * (1.8**steps - 1)) for steps in (5, 10, 20)}
# K -> where top-K comes to rest, of rewards 10, 9, 1 ... 1: the first two shares.
TOP_K = {1: (1.0, 0.0), 2: (10 / 19, 9 / 19), 8: (0.3146, 0.3042)}


def points(settings: Settings, found: Found) -> tuple[Point, ...]:
    return (*_horizon_points(settings, found), *_rest_points(found), *_recommender_points(settings, found))


def _curve(found: Found, arm: str, measure: str) -> dict[int, float]:
    """Of an arm without chance."""
    steps, values = found.curve(arm, measure)
    return dict(zip(steps.tolist(), values[0].tolist(), strict=True))


def _row(curve: Mapping[int, float]) -> str:
    return ", ".join(f"{step}: {said(value)}" for step, value in curve.items())


def _horizon_points(settings: Settings, found: Found) -> tuple[Point, ...]:
    pairs = [(arm, over) for arm in ("trajectory", "per decision") for over in ("horizon", "target")]
    worst = max(max(_curve(found, arm, f"bias_by_{over}").values()) for arm, over in pairs)
    half, whole = settings.horizons[-2:]
    needed = {arm: _curve(found, arm, "needed_by_horizon") for arm in settings.forms}
    grows = {arm: curve[whole] / curve[half] for arm, curve in needed.items()}
    right, shown = settings.target / 100, settings.behaviour / 100
    factor = (right**2 / shown + (1 - right) ** 2 / (1 - shown)) ** (whole - half)
    bias, by_target = (_curve(found, "per step", f"bias_by_{over}") for over in ("horizon", "target"))
    rising = [by_target[target] for target in settings.targets if target >= settings.behaviour]
    free, cap = (
        (found.mean(f"per step{end}", "bias").value, needed[f"per step{end}"][whole]) for end in ("", ", capped")
    )
    mean, square = (_curve(found, "loop", f"weighted_{moment}") for moment in ("mean", "square"))
    return (
        Point.of(
            "Corrected by trajectory or by decision the gradient is unbiased, at every horizon and distance",
            worst < 1e-9,
            f"largest bias {worst:.1e} of the exact gradient, over all sessions there are",
        ),
        Point.of(
            "A trajectory's weight is paid for geometrically: with each step by the second moment of a ratio, at least",
            grows["trajectory"] >= factor,
            f"sessions needed at {whole} steps over those at {half}: {said(grows['trajectory'])}, by decision"
            f" {said(grows['per decision'])}; by the ratios alone {said(factor)}",
        ),
        Point.of(
            "Step by step the price grows as a power of the horizon, no faster than its square",
            grows["per step"] <= (whole / half) ** 2,
            f"sessions needed at {whole} steps over those at {half}: {said(grows['per step'])}",
        ),
        Point.of(
            "It is paid for in bias: none in sessions of a step or on the logging policy, growing with the distance",
            bias[1] < 1e-9 < bias[whole] and rising[0] < 1e-9 and all(two > one for one, two in pairwise(rising)),
            f"share of the exact gradient, by horizon: {_row(bias)}; by right items in 100: {_row(by_target)}",
        ),
        Point.of(
            "A cap buys less variance with more bias",
            cap[0] > free[0] and cap[1] < free[1],
            f"at {whole} steps without a cap bias {said(free[0])}, sessions needed {said(free[1])};"
            f" with it {said(cap[0])}, {said(cap[1])}",
        ),
        Point.of(
            "Variance has no limit in a loop: there the weighted return's second moment is (1.8^H - 1) / 4",
            all(math.isclose(mean[h], one, rel_tol=1e-6) for h, (one, _) in LOOP.items())
            and all(math.isclose(square[h], two, rel_tol=1e-6) for h, (_, two) in LOOP.items()),
            f"by horizon: {_row(square)}; its mean: {_row(mean)}",
        ),
    )


def _rest_points(found: Found) -> tuple[Point, ...]:
    off = found.mean("bandit, uncorrected", "off_cloned").value
    none, cap, full = (found.mean(f"bandit, {way}", "value").value for way in ("uncorrected", "cap e^3", "corrected"))
    slates = {k: found.of(f"slates of {k}, top-K")[0].values for k in TOP_K}
    worth = {k: (one["value"], one["value_of_best_item"]) for k, one in slates.items()}
    return (
        Point.of(
            "Uncorrected, ascent comes to the wrong policy: to item i with probability i (11 - i) / 220",
            off < 1e-6 and abs(none - 5.5) < 1e-6 and abs(full - 10) < 1e-6,
            f"no probability is farther from that than {off:.1e}; worth {none:.4g}, and {full:.4g} if corrected",
        ),
        Point.of(
            "A cap leads to a policy between the two",
            none < cap < full,
            f"worth {cap:.4g} with ratios capped at e^3 where the best item's is 55",
        ),
        Point.of(
            "The top-K factor leads to slates that are worth more than the best item K times",
            all(one["off_rest"] < 1e-4 for one in slates.values())
            and all(slate > alone for k, (slate, alone) in worth.items() if k > 1),
            "; ".join(f"K = {k}: worth {slate:.4g} for {alone:.4g}" for k, (slate, alone) in worth.items()),
        ),
    )


def _recommender_points(settings: Settings, found: Found) -> tuple[Point, ...]:
    step, decision, whole = arms = [f"recommender, {form}" for form in ("per step", "per decision", "trajectory")]
    cosine = {arm: found.mean(arm, "cosine") for arm in (*arms, "recommender, uncorrected")}
    ahead = [found.difference(*pair, "cosine") for pair in ((step, decision), (decision, whole))]
    gains = [found.difference(f"{arm}, normalised", arm, "cosine") for arm in arms]
    return (
        Point.of(
            f"From {settings.sessions:,} sessions of a recommender the biased form points the best way, then decisions",
            all_of(*(above(one, 0) for one in ahead)),
            f"cosine with the exact gradient at up to {max(settings.recommender_horizons)} steps: by step"
            f" {cosine[step]}, by decision {cosine[decision]}, by trajectory {cosine[whole]}",
        ),
        Point.of(
            "Without ratios estimates point away from the gradient",
            below(cosine["recommender, uncorrected"], 0),
            f"cosine {cosine['recommender, uncorrected']}",
        ),
        Point.of(
            "Self-normalised, weights of decisions and of trajectories point a better way",
            all_of(above(gains[1], 0), above(gains[2], 0)),
            f"cosine, normalised less plain: by decision {gains[1]}, by trajectory {gains[2]}, by step {gains[0]}",
        ),
    )


def charts(settings: Settings, found: Found) -> tuple[Chart, ...]:
    forms, middle = tuple(settings.forms), settings.horizons[len(settings.horizons) // 2]
    target = "right items under the target, %"
    return (
        Chart(
            "All sessions of the chain with their probabilities. Above: bias as a share of the exact gradient, 0 for"
            " trajectories and for decisions. Below:"
            f" sessions whose mean has as much noise as signal. Left: by horizon; right: by distance, {middle} steps.",
            {
                "Bias by horizon": Panel("bias_by_horizon", "steps", "share of the gradient", forms),
                "Bias by distance": Panel("bias_by_target", target, "share of the gradient", forms),
                "Noise by horizon": Panel("needed_by_horizon", "steps", "sessions", forms, log="y"),
                "Noise by distance": Panel("needed_by_target", target, "sessions", forms, log="y"),
            },
        ),
        Chart(
            "Left: ascent along each expected step where what is shown most is worth least. Right: estimates from"
            f" {settings.sessions:,} sessions of a small recommender against the exact gradient.",
            {
                "Ten items": Panel("value_by_step", "steps of ascent", "value", truths={"worth 5.5": 5.5}),
                "Small recommender": Panel(
                    "cosine_by_horizon", "longest session", "cosine", tuple(f"recommender, {form}" for form in forms)
                ),
            },
        ),
    )
