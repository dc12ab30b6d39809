"""The sections of a report in their order, and the files it is written into."""

from __future__ import annotations

from collections.abc import Mapping

from recil.experiment.evidence import Evidence
from recil.report.conclusions import conclusions_section
from recil.report.coverage import coverage_section
from recil.report.curves import curves_section
from recil.report.facts import facts_section, lead, reproduce_section
from recil.report.html import html_page
from recil.report.markdown import markdown_page
from recil.report.page import Page, Section
from recil.report.regret import regret_section
from recil.report.users import users_section
from recil.report.values import against_section, differences_section, values_section
from recil.report.weights import weights_section

FILES = ("report.html", "report.md")
COMMAND = "recil run experiment.toml"


def report_page(evidence: Evidence, command: str = COMMAND) -> Page:
    """What to conclude first, then what it rests on. command: what the experiment was run with, as typed."""
    sections: list[Section | None] = [
        conclusions_section(evidence),
        values_section(evidence),
        differences_section(evidence),
        against_section(evidence),
        regret_section(evidence),
        coverage_section(evidence),
        curves_section(evidence),
        weights_section(evidence),
        users_section(evidence),
        facts_section(evidence),
        reproduce_section(evidence, command),
    ]
    return Page(
        f"Experiment {evidence.result.name}", lead(evidence), tuple(part for part in sections if part is not None)
    )


def report_files(evidence: Evidence, command: str = COMMAND) -> Mapping[str, str]:
    """Name -> text of each of FILES. The same results give the same bytes."""
    page = report_page(evidence, command)
    return {"report.html": html_page(page), "report.md": markdown_page(page)}
