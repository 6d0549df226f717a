"""The table of what detectors notice of attacked images, and how far the images get that they miss."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from src.artifacts.columns import read_results
from src.artifacts.experiments import Experiment
from src.artifacts.features import read_feature_rows
from src.artifacts.layout import Layout
from src.artifacts.manifest import read_record
from src.datasets.catalogue import open_catalogue
from src.defences.detectors import FALSE_ALARMS, Detector, Guard, scores_of
from src.measures.attack_records import attacked_ids, recorded_budget
from src.measures.exposure import Measuring, Subject
from src.measures.terminal import format_table
from src.measures.threats import is_control
from src.measures.verdicts import CONTROL

if TYPE_CHECKING:
    from src.datasets.image_set import ImageSet
    from src.extractors.extractor import Extractor

COLUMNS = (
    *(
        "extractor",
        "detector",
        "threshold",
        "attack",
        "objective",
        "norm",
        "eps",
        "evades",
        "items",
    ),
    *("auc", "detected", "detected_5", "detected_10"),
    *("recommender", "k", "before", "after", "after_undetected", "accepted"),
)
"""Columns of ``detection.tsv``.

``detected`` is the share of attacked images above the threshold at 1 % false alarms, ``detected_5`` and
``detected_10`` those at 5 and 10 %. Exposures are those of items that are attacked alone: ``after``,
the mean over the images that the detector misses, and ``accepted``, where refused images leave their
item as it is.
"""


@dataclass(frozen=True)
class Detecting:
    """Detectors in front of one extractor, and the recommenders whose lists attacks change."""

    layout: Layout
    extractor: "Extractor"
    catalogue: "ImageSet"
    features: np.ndarray
    """Clean features (items, D)."""
    subjects: Sequence[Subject]
    batch_size: int
    workers: int

    def rows(
        self, detectors: Sequence[Detector], experiments: Sequence[Experiment]
    ) -> Iterator[dict[str, object]]:
        """Yield a row for each detector, attacked experiment and recommender.

        Thresholds leave the items out that are attacked in any of the experiments.
        """
        ids = {of: attacked_ids(self.layout, of) for of in experiments}
        attacked = np.unique(np.concatenate(list(ids.values())))
        for detector in detectors:
            guard = Guard.of(
                detector,
                self.extractor,
                self.catalogue,
                self.features,
                attacked,
                batch_size=self.batch_size,
                workers=self.workers,
            )
            for experiment in experiments:
                yield from self._of_attack(guard, experiment, ids[experiment])

    def _of_attack(
        self, guard: Guard, experiment: Experiment, ids: np.ndarray
    ) -> Iterator[dict[str, object]]:
        features = read_feature_rows(self.layout.features(experiment), ids)
        stored = open_catalogue(self.layout.attacked_images(experiment), resize=0)
        scores = scores_of(
            guard.detector,
            self.extractor,
            stored,
            np.arange(len(stored)),
            features,
            batch_size=self.batch_size,
            workers=self.workers,
        )
        budget = recorded_budget(self.layout, experiment)
        said = {
            "extractor": experiment.extractor,
            "detector": guard.detector.text,
            "threshold": guard.threshold,
            "attack": experiment.attack_name,
            "objective": CONTROL if is_control(experiment) else experiment.objective or "class",
            "norm": budget[1] if budget else "2",
            "eps": budget[0] if budget else np.nan,
            "evades": _evaded(self.layout, experiment),
            "items": len(ids),
        } | detection(guard.clean, scores)
        missed = scores <= guard.threshold
        yield from [said | _exposures(of, ids, features, missed) for of in self.subjects] or [said]


def _evaded(layout: Layout, experiment: Experiment) -> str:
    return read_record(layout.classes(experiment)).get("options", {}).get("evade", "")


def detection(clean: np.ndarray, attacked: np.ndarray) -> dict[str, float]:
    """Return the AUC of scores, and the shares of attacked images detected at 1, 5 and 10 % false alarms.

    ``clean`` (n,) and ``attacked`` (m,) are scores, larger for more suspicious images.
    """
    labels = np.repeat([0, 1], [len(clean), len(attacked)])
    found = {"auc": float(roc_auc_score(labels, np.concatenate([clean, attacked])))}
    for name, alarms in (("detected", FALSE_ALARMS), ("detected_5", 0.05), ("detected_10", 0.1)):
        threshold = np.quantile(clean, 1 - alarms, method="higher")
        found[name] = float((attacked > threshold).mean())
    return found


def _exposures(
    subject: Subject, ids: np.ndarray, features: np.ndarray, missed: np.ndarray
) -> dict[str, object]:
    pushed = Measuring(subject, ids).push(features)
    return {
        "recommender": subject.run.model + subject.run.options,
        "k": subject.k,
        "before": pushed.before.mean(),
        "after": pushed.after.mean(),
        "after_undetected": pushed.after[missed].mean() if missed.any() else np.nan,
        "accepted": np.where(missed, pushed.after, pushed.before).mean(),
    }


def read_detection(path: Path) -> pd.DataFrame:
    """Read ``detection.tsv``."""
    numbers = (*COLUMNS[COLUMNS.index("auc") : COLUMNS.index("recommender")], *COLUMNS[-5:])
    return read_results(path, COLUMNS, text=("norm",), numbers=numbers).fillna({"evades": ""})


_SHOWN = (
    *("detector", "objective", "eps", "evades", "auc", "detected"),
    *("recommender", "before", "after", "after_undetected", "accepted"),
)


def detection_overview(table: pd.DataFrame) -> str:
    """Return the table for the terminal."""
    shown = table[list(_SHOWN)]
    if shown["recommender"].isna().all():
        shown = shown.iloc[:, : _SHOWN.index("recommender")]
    header = [name.replace("_", " ") for name in shown]
    return format_table(header, shown.to_numpy(object).tolist())
