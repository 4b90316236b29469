"""The line under a table (methods/99, "what to print next to a reproduced number"), made from its cells alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fewtable.layouts import STRINGS, ColumnSpec, Metric, TableSpec, cell_key, metric_key
from fewtable.scoring.block import SCORER
from fewtable.specs import EPISODES
from fewtable.tables.model import CellFile, full_title

PAIRED = (
    "exact predictions are set aside, the others are paired one to one with gold entities of their sentence and type "
    "that share a word with them (as many pairs as possible), and each pair is a wrong edge"
)
METRICS: dict[Metric, str] = {
    "strict": "strict entity micro-F1 in percent over sets of (sentence, start, end, type)",
    "span": "span micro-F1 in percent over sets of (sentence, start, end), types left aside",
    "partial": "partial-match micro-F1 in percent (overlaps of the right type count half)",
    "uniner": (
        "UniversalNER's released scorer: micro-F1 in percent over the distinct strings of each sentence and type, "
        "without case, punctuation, articles and positions"
    ),
    "uniner-partial": "the same strings, and those that share a word count half",
    "ber": f"boundary error rate in percent, less is better: {PAIRED}, wrong edges / (exact + wrong edges)",
    "ber-pred": f"boundary errors in percent of all predictions, less is better: {PAIRED}",
    "ber-gold": f"boundary errors in percent of all gold entities, less is better: {PAIRED}",
    "ber-blind": (
        f"boundary error rate in percent with types left aside, less is better: {PAIRED}, wrong edges / (exact + wrong "
        "edges)"
    ),
}


def lines(spec: TableSpec, cells: Mapping[str, CellFile]) -> tuple[tuple[str, str], ...]:
    """Return (label, text) pairs: scorer, checkpoint, samples, data, spread, gain, averages, printed values."""
    out = [("Scorer", f"{SCORER}, {_scorer(spec)}.")]
    if cells:
        out.append(("Checkpoint", _checkpoints(spec, cells)))
        places: set[tuple[str, str]] = set()
        for column in spec.columns:
            found = [cells[key] for key in (cell_key(row, column) for row in spec.rows) if key in cells]
            for setting in dict.fromkeys(cell["setting"] for cell in found):
                if (column.dataset, setting) not in places:  # two columns may show one cell by two metrics
                    places.add((column.dataset, setting))
                    own = [cell for cell in found if cell["setting"] == setting]
                    label = f"Sample, {full_title(column)}"
                    out.append((label if setting == column.setting else f"{label}, {setting}", _column(column, own)))
        out.append(("Spread", _spread(spec, cells.values())))
    if gained := [f"{row.title} over {row.baseline}" for row in spec.rows if row.baseline]:
        text = (
            f"in brackets, the difference to a baseline in the same column on the same backbone: {', '.join(gained)}."
        )
        out.append(("Gain", text))
    if spec.averages:
        titles = ", ".join(full_title(average) for average in spec.averages)
        text = f"{titles}: the mean of the row's values, none where one of them is missing."
        if any(average.over for average in spec.averages):
            text += (
                " Where it is over some of the columns, the data of the others can't be had here, and Δ is left out."
            )
        out.append(("Average", text))
    if spec.printed:
        out.append(
            (
                "Printed",
                f"{spec.printed.source}. Δ = ours − printed; the papers drew other samples and do not say which "
                "deviation they print, so Δ describes and tests nothing.",
            )
        )
    return tuple(out)


def checkpoint_choice(spec: Mapping[str, Any]) -> str:
    """Say which checkpoint a cell's run keeps, from its resolved spec."""
    train = spec.get("train") or {}
    budget = train.get("adapt") or train
    if spec.get("init") and spec["sampler"]["rule"] == "none":
        return f"not trained on the sample, the model of {spec['init']} as it is"
    if not budget.get("epochs") and not budget.get("min_steps"):
        return "not trained on the sample"
    return "last step of a fixed budget, no development set"


def _checkpoints(spec: TableSpec, cells: Mapping[str, CellFile]) -> str:
    choices: dict[str, list[str]] = {}
    for row in spec.rows:
        for column in spec.columns:
            cell = cells.get(cell_key(row, column))
            if cell is None:
                continue
            titles = choices.setdefault(checkpoint_choice(cell["spec"]), [])
            if row.title not in titles:
                titles.append(row.title)
    return "; ".join(f"{choice}: {', '.join(titles)}" for choice, titles in choices.items()) + "."


def _column(column: ColumnSpec, cells: list[CellFile]) -> str:
    samples = {sample_text(cell) for cell in cells}
    data = {data_text(cell) for cell in cells}
    text = " / ".join(sorted(samples))
    if len(samples) > 1:
        text = f"CAUTION, the rows did not read the same samples: {text}"
    versions = " / ".join(sorted(data))
    if len(data) > 1:
        versions = f"CAUTION, the rows read different data: {versions}"
    types = max(len(cell["types"]) for cell in cells)
    return f"{text}; {column.dataset}, {types} types, asked {_asked(cells[0])}, data version {versions}."


def _asked(cell: CellFile) -> str:
    """Say which sentences were asked: a split, a fixed random part of it, or those that each episode draws."""
    if (cell["spec"].get("sampler") or {}).get("rule") in EPISODES:
        return f"sentences of {cell['query']} that each episode draws"
    query = cell["spec"].get("query") or {}
    limit, pairs = query.get("limit"), query.get("pairs")
    asked = f"{limit} fixed sentences of {cell['query']}" if limit else f"the {cell['query']} split"
    return f"{asked}, or whole sentences drawn from it for {pairs:,} pairs of a sentence and a type" if pairs else asked


def sample_text(cell: CellFile) -> str:
    """Say how a cell's samples were drawn and which counts they reached."""
    headers: list[Mapping[str, Any]] = [cell["samples"][key] for key in sorted(cell["samples"], key=int)]
    if not headers:
        return "no sample"
    first = headers[0]
    shots = f", k = {first['k']}" if first.get("k") else ""
    text = f"rule “{first.get('rule', '?')}”{shots}, {_plural(len(headers), 'draw')}"
    if not any(header.get("counts") for header in headers):
        return text
    sizes = [header["sentences"] for header in headers if "sentences" in header]
    counts = [n for header in headers for n in header.get("counts", {}).values()]
    unit = first.get("unit", "mentions")
    each = "mentions a type" if unit == "mentions" else unit
    text += f", {_range(sizes)} support sentences, {_range(counts)} {each}"
    short = sum(sum((header.get("short") or {}).values()) for header in headers)
    over = sum(sum((header.get("over") or {}).values()) for header in headers)
    slack = [f"{short} missing"] * bool(short) + [f"{over} too many"] * bool(over)
    text += f" ({' and '.join(slack)} in all)" if slack else ""
    known = [header["in_support"] for header in headers if "in_support" in header]
    return f"{text}, {_range(known)} of the query sentences among them" if known else text


def data_text(cell: CellFile) -> str:
    """Name the data that a cell was scored on and its sample drawn from, by the start of its SHA-256."""
    digests: dict[str, str] = dict(cell.get("data") or {})
    for header in cell["samples"].values():
        digests |= header.get("data_sha256") or {}
    return ", ".join(f"{split} {digests[split][:12]}" for split in sorted(digests)) or "unknown"


def _scorer(spec: TableSpec) -> str:
    text = METRICS[spec.metric]
    own = {column.metric for column in spec.columns if column.metric not in (None, spec.metric)}
    for metric in (metric for metric in METRICS if metric in own):
        titles = ", ".join(full_title(column) for column in spec.columns if column.metric == metric)
        text += f"; in {titles}: {METRICS[metric]}"
    return text if {spec.metric, *own} & set(STRINGS) else f"{text}; no peer's scorer fills a column"


def _spread(spec: TableSpec, cells: Iterable[CellFile]) -> str:
    counts: dict[bool, list[int]] = {False: [], True: []}
    for cell in cells:
        found = cell["metrics"].get(metric_key(spec.metric))
        if found is not None:
            counts["episodes" in cell["flags"]].append(found["n"])
    parts = []
    if counts[False]:
        parts.append(
            f"mean ± sample standard deviation (n − 1) over n = {_range(counts[False])} draws; a draw is a new "
            "sample. Low and high: 95 % bootstrap interval over draws and query sentences."
        )
    if counts[True]:
        parts.append(
            f"{'Episodes: ' if parts else ''}F1 of the counts summed over n = {_range(counts[True])} episodes, "
            "without a deviation; an episode is a new sample with query sentences of its own. "
            "Low and high: 95 % bootstrap interval over episodes."
        )
    return " ".join(parts)


def _range(values: list[int]) -> str:
    if not values:
        return "?"
    low, high = min(values), max(values)
    return str(low) if low == high else f"{low}–{high}"


def _plural(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"
