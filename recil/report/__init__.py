"""The report of an experiment: one page, in HTML and in Markdown, that needs nothing else to be read."""

from recil.report.assemble import FILES, report_files, report_page

__all__ = ["FILES", "report_files", "report_page"]
