"""The one run per sweep that holds the comparison: its table in three forms, its figures, its metrics."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from recil.errors import InputError
from recil.track.run import RunWriter


@dataclass(frozen=True)
class Table:
    """columns: the heads; rows: as many cells each (text, numbers, None where there is no value)."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]

    def __post_init__(self) -> None:
        for number, row in enumerate(self.rows):
            if len(row) != len(self.columns):
                raise InputError(f"table row {number}", f"{len(row)} cells under {len(self.columns)} heads")

    def csv(self) -> str:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows(["" if cell is None else cell for cell in row] for row in self.rows)
        return text.getvalue()

    def markdown(self) -> str:
        """A table MLflow shows as one; numbers with four digits."""
        numeric = [
            all(isinstance(row[i], (int, float, type(None))) for row in self.rows) for i in range(len(self.columns))
        ]
        lines = [_line(self.columns), _line("---:" if right else ":---" for right in numeric)]
        return "\n".join([*lines, *(_line(_cell(cell) for cell in row) for row in self.rows)]) + "\n"


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _cell(cell: Any) -> str:
    if cell is None:
        return ""
    text = f"{cell:.4f}" if isinstance(cell, float) else str(cell)
    return text.replace("|", "\\|").replace("\n", " ")


def write_summary(
    writer: RunWriter,
    tables: Mapping[str, Table],
    figures: Mapping[str, Any],
    metrics: Mapping[str, Mapping[str, float]],
    note: str = "",
) -> None:
    """Fills a sweep's summary run.

    tables, figures: name -> content, kept as name.csv, name.md, name.json and name.png
    metrics: method -> name -> value, written as summary/method/name
    note: Markdown shown above, at the top of the run's page
    """
    for name, table in tables.items():
        writer.text(table.csv(), f"{name}.csv")
        writer.text(table.markdown(), f"{name}.md")
        writer.json({"columns": list(table.columns), "data": [list(row) for row in table.rows]}, f"{name}.json")
    for name, figure in figures.items():
        writer.figure(figure, f"{name}.png")
    for method, values in metrics.items():
        writer.metrics({f"summary/{method}/{name}": value for name, value in values.items()})
    writer.tables([f"{name}.json" for name in tables])
    if note:
        writer.tags({"mlflow.note.content": note})
