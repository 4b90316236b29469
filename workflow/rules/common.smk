"""The plan, made once from config, and what the rules share. No rules here."""

import fcntl
import os
import sys
from pathlib import Path

from fewtable.check import check_user
from fewtable.errors import FewtableError
from fewtable.plan import Plan
from fewtable.registry import Registry
from fewtable.resolve import Run

# Jobs call `python`: the one that runs Snakemake, unless a conda environment is activated over it.
os.environ.update(PATH=os.pathsep.join([str(Path(sys.executable).parent), *os.get_exec_path()]))

plan = Plan(Registry(Path("config")), config)
try:
    check_user(plan.registry, plan.user)
    # Snakemake does not know its targets yet, and would only say that no rule makes them.
    for option, typed in zip(sys.argv, sys.argv[1:]):
        if typed.startswith("results/") and not option.startswith("--report"):
            plan.check_target(typed)
except FewtableError as error:
    sys.exit(f"error: {error}")

NAME = "[a-z0-9+.-]+"


def one_of(kind):
    """Return a pattern of the registered names of a kind."""
    return "|".join(re.escape(name) for name in plan.registry.names(kind))


wildcard_constraints:
    dataset=NAME,
    setting=NAME,
    method=NAME,
    backbone=NAME,
    split=NAME,
    block=r"\d+-\d+",
    corpus=NAME,
    teacher=NAME,
    table=one_of("tables"),
    figure=one_of("figures"),
    statistics=one_of("statistics"),
    bands=one_of("bands"),
    view=one_of("views"),
    cases=one_of("cases"),


def run_of(wildcards):
    return Run(wildcards.dataset, wildcards.setting, wildcards.method, wildcards.backbone)


def data_of(wildcards):
    return list(plan.data_files(wildcards.dataset, wildcards.setting).values())


def blocks_of(pattern):
    """Return an input function: ``pattern`` for every block of the wildcards' setting."""

    def files(wildcards):
        return expand(
            pattern,
            block=plan.blocks(wildcards.setting),
            query=plan.query(wildcards.setting),
            **dict(wildcards),
        )

    return files


def cells_of(kind, pattern):
    """Return an input function: ``pattern`` for every cell of the wildcards' table or figure that can be made."""

    def files(wildcards):
        name = wildcards.table if kind == "tables" else wildcards.figure
        return [pattern.format(**run._asdict()) for run in plan.cells(kind, name)]

    return files


def growing(start):
    """Return a resource function: ``start``, doubled with each attempt."""

    def resource(wildcards, attempt):
        return start(wildcards) * 2 ** (attempt - 1)

    return resource


def backbone_of(key):
    """Return a resource function: a key of the wildcards' backbone."""

    def resource(wildcards):
        return getattr(plan.registry.backbone(wildcards.backbone), key)

    return resource


def view_backbone(wildcards):
    """Return the backbone that a view looks into."""
    return plan.registry.backbone(plan.registry.view(wildcards.view).backbone)


def hold_lock():
    """Let one Snakemake at a time run here. The system frees this lock when its holder is killed; Snakemake's stays."""
    Path(".snakemake").mkdir(exist_ok=True)
    stream = open(".snakemake/fewtable.lock", "a")
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        sys.exit("error: another snakemake is running in this folder\n  to mend: wait for it, or stop it")
    return stream


onstart:
    global lock
    if workflow.is_main_process:
        lock = hold_lock()
    plan.save()
