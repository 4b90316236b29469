"""Tables, figures and other targets by name -> cells -> runs, and the params of their rules. From config alone."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from itertools import product
from pathlib import Path

from fewtable.data_plan import SCRIPTS, params_json
from fewtable.errors import ConfigError, did_you_mean
from fewtable.files import digest, sha256_file, write_json
from fewtable.layouts import ColumnSpec, FigureSpec, TableSpec
from fewtable.registry import SHOWN
from fewtable.resolve import Run
from fewtable.view_plan import ViewPlan
from fewtable.views.spec import PairSpec

USER_CONFIG = Path(".cache/config.json")
"""The user's config as Snakemake merged it (--config, --configfile), for the jobs that act on it."""
STAGES = (
    *("raw", "data", "samples", "passages", "annotations", "backbones", "runs", "checkpoints", "cells"),
    *("tracking", "views"),
)
"""The folders of results/ that hold other things than tables and figures."""
OF_CELLS = ("tables", "figures", "views", "cases")
"""What is shown of cells or of their runs."""


class Plan(ViewPlan):
    """All that the rules ask: one object a Snakefile, made from the user's config and the config folder."""

    # --- names ------------------------------------------------------------------------------------

    def check_target(self, path: str) -> None:
        """Check the names in a target that a person typed, and all methods of a table or figure.

        Raises:
            ConfigError: a dataset, setting, method, backbone, table, figure or statistics is unknown (with the
                nearest known one), or the method cannot run on the backbone.
        """
        parts = path.removeprefix("results/").split("/")
        names = [*parts[1:4], parts[4].removesuffix(".json")] if len(parts) > 4 else []
        if parts[0] in ("cells", "tracking", "runs") and names:
            self.method(Run(*names))
        elif parts[0] in ("samples", "data", "raw") and len(parts) > 2:
            self.registry.dataset(parts[1])
            if parts[0] == "samples":
                self.registry.setting(parts[2])
        elif parts[0] == "passages" and len(parts) > 1:
            corpus = parts[1].removesuffix(".jsonl").removesuffix(".summary.json")
            self.passage_files(corpus)
            self.counting_backbone(corpus)
        elif parts[0] == "annotations" and len(parts) > 2:
            self.registry.teacher(parts[1])
            self.passage_files(parts[2])
        elif parts[0] == "views":
            self.looks("/".join(parts[1:]).removesuffix(".json"))
        elif path.startswith("results/") and parts[0] not in STAGES and path != "results/report.html":
            typed = "/".join(parts)
            name = typed.rpartition(".")[0] or typed
            kind = self.kind(name, ("figures", "views") if path.endswith((".svg", ".png")) else SHOWN)
            for run in self.runs(kind, name).values() if kind in OF_CELLS else ():
                self.method(run)

    def kind(self, name: str, kinds: tuple[str, ...] = SHOWN) -> str:
        """Return whether ``name`` is one of the tables, figures or statistics.

        Raises:
            ConfigError: it is none of them (with the nearest known one).
        """
        known = {shown: kind for kind, shown in self.registry.all(*kinds)}
        if name not in known:
            raise ConfigError(
                f"unknown {kinds[0].removesuffix('s')} '{name}'",
                where=str(self.registry.root / kinds[0]),
                fix=did_you_mean(name, known),
            )
        return known[name]

    # --- tables, figures, statistics --------------------------------------------------------------

    def table(self, name: str) -> TableSpec:
        """Return a table as it can be made here.

        A column whose data is missing shows what may stand there instead; an average leaves out those with nothing.
        """
        spec = self.registry.table(name)
        columns = tuple(map(self._shown, spec.columns))
        whole = {column.id for column in columns if self._whole(column)} if spec.averages else set()
        averages = tuple(average.among(whole) for average in spec.averages)
        return spec.model_copy(update={"columns": columns, "averages": averages})

    def _shown(self, column: ColumnSpec) -> ColumnSpec:
        if not column.instead:
            return column
        others = (column.showing(other) for other in column.instead)
        return next((c for c in (column, *others) if self._whole(c)), column)

    def _whole(self, column: ColumnSpec) -> bool:
        """Say whether a column's data can be had here, and that of its dataset's own source domain."""
        source = self.registry.dataset(column.dataset).source
        reasons = (self.blocked(column.dataset, column.setting), source and self.blocked(source, "full"))
        return not any(reasons)

    def runs(self, kind: str, name: str) -> dict[str, Run]:
        """Return place -> run of what is shown of cells, blocked cells included (places: the specs' ``cells``)."""
        spec: TableSpec | FigureSpec | PairSpec
        if kind == "tables":
            spec = self.table(name)
        elif kind == "figures":
            spec = self.registry.figure(name)
        else:
            spec = self.pair(kind, name)
        return {place: Run(*key.split("/")) for place, key in spec.cells.items()}

    def cells(self, kind: str, name: str) -> list[Run]:
        """Return the runs of a table or figure that can be made, each once, in order."""
        runs = (run for run in self.runs(kind, name).values() if self.unavailable(run) is None)
        return list(dict.fromkeys(runs))

    def _blocked_places(self, kind: str, name: str) -> dict[str, str]:
        places = ((place, self.unavailable(run)) for place, run in self.runs(kind, name).items())
        return {place: reason for place, reason in places if reason is not None}

    def table_params(self, name: str) -> str:
        """Return the params of a table: its layout, printed values, method titles and notes, blocked cells."""
        spec = self.table(name)
        return params_json(
            {
                "name": name,
                "table": spec.model_dump(mode="json"),
                "notes": {r.method: self.registry.method(r.method).note for r in spec.rows},
                "blocked": self._blocked_places("tables", name),
                "oracles": self._oracles(spec),
                "code": self.code.of(f"{SCRIPTS}/table.py"),
            }
        )

    def _oracles(self, spec: TableSpec) -> dict[str, tuple[str, ...]]:
        """Return a table's oracles: ``/column`` -> its setting's, ``row/column`` -> all that a cell is told."""
        settings = {f"/{column.id}": self.registry.setting(column.setting).oracle for column in spec.columns}
        found: dict[str, tuple[str, ...]] = {place: (text.strip(),) for place, text in settings.items() if text}
        for place, key in spec.cells.items():
            if place.count("/") == 1 and (told := self.oracles(Run(*key.split("/")))):
                found[place] = told
        return found

    def figure_params(self, name: str) -> str:
        """Return the params of a figure: its layout, printed values, blocked cells."""
        return params_json(
            {
                "name": name,
                "figure": self.registry.figure(name).model_dump(mode="json"),
                "blocked": self._blocked_places("figures", name),
                "code": self.code.of(f"{SCRIPTS}/figure.py"),
            }
        )

    def counted(self, name: str) -> dict[str, tuple[str, tuple[str, ...]]]:
        """Return place (``row/column``) -> dataset and the splits counted there, of which it may have none."""
        spec, places = self.registry.statistics(name), {}
        for row, column in product(spec.rows, spec.columns):
            splits = self.registry.dataset(row.dataset).splits
            counted = tuple(split for split in column.splits or splits if split in splits)
            places[f"{row.id}/{column.id}"] = (row.dataset, counted)
        return places

    def statistics_files(self, name: str) -> list[str]:
        """Return the data files that a table of statistics counts, without those that can't be had here."""
        places = (place for place in self.counted(name).values() if self.missing(*place) is None)
        return list(dict.fromkeys(f"results/data/{dataset}/{split}.jsonl" for dataset, s in places for split in s))

    def statistics_params(self, name: str) -> str:
        """Return the params of a table of statistics: its layout, printed counts, splits, what is missing."""
        places = self.counted(name)
        missing = {place: self.missing(*counted) for place, counted in places.items()}
        return params_json(
            {
                "name": name,
                "statistics": self.registry.statistics(name).model_dump(mode="json"),
                "splits": {place: splits for place, (_, splits) in places.items()},
                "missing": {place: reason for place, reason in missing.items() if reason is not None},
                "code": self.code.of(f"{SCRIPTS}/dataset_statistics.py"),
            }
        )

    def bands_file(self, name: str) -> str:
        """Return the annotations whose types a table of frequency bands counts."""
        spec = self.registry.bands(name)
        self.registry.teacher(spec.teacher)
        self.registry.corpus(spec.corpus)
        return f"results/annotations/{spec.teacher}/{spec.corpus}/annotations.jsonl"

    def bands_params(self, name: str) -> str:
        """Return the params of a table of frequency bands: its layout and printed values."""
        spec = self.registry.bands(name).model_dump(mode="json")
        return params_json({"name": name, "bands": spec, "code": self.code.of(f"{SCRIPTS}/bands.py")})

    def shown_params(self, kind: str, name: str) -> str:
        """Return the params of what is shown under a name."""
        makers = {
            "tables": self.table_params,
            "figures": self.figure_params,
            "statistics": self.statistics_params,
            "bands": self.bands_params,
            "views": self.view_params,
            "cases": self.cases_params,
        }
        return makers[kind](name)

    def report_params(self, tables: Iterable[str]) -> str:
        """Return the params of the report on ``tables``."""
        return params_json(
            {
                "tables": {name: self.table_params(name) for name in tables},
                "code": self.code.of(f"{SCRIPTS}/report.py"),
                "templates": self._templates,
            }
        )

    @cached_property
    def _templates(self) -> dict[str, str]:
        """The report's templates and styles, which no import statement names."""
        folder = self.source / "fewtable" / "report"
        return {
            path.name: sha256_file(path) for path in sorted(folder.iterdir()) if path.suffix in (".j2", ".css", ".js")
        }

    # --- the user's choices -----------------------------------------------------------------------

    def tracking_params(self) -> str:
        """Return the params of tracking: which store, as a digest, for an address may hold a password."""
        return digest(self.user.tracking.model_dump(mode="json"))

    def save(self) -> None:
        """Write what jobs and later calls read: the config as merged, and the parsed code."""
        write_json(USER_CONFIG, self.user.model_dump(mode="json"))
        self.code.save()
