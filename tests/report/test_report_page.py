"""A page in HTML and in Markdown: text from data shows as it is, and nothing is loaded from elsewhere."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser

import pytest

from recil.errors import InputError
from recil.report.drawing import panels, png
from recil.report.html import html_page
from recil.report.markdown import markdown_page, marked
from recil.report.page import Code, Grid, Page, Picture, Points, Text, section

HOSTILE = "<script>alert(1)</script> & 'x' | *y* `z`"
ONCE = base64.b64encode(b"picture").decode()


@pytest.fixture
def page() -> Page:
    parts = section(
        HOSTILE,
        Text(HOSTILE),
        Points((HOSTILE, "- not a list"), HOSTILE),
        Grid(("method", "value", "verdict"), ((HOSTILE, "1", "trust"),), words=(0, 2)),
        [Picture(b"picture", HOSTILE, 80)],
        Code(f"# ``` {HOSTILE}\n", "toml", HOSTILE),
        None,
    )
    return Page(HOSTILE, HOSTILE, (parts,))


class Reader(HTMLParser):
    """Collects tags and text; fails on a tag that is closed without having been opened."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict]] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_html_shows_hostile_text_as_it_is_and_loads_nothing(page: Page) -> None:
    reader = Reader()
    reader.feed(html_page(page))
    assert reader.open == []
    assert {tag for tag, _ in reader.tags}.isdisjoint({"script", "link", "iframe", "object"})
    assert sum(text.strip() == HOSTILE for text in reader.texts) >= 7  # title twice, lead, link, heading, text, item
    for tag, attributes in reader.tags:
        assert not any(name.startswith("on") for name in attributes), tag
        assert (attributes.get("href") or "#").startswith("#")
        assert (attributes.get("src") or "data:").startswith("data:image/png;base64,") or tag != "img"
    (image,) = [attributes for tag, attributes in reader.tags if tag == "img"]
    assert image["src"].endswith(ONCE) and image["alt"] == HOSTILE
    cells = [attributes.get("class") for tag, attributes in reader.tags if tag == "td"]
    assert cells == ["words key", None, "words trust"]


def test_markdown_shows_hostile_text_as_it_is(page: Page) -> None:
    text = markdown_page(page)
    outside = re.sub(r"^(`{4,})toml\n.*?^\1$", "", text, flags=re.MULTILINE | re.DOTALL)
    assert outside != text, "the fence must be longer than those in the code"
    assert "<script>" not in outside and "`" not in outside
    assert outside.count(marked(HOSTILE)) >= 9
    assert f"](data:image/png;base64,{ONCE})" in outside
    (row,) = [line for line in outside.splitlines() if line.endswith("| 1 | trust |")]
    assert row.count("|") == 4, "a sign of the data's own would make a column"
    assert "- - not a list" not in outside and "not a list" in outside
    assert "| :--- | ---: | :--- |" in outside


@pytest.mark.parametrize("sign", list("\\`*_{}[]<>|#~$&"))
def test_every_sign_markdown_knows_is_escaped(sign: str) -> None:
    assert marked(f"a{sign}b") == f"a&#{ord(sign)};b"


def test_a_row_of_another_length_than_the_head_is_refused() -> None:
    with pytest.raises(InputError, match=r"report table row 1: 1 cells under 2 heads"):
        Grid(("a", "b"), (("1", "2"), ("1",)))


def test_the_same_drawing_gives_the_same_bytes() -> None:
    def drawn() -> bytes:
        figure, axes = panels(1, 2, 2.0)
        axes[0, 0].plot([0, 1], [1, 0], label="x")
        return png(figure)

    assert drawn() == drawn()
    assert drawn().startswith(b"\x89PNG")
