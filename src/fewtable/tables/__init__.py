"""Cells -> tables: CSV, Markdown, LaTeX, HTML, each with the line under the table."""

from fewtable.tables.build import build, from_params, read_cells
from fewtable.tables.html import render_html
from fewtable.tables.latex import render_tex
from fewtable.tables.model import Table
from fewtable.tables.text import render_csv, render_md

__all__ = ["Table", "build", "from_params", "read_cells", "render_csv", "render_html", "render_md", "render_tex"]
