"""Attention of each image, and its relation to the success of the attack."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from src.attacks.observed import Observed
from src.datasets.image_set import ImageSet
from src.datasets.read_ahead import read_ahead
from src.measures.terminal import format_table
from src.metrics.attention import FURTHER_SHARES, incompleteness, scatter, shift
from src.metrics.explanations import attention_agreement, support_overlap
from src.metrics.object_size import object_size
from src.metrics.vulnerability import Odds, Vulnerability, vulnerability

CLEAN, ATTACKED, CHANGE = "clean", "attacked", "change"
"""Endings of columns: of which maps."""
RELABELLED = "relabelled"
"""No read-out, but what changes in a clean image where another class is asked for."""
SUCCESS, EASY = "success", "easy"
"""Outcomes: the attack succeeded; the image's smallest budget is no larger than the median one."""
BEFORE, MOVED = "before", "moved"
"""Kinds of measures: of the clean image alone, or of the change by the attack."""
_SIMILARITIES = (
    *("iou_top", *FURTHER_SHARES, "iou_mean", "iou_half_max"),
    *("pearson", "spearman", "cosine", "ssim"),
)
_SHIFT = (*_SIMILARITIES, "js", "centroid_distance", "top_cell_moved")
_SCATTER = ("entropy", "spread", "components", "gini")
_INCOMPLETE = ("inc3", "inc1", "inc2")
_CONFOUNDERS = ("margin", "object_size")
_SHOWN = {
    MOVED: ("1 - iou", "1 - iou_top", "1 - pearson", "js", "centroid_distance", "entropy_change"),
    BEFORE: ("-margin", "object_size", *_INCOMPLETE, "entropy_clean", "components_clean"),
}
"""Measures that the terminal shows, by their kind."""
_TITLES = {
    MOVED: "Did attention move further where the attack succeeded, or was easy?",
    BEFORE: "Did the clean image tell?",
}
MEANS = {
    SUCCESS: {"mean_success": "succeeded", "mean_failed": "failed"},
    EASY: {"mean_success": "easy half", "mean_failed": "hard half"},
}
"""Columns with the means of images with and without an outcome, and their titles, by outcome."""
_COLUMNS = {
    "difference": "difference",
    "difference_low": "95 % from",
    "difference_high": "to",
    "mann_whitney_p": "p",
    "auc": "AUC",
    "odds": "odds ratio",
    "controlled": "controlled",
    "controlled_p": "its p",
}
FEWEST = 10
"""Successes or failures that say something about all of them."""
_LIME = ("lime_iou", f"lime_agreement_{CLEAN}", f"lime_agreement_{ATTACKED}")
_IMAGES_AT_ONCE = 64


def object_sizes(images: ImageSet, positions: np.ndarray) -> np.ndarray:
    """Return ``object_size`` (n,) of the images at ``positions``, all of one size."""
    batches = images.batches(positions, _IMAGES_AT_ONCE)
    read = read_ahead(images.batch, batches)
    return np.concatenate([object_size(levels) for _, levels in read])


def attention_table(
    observed: Observed, sizes: np.ndarray, objects: np.ndarray | None = None
) -> pd.DataFrame:
    """Return ``attention.tsv``, a row for each image.

    The first columns describe the image: image, success, clean_class, attacked_class; probabilities of
    the origin and the target (``p_origin_clean``, ...); margin, object_size (``sizes`` (n,)) and, if it
    was searched, minimal_eps. Columns ``<read-out>_<measure>`` follow: the shift of each read-out's
    map, its scatter (``_clean``, ``_attacked``, ``_change``) and the incompleteness of the clean map,
    with inc1 and inc2 if ``objects`` (n, h, w) bool, the cells of the objects, are given.
    ``relabelled`` is the control of ``predicted``: the shift from the origin's map to the target's in
    the same clean image. For images that LIME explained, ``lime_iou`` compares the supporting regions
    before and after, and ``lime_agreement_clean`` and ``_attacked`` are their IoU with an equal area of
    the predicted map.
    """
    clean, attacked = observed.clean, observed.attacked
    columns: dict[str, np.ndarray] = {
        "image": observed.image_ids,
        "success": observed.success.astype(int),
        "clean_class": clean.predicted,
        "attacked_class": attacked.predicted,
        **_probabilities(observed),
        "margin": observed.margin,
        "object_size": sizes,
    }
    if observed.minimal_eps is not None:
        columns["minimal_eps"] = observed.minimal_eps
    for read_out in clean.maps:
        measures = _measures(observed, read_out, objects)
        columns |= {f"{read_out}_{name}": values for name, values in measures.items()}
    if "target" in clean.maps:
        moved = _moved(clean.maps["class"], clean.maps["target"], observed.share)
        columns |= {f"{RELABELLED}_{name}": values for name, values in moved.items()}
    table = pd.DataFrame(columns)
    if observed.explained is not None:
        table.loc[observed.explained.rows, list(_LIME)] = _of_explained(observed)
    return table


def _of_explained(observed: Observed) -> np.ndarray:
    """Return the columns ``_LIME`` (m, 3) of the images that were explained."""
    explained = observed.explained
    of_maps = [
        attention_agreement(masks, seen.maps["predicted"][explained.rows])
        for masks, seen in (
            (explained.clean, observed.clean),
            (explained.attacked, observed.attacked),
        )
    ]
    moved = support_overlap(explained.clean, explained.attacked)
    return np.stack([moved, *of_maps], axis=1)


def _probabilities(observed: Observed) -> dict[str, np.ndarray]:
    classes = {"origin": observed.origin, "target": observed.target}
    seen = {CLEAN: observed.clean, ATTACKED: observed.attacked}
    return {
        f"p_{name}_{when}": of.probabilities[:, number]
        for name, number in classes.items()
        if number is not None
        for when, of in seen.items()
    }


def _measures(
    observed: Observed, read_out: str, objects: np.ndarray | None
) -> dict[str, np.ndarray]:
    """Return all measures of one read-out's maps, (n,) each."""
    before, after = observed.clean.maps[read_out], observed.attacked.maps[read_out]
    incomplete = incompleteness(
        observed.clean.probabilities[:, observed.origin], observed.erased[read_out], before, objects
    )
    scattered = {CLEAN: scatter(before, observed.share), ATTACKED: scatter(after, observed.share)}
    return {
        **_moved(before, after, observed.share),
        **{
            f"{name}_{when}": values
            for when, of in scattered.items()
            for name, values in of.items()
        },
        **incomplete,
    }


def _moved(before: np.ndarray, after: np.ndarray, share: float) -> dict[str, np.ndarray]:
    """Return shift and change of scatter, (n,) float64 each."""
    scattered, scattered_after = scatter(before, share), scatter(after, share)
    changes = {f"{name}_{CHANGE}": scattered_after[name] - scattered[name] for name in scattered}
    return {k: v.astype(np.float64) for k, v in (shift(before, after, share) | changes).items()}


@dataclass(frozen=True)
class Measure:
    """Column of ``attention_table`` with the sign for which a vulnerable image should have more.

    A vulnerable image should have attention that moves further, is more scattered and less complete, and
    a smaller margin. Signs are fixed in advance for all data, so that the opposite finding has an AUC
    below 0.5.
    """

    read_out: str
    """Read-out; empty for a measure of the image itself."""
    column: str
    kind: str
    """Time of the measurement: ``BEFORE`` or ``MOVED``."""
    turned: str = ""
    """Sign in words: ``1 - `` or ``-`` if a vulnerable image should have less of the column."""

    @property
    def name(self) -> str:
        """Name of the measure beside its read-out: ``1 - iou_top``."""
        return self.turned + self.column.removeprefix(f"{self.read_out}_")

    def of(self, table: pd.DataFrame) -> np.ndarray:
        """Return the values (n,) float64."""
        values = table[self.column].to_numpy(np.float64)
        return {"": values, "-": -values, "1 - ": 1 - values}[self.turned]


def measures_of(table: pd.DataFrame) -> list[Measure]:
    """Return the measures of an ``attention_table`` that are related to the outcome of the attack."""
    measures = [Measure("", "margin", BEFORE, "-"), Measure("", "object_size", BEFORE)]
    read_outs = [name.removesuffix("_iou_top") for name in table if name.endswith("_iou_top")]
    for read_out in read_outs:
        turned_shift = {name: "1 - " if name in _SIMILARITIES else "" for name in _SHIFT}
        turned_scatter = {name: "-" if name == "gini" else "" for name in _SCATTER}
        columns = [
            *((name, BEFORE, "") for name in _INCOMPLETE),
            *((f"{name}_{CLEAN}", BEFORE, turn) for name, turn in turned_scatter.items()),
            *((name, MOVED, turn) for name, turn in turned_shift.items()),
            *((f"{name}_{CHANGE}", MOVED, turn) for name, turn in turned_scatter.items()),
        ]
        measures += [
            Measure(read_out, f"{read_out}_{name}", kind, turn)
            for name, kind, turn in columns
            if f"{read_out}_{name}" in table
        ]
    return measures + [Measure("lime", name, MOVED, "1 - ") for name in _LIME[:1] if name in table]


def outcomes_of(table: pd.DataFrame) -> dict[str, np.ndarray]:
    """Return outcomes (n,) bool by name, with ``EASY`` if smallest budgets were searched."""
    outcomes = {SUCCESS: table["success"].to_numpy(bool)}
    if "minimal_eps" in table:
        eps = table["minimal_eps"].to_numpy(np.float64)
        outcomes[EASY] = np.isfinite(eps) & (eps <= np.median(eps))
    return outcomes


def outcome_to_show(table: pd.DataFrame) -> str:
    """Return ``SUCCESS``, unless nearly all images share it and ``EASY`` is known."""
    outcomes = outcomes_of(table)
    rarer = int(outcomes[SUCCESS].sum())
    rarer = min(rarer, len(table) - rarer)
    return EASY if rarer < FEWEST and EASY in outcomes else SUCCESS


def held_against(table: pd.DataFrame, measure: Measure, outcome: np.ndarray) -> Vulnerability:
    """Relate ``measure`` to ``outcome`` (n,) bool, with margin and object size controlled.

    A confounder is not controlled by itself. All images are of one class, which controls for the class.
    """
    controls = [name for name in _CONFOUNDERS if name != measure.column]
    return vulnerability(outcome, measure.of(table), table[controls].to_numpy(np.float64))


def attention_summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return ``attention_summary.tsv``, a row for each measure, read-out and outcome.

    Means of the images of either outcome, their difference with its bootstrap interval, Mann-Whitney's
    p, AUC with interval, point-biserial r, and the odds ratio of one standard deviation, alone
    (``odds``) and beside the confounders (``controlled``); ``problem`` says why there is none. For
    ``EASY`` also Spearman's correlation with the smallest budget (infinite ones rank last). Nothing is
    corrected for the number of rows.
    """
    rows = [
        {
            "outcome": name,
            "kind": measure.kind,
            "read_out": measure.read_out or "image",
            "measure": measure.name,
            **_row(table, measure, outcome),
            **(_correlation(table, measure) if name == EASY else {}),
        }
        for name, outcome in outcomes_of(table).items()
        for measure in measures_of(table)
    ]
    return pd.DataFrame(rows)


def _row(table: pd.DataFrame, measure: Measure, outcome: np.ndarray) -> dict[str, object]:
    found = held_against(table, measure, outcome)
    values = pd.Series(measure.of(table)).replace([np.inf, -np.inf], np.nan)
    return {
        "n": found.n,
        "successes": found.successes,
        "missing": found.missing,
        "mean_success": values[outcome].mean(),
        "mean_failed": values[~outcome].mean(),
        **found.difference.columns("difference"),
        "mann_whitney_p": found.mann_whitney_p,
        **found.auc.columns("auc"),
        "point_biserial": found.point_biserial,
        **_odds("odds", found.alone),
        **_odds("controlled", found.controlled),
    }


def _odds(name: str, odds: Odds) -> dict[str, object]:
    return {**odds.ratio.columns(name), f"{name}_p": odds.p, f"{name}_problem": odds.problem}


def _correlation(table: pd.DataFrame, measure: Measure) -> dict[str, float]:
    values = pd.Series(measure.of(table))
    known = np.isfinite(values)
    if values[known].nunique() < 2 or table["minimal_eps"][known].nunique() < 2:
        return {"rho": np.nan, "rho_p": np.nan}
    ranked = spearmanr(values[known], table["minimal_eps"][known].rank())
    return {"rho": ranked.statistic, "rho_p": ranked.pvalue}


def attention_overview(table: pd.DataFrame, summary: pd.DataFrame) -> str:
    """Return a text table of the measures with the strongest relation to the shown outcome."""
    name = outcome_to_show(table)
    outcome = outcomes_of(table)[name]
    rows = summary[summary["outcome"] == name]
    columns = {"read_out": "read-out", "measure": "measure", **MEANS[name], **_COLUMNS}
    sections = [_counts(table, name, outcome)]
    for kind, shown in _SHOWN.items():
        of = rows[(rows["kind"] == kind) & rows["measure"].isin(shown)]
        if kind == BEFORE:
            # Measures of clean images do not depend on the outcome of the attack.
            of = of[of["read_out"].isin(("image", "class", "score"))]
        body = of[list(columns)].to_numpy(object).tolist()
        sections.append(f"{_TITLES[kind]}\n\n{format_table(list(columns.values()), body)}")
    return "\n\n".join(sections)


def _counts(table: pd.DataFrame, name: str, outcome: np.ndarray) -> str:
    n, hits = len(table), int(table["success"].sum())
    text = f"{n} attacked images, {hits} successes"
    if name == EASY:
        return f"{text}; compared by the smallest budget: {int(outcome.sum())} of {n} are easy"
    if 0 < hits < n:
        return text
    return f"{text}: no two outcomes to compare (other budgets, or --minimal_eps, tell more)"
