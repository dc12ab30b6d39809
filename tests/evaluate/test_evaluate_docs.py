"""docs/evaluation.md: its code runs, and its tables are those of the code.

python tests/evaluate/test_evaluate_docs.py     # writes the tables anew
"""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from recil.evaluate.estimators import estimators_frame
from recil.evaluate.verdict import Thresholds

PAGE = Path(__file__).resolve().parents[2] / "docs" / "evaluation.md"

OF_THRESHOLDS = {
    "units": "effective users (sessions, where the log names no users), fewer than",
    "ess": "effective users or sessions that the weights leave, fewer than",
    "ess_share": "their share of all, less than",
    "largest_share": "the heaviest user's or session's share of the weight",
    "mean_weight_over": "by how much the mean weight lies above 1,",
    "mean_weight_errors": "where it is also so many standard errors",
    "priced": "what the log does not show may move the estimate by, in half widths of the interval",
    "tail_index": "tail index of the sizes of rewards, less than,",
    "tail_skewness": "where the skewness of the estimate is also above",
    "skewness": "skewness of the estimate, where rewards are not of one size",
    "capped_share": "share of weights that `cap=` changed",
    "shrunk_share": "share of all weight that an estimator shrinks away",
    "lost_of_width": "value lost by shrinking, with no model in its place, in half widths of the interval",
    "bias_of_width": "distance of a less biased estimate, in half widths, beyond what is explained",
    "bias_errors": "by so many standard errors of that distance",
    "rewarded": "effective sessions with reward, where there are gains and losses, fewer than",
}


def estimators_table() -> str:
    lines = ["| name | formula | assumes | use | source |", "|---|---|---|---|---|"]
    for row in estimators_frame().itertuples():
        name = f"`{row.name}`" + (f" ({row.also})" if row.also else "")
        cells = (name, row.formula, row.assumes, row.use, row.source)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def thresholds_table() -> str:
    lines = ["| `Thresholds` | what is looked at | caution | refuse |", "|---|---|---|---|"]
    for field in fields(Thresholds):
        careful, refused = getattr(Thresholds(), field.name)
        lines.append(f"| `{field.name}` | {OF_THRESHOLDS[field.name]} | {careful:g} | {refused:g} |")
    return "\n".join(lines)


def written(text: str) -> str:
    """The page with its tables made anew."""
    for name, table in (("estimators", estimators_table()), ("thresholds", thresholds_table())):
        mark = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
        text = re.sub(mark, lambda found, table=table: f"{found[1]}{table}\n{found[2]}", text, flags=re.DOTALL)
    return text


def test_the_tables_are_those_of_the_code() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text == written(text), "run python tests/evaluate/test_evaluate_docs.py"
    assert text.count("| `") >= len(estimators_frame()) + len(fields(Thresholds))


def test_the_page_is_short_and_its_code_runs(capsys) -> None:
    text, names = PAGE.read_text(encoding="utf-8"), {}
    assert len(text.splitlines()) <= 250
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 5
    for block in blocks:
        exec(compile(block, PAGE.name, "exec"), names)
        shown = capsys.readouterr().out
        assert shown and max(map(len, shown.splitlines())) <= 80


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
