"""The page over all claims: what each says, how it stands, and where it is shown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from recil.claims.file import FULL, ClaimFile, is_claim
from recil.claims.result import ClaimResult
from recil.claims.table import CLAIMS
from recil.errors import InputError
from recil.report.markdown import marked
from recil.report.words import DASH, seconds

FILE = "experiment.toml"
_BEGINNING = """# Experiments

Imitation learning for recommenders rests on an argument: rewards are sparse and samples dear; a log of demonstrations
is prior knowledge; a clone drifts where it has not been shown the way; so clone first, then finetune with rewards. Each
step of it is a folder here: an experiment file, and a page with the verdict of its runs. Nothing on these pages is
typed by hand; `recil report experiments` writes them, and this one, from what MLflow holds.

    make experiments          # all in full, resumable
    make experiments-quick    # all in reduced form
    recil run experiments/off_policy/experiment.toml --size quick

Experiments on published logs (KuaiRand, Entree, Open Bandit) have [a page of their own](published-logs.md).

"""


def claim_files_in(folder: Path) -> tuple[Path, ...]:
    """The files of claims in a folder's folders, in the argument's order. InputError where there are none."""
    files = {file.parent.name: file for file in folder.glob(f"*/{FILE}") if is_claim(file)}
    if not files:
        raise InputError(str(folder), f"has no claim (a folder with {FILE} that names one)", "give an experiment file")
    order = {name: place for place, name in enumerate(CLAIMS)}
    return tuple(files[name] for name in sorted(files, key=lambda name: (order.get(name, len(order)), name)))


def index_page(results: Sequence[ClaimResult], missing: Sequence[ClaimFile] = ()) -> str:
    """Markdown, with a row for each claim. missing: those of which nothing is finished."""
    rows = {
        result.name: (
            _linked(result.sweep.file, "README.md"),
            marked(result.sweep.file.claim.says),
            result.standing,
            f"{result.holding} of {len(result.points)}",
            seconds(result.took),
        )
        for result in results
    }
    for file in missing:
        rows[file.claim.name] = _linked(file, FILE), marked(file.claim.says), "not run", DASH, DASH
    lines = ["| claim | what it says | verdict | points that hold | time |", "|:---|:---|:---|---:|---:|"]
    order = [name for name in CLAIMS if name in rows]
    lines += ["| " + " | ".join(rows[name]) + " |" for name in order]
    sizes = {result.sweep.file.size for result in results}
    size = "" if sizes <= {FULL} else f" These are runs of size {', '.join(sorted(sizes))}."
    note = f"\nTime: of all parts one after the other, on one thread each.{size}\n"
    return _BEGINNING + "\n".join(lines) + "\n" + note


def _linked(file: ClaimFile, page: str) -> str:
    return f"[{marked(file.claim.title)}]({file.path.parent.name}/{page})"
