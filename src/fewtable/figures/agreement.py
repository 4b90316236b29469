"""How much runs agree that were asked for one type in other words (UniversalNER, Figure 7; methods/12)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from statistics import fmean

from fewtable.errors import DataError
from fewtable.predictions import read_predictions
from fewtable.tables.model import CellFile

Answer = tuple[int, str, int, int, str]
"""An entity of a draw: draw, sentence, start, end, type."""


def agreement(answers: Sequence[frozenset[Answer]]) -> float:
    """Return the mean Jaccard index of two runs' entities over all pairs of runs, from 0 to 1.

    The entities of all sentences are put together, so that a sentence in which neither finds one counts for nothing.
    Two runs that find nothing at all agree.
    """
    pairs = combinations(answers, 2)
    return fmean(len(one & two) / len(one | two) if one | two else 1.0 for one, two in pairs)


def answers_of(key: str, cell: CellFile, results: Path) -> frozenset[Answer]:
    """Return the entities that a cell's run found, from its prediction files.

    Raises:
        DataError: a file of predictions is not there, or malformed (file:line).
    """
    found: set[Answer] = set()
    for block in cell["blocks"]:
        path = results / "runs" / key / block / f"predictions.{cell['query']}.jsonl"
        if not path.exists():
            raise DataError(
                "the cell is there, and its predictions are not", where=str(path), fix=f"snakemake --cores 1 {path}"
            )
        for draw, sentences in read_predictions(path).items():
            found |= {(draw, name, *entity) for name, parsed in sentences.items() for entity in parsed.entities}
    return frozenset(found)


def measured_agreement(cells: Mapping[str, CellFile], results: Path) -> float:
    """Return the agreement of the runs of some cells, in percent."""
    return 100 * agreement([answers_of(key, cell, results) for key, cell in cells.items()])
