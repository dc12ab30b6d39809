"""What to conclude and what not: sentences out of verdicts and paired differences, never out of point values alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from recil.experiment.evidence import Evidence
from recil.experiment.gather import LOGGED
from recil.experiment.result import Gain, Result, Row
from recil.report.page import Block, Points, Section, Text, section
from recil.report.words import listed, signed

PLACES = {"true": "in the known world", "simulated": "among simulated users", "ope": "on the held-out log"}
_NOTHING = "No difference between methods is clear: nothing is concluded of which brings more."
_NO_PAIR = (
    "No two methods were measured by one measure that may be believed: nothing is concluded of which brings more."
)


@dataclass(frozen=True)
class Witness:
    """A paired difference that counts. cautious: by a measure that is to be taken with caution."""

    gain: Gain
    cautious: bool

    @property
    def sign(self) -> int:
        """Of a clear difference; 0 for a tie."""
        return 0 if not self.gain.clear else 1 if self.gain.value > 0 else -1


def conclusions_section(evidence: Evidence) -> Section:
    """Two lists: what follows from the numbers, and what does not."""
    yes, no = conclusions(evidence)
    blocks: list[Block] = [
        Points(tuple(yes), "This follows") if yes else Text(_NOTHING if evidence.result.gains else _NO_PAIR)
    ]
    blocks += [Points(tuple(no), "This does not follow")] if no else []
    return section("What to conclude, and what not", blocks)


def conclusions(evidence: Evidence) -> tuple[list[str], list[str]]:
    """Sentences: what follows, and what does not."""
    result = evidence.result
    yes: list[str] = []
    no: list[str] = []
    for first, second in dict.fromkeys((gain.first, gain.second) for gain in result.gains):
        words, holds = _of_pair(evidence, first, second)
        (yes if holds else no).append(words)
    no += _of_logged(evidence)
    no += _unmeasured(result)
    no += _of_world(evidence)
    no += _of_seeds(evidence)
    no += _of_many(result)
    return yes, no


def _of_pair(evidence: Evidence, first: str, second: str) -> tuple[str, bool]:
    """The sentence on two methods, and whether it says which brings more."""
    gains = [gain for gain in evidence.result.gains if (gain.first, gain.second) == (first, second)]
    witnesses = [witness for gain in gains if (witness := _witness(evidence, gain)) is not None]
    if not witnesses:
        return f"{first} against {second}: {_flattered(evidence.result, first, second)}.", False
    # The truth, where it is known, decides; the others are held against it.
    lead = next((witness for witness in witnesses if witness.gain.measure == "true"), None)
    clear = [witness for witness in witnesses if witness.sign]
    if lead is None and len({witness.sign for witness in clear}) > 1:
        both = " but ".join(f"{_words(witness.gain)} {PLACES[witness.gain.measure]}" for witness in clear)
        return f"{first} against {second}: the measures contradict each other, {both}.", False
    lead = lead or (clear or witnesses)[0]
    others = [witness for witness in witnesses if witness is not lead]
    place = PLACES[lead.gain.measure]
    if not lead.sign:
        return f"{first} and {second} cannot be told apart {place}: {_words(lead.gain)}{_beside(lead, others)}.", False
    better, worse = (first, second) if lead.sign > 0 else (second, first)
    gain = lead.gain if lead.sign > 0 else _reversed(lead.gain)
    caution = ", with caution," if lead.cautious else ""
    return f"{better} brings more than {worse}{caution} {place}: {_words(gain)}{_beside(lead, others)}.", True


def _witness(evidence: Evidence, gain: Gain) -> Witness | None:
    """None where the measure says nothing: refused, or flattering to who has learned in these very users."""
    rows = _rows(evidence.result, gain.first, gain.second)
    if gain.measure == "simulated":
        verdicts = {row.warrant for row in rows}
        if "refuse" in verdicts or None in verdicts or any(row.own_world for row in rows):
            return None
        return Witness(gain, "caution" in verdicts)
    if gain.measure == "ope":
        verdicts = {row.verdict for row in rows}
        return None if "refuse" in verdicts else Witness(gain, "caution" in verdicts)
    return Witness(gain, False)


def _rows(result: Result, *methods: str) -> list[Row]:
    return [row for name in methods for row in result.rows if row.method == name]


def _flattered(result: Result, first: str, second: str) -> str:
    own = [row.method for row in _rows(result, first, second) if row.own_world]
    if own:
        return f"compared only among the simulated users {listed(own)} learned in, which flatters who learned there"
    return "compared only by a measure that is refused"


def _words(gain: Gain) -> str:
    return f"{signed((gain.value, gain.low, gain.high))} per session"


def _reversed(gain: Gain) -> Gain:
    return Gain(gain.second, gain.first, gain.measure, -gain.value, -gain.high, -gain.low)


def _beside(lead: Witness, others: Sequence[Witness]) -> str:
    """What the other measures say of the same pair."""
    said = []
    for witness in others:
        place = PLACES[witness.gain.measure]
        if not lead.sign and not witness.sign:
            said.append(f"nor {place}")
        elif not witness.sign:
            said.append(f"{place} it is a tie")
        elif not lead.sign:
            said.append(f"though {place} a difference seems clear")
        elif witness.sign == lead.sign:
            said.append(f"{place} as well")
        else:
            said.append(f"though {place} the opposite seems clear, which misleads here")
    return f" ({'; '.join(said)})" if said else ""


def _of_logged(evidence: Evidence) -> Iterator[str]:
    """Methods that were compared with the logged recommender, none of which clearly brings more."""
    result = evidence.result
    logged = {row.method for row in result.rows if row.kind == LOGGED}
    gains = [gain for gain in result.gains if gain.second in logged]
    better = [w for gain in gains if (w := _witness(evidence, gain)) is not None and w.sign > 0]
    if gains and not better:
        yield f"That any method brings more than the recommender that wrote the log ({listed(sorted(logged))})."


def _unmeasured(result: Result) -> Iterator[str]:
    refused = [row.method for row in result.rows if row.verdict == "refuse"]
    if refused:
        yield f"What {listed(refused, 'or')} would have brought on the log: refused, for the reasons given below."
    careful = [row.method for row in result.rows if row.verdict == "caution"]
    if careful:
        yield f"More than a hint from the value on the log of {listed(careful)}: it is to be taken with caution."
    for name, rows in result.on_logs.items():
        refused_there = [row.method for row in rows if row.verdict == "refuse"]
        if refused_there:
            yield f"What {listed(refused_there, 'or')} would have brought on the log {name}: refused."


def _of_world(evidence: Evidence) -> Iterator[str]:
    result = evidence.result
    if result.world is not None:
        verdict, reasons = result.world
        why = f" ({'; '.join(reasons)})" if reasons else ""
        if verdict == "refuse":
            yield f"Anything from simulated users: they fail on sessions they never saw{why}."
        elif verdict == "caution":
            yield f"More than a hint from simulated users: they are to be taken with caution{why}."
        else:
            horizon = evidence.setting.experiment.world.horizon
            yield f"How users other than this log's behave, or these beyond {horizon} steps: none such were simulated."
    own = [row.method for row in result.rows if row.own_world]
    if own and evidence.setting.users is not None:
        yield f"That {listed(own, 'or')} is as good as its simulated value: it learned in these very users."
    if evidence.setting.truth is not None:
        yield "That the same holds for another log: the known world is one that was made, and its truth is its own."


def _of_seeds(evidence: Evidence) -> Iterator[str]:
    rows = evidence.result.rows
    for row in rows:
        done, wanted = row.seeds
        if done < wanted:
            yield f"How {row.method} does on all seeds: {done} of {wanted} are finished, and the rest may differ."
    trained = [row.method for row in rows if evidence.setting.experiment.method(row.method).seeded]
    if trained and len(evidence.setting.experiment.seeds) == 1:
        yield f"How {listed(trained)} would do if trained again: one seed says nothing of others."


def _of_many(result: Result) -> Iterator[str]:
    count, outside = len(result.gains), 1 - result.confidence
    if count > 1:
        yield (
            f"That all of this holds together: each interval holds with {result.confidence:.0%} by itself; of the"
            f" {count} differences about {count * outside:.2g} would look clear if no method differed from another."
        )
