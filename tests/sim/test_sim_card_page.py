"""The card as pages and files: complete without a network, safe with any name, and read back as it was."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from recil.errors import InputError
from recil.sim.behaviour import Behaviour
from recil.sim.card import CardThresholds, SimulatorCard, read_card, validate
from recil.sim.card.figures import overview

HOSTILE = "<script>alert(1)</script> | *x* `y`"


@pytest.fixture(scope="module")
def card(fitted, held_out) -> SimulatorCard:
    users = replace(fitted, baselines={**fitted.baselines, HOSTILE: fitted.baselines["constant"]})
    return validate(users, held_out, CardThresholds(better_by=1e6), reference=fitted.baselines["item rate"])


@pytest.fixture(scope="module")
def bare(fitted, held_out) -> SimulatorCard:
    """No baselines, no clicks, nobody who leaves: as little as a card can hold."""
    behaviour = Behaviour(replace(fitted.behaviour.layout, leaves=False))
    behaviour.load_state_dict(fitted.behaviour.state_dict())
    users = replace(fitted, behaviour=behaviour.requires_grad_(False), baselines={})
    return validate(users, replace(held_out, reward=np.zeros_like(held_out.reward)))


class Reader(HTMLParser):
    """Collects tags and text; fails on a tag that is closed without having been opened."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_html_page_needs_nothing_else_and_escapes_names(card, bare) -> None:
    for each in (card, bare):
        page, reader = each.html(), Reader()
        reader.feed(page)
        assert reader.open == [] and "script" not in [tag for tag, _ in reader.tags]
        sources = [attrs["src"] for _, attrs in reader.tags if "src" in attrs]
        assert len(sources) == 1 and not any("href" in attrs for _, attrs in reader.tags)
        picture = base64.b64decode(sources[0].removeprefix("data:image/png;base64,"), validate=True)
        assert picture.startswith(b"\x89PNG")
        assert all(reason in reader.text for reason in each.reasons) and each.verdict in reader.text
        assert "http" not in page
    assert HOSTILE in text_of(card)


def text_of(card: SimulatorCard) -> str:
    reader = Reader()
    reader.feed(card.html())
    return reader.text


def test_the_page_shows_every_table(card) -> None:
    text = text_of(card)
    for name in ("position", "step", "item popularity", "clicks so far", "steps in vain", "Sessions still going on"):
        assert name in text
    for group in (*card.tables, *card.leaving.tables):
        assert all(f"{row.predicted:.5f}" in text and f"{row.observed:.5f}" in text for row in group.groups)
    assert "What is learnable beyond the users" in text and f"{card.simulated.click_area:.3f}" in text


def test_the_markdown_page_keeps_names_inside_their_cells(card, bare) -> None:
    for each in (card, bare):
        page = each.markdown()
        assert page.startswith(f"# Simulated users on held-out sessions: {each.verdict}\n")
        assert "<script" not in page and "data:image/png;base64," in page
        tables = re.findall(r"(?:^\|.*\n)+", page, flags=re.MULTILINE)
        for table in tables:
            assert len({line.count("|") for line in table.splitlines()}) == 1
    assert len(tables) >= 1 and len(re.findall(r"^## ", card.markdown(), flags=re.MULTILINE)) >= 10


def test_a_saved_card_is_read_back_equal(card, bare, tmp_path) -> None:
    for name, each in (("card", card), ("bare", bare)):
        each.save(tmp_path / name)
        assert {file.name for file in (tmp_path / name).iterdir()} == {"card.md", "card.html", "card.json"}
        again = read_card(tmp_path / name / "card.json")
        assert again == each == read_card(tmp_path / name) and str(again) == str(each)
        assert again.html() == each.html()
        kept = json.loads((tmp_path / name / "card.json").read_text(encoding="utf-8"))
        assert (kept["verdict"], tuple(kept["reasons"]), kept["table"]) == (each.verdict, each.reasons, each.table)
    assert bare != card and np.isnan(bare.row("users").auc)


def test_a_card_that_cannot_be_written_leaves_the_older_one(card, bare, tmp_path, monkeypatch) -> None:
    card.save(tmp_path)
    monkeypatch.setattr("pathlib.Path.replace", lambda *_: (_ for _ in ()).throw(OSError("no space")))
    with pytest.raises(InputError, match=r"card\.md: cannot be written"):
        bare.save(tmp_path)
    monkeypatch.undo()
    assert read_card(tmp_path) == card
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(InputError, match="cannot be written"):
        card.save(tmp_path / "file" / "below")


def _without(key: str):
    return lambda kept: kept.pop(key)


@pytest.mark.parametrize(
    "damage",
    [
        _without("rows"),
        _without("recil_card"),
        lambda kept: kept.update(recil_card=99),
        lambda kept: kept.update(more=1),
        lambda kept: kept.update(verdict="perhaps"),
        lambda kept: kept.update(verdict="refuse", reasons=[]),
        lambda kept: kept.update(observed_rate="0.1"),
        lambda kept: kept.update(sessions=True),
        lambda kept: kept.update(rows=[]),
        lambda kept: kept["rows"][0].update(model=1),
        lambda kept: kept["tables"][0]["groups"][0].pop("label"),
        lambda kept: kept["thresholds"].update(level=2.0),
        lambda kept: kept.update(leave_log_loss=[0.1]),
        lambda kept: kept.update(simulated=[]),
    ],
)
def test_damaged_cards_are_refused(damage, card, tmp_path) -> None:
    card.save(tmp_path)
    kept = json.loads((tmp_path / "card.json").read_text(encoding="utf-8"))
    damage(kept)
    (tmp_path / "card.json").write_text(json.dumps(kept), encoding="utf-8")
    with pytest.raises(InputError, match="card"):
        read_card(tmp_path)


def test_what_is_no_card_is_refused(tmp_path) -> None:
    for content in (b"", b"[]", b"{", b"\xff\xfe", b"null"):
        (tmp_path / "card.json").write_bytes(content)
        with pytest.raises(InputError, match=r"card\.json"):
            read_card(tmp_path)
    with pytest.raises(InputError, match="cannot be read"):
        read_card(tmp_path / "nowhere.json")


def test_the_figure_holds_what_there_is_to_see(card, bare) -> None:
    def titles(each: SimulatorCard) -> list[str]:
        figure = overview(each)
        figure.canvas.draw()
        return [axes.get_title() for axes in figure.axes if axes.get_visible()]

    found = titles(card)
    assert len(found) == 6
    assert [title.split(" (")[0] for title in found] == [
        "log loss gained over",
        "reliability",
        "share of sessions going on",
        "free running",
        "click rate by position",
        "click rate by step",
    ]
    assert [title.split(" (")[0] for title in titles(bare)] == ["log loss gained over", "free running"]


def test_the_frame_of_groups_holds_every_group(card) -> None:
    frame = card.groups_frame()
    assert len(frame) == sum(len(table.groups) for table in (*card.tables, *card.leaving.tables))
    position = frame[frame["table"] == "position"]
    assert position["count"].sum() == card.impressions and set(frame["unit"]) == {"items", "steps"}


def test_a_card_without_a_reason_is_no_card(card) -> None:
    with pytest.raises(InputError, match="without a reason"):
        replace(card, verdict="caution", reasons=())
    with pytest.raises(InputError, match="verdict 'maybe'"):
        replace(card, verdict="maybe")
