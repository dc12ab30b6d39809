"""What the runs of gan_question say, point by point, and their picture."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from recil.claims.claim import Chart, Panel, Point
from recil.claims.found import Found, above, all_of, below

if TYPE_CHECKING:
    from recil.claims.studies.gan_question import Settings

# The moments of both groups together, which likelihood matches; and those of one group.
_BOTH = (1.6, math.sqrt(4 + 0.24 * 16**2))
_ONE = (8.0, 2.0)

NOT_SHOWN = (
    "Models without a tractable likelihood, such as those of images, the home of GANs. Slates have one.",
    "Long sessions, in which a clone gets into situations the demonstrator never was in; the adversary acts in its own."
    " See distribution_shift.",
    "That the adversary could not be tuned to do better. Its steps were chosen for speed, on one seed, and no other.",
    "That covering is better than dropping: narrow policies that drop items are worth more clicks here, since what the"
    " demonstrator shows most is what is clicked.",
)


def points(settings: Settings, found: Found) -> tuple[Point, ...]:
    return (*_exact_points(found), *_best_points(found), *_learned_points(settings, found))


def _exact_points(found: Found) -> tuple[Point, ...]:
    errors = {
        arm: found.mean(f"identity, {arm}", "identity_error").value for arm in ("log odds", "-log(1 - D)", "log D")
    }
    ends = {
        arm: list(
            zip(
                *(found.curve(f"Gaussian, {arm}", f"{moment}_by_start")[1][0] for moment in ("mean", "deviation")),
                strict=True,
            )
        )
        for arm in ("likelihood", "log odds")
    }
    covers = all(
        math.isclose(m, _BOTH[0], abs_tol=0.02) and math.isclose(d, _BOTH[1], abs_tol=0.02)
        for m, d in ends["likelihood"]
    )
    drops = all(
        math.isclose(abs(m), _ONE[0], abs_tol=0.02) and math.isclose(d, _ONE[1], abs_tol=0.02)
        for m, d in ends["log odds"]
    )
    sides = {m > 0 for m, _ in ends["log odds"]}
    return (
        Point.of(
            "With the best discriminator the policy gradient on log D - log(1 - D) is -grad KL(q || p), and on"
            " -log(1 - D) it is -2 grad JSD",
            all(error < 1e-9 for error in errors.values()),
            "relative error " + ", ".join(f"{arm}: {error:.1e}" for arm, error in errors.items()),
        ),
        Point.of(
            "One Gaussian on two groups of items: likelihood covers both from anywhere, log odds end on one of them, on"
            " which depends on the start",
            covers and drops and len(sides) == 2,
            "mean and deviation by start: "
            + "; ".join(f"{arm} " + ", ".join(f"{m:.2f} {d:.2f}" for m, d in rows) for arm, rows in ends.items()),
        ),
    )


def _best_points(found: Found) -> tuple[Point, ...]:
    ways = ("likelihood", "log odds", "-log(1 - D)")
    wide = {way: found.mean(f"wide, exact, {way}", "jsd") for way in ways}
    other, own, shannon = (f"narrow, exact, {way}" for way in ways)
    gaps = {
        "KL(demo, policy)": found.difference(other, own, "forward_kl"),
        "KL(policy, demo)": found.difference(own, other, "reverse_kl"),
        "JSD": found.difference(shannon, other, "jsd"),
    }
    lost, worth = (found.difference(own, other, measure) for measure in ("dropped", "value"))
    return (
        Point.of(
            "Where the policy can be the demonstrator, all three end there: the optimum is the same",
            all_of(*(below(one, 1e-3) for one in wide.values())),
            "JSD " + ", ".join(f"{way}: {one}" for way, one in wide.items()),
        ),
        Point.of(
            "Where it cannot, each comes nearest by its own divergence, and they differ",
            all_of(*(below(one, 0) for one in gaps.values())),
            "its own way less the other, likelihood against log odds: "
            + ", ".join(f"{k}: {v}" for k, v in gaps.items()),
        ),
        Point.of(
            "There the generator drops more of what was demonstrated",
            above(lost, 0),
            f"share dropped, log odds less likelihood: {lost}; in value it is ahead by {worth}",
        ),
    )


def _learned_points(settings: Settings, found: Found) -> tuple[Point, ...]:
    clone, game, both = "wide, clone", "wide, adversary, log odds", "wide, clone, then adversary"
    foil, narrow = "wide, adversary, -log(1 - D)", "narrow, adversary, log odds"
    behind = {arm: found.difference(arm, clone, "jsd") for arm in (game, foil) if found.has(arm)}
    start, own = (found.difference(both, arm, "jsd") for arm in (game, clone))
    apart = found.difference(game, clone, "apart")
    others = [arm for arm in ("narrow, clone", narrow) if found.has(arm)]
    ahead = {arm: found.difference("narrow, clone as D", arm, "reverse_kl") for arm in others}
    return (
        Point.of(
            "From one log the clone comes nearer to the demonstrator than the adversary, without a simulated session",
            all_of(*(above(one, 0) for one in behind.values())),
            f"JSD of the clone {found.mean(clone, 'jsd')}; after {settings.adversarial_sessions:,} sessions farther by "
            + "; ".join(f"{gap} ({arm})" for arm, gap in behind.items()),
        ),
        Point.of(
            "Both: an adversary that starts from the clone comes nearer than one that starts from nothing",
            below(start, 0),
            f"JSD, from the clone less from nothing: {start}; less the clone's own: {own}",
        ),
        Point.of(
            "Cloning is the more stable: another seed changes its policy less",
            above(apart, 0),
            f"total variation between seeds: clone {found.mean(clone, 'apart')}, adversary {found.mean(game, 'apart')}",
        ),
        Point.of(
            "The generator's own compromise is had without a game: with a capable clone in the discriminator's place",
            all_of(*(below(one, 0) for one in ahead.values())),
            "KL(policy, demo) with the clone as D less that of "
            + "; ".join(f"{arm}: {gap}" for arm, gap in ahead.items()),
        ),
    )


def charts(settings: Settings, found: Found) -> tuple[Chart, ...]:
    learned = tuple(arm for arm in found.arms if arm.startswith(("wide", "narrow")))
    return (
        Chart(
            "How far policies end from the demonstrator, how much of what was demonstrated they drop, and what they are"
            " worth (dashed: the demonstrator). Bars: intervals over seeds.",
            {
                "Distance": Panel("jsd", "JSD, nats", "", learned),
                "Dropped": Panel("dropped", "share of demonstrated items", "", learned),
                "Value": Panel(
                    "value",
                    "clicks",
                    "",
                    learned,
                    truths={"demonstrator": settings.skill * 0.102 + (1 - settings.skill) * 0.002},
                ),
            },
        ),
    )
