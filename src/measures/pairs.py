"""Suggested classes to attack, and their targets."""

import pandas as pd

from src.artifacts.experiments import Experiment
from src.cli import extractor_options

PAIRS = 3


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


def attack_command(dataset: str, experiment: Experiment, origin: int, target: int) -> str:
    """Return the command of stage 3 for a pair, with PGD as an example."""
    return (
        f"python classify_extract_attack.py --dataset {dataset} --attack_type pgd "
        f"--origin_class {origin} --target_class {target} {extractor_options(experiment.model_dir)}"
    )
