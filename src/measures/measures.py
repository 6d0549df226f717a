"""Measures of one run: values by (metric, k), and tables of them."""

from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np
import pandas as pd

from src.measures.changes import Measure, Measured
from src.measures.runs import HeldOut
from src.metrics import popularity_bias, ranking, significance
from src.metrics.category_hit_ratio import category_hit_ratio, ncdcg

AccuracyMeasure = Callable[[np.ndarray, np.ndarray, int], np.ndarray]
"""Function of the users and ranks of held-out items and a K: a value for each user."""

ACCURACY: dict[str, AccuracyMeasure] = {
    "hr": ranking.hit_ratio,
    "ndcg": ranking.ndcg,
}
ACCURACY_OF_SEVERAL: dict[str, AccuracyMeasure] = {
    "recall": ranking.recall,
    "precision": ranking.precision,
    "map": ranking.average_precision,
    "mrr": ranking.reciprocal_rank,
}
"""Further measures if some users have several held-out items; with one item all but MRR repeat HR."""

METRICS = ("chr", "chr_normalised", "ncdcg", *ACCURACY, *ACCURACY_OF_SEVERAL, "auc")
"""The measures of the summary, in its order."""


def category_values(
    items: np.ndarray, members: np.ndarray, ks: Sequence[int]
) -> dict[Measure, np.ndarray]:
    """Return per-user CHR (raw and normalised) and nCDCG of the class of ``members``, by (metric, k)."""
    values = {
        "chr": category_hit_ratio(items, members, ks),
        "chr_normalised": category_hit_ratio(items, members, ks, normalised=True),
        "ncdcg": ncdcg(items, members, ks),
    }
    return {(metric, k): of[:, i] for metric, of in values.items() for i, k in enumerate(ks)}


def accuracy_values(
    held_out: HeldOut, ks: Sequence[int], has_several: bool
) -> dict[Measure, np.ndarray]:
    """Return per-user accuracy by (metric, k); ``auc`` has no k, and needs the number of negatives.

    ``has_several`` adds the measures that tell something only if users have several held-out items.
    """
    users, ranks = held_out.users, held_out.ranks
    measures = ACCURACY | ACCURACY_OF_SEVERAL if has_several else ACCURACY
    values: dict[Measure, np.ndarray] = {
        (name, k): measure(users, ranks, k) for name, measure in measures.items() for k in ks
    }
    if held_out.negatives is not None:
        values["auc", None] = ranking.auc(users, ranks, held_out.negatives)
    return values


def bias_values(
    items: np.ndarray, popularity: np.ndarray, ks: Sequence[int]
) -> dict[Measure, np.ndarray]:
    """Return per-user popularity of the recommended ``items`` (users, L), by (metric, k)."""
    tail = popularity_bias.long_tail(popularity)
    values = {
        "arp": popularity_bias.average_recommendation_popularity(items, popularity, ks),
        "aplt": popularity_bias.long_tail_share(items, tail, ks),
    }
    return {(metric, k): of[:, i] for metric, of in values.items() for i, k in enumerate(ks)}


def diversity_values(items: np.ndarray, n_items: int, ks: Sequence[int]) -> dict[Measure, float]:
    """Return the share of the catalogue that lists show and its evenness, by (metric, k)."""
    exposure = popularity_bias.exposure(items, n_items, ks)
    values = {
        "coverage": popularity_bias.coverage(exposure),
        "gini": popularity_bias.gini_index(exposure),
    }
    return {(metric, k): float(of[i]) for metric, of in values.items() for i, k in enumerate(ks)}


def table_of_users(after: Measured, before: Measured | None = None) -> pd.DataFrame:
    """Return every measure's mean over users, its interval and, with ``before``, change and tests.

    Columns metric, k, score, ci_low, ci_high (before, change, p_within_run_t, p_within_run_wilcoxon). A
    measure that ``before`` lacks has no change.
    """
    values = np.stack(list(after.values()), axis=1)
    table = _named(after)
    table["score"] = values.mean(axis=0)
    table["ci_low"], table["ci_high"] = significance.bootstrap_interval(values)
    if before is None:
        return table
    unknown = np.full(len(values), np.nan)
    values_before = np.stack([before.get(name, unknown) for name in after], axis=1)
    table["before"] = values_before.mean(axis=0)
    table["change"] = table["score"] - table["before"]
    known = table["before"].notna()
    p_values = significance.paired_tests(values_before[:, known], values[:, known])
    table.loc[known, ["p_within_run_t", "p_within_run_wilcoxon"]] = np.stack(p_values, axis=1)
    return table


def table_of_lists(
    after: Mapping[Measure, float], before: Mapping[Measure, float] | None = None
) -> pd.DataFrame:
    """Return measures of all lists together: metric, k, score (before, change).

    They have no interval: a bootstrap resample has about 63 % of the users, whose lists cover less of the
    catalogue, and less evenly, than those of all users.
    """
    table = _named(after)
    table["score"] = list(after.values())
    if before is not None:
        table["before"] = [before[name] for name in after]
        table["change"] = table["score"] - table["before"]
    return table


def _named(measures: Collection[Measure]) -> pd.DataFrame:
    """Return the columns metric and k."""
    ks = pd.array([k for _, k in measures], dtype="Int64")
    return pd.DataFrame({"metric": [metric for metric, _ in measures], "k": ks})
