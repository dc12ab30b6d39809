"""A card as files: card.md and card.html to read, card.json to go on with."""

from __future__ import annotations

import html
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from recil.errors import InputError
from recil.policies.environment import Warrant
from recil.sim import card as cards
from recil.sim.card import SimulatorCard


@dataclass(frozen=True)
class KeptCard:
    """What is kept of a card: its verdict, its reasons, and the table that a terminal shows."""

    verdict: str
    reasons: tuple[str, ...]
    table: str

    def __post_init__(self) -> None:
        Warrant(cast(Any, self.verdict), self.reasons)
        if not isinstance(self.table, str):
            raise InputError("card", f"table {self.table!r}", "give text")


def save_card(card: SimulatorCard, folder: Path) -> None:
    """Write card.md, card.html and card.json, each whole or not at all, the JSON last."""
    if hasattr(card, "save"):
        card.save(folder)
        return
    kept = {"verdict": card.verdict, "reasons": list(card.reasons), "table": card.table}
    title = "Simulated users on held-out sessions"
    page = f"<!doctype html><meta charset='utf-8'><title>{title}</title><h1>{title}</h1>"
    _write(folder / "card.md", f"# {title}\n\n```\n{card.table}\n```\n")
    _write(folder / "card.html", f"{page}<pre>{html.escape(card.table)}</pre>\n")
    _write(folder / "card.json", json.dumps(kept, indent=1))


def card_in(folder: Path) -> SimulatorCard | None:
    """The card that lies in this folder, or None. InputError where it is damaged."""
    path = folder / "card.json"
    if not path.exists():
        return None
    if hasattr(cards, "read_card"):
        return cards.read_card(path)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return cast(SimulatorCard, KeptCard(found["verdict"], tuple(found["reasons"]), found["table"]))
    except (OSError, KeyError, TypeError, ValueError) as error:
        problem = f"cannot be read ({type(error).__name__}: {error})"
        raise InputError(str(path), problem, "validate the users again") from error


def _write(path: Path, text: str) -> None:
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(path)
    except OSError as error:
        raise InputError(str(path), f"cannot be written ({error})", "give a folder to write to") from error
