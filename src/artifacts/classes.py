"""Classes that an extractor predicts for images: ``classes.csv``."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from src.artifacts.columns import Column, id_column, read_headed, require_unique
from src.artifacts.errors import UserError

CLEAN_COLUMNS = ("ImageID", "ClassNum", "ClassStr", "Prob")
ATTACKED_COLUMNS = (*CLEAN_COLUMNS, "ClassNumStart", "ClassStrStart", "ProbStart")


@dataclass(frozen=True)
class Classes:
    """Predictions of a set of images, ordered by image id.

    ``image_ids`` and ``classes`` are (n,) int64, ``probabilities`` is (n,) float64 in [0, 1] (the
    softmax maximum), ``labels`` has n strings.
    """

    image_ids: np.ndarray
    classes: np.ndarray
    labels: Sequence[str]
    probabilities: np.ndarray

    def of(self, class_number: int) -> np.ndarray:
        """Return the ids of images predicted as ``class_number``; ``UserError`` if there are none."""
        ids = self.image_ids[self.classes == class_number]
        if len(ids) == 0:
            present = ", ".join(map(str, np.unique(self.classes)[:20]))
            raise UserError(f"no image is classified as class {class_number}; classes: {present}")
        return ids

    def rows(self, image_ids: np.ndarray) -> "Classes":
        """Return the predictions of ``image_ids``, in that order."""
        where = np.searchsorted(self.image_ids, image_ids)
        return Classes(
            self.image_ids[where],
            self.classes[where],
            [self.labels[row] for row in where],
            self.probabilities[where],
        )

    def label_of(self, class_number: int) -> str:
        where = np.flatnonzero(self.classes == class_number)
        return self.labels[where[0]] if len(where) else f"class {class_number}"


def write_classes(path: Path, classes: Classes) -> None:
    """Write clean predictions: columns ImageID, ClassNum, ClassStr, Prob."""
    _frame(classes).to_csv(path, index=False)


def write_attacked_classes(path: Path, attacked: Classes, start: Classes) -> None:
    """Write attacked predictions beside the clean ones (``*Start``) of the same images."""
    frame = _frame(attacked)
    frame[list(ATTACKED_COLUMNS[4:])] = _frame(start)[list(CLEAN_COLUMNS[1:])].to_numpy()
    frame.to_csv(path, index=False)


def read_classes(path: Path) -> Classes:
    """Read the predictions of ``classes.csv``, clean or attacked, ordered by image id."""
    return _classes(_read_frame(path, CLEAN_COLUMNS))


def read_attacked_classes(path: Path) -> tuple[Classes, Classes]:
    """Read (attacked, clean) predictions of the attacked images."""
    frame = _read_frame(path, ATTACKED_COLUMNS)
    start = frame[["ImageID", *ATTACKED_COLUMNS[4:]]]
    return _classes(frame), _classes(start.set_axis(CLEAN_COLUMNS, axis=1))


def _frame(classes: Classes) -> pd.DataFrame:
    columns = (classes.image_ids, classes.classes, classes.labels, classes.probabilities)
    return pd.DataFrame(dict(zip(CLEAN_COLUMNS, columns, strict=True)))


def _classes(frame: pd.DataFrame) -> Classes:
    return Classes(
        frame["ImageID"].to_numpy(np.int64),
        frame["ClassNum"].to_numpy(np.int64),
        frame["ClassStr"].astype(str).tolist(),
        frame["Prob"].to_numpy(np.float64),
    )


def _read_frame(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Read the ``columns`` of predictions: ids and classes from 0, probabilities from 0 to 1."""
    names = [name for name in columns if not name.startswith("ClassStr")]
    numbers = [
        Column(name, low=0, high=1) if name.startswith("Prob") else id_column(name)
        for name in names
    ]
    frame = read_headed(path, numbers, sep=",", text=("ClassStr", "ClassStrStart"))
    if missing := [column for column in columns if column not in frame]:
        raise UserError(f"{path} lacks the columns {', '.join(missing)}")
    require_unique(path, "image", frame["ImageID"].to_numpy(), first_row=2)
    return frame.sort_values("ImageID", ignore_index=True)
