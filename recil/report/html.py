"""A report in HTML: one file, nothing loaded from elsewhere, no script; text from data is escaped."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterator

from recil.report.page import VERDICT_COLOURS, Code, Grid, Page, Picture, Points, Section, Text

STYLE = """
:root{color-scheme:light}
body{font:16px/1.5 system-ui,"Segoe UI",Helvetica,Arial,sans-serif;max-width:58rem;margin:2rem auto;padding:0 1.5rem;
color:#1d2329;background:#fff}
h1{font-size:1.7rem;line-height:1.2;margin:0 0 .6rem}
h2{font-size:1.2rem;margin:2.4rem 0 .5rem;padding-top:.5rem;border-top:1px solid #d5dade}
p{margin:.5rem 0;max-width:48rem}
.quiet,figcaption{font-size:.86rem;color:#55606a}
ul{margin:.3rem 0 .9rem;padding-left:1.3rem;max-width:48rem}
li{margin:.25rem 0}
.heading{font-weight:600;margin-top:.9rem}
.scroll{overflow-x:auto;margin:.8rem 0}
table{border-collapse:collapse;font-size:.9rem}
th,td{padding:.25rem .65rem .25rem 0;border-bottom:1px solid #e3e7ea;text-align:right;vertical-align:top;
font-variant-numeric:tabular-nums;white-space:nowrap}
th{font-weight:600;color:#55606a;border-bottom:1px solid #aab3bb}
.words{text-align:left;white-space:normal}
.words.key{min-width:7rem}
.trust,.caution,.refuse{font-weight:600}
figure{margin:1rem 0}
figure img{max-width:100%;height:auto;display:block}
figcaption{margin-top:.3rem;max-width:48rem}
pre{background:#f4f6f7;padding:.7rem .9rem;overflow-x:auto;font-size:.84rem;line-height:1.4;border-radius:4px}
nav{font-size:.9rem;margin:1rem 0}
nav a{margin-right:.9rem;white-space:nowrap}
a{color:#1f5f9e}
@media print{
body{max-width:none;margin:0;padding:0;font-size:10.5pt}
nav{display:none}
h2{break-after:avoid}
figure,table,li{break-inside:avoid}
pre{white-space:pre-wrap}
.scroll{overflow:visible}
}
"""


def html_page(page: Page) -> str:
    """The whole file."""
    said = html.escape
    links = "\n".join(f"<a href='#s{number}'>{said(part.heading)}</a>" for number, part in enumerate(page.sections))
    colours = "".join(f".{verdict}{{color:{colour}}}" for verdict, colour in VERDICT_COLOURS.items())
    parts = [
        f"<!doctype html>\n<html lang='en'><head><meta charset='utf-8'><title>{said(page.title)}</title>",
        "<meta name='viewport' content='width=device-width, initial-scale=1'>",
        f"<style>{STYLE}{colours}</style></head><body>",
        f"<h1>{said(page.title)}</h1>",
        f"<p>{said(page.lead)}</p>",
        f"<nav>{links}</nav>",
    ]
    for number, part in enumerate(page.sections):
        parts += _section(number, part)
    return "\n".join([*parts, "</body></html>"]) + "\n"


def _section(number: int, part: Section) -> Iterator[str]:
    yield f"<h2 id='s{number}'>{html.escape(part.heading)}</h2>"
    for block in part.blocks:
        match block:
            case Text(words, quiet):
                yield f"<p{_class('quiet' if quiet else '')}>{html.escape(words)}</p>"
            case Points(items, heading):
                if heading:
                    yield f"<p class='heading'>{html.escape(heading)}</p>"
                yield "<ul>" + "".join(f"<li>{html.escape(item)}</li>" for item in items) + "</ul>"
            case Grid():
                yield from _grid(block)
            case Picture():
                yield _picture(block)
            case Code(content, _, summary):
                text = f"<pre><code>{html.escape(content)}</code></pre>"
                yield f"<details open><summary>{html.escape(summary)}</summary>{text}</details>" if summary else text


def _grid(grid: Grid) -> Iterator[str]:
    left = [place in grid.words for place in range(len(grid.head))]

    def cell(tag: str, place: int, text: str) -> str:
        names = ["words"] if left[place] else []
        names += ["key"] if place == 0 else []
        names += [text] if text in VERDICT_COLOURS else []
        return f"<{tag}{_class(' '.join(names))}>{html.escape(text)}</{tag}>"

    yield "<div class='scroll'><table><thead>"
    yield "<tr>" + "".join(cell("th", place, text) for place, text in enumerate(grid.head)) + "</tr></thead><tbody>"
    for row in grid.rows:
        yield "<tr>" + "".join(cell("td", place, text) for place, text in enumerate(row)) + "</tr>"
    yield "</tbody></table></div>"


def _picture(picture: Picture) -> str:
    data = base64.b64encode(picture.png).decode("ascii")
    caption = html.escape(picture.caption)
    return (
        f"<figure><img style='width:{picture.width}%' alt='{caption}' src='data:image/png;base64,{data}'>"
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _class(names: str) -> str:
    return f" class='{names}'" if names else ""
