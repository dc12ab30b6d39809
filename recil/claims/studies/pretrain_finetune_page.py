"""The page of pretrain_finetune: what is claimed of its runs, and how they are drawn."""

from __future__ import annotations

from typing import Any

from scipy import stats

from recil.claims.claim import Chart, Panel, Point
from recil.claims.found import Found, Mean, above, all_of, below, mean_of

# What happens to the clicks of the first sessions that a policy acts in.
AS_IT_CAME, EMPTY, NOISE, FRAUD = "as it came", "no clicks", "clicks anywhere", "fraud"
LOGS = ("kuairand", "entree")
_CONFIDENCE = 0.95
_BY_CHANCE = 0.001

SAYS = (
    "Collect demonstrations, initialise the policy by their likelihood, run it, improve it by reinforcement learning:"
    " what comes out is better than the demonstrator, and than what as many sessions of its own teach from scratch. A"
    " bad first batch can destroy the initialisation; guards prevent it."
)
SET_UP = (
    "Demo: the world of data/demo and, for other seeds, worlds of its kind. A fifth of the log is held out. The"
    " policy is cloned from half of the rest, and finetuned on that half, in users fitted to it, or online in the true"
    " world. Users fitted to the other half judge as they do on published logs, where no truth is known. All policies"
    " meet the same users. From scratch: REINFORCE with a critic and the same steps, in as many sessions as"
    " finetuning; `longer`: the clone's sessions on top. KuaiRand: likes are the reward. Entree: the restaurant where"
    " a session ended. Both are divided in time, users are of six types, sessions are cut at the horizon, and only the"
    " first seeds run (published_seeds), with fewer sessions and passes. First batch: 20 contexts, 200 items of which"
    " a few are clicked (1.02% against .02%), and a demonstrator that shows those nine times in ten, so that there is"
    " much to lose; values are exact. The first 500 sessions come as they are, without clicks, with their clicks dealt"
    " to sessions by chance (anywhere), or with clicks on all that is not worth showing and on nothing else (fraud)."
    " Steps there are rough, .03 on 25 sessions, but for `gentle`, the default of .003 on 250. Unguarded: no cost of"
    " leaving the clone, no cap on ratios, no floor of entropy, no warm-up of the critic, no end of an iteration at a"
    " distance, no bound on gradients. `X alone`: unguarded but for X. `logged sessions alone`: unguarded, with a step"
    " on as many logged sessions after each of its own."
)
NOT_SHOWN = (
    "What a policy is worth to the people behind a published log. Fitted users are one kind of model, and two fits of"
    " it share what it gets wrong: that teachers and judges are fitted to different sessions takes away the flattery"
    " of chance, not that of the model. On Entree it pays for restaurants shown first, which no real session did.",
    "That guards are always worth their price. Where the demonstrator is mediocre, as in the demo, there is more to"
    " gain than to lose, and gentle steps need few of them: hold `unguarded in users` against `finetuned in users`.",
    "That a log is needed where experience is free: hold `longer scratch online` against `finetuned online`.",
)


def points(settings: Any, found: Found) -> tuple[Point, ...]:
    published = (_published_point(settings, found, name) for name in LOGS)
    return (
        *_demo_points(found),
        _flattery_point(found),
        _estimate_point(found),
        *_batch_points(settings, found),
        *published,
    )


def _demo_points(found: Found) -> tuple[Point, ...]:
    start = found.mean("demo, logged", "true_of_clone")
    tuned = [f"demo, finetuned {where}" for where in ("on the log", "in users", "online")]
    gains = {
        arm: [found.difference(arm, base, "true") for base in ("demo, clone", "demo, logged")]
        for arm in tuned
        if found.has(arm)
    }
    scratch = {
        arm: found.difference(arm, "demo, finetuned online", "true")
        for arm in ("demo, scratch online", "demo, longer scratch online")
        if found.has(arm)
    }
    return (
        Point.of(
            "Initialised by likelihood, a policy is worth what its demonstrator is, to within a tenth",
            all_of(above(start, 0.9), below(start, 1.1)),
            f"true value of the demonstrator over the clone's: {start}",
        ),
        Point.of(
            "Finetuned on the log, in fitted users or online, it is worth more than the clone and the demonstrator",
            all_of(*(above(gain, 0) for both in gains.values() for gain in both)),
            "true value less the demonstrator's: "
            + "; ".join(f"{arm.removeprefix('demo, finetuned ')} {both[1]}" for arm, both in gains.items()),
        ),
        Point.of(
            "From scratch, as many sessions of its own do not bring as much",
            below(scratch["demo, scratch online"], 0),
            "true value less that of finetuned online: "
            + "; ".join(f"{arm.removeprefix('demo, ')} {difference}" for arm, difference in scratch.items()),
        ),
    )


def _flattery_point(found: Found) -> Point:
    arm = "demo, finetuned in users"
    says = "Users fitted to sessions that nobody learned from flatter a policy less than those it learned in"
    if not found.has(arm):
        return Point(says, "not run", "brief = true")
    own, other, true = (found.values(arm, f"{where}_of_clone") for where in ("own", "other", "true"))
    return Point.of(
        says,
        above(mean_of(own - other, found.confidence), 0),
        "value over the clone's, finetuned in users: "
        f"in those users {own.mean():.3g}, in users of other sessions {other.mean():.3g}, true {true.mean():.3g}",
    )


def _estimate_point(found: Found) -> Point:
    """Arms of one seed share the held-out sessions: each arm is judged by itself, over seeds."""
    runs = [run for run in found.runs if "estimate" in run.factors]
    held = {arm: found.values(arm, "held") for arm in dict.fromkeys(run.arm for run in runs)}
    missed = [(int((one == 0).sum()), len(one)) for one in held.values() if len(one)]
    # The chance of so many misses or more where each has one of 5%.
    chance = [float(stats.binom.sf(misses - 1, seeds, 1 - _CONFIDENCE)) for misses, seeds in missed]
    return Point.of(
        "What the held-out sessions are willing to say of a policy's value is so: 95% intervals hold the true value",
        min(chance) > _BY_CHANCE if chance else None,
        f"{sum(seeds - misses for misses, seeds in missed)} of {sum(seeds for _, seeds in missed)} intervals hold it;"
        f" {sum(run.factors['estimate'] == 'refuse' for run in runs)} estimates are refused",
    )


def _batch_points(settings: Any, found: Found) -> tuple[Point, ...]:
    def kept(arm: str) -> Mean:
        return found.mean(f"{arm}, {AS_IT_CAME}", "true_of_clone")

    misled = {
        batch: found.difference(f"guarded, {batch}", f"unguarded, {batch}", "true_of_clone")
        for batch in settings.spoilt
    }
    empty = [found.curve(f"{how}, {EMPTY}", "kept")[1][:, -1] for how in ("guarded", "unguarded")]
    return (
        Point.of(
            "Under large steps on small batches, without guards, the first sessions cost a good clone a tenth or more",
            below(kept("unguarded"), 0.9),
            f"true value over the clone's: {kept('unguarded')}",
        ),
        Point.of(
            "With guards it keeps nine tenths under the same steps",
            above(kept("guarded"), 0.9),
            f"true value over the clone's: {kept('guarded')}; with gentle steps {kept('gentle')}",
        ),
        Point.of(
            "A first batch that misleads does less harm with guards than without",
            all_of(*(above(difference, 0) for difference in misled.values())),
            "of the clone's value, guarded - unguarded: "
            + "; ".join(f"{batch} {difference}" for batch, difference in misled.items()),
        ),
        Point.of(
            "A first batch without clicks changes nothing, with guards or without",
            all(bool((values == 1.0).all()) for values in empty),
            f"value after it over the clone's: {', '.join(f'{values.mean():.6g}' for values in empty)}",
        ),
    )


def _published_point(settings: Any, found: Found, name: str) -> Point:
    says = f"On {name}, the finetuned clone is worth more than the clone in users fitted to sessions that it never saw"
    arms = [f"{name}, {arm}" for arm in ("finetuned on the log", "finetuned in users")]
    if not found.has(*arms):
        return Point(says, "not run", f"{name} = {getattr(settings, name)!r} is no folder with a log")
    gains = [found.difference(arm, f"{name}, clone", "other") for arm in arms]
    cards = sorted({run.factors["other_card"] for run in found.of(arms[0])})
    ratios = "; ".join(
        f"{arm.removeprefix(f'{name}, ')} {found.mean(arm, 'other_of_clone')} (in the users it learned from"
        f" {found.mean(arm, 'own_of_clone').value:.3g})"
        for arm in arms
    )
    return Point.of(
        says,
        None if "refuse" in cards else all_of(*(above(gain, 0) for gain in gains)),
        f"value over the clone's: {ratios}; the other users' cards: {', '.join(cards)}",
    )


def charts(settings: Any, found: Found) -> tuple[Chart, ...]:
    batches = {
        f"First batch: {batch}": Panel(
            "kept",
            "sessions",
            "true value over the clone's",
            (*((f"gentle, {batch}",) if batch == AS_IT_CAME else ()), f"guarded, {batch}", f"unguarded, {batch}"),
        )
        for batch in (AS_IT_CAME, FRAUD)
    }
    alone = tuple(arm for arm in found.arms if arm.endswith(AS_IT_CAME))
    values = {
        title: Panel(measure, "value over the clone's", "", _of_part(found, part))
        for title, part, measure in (
            ("Demo: true value", "demo", "true_of_clone"),
            ("KuaiRand: in users of other sessions", "kuairand", "other_of_clone"),
            ("Entree: in users of other sessions", "entree", "other_of_clone"),
        )
    }
    return (
        Chart("What each policy is worth beside the clone it began as.", values),
        Chart(
            "The first part of finetuning a good clone: what is left of its value by sessions met, and with one guard.",
            batches | {"One guard alone": Panel("true_of_clone", "true value over the clone's", "", alone)},
        ),
    )


def _of_part(found: Found, part: str) -> tuple[str, ...]:
    return tuple(arm for arm in found.arms if found.of(arm)[0].part == part)
