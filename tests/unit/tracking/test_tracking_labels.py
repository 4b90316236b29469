from __future__ import annotations

from pathlib import Path

from fewtable.files import write_text
from fewtable.plan import Plan
from fewtable.registry import Registry
from fewtable.tracking import labels

METHOD = "title: M\nfamily: tagger\nformat: {name: io}\n"
TABLE = """title: T
rows:
  - {id: a, title: A, method: m, backbone: big, backbones: {ds: small}}
  - {id: b, title: B, method: n, backbone: big}
columns: [{id: c, title: C, dataset: ds, setting: 1-shot}]
"""


FIGURE = """title: F
kind: lines
x: X
panels: [{id: p, title: P, dataset: ds, setting: 1-shot}]
series: [{id: s, title: S, method: n}]
points: [{id: x, title: X, backbone: small}, {id: y, title: Y, backbone: big}]
"""


def test_labels_name_the_tables_figures_and_the_paper(tmp_path: Path) -> None:
    write_text(tmp_path / "methods/m.yaml", METHOD + "paper: lc-bert\n")
    write_text(tmp_path / "methods/n.yaml", METHOD)
    write_text(tmp_path / "tables/demo.yaml", TABLE)
    write_text(tmp_path / "tables/other.yaml", TABLE.replace("method: n", "method: m"))
    write_text(tmp_path / "figures/paper/figure1.yaml", FIGURE)
    assert labels(Plan(Registry(tmp_path), {})) == {
        "ds/1-shot/m/small": {"tables": "demo, other", "paper": "lc-bert"},
        "ds/1-shot/n/big": {"tables": "demo, paper/figure1"},
        "ds/1-shot/n/small": {"tables": "paper/figure1"},
        "ds/1-shot/m/big": {"tables": "other", "paper": "lc-bert"},
    }
