"""The command line: look at what is configured, sampled, prompted, parsed, scored and tracked."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from fewtable import predict_command
from fewtable.corpus import Scheme
from fewtable.errors import ConfigError, DataError, FewtableError, did_you_mean
from fewtable.teachers import command as annotate_command

if TYPE_CHECKING:
    from fewtable.plan import Plan

EPILOG = """examples:
  fewtable check                                   is all of config/ valid, what is missing, what does that block
  fewtable show dataset mit-restaurant             a dataset, method or table with everything filled in
  fewtable data stats wnut16-demo                  sentences and entities of each split
  fewtable sample wnut16-demo 5-shot --draw 1      the sentences a method would learn from
  fewtable prompts instructionner wnut16-demo --split train --limit 3
  fewtable prompts uniner-type mit-movie --training --setting 10-shot --limit 3
  fewtable score --gold gold.conll --pred pred.conll --scorer conlleval
  fewtable predict results/runs/.../1-2 "Barack Obama visited Berlin" --types "person, city"
tables are made by snakemake: snakemake --cores 2 results/demo.csv (on a cluster: --profile slurm)"""

OWN = "default: one that the method takes and whose weights come with `make setup`, if there is one"


def _plan() -> Plan:
    from fewtable.plan import Plan
    from fewtable.registry import Registry, read_yaml

    root = Path("config")
    if not (root / "config.yaml").exists():
        raise ConfigError("config/config.yaml is not here", fix="run fewtable in the folder that holds the Snakefile")
    return Plan(Registry(root), read_yaml(root / "config.yaml"))


def _print_jsonl(row: Any) -> None:
    print(json.dumps(row, ensure_ascii=False))


# --- show, check, data ----------------------------------------------------------------------------


def _show(args: argparse.Namespace) -> int:
    import yaml

    from fewtable.plan import OF_CELLS
    from fewtable.resolve import Run

    plan = _plan()
    if args.kind in ("table", "figure"):
        tables = ("tables", "statistics", "bands", "cases")
        kind = plan.kind(args.name, tables if args.kind == "table" else ("figures", "views"))
        shown: Any = json.loads(plan.shown_params(kind, args.name))
        shown.pop("code")
        if kind in OF_CELLS:
            shown["cells"] = {place: run.key for place, run in plan.runs(kind, args.name).items()}
    elif args.kind in ("teacher", "corpus"):
        found = plan.registry.teacher(args.name) if args.kind == "teacher" else plan.registry.corpus(args.name)
        shown = found.model_dump(mode="json", exclude_none=True)
    elif args.kind == "method":
        spec = plan.registry.method(args.name)
        dataset, setting = args.dataset or plan.registry.names("datasets")[0], args.setting or "full"
        run = Run(dataset, setting, args.name, args.backbone or _fitting(plan, spec.family))
        method = plan.method(run)
        print(f"# {run.key}")
        shown = spec.model_dump(mode="json", exclude={"when"}, exclude_none=True)
        shown |= {"format": {"name": method.format, **method.format_options}}
        shown |= {"train": method.train, "decode": method.decode}
        if method.init:
            shown["init"] = method.init.key
    else:
        shown = plan.registry.dataset(args.name).model_dump(mode="json", exclude_none=True)
    print(yaml.safe_dump(shown, sort_keys=False, allow_unicode=True, width=110), end="")
    return 0


def _fitting(plan: Plan, family: str) -> str:
    """Return a backbone that a family takes: pretrained weights that are in a package, else on the hub, else any."""
    from fewtable.registry import find_module

    kinds = find_module("families", family, "family").BACKBONES
    fitting = [(plan.registry.backbone(name), name) for name in plan.registry.names("backbones")]
    of_kind = [
        (not (b.package or b.gguf), bool(b.unavailable), not b.hub, name) for b, name in fitting if b.kind in kinds
    ]
    return min(of_kind)[-1]


def _check(args: argparse.Namespace) -> int:
    from fewtable.check import check

    findings = check(_plan())
    print(findings.render())
    return 1 if findings.errors else 0


def _data_list(args: argparse.Namespace) -> int:
    from fewtable.data.stats import list_datasets, render_list

    plan = _plan()
    print(render_list(list_datasets(plan.registry, plan.user)))
    return 0


def _data_fetch(args: argparse.Namespace) -> int:
    from fewtable.data.fetch import fetch_file

    plan = _plan()
    for dataset in args.dataset:
        spec = plan.registry.dataset(dataset)
        for name in spec.files:
            target = Path("results/raw") / dataset / name
            fetched = fetch_file(dataset, spec, name, target, plan.user)
            print(f"{target}: {fetched.size:,} bytes, {fetched.source}")
    return 0


def _data_stats(args: argparse.Namespace) -> int:
    from fewtable.data.load import load_split
    from fewtable.data.stats import render_stats, split_stats

    plan = _plan()
    for dataset in args.dataset:
        spec = plan.registry.dataset(dataset)
        stats = [split_stats(s, load_split(plan.registry, plan.user, dataset, s), spec.types) for s in spec.splits]
        if args.json:
            _print_jsonl({"dataset": dataset, "splits": [s.as_dict() for s in stats]})
        else:
            print(render_stats(dataset, spec.title, stats))
    return 0


# --- sample, prompts, parse -----------------------------------------------------------------------


def _sample(args: argparse.Namespace) -> int:
    from fewtable.one_draw import one_draw

    sample, support = one_draw(_plan(), args.dataset, args.setting, args.draw)
    print(json.dumps(sample.header, ensure_ascii=False), file=sys.stderr)
    for sentence in support:
        _print_jsonl({"id": sentence.id, "words": sentence.words, "entities": sentence.entities})
    return 0


def _prompts(args: argparse.Namespace) -> int:
    from fewtable.prompts import prompts, training
    from fewtable.resolve import Run

    plan = _plan()
    backbone = args.backbone or _fitting(plan, plan.registry.method(args.method).family)
    print(f"backbone: {backbone}", file=sys.stderr)
    run = Run(args.dataset, args.setting, args.method, backbone)
    if args.training and args.split:
        raise ConfigError("what is learned is the setting's own sample, of no other split", where="--split")
    shown = training(plan, run, args.draw, args.limit) if args.training else None
    for row in shown or prompts(plan, run, args.split or "test", args.limit):
        _print_jsonl(row)
    return 0


def _parse(args: argparse.Namespace) -> int:
    from fewtable.corpus import EntityType
    from fewtable.predictions import make_format

    names = predict_command.type_names(args.types)
    options = {"name": args.format, **({"parse": args.mode} if args.mode else {})}
    made = make_format(options, [EntityType(name, name, "") for name in names])
    for number, line in enumerate(sys.stdin, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            words, output = row["words"], row["output"]
            if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
                raise TypeError("'words' is no list of strings")
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"not an output: {error!r}", where=f"stdin:{number}", fix='each line is {"words": [...], "output": ...}'
            ) from None
        parsed = made.parse(words, output)
        dropped = [{"cause": d.cause, "text": d.text} for d in parsed.dropped]
        _print_jsonl({"words": words, "entities": parsed.entities, "dropped": dropped})
    return 0


# --- score, compare -------------------------------------------------------------------------------


def _number(text: str) -> int:
    """Return the number of a draw; they count from 1."""
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{number} is no draw, they count from 1")
    return number


def _score(args: argparse.Namespace) -> int:
    from fewtable.scoring.files import score_files

    print(json.dumps(score_files(args.gold, args.pred, args.scorer, args.scheme), ensure_ascii=False, indent=1))
    return 0


def _compare(args: argparse.Namespace) -> int:
    from fewtable.scoring.compare import compare_files

    print(json.dumps(compare_files(args.a, args.b), ensure_ascii=False, indent=1))
    return 0


# --- track, ui ------------------------------------------------------------------------------------


def _track(args: argparse.Namespace) -> int:
    from fewtable.tracking import labels, rebuild, track_all, watch

    plan = _plan()
    tracking = plan.user.tracking
    if args.watch:
        watch(Path("results"), tracking)
        return 0
    action = rebuild if args.rebuild else track_all
    outcome = action(Path("results"), tracking, labels(plan))
    print(outcome.summary())
    return 1 if outcome.delayed else 0


def _ui(args: argparse.Namespace) -> int:
    from fewtable.tracking import ui_command

    os.environ["PORT"] = str(args.port)
    command, environment, runs = ui_command(Path("results"), _plan().user.tracking)
    print(f"MLflow starts on {runs} (stop with Ctrl-C)", flush=True)
    os.execvpe(command[0], command, environment)


# --- the parser -----------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    """An argument parser that knows what was meant."""

    def error(self, message: str) -> Any:
        if "invalid choice: '" in message and "choose from" in message:
            given = message.split("invalid choice: '")[1].split("'")[0]
            known = message.split("choose from")[1].strip(" )").replace("'", "").split(", ")
            message = f"unknown '{given}', {did_you_mean(given, known)}"
        super().error(message)


def _add_data(parser: argparse.ArgumentParser) -> None:
    data = parser.add_subparsers(dest="what", required=True, parser_class=_Parser)
    data.add_parser("list", help="all datasets").set_defaults(action=_data_list)
    fetch = data.add_parser("fetch", help="download and verify raw files")
    fetch.add_argument("dataset", nargs="+")
    fetch.set_defaults(action=_data_fetch)
    stats = data.add_parser("stats", help="sentences, tokens and entities of each split")
    stats.add_argument("dataset", nargs="+")
    stats.add_argument("--json", action="store_true", help="one JSON line a dataset")
    stats.set_defaults(action=_data_stats)


def _add_score(score: argparse.ArgumentParser) -> None:
    score.add_argument("--gold", required=True, type=Path, help="column file (tag last) or JSONL of sentences")
    score.add_argument("--pred", required=True, type=Path, help="column file or JSONL of sentences or predictions")
    score.add_argument(
        "--scorer", default="strict", help="strict (default), span, partial, or a peer's: conlleval, ..."
    )
    score.add_argument("--scheme", choices=get_args(Scheme), default="iob2", help="of the tags (default iob2)")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = _Parser(
        prog="fewtable", description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)

    def add(name: str, action: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=text)
        made.set_defaults(action=action)
        return made

    show = add("show", _show, "a dataset, method, table, figure, teacher or corpus, resolved")
    show.add_argument("kind", choices=["dataset", "method", "table", "figure", "teacher", "corpus"])
    show.add_argument("name", help="its name under config/")
    for name in ("dataset", "setting", "backbone"):
        more = f" ({OWN})" if name == "backbone" else ""
        show.add_argument(f"--{name}", help=f"of a method: what holds on this {name}{more}")
    add("check", _check, "is all config valid, what is missing, which cells does that block")

    _add_data(add("data", _data_list, "the corpora"))
    annotate_command.register(add, _plan)

    sample = add("sample", _sample, "draw a support sample: sentences as JSONL, counts reached on stderr")
    sample.add_argument("dataset")
    sample.add_argument("setting")
    sample.add_argument("--draw", type=_number, default=1, help="which draw (default 1)")

    prompts = add("prompts", _prompts, "the prompts and targets of a method on a dataset, as JSONL")
    prompts.add_argument("method")
    prompts.add_argument("dataset")
    prompts.add_argument("--split", help="whose sentences are asked about (default test)")
    prompts.add_argument("--limit", type=int, default=10, help="sentences, or examples of the training (default 10)")
    prompts.add_argument("--setting", default="full")
    prompts.add_argument("--backbone", help=OWN)
    prompts.add_argument("--training", action="store_true", help="what a draw's model learns, negative types and all")
    prompts.add_argument("--draw", type=_number, default=1, help="which draw's training (default 1)")

    parse = add(
        "parse", _parse, "read entities out of outputs: JSONL {words, output} in, {words, entities, dropped} out"
    )
    parse.add_argument("format", help="a format, such as instructionner or bio")
    parse.add_argument("--types", required=True, help="type names, separated by commas")
    parse.add_argument("--mode", help="the format's parsing mode, where it has several (paper, robust)")

    _add_score(add("score", _score, "score a prediction file against a gold file"))
    compare = add("compare", _compare, "is the difference of two cells more than chance")
    compare.add_argument("a", type=Path, help="a cell's JSON under results/cells")
    compare.add_argument("b", type=Path)

    predict_command.register(add, _plan)

    track = add("track", _track, "log finished cells in MLflow that are not there yet")
    track.add_argument("rebuild", nargs="?", choices=["rebuild"], help="make the whole store anew from results/")
    track.add_argument("--watch", action="store_true", help="show the loss curves of running jobs as they grow")
    ui = add("ui", _ui, "open MLflow's page on 127.0.0.1")
    ui.add_argument("--port", type=int, default=5000)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return the exit code: 0 done, 1 an error that is said, 2 wrong arguments."""
    args = build_parser().parse_args(argv)
    try:
        code: int = args.action(args)
        return code
    except FewtableError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("fewtable"):
            raise
        print(f"error: {_not_installed(error.name)}", file=sys.stderr)
        return 1
    except OSError as error:  # a folder in place of a file, no permission, a full disk, no network
        where = None if error.filename is None else os.fsdecode(error.filename)
        print(f"error: {FewtableError(error.strerror or str(error), where=where)}", file=sys.stderr)
        return 1


def _not_installed(module: str) -> FewtableError:
    """Return what to say of a missing package: the extra of this package that brings it."""
    package = module.partition(".")[0]
    for requirement in metadata.requires("fewtable") or []:
        found = re.match(r"([\w.-]+).*extra == ['\"]([\w-]+)", requirement)
        if found and found[1].lower().replace("-", "_") == package.lower():
            extra = f"pip install -e '.[{found[2]}]'"
            return FewtableError(f"the package '{package}' is not installed", fix=f"make setup, or {extra}")
    return FewtableError(f"the package '{package}' is not installed", fix="make setup")


if __name__ == "__main__":
    sys.exit(main())
