"""What planning costs: parsing the Snakefile, a no-op call, and a dry run per 1,000 cells.

    python benchmarks/workflow.py

A scratch copy of the project gets a table of many cells: open datasets x k-shot settings x methods. Its dry run stands
beside that of a bare Snakefile with as many jobs: one wildcard, no functions, params, resources or environments.
The parse is what each cluster job pays before it starts; it is measured against an empty Snakefile in the same run, so
that Snakemake's own start-up is not counted. The no-op call is of a finished table.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from fixtures.project import Project

ROWS = [
    ("lexicon", "none"),
    ("lc-bert", "minilm"),
    ("nnshot", "minilm"),
    ("structshot", "minilm"),
    ("protobert", "minilm"),
]
SETTINGS = ["10-shot", "20-shot", "50-shot", "100-shot", "200-shot", "500-shot", "5-shot", "10-shot-300"]


def big_table(project: Project, cells: int) -> int:
    """Write config/tables/big.yaml with about ``cells`` cells; return their number."""
    from fewtable.registry import Registry

    registry = Registry(project.root / "config")
    names = [n for n in registry.names("datasets") if registry.dataset(n).access == "open"]
    names = [n for n in names if {"train", "test"} <= set(registry.dataset(n).splits)]
    pairs = [(d, s) for d in names for s in SETTINGS][: max(1, round(cells / len(ROWS)))]
    rows = [{"id": m, "title": m, "method": m, "backbone": b} for m, b in ROWS]
    columns = [{"id": f"{d}-{s}", "title": s, "group": d, "dataset": d, "setting": s} for d, s in pairs]
    table = {"title": "Big", "rows": rows, "columns": columns}
    (project.root / "config/tables/big.yaml").write_text(json.dumps(table))
    return len(rows) * len(columns)


def bare_chain(cells: int) -> str:
    """Return a Snakefile with the five jobs of each cell, and nothing that Snakemake must work out for them."""
    steps = ("train", "decode", "score", "cell", "track")
    rules = [f"rule all:\n    input: [f'{steps[-1]}/{{i}}' for i in range({cells})]\n"]
    for before, step in zip((None, *steps), steps, strict=False):
        taken = f"    input: '{before}/{{n}}'\n" if before else ""
        rules.append(f"rule {step}:\n{taken}    output: '{step}/{{n}}'\n    shell: 'touch {{output}}'\n")
    return "".join(rules)


PLAN = """
import sys, time
from pathlib import Path
from fewtable.plan import Plan
from fewtable.registry import Registry, read_yaml
start = time.perf_counter()
plan = Plan(Registry(Path("config")), read_yaml(Path("config/config.yaml")))
for run in plan.cells("tables", "big"):
    for block in plan.blocks(run.setting):
        plan.run_params(run, block, decode=False), plan.run_params(run, block, decode=True)
        plan.sample_params(run.dataset, run.setting, block), plan.init_model(run, block)
    plan.score_params(run), plan.cell_params(run)
plan.table_params("big")
print(time.perf_counter() - start)
"""


def plan_seconds(project: Project, repeats: int) -> tuple[float, float]:
    """Return (min, median) seconds that our plan takes for the table: all cells, and all params of all their jobs."""
    taken = []
    for _ in range(repeats):
        done = subprocess.run(
            [sys.executable, "-c", PLAN], cwd=project.root, env=project.environment, capture_output=True, check=True
        )
        taken.append(float(done.stdout))
    return min(taken), statistics.median(taken)


def seconds(command: list[str], project: Project, repeats: int) -> tuple[float, float]:
    """Return (min, median) wall seconds of a command."""
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        done = subprocess.run(
            command, cwd=project.root, env=project.environment, capture_output=True, text=True, check=False
        )
        taken.append(time.perf_counter() - start)
        if done.returncode:
            raise SystemExit(done.stdout[-2000:] + done.stderr[-2000:])
    return min(taken), statistics.median(taken)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        project = Project.make(Path(folder) / "project")
        cells = big_table(project, args.cells)
        (project.root / "Empty").write_text("rule all:\n    output: 'nothing'\n    shell: 'touch {output}'\n")
        (project.root / "nothing").write_text("")
        (project.root / "Bare").write_text(bare_chain(cells))
        (project.root / "results").mkdir()
        (project.root / "results/x").write_text("")
        empty = seconds(project.command("-s", "Empty", "-n", "nothing"), project, args.repeats)
        parse = seconds(project.command("--list-rules"), project, args.repeats)
        bare = seconds(project.command("-s", "Empty", "--list-rules"), project, args.repeats)
        big = seconds(project.command("-n", "--quiet", "all", "--", "results/big.csv"), project, args.repeats)
        planned = plan_seconds(project, args.repeats)
        floor = seconds(project.command("-s", "Bare", "-n", "--quiet", "all", "--", "all"), project, args.repeats)
        project.run("results/cells/wnut16-demo/5-shot-300/lexicon/none.json")
        idle = seconds(project.command("results/cells/wnut16-demo/5-shot-300/lexicon/none.json"), project, args.repeats)
    print("seconds (min, median)")
    print(f"  snakemake, empty Snakefile, nothing to do   {empty[0]:.2f} {empty[1]:.2f}")
    print(f"  parse of our Snakefile, over an empty one    {parse[0] - bare[0]:.2f} {parse[1] - bare[1]:.2f}")
    print(f"  no-op call of one finished cell              {idle[0]:.2f} {idle[1]:.2f}")
    print(f"  our plan of {cells} cells                     {planned[0]:.2f} {planned[1]:.2f}")
    print(f"  dry run of {cells} cells                      {big[0]:.2f} {big[1]:.2f}")
    print(f"  dry run per 1,000 cells, over an empty one   {(big[0] - empty[0]) * 1000 / cells:.2f}")
    print(f"  ... of a bare Snakefile with as many jobs     {(floor[0] - empty[0]) * 1000 / cells:.2f}")


if __name__ == "__main__":
    main()
