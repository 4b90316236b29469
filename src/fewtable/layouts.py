"""The typed form of what is shown: tables and figures of cells, statistics of datasets. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import chain, product
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from fewtable.errors import did_you_mean
from fewtable.specs import Name, Spec

Metric = Literal[
    "strict", "span", "partial", "uniner", "uniner-partial", "ber", "ber-pred", "ber-gold", "ber-blind"
]  # fmt: skip
"""Whose F1 is shown; ``uniner`` is UniversalNER's released scorer of strings, ``uniner-partial`` its partial match.
``ber`` and its like are boundary error rates."""
ERRORS: tuple[Metric, ...] = ("ber", "ber-pred", "ber-gold", "ber-blind")
"""The metrics of which less is better."""
STRINGS: tuple[Metric, ...] = ("uniner", "uniner-partial")
"""The metrics that count strings and not spans: they stand beside ``strict``, and no test has counts for them."""
Printed = tuple[float | None, float | None]
"""A value that a paper prints: [mean, sd or null]."""

# --- tables ---------------------------------------------------------------------------------------


class RowSpec(Spec):
    """A row: a method on a backbone."""

    id: Name
    title: str
    method: Name
    backbone: Name
    backbones: dict[Name, Name] = Field(default_factory=dict)
    """Dataset -> backbone, where a row changes its backbone with the dataset (cased or uncased BERT)."""
    setting: Name | None = None
    """In place of the columns' own: a row that learns from train beside rows that see none of it."""
    baseline: Name | None = None
    """A method whose cell on the same column and backbone is taken off the row's: the gain (of a transfer, say)."""
    oracle: bool = False
    """Whether its method, or its own setting, is told what nobody knows: its values stand apart from the others', but
    in columns whose setting is an oracle too."""
    note: str | None = None


class InsteadSpec(Spec):
    """What a column shows where its own dataset can't be had here."""

    title: str
    """What is said behind the column's own title."""
    dataset: Name
    setting: Name


class ColumnSpec(Spec):
    """A column: a dataset in a setting."""

    id: Name
    title: str
    group: str = ""
    dataset: Name
    setting: Name
    metric: Metric | None = None
    """In place of the table's own."""
    instead: tuple[InsteadSpec, ...] = ()
    """What it may show where its dataset can't be had; the first that can be stands."""

    def showing(self, other: InsteadSpec) -> ColumnSpec:
        """Return the column as it shows something else instead."""
        title = f"{self.title} {other.title}"
        return self.model_copy(update={"dataset": other.dataset, "setting": other.setting, "title": title})


class AverageSpec(Spec):
    """A column of means over columns, which stands after the last of them."""

    id: Name
    title: str
    group: str = ""
    columns: Annotated[tuple[Name, ...], Field(min_length=1)]
    over: tuple[Name, ...] = ()
    """Those of the columns that it is taken over where not all can be had; the plan fills it in."""

    def among(self, known: Collection[str]) -> AverageSpec:
        """Return the average over those of its columns that are among ``known``: itself where all or none are."""
        over = tuple(column for column in self.columns if column in known)
        if len(over) in (0, len(self.columns)):
            return self
        title = f"{self.title} ({len(over)} of {len(self.columns)})"
        return self.model_copy(update={"over": over, "title": title})


def metric_key(metric: Metric) -> str:
    """Return the name of a metric's number in a cell."""
    if metric in ERRORS:
        return f"boundary.{metric.replace('-', '_')}"
    return f"peer.{metric}.f1" if metric in STRINGS else f"{metric}.f1"


def check_ids(kind: str, given: Iterable[str], known: Iterable[Any]) -> None:
    """Check ids against those of the parts that are named: a misspelt one would lose its value, and nobody would know.

    Raises:
        ValueError: an id is none of them.
    """
    ids = [part.id for part in known]
    for name in given:
        if name not in ids:
            raise ValueError(f"no {kind} has the id '{name}'; {did_you_mean(name, ids)}")


def cell_key(row: RowSpec, column: ColumnSpec) -> str:
    """Return DATASET/SETTING/METHOD/BACKBONE of the cell where a row and a column meet."""
    backbone = row.backbones.get(column.dataset, row.backbone)
    return f"{column.dataset}/{row.setting or column.setting}/{row.method}/{backbone}"


def baseline_key(row: RowSpec, column: ColumnSpec) -> str | None:
    """Return the key of the cell that a row's gain in a column is over, None where the row names no baseline."""
    return cell_key(row.model_copy(update={"method": row.baseline}), column) if row.baseline else None


class PrintedSpec(Spec):
    """Values printed in a paper, by row id and column id."""

    source: str
    values: dict[Name, dict[Name, Printed]]
    gains: dict[Name, dict[Name, float]] = Field(default_factory=dict)
    """The printed gains over the rows' baselines."""


class TableSpec(Spec):
    """config/tables/NAME.yaml: rows x columns of cells and the papers' printed values."""

    title: str
    caption: str = ""
    metric: Metric = "strict"
    rows: tuple[RowSpec, ...]
    columns: tuple[ColumnSpec, ...]
    averages: tuple[AverageSpec, ...] = ()
    printed: PrintedSpec | None = None
    compare: tuple[tuple[Name, Name], ...] = ()
    """Pairs of row ids whose difference is tested (paired randomisation, Holm over the table)."""

    @model_validator(mode="after")
    def _ids(self) -> TableSpec:
        columns = [*(column.id for column in self.columns), *(average.id for average in self.averages)]
        for kind, ids in (("row", [row.id for row in self.rows]), ("column", columns)):
            if twice := sorted({name for name in ids if ids.count(name) > 1}):
                raise ValueError(f"two {kind}s have the id '{twice[0]}'")
        for average in self.averages:
            check_ids("column", average.columns, self.columns)
            if len({self.metric_of(column) for column in self.columns if column.id in average.columns}) > 1:
                raise ValueError(f"'{average.id}' is the average of different metrics")
        if self.printed:
            for values in (self.printed.values, self.printed.gains):
                check_ids("row", values, self.rows)
                check_ids("column", chain(*values.values()), self.shown)
        check_ids("row", chain(*self.compare), self.rows)
        if self.compare and self.metric in STRINGS:
            raise ValueError(f"'compare' tests spans, and metric '{self.metric}' counts strings")
        return self

    def metric_of(self, column: ColumnSpec) -> Metric:
        """Return the metric that a column shows."""
        return column.metric or self.metric

    @property
    def shown(self) -> tuple[ColumnSpec | AverageSpec, ...]:
        """All columns from left to right, averages among them."""
        ids = [column.id for column in self.columns]
        last = {average.id: max(map(ids.index, average.columns)) for average in self.averages}
        shown: list[ColumnSpec | AverageSpec] = []
        for place, column in enumerate(self.columns):
            shown += [column, *(average for average in self.averages if last[average.id] == place)]
        return tuple(shown)

    @property
    def cells(self) -> dict[str, str]:
        """Place -> cell key: ``row/column``, and ``row/column/baseline`` where the row names one."""
        places = {}
        for row, column in product(self.rows, self.columns):
            places[f"{row.id}/{column.id}"] = cell_key(row, column)
            if baseline := baseline_key(row, column):
                places[f"{row.id}/{column.id}/baseline"] = baseline
        return places


# --- figures --------------------------------------------------------------------------------------

PARTS = ("dataset", "setting", "method", "backbone")


class PartSpec(Spec):
    """A panel, a series or a point: a title and its share of the four names of a cell."""

    id: Name
    title: str
    dataset: Name | None = None
    setting: Name | None = None
    method: Name | None = None
    backbone: Name | None = None

    @property
    def names(self) -> dict[str, str]:
        """The names that it gives."""
        return self.model_dump(include=set(PARTS), exclude_none=True)


class SeriesSpec(PartSpec):
    """A series; it may show differences."""

    baseline: Name | None = None
    """A method whose cell on the same dataset, setting and backbone is taken off."""


class PointSpec(PartSpec):
    """A point of the x axis, or a row; it may be made of several datasets."""

    datasets: tuple[Name, ...] = ()
    """Datasets whose cells make one number, in place of ``dataset``."""
    number: Literal["mean", "agreement"] = "mean"
    """Of several datasets: the mean, or how much the entities agree that were found in them. They are then the same
    sentences, with types in other words."""
    group: str = ""
    """What a row is coloured by, where there is one series."""

    @model_validator(mode="after")
    def _several(self) -> PointSpec:
        if self.dataset and self.datasets:
            raise ValueError("a point has 'dataset' or 'datasets'")
        if self.number == "agreement" and len(self.datasets) < 2:
            raise ValueError("an agreement is that of two datasets or more")
        return self


class FigurePrintedSpec(Spec):
    """Values printed in a paper, by panel, series and point."""

    source: str
    values: dict[Name, dict[Name, dict[Name, Printed]]]


class FigureSpec(Spec):
    """config/figures/NAME.yaml: panels of series over points; panel, series and point together name a cell."""

    title: str
    caption: str = ""
    kind: Literal["lines", "bars", "rows"]
    """``rows`` are bars that lie, the points one below the other, for long titles."""
    metric: Metric = "strict"
    behind: Metric | None = None
    """A metric whose bar stands behind that of ``metric``, in a light colour."""
    x: str
    """The title of the x axis: what the points are, or of rows what the values are."""
    panels: Annotated[tuple[PartSpec, ...], Field(min_length=1)]
    series: Annotated[tuple[SeriesSpec, ...], Field(min_length=1, max_length=8)]
    points: Annotated[tuple[PointSpec, ...], Field(min_length=1)]
    printed: FigurePrintedSpec | None = None

    @model_validator(mode="after")
    def _whole(self) -> FigureSpec:
        if self.behind and self.kind != "bars":
            raise ValueError("'behind' is for bars")
        for parts in product(self.panels, self.series, self.points):
            given = [name for part in parts for name in part.names] + ["dataset"] * bool(parts[-1].datasets)
            for name in PARTS:
                if given.count(name) != 1:
                    place = "/".join(part.id for part in parts)
                    raise ValueError(f"{place} gives {given.count(name)} names of a {name}, a cell has one")
        if self.printed:
            check_ids("panel", self.printed.values, self.panels)
            for series in self.printed.values.values():
                check_ids("series", series, self.series)
                check_ids("point", chain(*series.values()), self.points)
        return self

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The metrics that are shown."""
        return (self.metric, self.behind) if self.behind else (self.metric,)

    @property
    def cells(self) -> dict[str, str]:
        """Place -> cell key; a place is ``panel/series/point`` with what its number is made of (see ``made_of``)."""
        return {f"{place}{more}": key for place, keys in self.made_of.items() for more, key in keys.items()}

    @property
    def made_of(self) -> dict[str, dict[str, str]]:
        """``panel/series/point`` -> the cells that its number is made of.

        Their keys are named ``""``, or ``/DATASET`` where there are several datasets; those of a baseline
        ``/baseline`` or ``/DATASET/baseline``.
        """
        places: dict[str, dict[str, str]] = {}
        for panel, series, point in product(self.panels, self.series, self.points):
            names = panel.names | series.names | point.names
            keys = places.setdefault(f"{panel.id}/{series.id}/{point.id}", {})
            for dataset in point.datasets or (names["dataset"],):
                more = f"/{dataset}" if point.datasets else ""
                for name, method in (("", names["method"]), ("/baseline", series.baseline)):
                    if method:
                        keys[more + name] = f"{dataset}/{names['setting']}/{method}/{names['backbone']}"
        return places


# --- statistics -----------------------------------------------------------------------------------


class CorpusSpec(Spec):
    """A row of a table of statistics: a dataset."""

    id: Name
    title: str
    group: str = ""
    """The domain of text that a benchmark puts the dataset in."""
    dataset: Name
    note: str | None = None


class CountSpec(Spec):
    """A column of a table of statistics: what is counted, over which splits."""

    id: Name
    title: str
    count: Literal["sentences", "types", "tokens", "entities"]
    """Sentences, types with a mention, and the mean number of tokens or entities of a sentence."""
    splits: tuple[Name, ...] = ()
    """The splits that are counted together; all of the dataset's when left empty."""


class CountsPrintedSpec(Spec):
    """Counts printed in a paper: row id -> column id -> count."""

    source: str
    values: dict[Name, dict[Name, float]]


class StatisticsSpec(Spec):
    """config/statistics/NAME.yaml: datasets x counts, computed from the data, beside the paper's printed counts."""

    title: str
    caption: str = ""
    rows: tuple[CorpusSpec, ...]
    columns: tuple[CountSpec, ...]
    printed: CountsPrintedSpec | None = None

    @model_validator(mode="after")
    def _printed_ids(self) -> StatisticsSpec:
        if self.printed:
            check_ids("row", self.printed.values, self.rows)
            check_ids("column", chain(*self.printed.values.values()), self.columns)
        return self


# --- bands ----------------------------------------------------------------------------------------

BANDS = {"top-1": ("Top 1 %", 0.01), "1-10": ("1 %–10 %", 0.1), "10-100": ("10 %–100 %", 1.0)}
"""Band id -> title, and the part of the types, the most frequent first, that it goes up to."""


class BandsPrintedSpec(Spec):
    """Bands printed in a paper: their share of all entities in percent, and types named as examples."""

    source: str
    share: dict[Name, float]
    types: dict[Name, tuple[str, ...]]


class BandsSpec(Spec):
    """config/bands/NAME.yaml: the entity types of an annotation by frequency, beside the paper's."""

    title: str
    caption: str = ""
    teacher: Name
    corpus: Name
    printed: BandsPrintedSpec | None = None

    @model_validator(mode="after")
    def _printed_bands(self) -> BandsSpec:
        for values in (self.printed.share, self.printed.types) if self.printed else ():
            if set(values) != set(BANDS):
                raise ValueError(f"printed values are of the bands {', '.join(BANDS)}")
        return self
