"""Which classes to attack, and which to turn them into."""

import pandas as pd

from src.artifacts.experiments import Experiment
from src.cli import extractor_options

PAIRS = 3


def suggest_pairs(table: pd.DataFrame, k: int, min_items: int) -> list[tuple[int, int]]:
    """Up to ``PAIRS`` (origin, target) classes: the least recommended with the most recommended.

    ``table`` is what stage 2b writes for CHR or nCDCG of a clean run. As in the paper, recommended
    means the score itself, so that a class counts as popular also because it is large; classes with
    fewer than ``min_items`` items are left out, as their score says little.
    """
    large = table[(table["k"] == k) & (table["items"] >= min_items)].sort_values("position")
    n_pairs = min(PAIRS, len(large) // 2)
    classes = large["classId"].tolist()
    return list(zip(classes[::-1][:n_pairs], classes[:n_pairs], strict=True))


def attack_command(dataset: str, experiment: Experiment, origin: int, target: int) -> str:
    """The command of stage 3 for a pair, with PGD as an example."""
    return (
        f"python classify_extract_attack.py --dataset {dataset} --attack_type pgd "
        f"--origin_class {origin} --target_class {target} {extractor_options(experiment.model_dir)}"
    )
