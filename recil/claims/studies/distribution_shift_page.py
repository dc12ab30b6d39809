"""What the runs of distribution_shift say, point by point, and their pictures."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from recil.claims.claim import Chart, Panel, Point
from recil.claims.found import Found, above, all_of, below, mean_of, said

if TYPE_CHECKING:
    from recil.claims.studies.distribution_shift import Settings

NOT_SHOWN = (
    "Experts that can be asked on real traffic. A world's best response knows the users' click probabilities.",
    "That the people behind the demo log would answer as the users fitted to it.",
    "How strong the drift is elsewhere. With a click in a hundred items the best response hardly depends on the user:"
    " its own sessions follow one or two schedules, which many labels teach by heart.",
)


def points(settings: Settings, found: Found) -> tuple[Point, ...]:
    return (*_exact_points(settings, found), *_path_points(found), *_fitted_points(settings, found))


def _curve(found: Found, arm: str, measure: str) -> dict[int, float]:
    """Of an arm without chance."""
    steps, values = found.curve(arm, measure)
    return dict(zip(steps.tolist(), values[0].tolist(), strict=True))


def _exact_points(settings: Settings, found: Found) -> tuple[Point, ...]:
    rate, cost = settings.rate, _curve(found, "three states", "cost_by_horizon")
    cliff, clone, known = (
        _curve(found, arm, "gap_by_horizon") for arm in ("no way back", "way back, clone", "way back, known")
    )
    wanted = {steps: steps - (1 - rate) * (1 - (1 - rate) ** steps) / rate for steps in cliff}
    linear = {steps: rate + (steps - 1) * rate * (2 - rate) for steps in known}
    slope = {arm: found.mean(arm, "slope").value for arm in ("no way back", "way back, clone", "way back, known")}
    return (
        Point.of(
            "In three states an error rate of eps on the expert's states costs eps T^2",
            all(math.isclose(value, 0.01 * steps**2, abs_tol=1e-9) for steps, value in cost.items()),
            "eps .01, by T: " + ", ".join(f"{steps}: {said(value)}" for steps, value in cost.items()),
        ),
        Point.of(
            "Without a way back the gap is T - (1 - eps)(1 - (1 - eps)^T) / eps, about eps T^2 / 2",
            all(math.isclose(cliff[steps], wanted[steps], abs_tol=1e-8) for steps in cliff)
            and slope["no way back"] > 1.9,
            f"power of T over the last doubling: {slope['no way back']:.3f}; gaps "
            + ", ".join(f"{steps}: {said(gap)}" for steps, gap in cliff.items()),
        ),
        Point.of(
            "With a way back that the clone does not know it is the same",
            all(math.isclose(clone[steps], cliff[steps], abs_tol=1e-8) for steps in cliff),
            f"power of T: {slope['way back, clone']:.3f}",
        ),
        Point.of(
            "With a way back that is known it is eps + (T - 1) eps (2 - eps), linear",
            all(math.isclose(known[steps], linear[steps], abs_tol=1e-9) for steps in known)
            and slope["way back, known"] < 1.1,
            f"power of T: {slope['way back, known']:.3f}; gaps "
            + ", ".join(f"{steps}: {said(gap)}" for steps, gap in known.items()),
        ),
    )


def _path_points(found: Found) -> tuple[Point, ...]:
    gain = {
        way: found.difference(f"path, {way}, DAgger", f"path, {way}, clone", "clicks")
        for way in ("way back", "no way back")
    }
    steps, lost = found.curve("path, way back, clone", "lost_by_step")
    _, taught = found.curve("path, way back, DAgger", "lost_by_step")
    rise = mean_of(lost[:, -1] - lost[:, 0], found.confidence)
    late = mean_of(lost[:, -1] - taught[:, -1], found.confidence)
    return (
        Point.of(
            "A clone's loss grows with the step of the session",
            above(rise, 0),
            f"clicks lost at step {steps[-1] + 1} less those at the first: {rise}",
        ),
        Point.of(
            "With as many labels DAgger loses less late in a session, where there is a way back",
            above(late, 0),
            f"clicks lost at step {steps[-1] + 1}, clone less DAgger: {late}",
        ),
        Point.of(
            "So it is worth its labels where errors can be recovered from",
            above(gain["way back"], 0),
            f"clicks a session, DAgger less clone: {gain['way back']}",
        ),
        Point.of(
            "Where they cannot, its labels of lost sessions are wasted, and it loses",
            below(gain["no way back"], 0),
            f"clicks a session, DAgger less clone: {gain['no way back']}",
        ),
    )


def _fitted_points(settings: Settings, found: Found) -> tuple[Point, ...]:
    few, many = min(settings.labelled), max(settings.labelled)
    shift, gain, clicks = {}, {}, {}
    for sessions in settings.labelled:
        clone, dagger = (f"fitted {sessions}, {teaching}, own sessions" for teaching in ("clone", "DAgger"))
        shift[sessions] = found.difference(clone, f"fitted {sessions}, clone, expert's sessions", "loss")
        gain[sessions] = found.difference(dagger, clone, "loss")
        clicks[sessions] = found.difference(dagger, clone, "clicks")
    shown = [
        Point.of(
            "In fitted users, too, a clone imitates worse in its own sessions than in the expert's",
            all_of(*(above(one, 0) for one in shift.values())),
            "loss, own less the expert's sessions, by sessions labelled: "
            + ", ".join(f"3 x {sessions}: {one}" for sessions, one in shift.items()),
        ),
        Point.of(
            "There DAgger imitates better in its own sessions, with as many labels, where labels are few",
            below(gain[few], 0),
            f"loss, DAgger less clone, 3 x {few} sessions labelled: {gain[few]}; clicks a session: {clicks[few]}",
        ),
    ]
    if many > few:
        fall = [found.values(f"fitted {few}, clone, own sessions", "loss")]
        fall += [found.values(f"fitted {few}, clone, expert's sessions", "loss")]
        fall += [
            found.values(f"fitted {many}, clone, {whose}", "loss") for whose in ("expert's sessions", "own sessions")
        ]
        shown.append(
            Point.of(
                "With more labels a clone errs less, and there is less drift for DAgger to mend",
                above(mean_of(fall[0] - fall[1] + fall[2] - fall[3], found.confidence), 0),
                f"of {shift[few]} there is left {shift[many]}; DAgger less clone {gain[many]}, clicks {clicks[many]}",
            )
        )
    return tuple(shown)


def charts(settings: Settings, found: Found) -> tuple[Chart, ...]:
    panels = {
        f"Fitted users, 3 x {sessions} sessions labelled": Panel(
            "loss_by_step", "step", "nats per item", tuple(a for a in found.arms if a.startswith(f"fitted {sessions},"))
        )
        for sessions in settings.labelled
    }
    return (
        Chart(
            "Left: gap to the expert over T steps, exactly, with one error in"
            f" {round(1 / settings.rate):,} items. Right: clicks lost by step of a session to learners of as many"
            " labels.",
            {
                "Exact": Panel("gap_by_horizon", "T", "clicks lost", log="xy"),
                "Path": Panel("lost_by_step", "step", "clicks lost"),
            },
        ),
        Chart(
            "In users fitted to the demo log: -log pi of the expert's slate, by step of the session.",
            panels,
        ),
    )
