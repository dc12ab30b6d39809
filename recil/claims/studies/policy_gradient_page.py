"""The page of the policy gradient's claim: its points and pictures."""

from __future__ import annotations

from typing import Any

from recil.claims.claim import Chart, Panel, Point
from recil.claims.found import Found, above, all_of, below, mean_of, near

OBJECTIVES = ("J", "J_avV", "J_avR")
_ROUNDING = 1e-9
_SHORT = 0.1  # of what exact ascent gains: sampled ascent may lack so much


def points(settings: Any, found: Found) -> tuple[Point, ...]:
    return (*_estimates(found), *_optima(found))


def _estimates(found: Found) -> tuple[Point, ...]:
    """What sampling comes to, against what is exact."""
    lacking = {}
    for name in OBJECTIVES:
        gained = found.values(f"{name}, sampled", "gained") / found.mean(f"{name}, exact", "gained").value
        lacking[name] = mean_of(1 - gained, found.confidence)
    gradients, slopes = _fall_with_root(found, [f"{name}, sampled" for name in OBJECTIVES])
    visits, of_visits = _fall_with_root(found, ["visits, random walk", "visits, recommender"])
    theorem, walk = (found.mean("identities", name).value for name in ("theorem", "walk"))
    return (
        Point.of(
            "Ascent by sampled gradients gains what ascent by exact gradients does, but for a tenth at most",
            all_of(*(below(lack, _SHORT) for lack in lacking.values())),
            "lacking, of what exact ascent gains: " + ", ".join(f"{name} {lack}" for name, lack in lacking.items()),
        ),
        Point.of(
            "Sampled gradients tend to the exact ones: their error falls with the root of the number of sessions",
            gradients and theorem < _ROUNDING,
            f"exponents, -1/2 in theory: {slopes}; by theorem and by differentiation they are {theorem:.1g} apart",
        ),
        Point.of(
            "Counting visits tends to the linear solve of d(s), with the root of the number of sessions as well",
            visits and walk < _ROUNDING,
            f"exponents: {of_visits}; the random walk's solve is {walk:.1g} off 1/9, 2/9, 3/9, 2/9, 1/9",
        ),
    )


def _fall_with_root(found: Found, arms: list[str]) -> tuple[bool, str]:
    slopes = {arm: found.mean(arm, "slope") for arm in arms}
    holds = all(near(slope, -0.5, 4.0, len(found.seeds), 0.05) for slope in slopes.values())
    return holds, ", ".join(f"{arm} {slope}" for arm, slope in slopes.items())


def _optima(found: Found) -> tuple[Point, ...]:
    """Whether the objectives are best at the same policy."""
    apart = found.difference("J, sampled", "J_avR, sampled", "J")
    endless = found.mean("identities", "endless").value

    def at(name: str, measure: str) -> float:
        return found.mean(f"best for {name}", measure).value

    return (
        Point.of(
            "J_avV leads to the policy that is best for a session in this world, where users leave",
            max(abs(at(name, "lost")) for name in ("J", "J_avV")) < _ROUNDING,
            f"of 216 policies the best for J has {at('J', 'J'):.4g} clicks per session, for J_avV"
            f" {at('J_avV', 'J'):.4g}, {at('J_avV', 'lost'):.1g} short of the best there is",
        ),
        Point.of(
            "J_avR does so where sessions never end: with discounted visits it is (1 - gamma) J there",
            endless < _ROUNDING,
            f"{endless:.1g} apart at most, of twenty policies in a world that no user leaves",
        ),
        Point.of(
            "J_avR does not where the policy decides how long users stay: it is paid for losing them early",
            all_of(at("J_avR", "lost") > _ROUNDING, above(apart, 0)),
            f"clicks per slate and session: its best policy {at('J_avR', 'J_avR'):.4g}, {at('J_avR', 'J'):.4g}; J's"
            f" {at('J', 'J_avR'):.4g}, {at('J', 'J'):.4g}. Per session after sampled ascent, J - J_avR: {apart}",
        ),
    )


def charts(settings: Any, found: Found) -> tuple[Chart, ...]:
    sampled, exact = (tuple(f"{name}, {how}" for name in OBJECTIVES) for how in ("sampled", "exact"))
    best = found.mean("best for J", "J").value
    return (
        Chart(
            "Above: ascent on three objectives, each in its own measure from the uniform policy (0) to its best policy"
            " (1), and in clicks per session. Below: errors of sampled gradients and of counted visits.",
            {
                "What each objective gained": Panel("gained_by_step", "steps", "share", (*sampled, *exact)),
                "Clicks per session": Panel("clicks_by_step", "steps", "clicks", sampled, truths={"best": best}),
                "Error of a single gradient": Panel("gradient_error", "sessions", "share of it", sampled, log="xy"),
                "Error of counted visits": Panel("visits_error", "sessions", "total variation", log="xy"),
            },
        ),
    )
