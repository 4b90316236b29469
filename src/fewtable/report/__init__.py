"""The report: one self-contained HTML file over the tables and their cells."""

from fewtable.report.page import build_report

__all__ = ["build_report"]
