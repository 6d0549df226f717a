"""Ranks of conditions by leakage under every metric, for the comparison of metrics with people."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from src.artifacts.atomic import atomic_output
from src.artifacts.columns import read_results
from src.artifacts.errors import UserError
from src.artifacts.reconstructions import UNTRANSFORMED
from src.measures.image_quality import metrics_of
from src.measures.terminal import format_mean, format_table
from src.metrics.image_quality import IMAGE_METRICS
from src.metrics.significance import mean_interval

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
    """Return a row for each condition, as ``leak_ranks`` does, with means over trainings of the networks.

    ``trainings`` has a table of conditions for each training; ranks are given within a training. For
    several, ``<column>_low`` and ``<column>_high`` follow (95 % t interval), and ``trainings``, their
    number; ``images`` is that of each training. Raises ``UserError`` if they differ in conditions.
    """
    ranks = [leak_ranks(conditions).set_index("model") for conditions in trainings]
    first = ranks[0]
    if len(ranks) == 1:
        return first.reset_index()
    if any(set(of.index) != set(first.index) or set(of) != set(first) for of in ranks):
        raise UserError("trainings of different conditions, metrics or images cannot be averaged")
    values = np.array([of.loc[first.index, first.columns] for of in ranks], np.float64)
    means = pd.DataFrame(values.mean(axis=0), first.index, first.columns)
    means["images"] = first["images"]
    for end, limits in zip(("_low", "_high"), mean_interval(values), strict=True):
        limits = pd.DataFrame(limits, first.index, first.columns).drop(columns="images")
        means = means.join(limits.add_suffix(end))
    means["trainings"] = len(ranks)
    return means.sort_values(["mean_rank", "model"]).reset_index()


def _higher_is_closer(column: str) -> bool:
    """Return False for distances of features, LPIPS and SemSim, which are lower for closer images."""
    metric = IMAGE_METRICS.get(column.removesuffix(UNTRANSFORMED))
    return metric is not None and metric.higher_is_closer


def write_leak_ranks(sources: Sequence[Path], path: Path) -> pd.DataFrame:
    """Write the ranks of the conditions of the tables ``sources``, one a training, and return them."""
    ranks = mean_leak_ranks([read_results(source, ("model", "images")) for source in sources])
    with atomic_output(path) as temporary:
        ranks.to_csv(temporary, sep="\t", index=False, float_format="%.6g")
    return ranks


def ranks_overview(ranks: pd.DataFrame) -> str:
    """Return a text table of ranks against the attacked images, with PSNR if it is known."""
    by_metric = [name for name in ranks if name.endswith(RANK) and name != "mean_rank"]
    against_attacked = [name for name in by_metric if UNTRANSFORMED not in name]
    shown = ["mean_rank", *ranks.columns.intersection(["psnr"]), *against_attacked]
    cells = [[row["model"], *(_cell(row, name) for name in shown)] for _, row in ranks.iterrows()]
    return format_table(["model", *shown], cells)


def _cell(row: pd.Series, name: str) -> str:
    return format_mean(*(row.get(f"{name}{end}", np.nan) for end in ("", "_low", "_high")))
