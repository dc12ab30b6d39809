"""Coverage given the verdict on logs as they come in practice: see hard_logs.py and mixture_logs.py."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import torch
from hard_logs import KINDS, Kind
from mixture_logs import MIXTURES

from recil.evaluate import compare, evaluate

ALL = (*KINDS, *MIXTURES)
ESTIMATORS = ("logged", "ips", "snips", "pdis", "pdwis", "dr")
TRUSTED, CAREFUL, ABOVE, WRONG = 0.935, 0.9, 0.065, 0.025
_AT_ONCE = 10


@dataclass
class Outcome:
    """Over logs and estimators that value the target (`logged` apart): what was answered, and whether it was true.

    given    (verdict, "held" | "low" | "high") -> answers; low: the truth lies below the interval
    bound    estimates shown, and those of which at_least(.95) lies above the truth
    clear    logs in which the difference to the logging policy is called clear, and clear in the wrong direction
    """

    logs: int = 0
    given: Counter[tuple[str, str]] = field(default_factory=Counter)
    logged: Counter[tuple[str, str]] = field(default_factory=Counter)
    bound: Counter[str] = field(default_factory=Counter)
    clear: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    def add(self, other: Outcome) -> None:
        self.logs += other.logs
        self.seconds += other.seconds
        for name in ("given", "logged", "bound", "clear"):
            getattr(self, name).update(getattr(other, name))

    def answers(self, verdict: str, given: Counter[tuple[str, str]] | None = None) -> int:
        given = self.given if given is None else given
        return sum(count for (one, _), count in given.items() if one == verdict)

    def coverage(self, verdict: str, given: Counter[tuple[str, str]] | None = None) -> float:
        given, answers = self.given if given is None else given, self.answers(verdict, given)
        return given[verdict, "held"] / answers if answers else math.nan

    def error(self, verdict: str, claim: float) -> float:
        """Two standard errors, were the claim just true. Estimators look at the same logs: they count as one."""
        count = self.answers(verdict) / (len(ESTIMATORS) - 1)
        return 2 * math.sqrt(claim * (1 - claim) / count) if count else math.nan


def one_part(place: int, logs: range, replicates: int) -> Outcome:
    torch.set_num_threads(1)
    kind, found, begun = ALL[place], Outcome(), time.perf_counter()
    for number in logs:
        case = kind.make(np.random.default_rng([place, number]))
        for row in evaluate(
            case.policy, case.log, estimators=ESTIMATORS, replicates=replicates, seed=number, **case.options
        ):
            truth = case.truth if row.target else case.logged
            side = "low" if truth < row.raw.low else "high" if truth > row.raw.high else "held"
            (found.given if row.target else found.logged)[row.verdict, side] += 1
            if row.target and not row.refused:
                found.bound["shown"] += 1
                found.bound["above"] += row.at_least() > truth
        table = compare({"policy": case.policy}, case.log, replicates=replicates, seed=number, **case.options)
        found.clear["logs"] += 1
        if table.differences and (pair := table.difference("policy", "logged")).clear:
            found.clear["clear"] += 1
            found.clear["wrong"] += (pair.value > 0) != (case.truth > case.logged)
        found.logs += 1
    found.seconds = time.perf_counter() - begun
    return found


def measured(logs: int, replicates: int, only: str, jobs: int) -> Iterator[tuple[Kind, Outcome]]:
    with ProcessPoolExecutor(jobs) as pool:
        for place, kind in enumerate(ALL):
            if only not in kind.name:
                continue
            parts = [range(start, min(start + _AT_ONCE, logs)) for start in range(0, logs, _AT_ONCE)]
            total = Outcome()
            for part in pool.map(one_part, [place] * len(parts), parts, [replicates] * len(parts)):
                total.add(part)
            yield kind, total


def misses(kind: Kind, found: Outcome) -> list[str]:
    """What of the claim does not hold, in words. What the log cannot show at all is stated, not claimed."""
    if not kind.sight:
        return []
    words = []
    for verdict, claim in (("trust", TRUSTED), ("caution", CAREFUL)):
        if found.answers(verdict) and found.coverage(verdict) < claim - found.error(verdict, claim):
            words.append(f"{verdict} in {kind.name}")
    shown = found.bound["shown"]
    slack = 2 * math.sqrt(ABOVE * (1 - ABOVE) * (len(ESTIMATORS) - 1) / shown) if shown else 0.0
    if shown and found.bound["above"] / shown > ABOVE + slack:
        words.append(f"at_least in {kind.name}")
    if found.clear["wrong"] > WRONG * found.clear["logs"]:
        words.append(f"differences in {kind.name}")
    return words


def percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f}" if whole else ""


def row_of(kind: Kind, found: Outcome) -> str:
    total = sum(found.given.values())
    cells = [kind.name if kind.sight else f"{kind.name} *"]
    for verdict in ("trust", "caution", "refuse"):
        answers = found.answers(verdict)
        cells.append(percent(answers, total).removesuffix(".0"))
        cells.append(percent(found.given[verdict, "held"], answers))
    shown = [found.given[verdict, side] for verdict in ("trust", "caution") for side in ("low", "high")]
    cells.append(f"{shown[0] + shown[2]} / {shown[1] + shown[3]}")
    cells.append(percent(found.bound["above"], found.bound["shown"]))
    cells.append(f"{found.clear['clear']} / {found.clear['wrong']}")
    cells.append(percent(found.answers("trust", found.logged), sum(found.logged.values())).removesuffix(".0"))
    cells.append(percent(found.logged["trust", "held"], found.answers("trust", found.logged)))
    return "| " + " | ".join(cells) + " |"


def section(rows: Sequence[tuple[Kind, Outcome]]) -> list[str]:
    logs = max((found.logs for _, found in rows), default=0)
    missed = [word for kind, found in rows for word in misses(kind, found)]
    return [
        "## Logs as they come in practice",
        "",
        f"{len(rows)} kinds (`hard_logs.py`, `mixture_logs.py`), {logs:,} logs of each, through `evaluate` and"
        " `compare` as a user calls them, checks of the log included. *trust*, *caution*, *refuse*: share of answers"
        f" of {', '.join(ESTIMATORS[1:])}, and the coverage of the intervals given that verdict (for *refuse*: of those"
        " that are not shown). *low / high*: shown intervals below and above which the truth lies. *at_least*: how"
        " often `at_least(.95)` lay above the truth. *clear / wrong*: logs in which `compare` calls the difference to"
        " the logging policy clear, and clear in the wrong direction. *logged*: share and coverage of trusted values of"
        " the logging policy itself. All in %, but for counts.",
        "",
        f"The claim: given `trust` {TRUSTED:.1%} or more, given `caution` {CAREFUL:.0%}, `at_least(.95)` above the"
        f" truth in {ABOVE:.1%} or less, a difference clear in the wrong direction in {WRONG:.1%} of logs or less; two"
        " standard errors of the simulation are allowed. "
        + (f"It fails for: {'; '.join(missed)}." if missed else "It holds."),
        "",
        "\\* Nothing in such a log shows what is wrong: what pays 50 once in a thousand sessions is absent from one log"
        " of a thousand sessions in three, which then looks like any log of clicks. `reward_range=` is for that: the"
        " same logs with the range declared stand above.",
        "",
        "| kind | trust | covers | caution | covers | refuse | would | low / high | at_least | clear / wrong | logged |"
        " covers |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
        *(row_of(kind, found) for kind, found in rows),
        "",
    ]
