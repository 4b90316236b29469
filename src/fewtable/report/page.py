"""The report: one HTML file that needs nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from fewtable.report.answers import DRAWS, SENTENCES
from fewtable.report.collect import Contents, collect
from fewtable.tables.html import CSS, comparison_fragment, fragment
from fewtable.tables.model import number, spread

KIND_WORDS = {
    "correct": ("✓", "correct"),
    "type": ("≠", "wrong type"),
    "boundary": ("↔", "wrong boundary"),
    "spurious": ("+", "spurious"),
    "missed": ("−", "missed"),
    "dropped": ("∅", "dropped output"),
}
"""Kind of mark -> sign and words."""


def build_report(tables: Iterable[Mapping[str, Any]], results: Path) -> str:
    """Return the report as HTML. The same files give the same text.

    Args:
        tables: the plan's params of each table.
        results: the results folder.
    """
    contents = collect(tables, results)
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=PackageLoader("fewtable.report", "."),
    )
    environment.globals.update(number=number, spread=spread, kinds=KIND_WORDS)
    assert environment.loader is not None
    style, _, _ = environment.loader.get_source(environment, "report.css")
    script, _, _ = environment.loader.get_source(environment, "browser.js")
    links = {cell.key: cell.anchor for cell in contents.cells}
    return environment.get_template("report.html.j2").render(
        contents=contents,
        tables=[(table, fragment(table, links), comparison_fragment(table)) for table in contents.tables],
        style=Markup(CSS + style),
        script=Markup(script),
        data=embed(browser_data(contents)),
        limit=SENTENCES,
        draw_limit=DRAWS,
    )


def browser_data(contents: Contents) -> dict[str, Any]:
    """Return what the error browser's script reads: the words of a sentence once, the marks of every cell."""
    sentences: dict[str, dict[str, list[str]]] = {}
    cells = []
    for column in contents.columns:
        words = sentences.setdefault(column.dataset, {})
        for view in column.cells:
            if view.answers is None:
                continue
            for row in (row for rows in view.answers.shown.values() for row in rows):
                words[row["id"]] = row["words"]
            cells.append(
                {
                    "key": view.key,
                    "title": view.title,
                    "column": column.title,
                    "dataset": column.dataset,
                    "types": view.cell["types"],
                    "asked": view.answers.asked,
                    "draws": {
                        str(draw): [[row["id"], row["marks"], row["dropped"]] for row in rows]
                        for draw, rows in view.answers.shown.items()
                    },
                }
            )
    return {"kinds": KIND_WORDS, "sentences": sentences, "cells": cells}


def embed(value: Any) -> Markup:
    """Return JSON that may stand inside a script element whatever the texts hold."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)
