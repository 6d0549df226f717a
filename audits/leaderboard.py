"""Judge defences under the standard suite: add an entry, evaluate entries, submit attacked images."""

import argparse
import json
import math
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Collection, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from src.artifacts.errors import UserError
from src.cli import EXIT_BAD_INPUT, Parser, add_gpu_option, run

if TYPE_CHECKING:
    import pandas as pd

    from reproduce.workflow.leaderboard import Evaluation
    from src.measures.leaderboard import MeasuredEntry

ROOT = Path(__file__).resolve().parents[1]


def parse_options() -> argparse.Namespace:
    parser = Parser(__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(name: str, text: str) -> argparse.ArgumentParser:
        return verbs.add_parser(name, help=text, description=text)

    add = verb("add", "check an entry and put it into leaderboard/entries/")
    add.add_argument("file", type=Path, help="the entry: a YAML file (docs/leaderboard.md)")
    evaluate = verb("evaluate", "attack entries and write their rows")
    evaluate.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="entries, or all (default: those that leaderboard/suite.yaml names for the budget)",
    )
    _add_catalogue_options(evaluate)
    evaluate.add_argument("--cores", type=int, help="jobs at once (default: one per core)")
    submit = verb(
        "submit", "judge images of your own attack on an entry; they count if they do more"
    )
    submit.add_argument("names", nargs=1, metavar="NAME", help="the entry")
    submit.add_argument(
        "--images",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder of <item id>.tiff or .png of all items of the suite, named like the attack",
    )
    submit.add_argument(
        "--eps", type=float, help="budget of the images (default: the suite's largest)"
    )
    _add_catalogue_options(submit)
    page = verb("page", "write docs/leaderboard.md from leaderboard/results/")
    page.add_argument(
        "--catalogue",
        nargs="*",
        default=[],
        metavar="DATASET",
        help="data sets to show (default: all)",
    )
    page.add_argument("--out", type=Path, default=Path("docs/leaderboard.md"), help="the page")
    page.add_argument("--table", type=Path, metavar="FILE", help="write all rows to a TSV file too")
    return parser.parse_args()


def _add_catalogue_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--catalogue", required=True, metavar="DATASET", help="a prepared data set")
    parser.add_argument(
        "--budget", choices=("small", "full"), default="small", help="how much of the suite is run"
    )
    parser.add_argument(
        "--set",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="entries in place of those in the file of the catalogue: arch=resnet18, ...",
    )
    parser.add_argument(
        "--suite",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="numbers of the budget in place of the suite's: items=40, eps=8, steps=30",
    )
    add_gpu_option(parser, -1)


def main() -> None:
    options = parse_options()
    {"add": add, "evaluate": evaluate, "submit": submit, "page": page}[options.verb](options)


def add(options: argparse.Namespace) -> None:
    from reproduce.workflow.leaderboard import (
        FOLDER,
        UNDEFENDED,
        Entry,
        Evaluation,
        catalogue_names,
        read_catalogue,
        read_entry,
        read_suite,
    )

    entry = Entry.read(options.file)
    path = FOLDER / "entries" / f"{entry.name}.yaml"
    if path.exists():
        raise UserError(f"{path} is there already: delete it, or choose another name")
    suite, undefended = read_suite("small", {}), read_entry(UNDEFENDED)
    known = catalogue_names()
    of_catalogues = (
        Evaluation(entry, undefended, read_catalogue(name, {}), name, suite, "small")
        for name in sorted(set(known).intersection(entry.datasets) or known)
    )
    _with_known_options(of_catalogues)
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(options.file, path)
    print(
        f"written: {path}; evaluate it with python -m audits.leaderboard evaluate {entry.name} ..."
    )


def evaluations(options: argparse.Namespace) -> "list[Evaluation]":
    """Return what is to be evaluated; every wrong entry is found before the first one is attacked."""
    from reproduce.workflow.leaderboard import (
        UNDEFENDED,
        Evaluation,
        entries_named,
        read_catalogue,
        read_entry,
        read_suite,
    )
    from src.artifacts.layout import Layout

    Layout(options.catalogue).require_data()
    catalogue = read_catalogue(options.catalogue, _pairs("--set", options.set))
    suite = read_suite(options.budget, _pairs("--suite", options.suite))
    label = " ".join(sorted(options.suite))
    undefended = read_entry(UNDEFENDED)
    found = []
    for entry in entries_named(options.names or suite.budgets[options.budget].entries):
        of = Evaluation(
            entry, undefended, catalogue, options.catalogue, suite, options.budget, label
        )
        if entry.datasets and options.catalogue not in entry.datasets:
            reason = f"it is for {', '.join(entry.datasets)}"
        elif of.needs_pictures:
            reason = "it trains, and the catalogue names no pictures"
        else:
            found.append(of)
            continue
        if entry.name in options.names:
            raise UserError(f"{entry.name}: {reason}")
        print(f"left out: {entry.name}: {reason}", file=sys.stderr)
    return _with_known_options(found)


def _with_known_options(evaluations: "Iterable[Evaluation]") -> "list[Evaluation]":
    """Return all ``evaluations``; ``UserError`` for an entry with an option that no script has."""
    found = list(evaluations)
    for of in found:
        of.check_options()
    return found


def _pairs(option: str, words: list[str]) -> dict[str, str]:
    pairs = [word.partition("=") for word in words]
    for (key, equals, _), word in zip(pairs, words, strict=True):
        if not (key and equals):
            raise UserError(f"{option} {word}: write KEY=VALUE")
    return {key: value for key, _, value in pairs}


def evaluate(options: argparse.Namespace) -> None:
    from src.measures.leaderboard import read_results, with_submissions

    found = evaluations(options)
    for of in found:
        _keep_standard_results(of)
    if not found:
        return
    continued = {of.entry.name for of in found if _study_file(of.dataset, of.entry.name).is_file()}
    # The images of the undefended entry are shown to the others too.
    plain, table_of_plain = attacked_until_converged(found[0].of_undefended, options)
    for of in found:
        table = table_of_plain
        if of.entry.name != of.undefended.name:
            _, table = attacked_until_converged(replace(of, shown=plain.repeats), options)
        path = _results(of)
        if path.is_file():
            recorded = read_results(path)
            table = with_submissions(table, recorded)
            if of.entry.name in continued and set(recorded["suite"]) == set(table["suite"]):
                # The run before made files that this one finds.
                table["seconds"] = table["seconds"].clip(lower=recorded["seconds"].max())
        _write(table, path)
        print(said(of.entry.name, table))


def attacked_until_converged(
    evaluation: "Evaluation", options: argparse.Namespace
) -> "tuple[Evaluation, pd.DataFrame]":
    """Attack the entry, by its strongest attacks with twice the steps as long as these gain more.

    Return the evaluation with its most steps, and the entry's rows.
    """
    from src.measures.attack_failures import NOT_CONVERGED
    from src.measures.leaderboard import strongest_objectives, with_bounds

    seconds, name = 0.0, evaluation.entry.name
    while True:
        seconds += attack(evaluation, options)
        measured = _measured(evaluation, evaluation.attacks, seconds)
        table = measured.rows()
        signs = table["indicator"][table["scope"] == "one"]
        if not evaluation.repeats:
            objectives = strongest_objectives(measured.promotion)
        elif evaluation.longest or not signs.str.contains(NOT_CONVERGED).any():
            break
        evaluation = evaluation.with_twice_the_steps(objectives)
        for objective, factor in evaluation.repeats.items():
            print(f"{name}: {objective} again with {factor * evaluation.budget.steps} steps")
    if evaluation.bounds:
        table = with_bounds(table, evaluation.bounds, measured.items)
    return evaluation, table


def _keep_standard_results(evaluation: "Evaluation") -> None:
    """Raise ``UserError`` if a trial with other numbers would replace results of the suite itself."""
    from src.measures.leaderboard import read_results

    path = _results(evaluation)
    if not evaluation.changed or not path.is_file():
        return
    recorded = read_results(path)["suite"].iloc[0]
    if "=" not in recorded:  # a trial's label has its KEY=VALUE
        raise UserError(
            f"{path} holds results of the suite {recorded}, which this trial of {evaluation.label} would "
            "replace: delete the file first, or leave out --suite"
        )


def said(name: str, table: "pd.DataFrame") -> str:
    """Return one line: what the entry costs and what attackers reach within the largest eps."""
    one = table[table["scope"] == "one"].iloc[-1]
    nothing, knowing = one["knows_nothing"], one["knows_defence"]
    line = f"{name}: HR {one['hr20']:.3f}, exposure {one['clean']:.4f}, under attack {knowing:.4f}"
    if not math.isnan(nothing):
        line += f", by one that does not know the defence {nothing:.4f}"
    return f"{line}; {one['indicator']}" if one["indicator"] else line


def attack(evaluation: "Evaluation", options: argparse.Namespace) -> float:
    """Run the missing jobs of the entry's studies; return the seconds that this took."""
    name, start = evaluation.entry.name, time.monotonic()
    if evaluation.part:
        run_study(
            evaluation.dataset, f"{name}_part", evaluation.part, options, evaluation.part_files
        )
    threads = threads_of_few(evaluation, options) if options.gpu < 0 else []
    run_study(evaluation.dataset, name, evaluation.study, options, ["attacked", *threads])
    return time.monotonic() - start


def threads_of_few(evaluation: "Evaluation", options: argparse.Namespace) -> list[str]:
    """Return Snakemake's options that share all cores among trainings, or attacks, fewer than these."""
    cores = options.cores or os.cpu_count() or 1
    words = []
    for rule, files in (("train", evaluation.trained_files), ("attack", evaluation.reports)):
        missing = sum(not Path(file).is_file() for file in files)
        if missing and cores // missing > 1:
            words += [f"{rule}={cores // missing}"]
    return ["--set-threads", *words] if words else []


def run_study(
    dataset: str, name: str, entries: dict, options: argparse.Namespace, targets: list[str]
) -> None:
    """Write the study to ``results/<dataset>/leaderboard/`` and run the jobs of its ``targets``.

    Options of Snakemake may follow the targets.
    """
    from reproduce.workflow.profile import default_options

    study = _study_file(dataset, name)
    study.parent.mkdir(parents=True, exist_ok=True)
    study.write_text(json.dumps(entries | {"gpu": options.gpu}, indent=2) + "\n")
    words = [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "reproduce" / "Snakefile"]
    words += ["--configfile", study, *default_options(), "--nolock"]
    if options.cores:
        words += ["--cores", options.cores]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    print(f"{name}: the study {study}", flush=True)
    done = subprocess.run([*map(str, words), *targets], env=os.environ | {"PATH": path})
    if done.returncode:
        sys.exit(EXIT_BAD_INPUT)


def _study_file(dataset: str, name: str) -> Path:
    from src.artifacts.layout import Layout

    return Layout(dataset).results / "leaderboard" / f"{name}.json"


def _measured(
    evaluation: "Evaluation", attacks: Collection[str], seconds: float = 0.0
) -> "MeasuredEntry":
    """Return the entry with ``attacks`` on it, which are names without the extractor."""
    from src.artifacts.experiments import Experiment
    from src.artifacts.layout import Layout
    from src.measures.leaderboard import MeasuredEntry

    return MeasuredEntry.read(
        (evaluation.entry.name, evaluation.entry.place),
        [Layout(name) for name in evaluation.studies],
        replace(evaluation.run, experiment=Experiment(evaluation.extractor)),
        evaluation.budget.seeds,
        evaluation.suite.k,
        attacks,
        evaluation.label,
        seconds,
    )


def _results(evaluation: "Evaluation") -> Path:
    from reproduce.workflow.leaderboard import FOLDER

    return FOLDER / "results" / evaluation.dataset / f"{evaluation.entry.name}.tsv"


def _write(table: "pd.DataFrame", path: Path) -> None:
    from src.artifacts.tables import write_tables

    write_tables({path: table})
    print(f"written: {path}")


def submit(options: argparse.Namespace) -> None:
    from src.measures.leaderboard import strongest, submitted_rows
    from src.measures.promotion import promotion_table

    (of,) = evaluations(options)
    recorded = _recorded(of)
    eps = max(of.budget.eps) if options.eps is None else options.eps
    if eps not in set(recorded["eps"]):
        within = ", ".join(f"{value:g}" for value in sorted(set(recorded["eps"])))
        raise UserError(f"--eps {eps:g}: the suite has {within}")
    _require_items(of, options.images)
    name = judge(of, options, eps)
    promotion = promotion_table([_measured(of, {name}).trainings])
    table = submitted_rows(recorded, options.images.name, promotion, eps)
    reached = promotion[promotion["scope"] == "one"]["after"].iloc[0]
    best = strongest(recorded)[(recorded["scope"] == "one") & (recorded["eps"] == eps)].iloc[0]
    print(f"{options.images.name}: exposure {reached:.4f}; the best known attack: {best:.4f}")
    if table.equals(recorded):
        print("not recorded: it does no more")
        return
    _write(table, _results(of))


def _recorded(evaluation: "Evaluation") -> "pd.DataFrame":
    """Return the results of the entry; ``UserError`` unless they are of the same suite."""
    from src.measures.leaderboard import read_results

    path = _results(evaluation)
    if not path.is_file():
        raise UserError(f"missing file: {path}: evaluate {evaluation.entry.name} first")
    recorded = read_results(path)
    if set(recorded["suite"]) != {evaluation.label}:
        raise UserError(
            f"{path} is of the suite {recorded['suite'].iloc[0]}, not {evaluation.label}: evaluate it "
            "again"
        )
    return recorded


def _require_items(evaluation: "Evaluation", images: Path) -> None:
    """Raise ``UserError`` unless the folder ``images`` has the items that the suite attacks."""
    from src.artifacts.experiments import Experiment
    from src.artifacts.layout import Layout
    from src.attacks.given import given_files
    from src.measures.attack_records import attacked_ids

    first = Layout(evaluation.dataset)
    one = replace(Experiment.parse(min(evaluation.attacks)), model_dir=evaluation.extractor)
    wanted = attacked_ids(first, one).tolist()
    given = list(given_files(images, first.images))
    if other := sorted(set(given) ^ set(wanted)):
        what = "missing" if other[0] in wanted else "not attacked by the suite"
        raise UserError(f"{images}: item {other[0]} is {what}; it needs {len(wanted)} items")


def judge(evaluation: "Evaluation", options: argparse.Namespace, eps: float) -> str:
    """Let stage 3 check and judge the images on each training; return the experiment's name."""
    from reproduce.workflow.catalogue import studies_of
    from reproduce.workflow.entries import Entries
    from reproduce.workflow.leaderboard import ORIGIN

    given = f"--attack_type given --eps {eps:g} --l {evaluation.suite.norm} --images_from "
    given += shlex.quote(str(options.images))
    attacked = evaluation.study | {"attacks": [given], "test_time_attacks": []}
    studies = studies_of(Entries.of(attacked))
    for dataset, study in studies.items():
        (extractor,) = study.extractors
        words = f"--dataset {dataset} --gpu {options.gpu} --origin_class {ORIGIN} "
        words += f"--target_class {evaluation.catalogue.target} {extractor.options} {given}"
        script = str(ROOT / "classify_extract_attack.py")
        done = subprocess.run(
            [sys.executable, script, *shlex.split(words)], stderr=subprocess.PIPE, text=True
        )
        if done.returncode:
            raise UserError(done.stderr.strip().splitlines()[-1].removeprefix("error: "))
    (name,) = next(iter(studies.values())).attack_options
    return name


def page(options: argparse.Namespace) -> None:
    import pandas as pd

    from reproduce.workflow.leaderboard import FOLDER
    from src.measures.leaderboard import read_results
    from src.report.leaderboard import write_page

    folder = FOLDER / "results"
    names = options.catalogue or sorted(path.name for path in folder.glob("*") if path.is_dir())
    tables = {}
    for name in names:
        files = sorted((folder / name).glob("*.tsv"))
        if not files:
            raise UserError(f"no results in {folder / name}: run the verb evaluate first")
        tables[name] = files
    if not tables:
        raise UserError(f"no results in {folder}: run the verb evaluate first")
    for path in write_page(options.out, tables):
        print(f"written: {path}")
    if options.table:
        rows = [read_results(path) for files in tables.values() for path in files]
        _write(pd.concat(rows), options.table)


if __name__ == "__main__":
    sys.exit(run(main))
