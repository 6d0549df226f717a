"""Suggested classes to attack, and their targets."""

import argparse
import shlex
from pathlib import Path

import pandas as pd

from src.artifacts.columns import read_results
from src.artifacts.experiments import Experiment, Run
from src.artifacts.layout import Layout
from src.artifacts.manifest import ACCEPT_CHANGED, read_record
from src.cli import extractor_options

PAIRS = 3
LARGEST = 5
"""Classes that are named where none is large enough."""
K = 20
"""Length of the lists in which the classes of a pair are compared, if they were measured there."""


def suggest_pairs(table: pd.DataFrame, k: int, min_items: int) -> list[tuple[int, int]]:
    """Return up to ``PAIRS`` (origin, target) classes: the least with the most recommended.

    ``table`` is stage 2b's table of CHR or nCDCG of a clean run. As in the paper, the score itself
    counts, so that a class can be popular because it is large. Classes with fewer than ``min_items``
    items are left out, since their scores are noisy.
    """
    large = table[(table["k"] == k) & (table["items"] >= min_items)].sort_values("position")
    n_pairs = min(PAIRS, len(large) // 2)
    classes = large["classId"].tolist()
    return list(zip(classes[::-1][:n_pairs], classes[:n_pairs], strict=True))


def few_items(table: pd.DataFrame, min_items: int) -> str:
    """Say why ``suggest_pairs`` has none for ``table``, with its largest classes."""
    largest = table.drop_duplicates("classId").nlargest(LARGEST, "items")
    classes = ", ".join(
        f"{number} {name} ({items})"
        for number, name, items in largest[["classId", "className", "items"]].itertuples(
            index=False
        )
    )
    return f"fewer than two classes have {min_items} items (--min_items); the largest: {classes}"


def attack_command(layout: Layout, experiment: Experiment, origin: int, target: int) -> str:
    """Return the command of stage 3 for a pair, with PGD as an example.

    Its other options are those that stage 1 was given for the extractor; where these were not recorded,
    those that the name of ``experiment`` stands for.
    """
    words = ["python", "classify_extract_attack.py", "--dataset", layout.dataset]
    if layout.root != Path():
        words += ["--root", str(layout.root)]
    words += ["--attack_type", "pgd", "--origin_class", str(origin), "--target_class", str(target)]
    return f"{shlex.join(words)} {_options_of_stage_1(layout, experiment)}".strip()


def _options_of_stage_1(layout: Layout, experiment: Experiment) -> str:
    """Return the recorded options of stage 1 that stage 3 takes as well, without the data set."""
    command = shlex.split(read_record(layout.classes(experiment)).get("command", ""))
    script = next(
        (i for i, word in enumerate(command) if word.endswith("classify_extract.py")), None
    )
    if script is None:
        return extractor_options(experiment.model_dir)
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--dataset")
    parser.add_argument("--root")
    parser.add_argument("--force", action="store_true")
    parser.add_argument(ACCEPT_CHANGED, action="store_true")
    return shlex.join(parser.parse_known_args(command[script + 1 :])[1])


def reversed_pair(layout: Layout, attacked: Experiment) -> str:
    """Return a warning if clean lists hold more of the origin class than of the target.

    Such an attack turns popular items into unpopular ones, so that what the lists gain says nothing of
    promotion. The CHR of both classes is the mean of what stage 2b has written for the clean runs of the
    extractor. Empty where it has written none, and for attacks without two classes.
    """
    if attacked.origin is None or attacked.target is None:
        return ""
    folder = layout.metric("chr", Run(attacked.clean)).parent
    tables = [
        read_results(path, ("k", "classId", "score"), numbers=("k", "classId", "score"))
        for path in sorted(folder.glob(f"{attacked.clean.name}_top*.tsv"))
        if Run.parse(path.stem).experiment == attacked.clean
    ]
    common = set.intersection(*(set(table["k"]) for table in tables)) if tables else None
    if not common:
        return ""
    k = K if K in common else max(common)
    rows = pd.concat(table[table["k"] == k] for table in tables)
    means = [
        rows.loc[rows["classId"] == number, "score"].sum() / len(tables)
        for number in (attacked.origin, attacked.target)
    ]
    if means[0] <= means[1]:
        return ""
    return (
        f"warning: on {attacked.extractor} the origin class {attacked.origin} is recommended more than "
        f"the target {attacked.target} (CHR@{k} {means[0]:.3g} and {means[1]:.3g} in clean lists): this "
        "attack does not turn unpopular items into popular ones"
    )
