"""Published sets with test classes that are not in training: CUB-200-2011, Cars-196, SOP.

Images are squashed to 256x256 pixels. Training takes random crops of 224x224 and the test the central
crop (Zhou et al., "Adversarial Attack and Defense in Deep Ranking", 2021). Other sizes keep that
proportion.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.io import loadmat

from src.artifacts.errors import UserError
from src.datasets.image_files import folder_with
from src.datasets.image_set import ImageFiles, ImageSet, number_classes

Parts = tuple[ImageSet, ImageSet]

_N_CUB_TRAINING = 100
_N_CARS_TRAINING = 98
_SOP_COLUMNS = ("image_id", "class_id", "super_class_id", "path")
_RESIZE_TO_CROP = 256 / 224


def read_cub(path: Path, size: int) -> Parts:
    """Read ``CUB_200_2011/{images.txt, image_class_labels.txt, images/}`` in or at ``path``.

    Classes 1 to 100 are for training, 101 to 200 for the test.
    """
    folder = _folder_of(path, "CUB_200_2011", "images.txt")
    files = _read_table(folder / "images.txt", ("image", "file"))
    classes = _read_table(folder / "image_class_labels.txt", ("image", "class"))
    if sorted(files["image"]) != sorted(classes["image"]) or not files["image"].is_unique:
        raise UserError(f"{folder}: images.txt and image_class_labels.txt list other images")
    table = files.merge(classes, on="image")
    names = dict(zip(table["class"], table["file"].str.partition("/")[0], strict=True))
    return _parts(folder / "images", table, table["class"] <= _N_CUB_TRAINING, names, size)


def read_cars(path: Path, size: int) -> Parts:
    """Read ``cars/{cars_annos.mat, car_ims/}`` in or at ``path``.

    Classes 1 to 98 are for training, 99 to 196 for the test.
    """
    folder = _folder_of(path, "cars", "cars_annos.mat")
    source = folder / "cars_annos.mat"
    try:
        content = loadmat(source, squeeze_me=True)
        annotations = np.atleast_1d(content["annotations"])
        table = pd.DataFrame(
            {
                "file": annotations["relative_im_path"].astype(str),
                "class": annotations["class"].astype(np.int64),
            }
        )
        names = dict(enumerate(np.atleast_1d(content["class_names"]).astype(str), start=1))
    except (ValueError, KeyError, IndexError, TypeError, NotImplementedError, OSError) as error:
        raise UserError(
            f"{source} does not hold the annotations and class_names of Cars-196: {error}"
        ) from error
    return _parts(folder, table, table["class"] <= _N_CARS_TRAINING, names, size)


def read_sop(path: Path, size: int) -> Parts:
    """Read ``Stanford_Online_Products/{Ebay_train.txt, Ebay_test.txt, *_final/}`` in or at ``path``."""
    folder = _folder_of(path, "Stanford_Online_Products", "Ebay_train.txt")
    parts = [
        _read_table(folder / f"Ebay_{part}.txt", _SOP_COLUMNS, header_lines=1)
        for part in ("train", "test")
    ]
    table = pd.concat(parts, ignore_index=True).rename(
        columns={"path": "file", "class_id": "class"}
    )
    names = {number: f"product {number}" for number in table["class"].unique()}
    return _parts(folder, table, table.index < len(parts[0]), names, size)


def _folder_of(path: Path, name: str, marker: str) -> Path:
    return folder_with(path, (marker,), (name,), f"unpack {name} there")


def _read_table(path: Path, columns: tuple[str, ...], header_lines: int = 0) -> pd.DataFrame:
    """Read columns separated by blanks; all except file names are whole numbers."""
    if not path.is_file():
        raise UserError(f"missing file: {path}")
    kinds = {name: str if name in ("file", "path") else np.int64 for name in columns}
    try:
        return pd.read_csv(
            path,
            sep=" ",
            header=None,
            names=columns,
            skiprows=header_lines,
            dtype=kinds,
            index_col=False,
        )
    # ParserError and EmptyDataError are ValueErrors.
    except (ValueError, UnicodeDecodeError) as error:
        raise UserError(f"{path} must have the columns {', '.join(columns)}: {error}") from error


def _parts(
    folder: Path, table: pd.DataFrame, training: np.ndarray, names: Mapping[int, str], size: int
) -> Parts:
    """Return the rows ``training`` of ``table`` (columns file and class) and the others as images.

    Files are below ``folder``.
    """
    files, classes = table["file"].to_numpy(str), table["class"].to_numpy()
    resize = round(size * _RESIZE_TO_CROP)

    def images(rows: np.ndarray, crop: int) -> ImageSet:
        if not rows.any():
            raise UserError(f"{folder} has training or test classes only")
        numbers, present = number_classes(classes[rows])
        if unnamed := set(present) - names.keys():
            raise UserError(f"{folder}: class {min(unnamed)} has no name")
        paths = tuple(folder / file for file in files[rows])
        if missing := next((path for path in paths if not path.is_file()), None):
            raise UserError(f"missing file: {missing}")
        labels = [names[number] for number in present]
        return ImageSet.of(ImageFiles(paths, resize, crop), numbers, labels)

    training = np.asarray(training)
    return images(training, 0), images(~training, size)
