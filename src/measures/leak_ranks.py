"""Ranks of conditions by leakage under every metric, for the comparison of metrics with people."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from src.artifacts.columns import read_results
from src.artifacts.errors import UserError
from src.artifacts.reconstructions import UNTRANSFORMED
from src.artifacts.tables import write_tables
from src.measures.image_quality import metrics_of
from src.measures.terminal import format_table
from src.measures.trainings_means import mean_cell, means_over_trainings
from src.metrics.image_quality import IMAGE_METRICS

RANK = "_rank"


def leak_ranks(conditions: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each condition, by descending leakage, with mean and rank of every metric.

    ``conditions`` is a table of means as ``audits.images --attacked`` writes it: model, images and
    metrics. Rank 1 is the condition whose reconstructions are closest to their originals; equal means
    share a rank, and a missing mean, of a condition without reconstructions, has the last one. Exact
    reconstructions count as 100 dB (``agreement.MOST_DB``) in the means of PSNR. Rows are sorted by
    ``mean_rank`` over the metrics against the attacked images.
    """
    metrics = metrics_of(conditions)
    if "model" not in conditions or not metrics:
        raise UserError("the table has no conditions with metrics: columns model and mse, mse_low")
    ranked = conditions[["model", "images"]].copy()
    for name in metrics:
        ranked[name] = conditions[name]
        higher = _higher_is_closer(name)
        ranked[name + RANK] = conditions[name].rank(ascending=not higher, na_option="bottom")
    attacked = [name + RANK for name in metrics if not name.endswith(UNTRANSFORMED)]
    ranked.insert(2, "mean_rank", ranked[attacked].mean(axis=1))
    return ranked.sort_values(["mean_rank", "model"], ignore_index=True)


def mean_leak_ranks(trainings: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return ``means_over_trainings`` of ``leak_ranks`` for each condition, by ascending mean rank.

    ``trainings`` has a table of conditions for each training of the networks; ranks are given within a
    training. ``images`` is the number in the first training. Raises ``UserError`` if the trainings
    differ in conditions or metrics.
    """
    ranks = [leak_ranks(conditions) for conditions in trainings]
    first = ranks[0]
    if any(set(of["model"]) != set(first["model"]) or set(of) != set(first) for of in ranks):
        raise UserError("trainings of different conditions or metrics cannot be averaged")
    rows = pd.concat(ranks).drop(columns="images")
    means = means_over_trainings(rows, "model", "trainings")
    means.insert(1, "images", first["images"])
    return means.sort_values(["mean_rank", "model"], ignore_index=True)


def _higher_is_closer(column: str) -> bool:
    """Return False for distances of features, LPIPS and SemSim, which are lower for closer images."""
    metric = IMAGE_METRICS.get(column.removesuffix(UNTRANSFORMED))
    return metric is not None and metric.higher_is_closer


def write_leak_ranks(sources: Sequence[Path], path: Path) -> pd.DataFrame:
    """Write the ranks of the conditions of the tables ``sources``, one a training, and return them."""
    ranks = mean_leak_ranks([read_results(source, ("model", "images")) for source in sources])
    write_tables({path: ranks})
    return ranks


def ranks_overview(ranks: pd.DataFrame) -> str:
    """Return a text table of ranks against the attacked images, with PSNR if it is known."""
    by_metric = [name for name in ranks if name.endswith(RANK) and name != "mean_rank"]
    against_attacked = [name for name in by_metric if UNTRANSFORMED not in name]
    shown = ["mean_rank", *ranks.columns.intersection(["psnr"]), *against_attacked]
    cells = [
        [row["model"], *(mean_cell(row, name) for name in shown)] for _, row in ranks.iterrows()
    ]
    return format_table(["model", *shown], cells)
