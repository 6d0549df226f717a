"""Labelled images in arrays: MNIST's idx files, CIFAR's binary files, ``.npz`` archives.

The pickles of CIFAR are not read, since loading a pickle can run code.
"""

import gzip
import math
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from src.artifacts.arrays import array_names, read_arrays
from src.artifacts.errors import UserError
from src.datasets.image_files import folder_with
from src.datasets.image_set import ImageArray, ImageSet
from src.datasets.image_splitting import random_halves

Parts = tuple[ImageSet, ImageSet]

DIGITS = tuple("0123456789")
CLOTHES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
CIFAR10 = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
_N_CIFAR100 = 100
_CIFAR_SHAPE = (3, 32, 32)
_IDX_OF_BYTES = 0x08
_MOST_UNPACKED = 1100
"""Bytes that a byte of a gzipped file holds at most."""
_N_COARSE = 20
_NPZ = "an .npz with x_train, y_train, x_test, y_test"
_DAMAGED = (OSError, EOFError, ValueError, zlib.error, zipfile.BadZipFile)


def read_mnist(path: Path, name: str, labels: Sequence[str]) -> Parts:
    """Read MNIST or a set in its format: ``<name>/raw/*-ubyte[.gz]`` below ``path``, or an ``.npz``."""
    if path.suffix == ".npz":
        return read_npz(path, labels)
    marker = "train-images-idx3-ubyte"
    folder = folder_with(
        path,
        (marker, f"{marker}.gz"),
        (f"{name}/raw", "raw"),
        f"expected torchvision's raw files, gzipped or not, or {_NPZ}",
    )
    train, test = (
        _labelled(
            _read_idx(folder / f"{part}-images-idx3-ubyte", 3),
            _read_idx(folder / f"{part}-labels-idx1-ubyte", 1),
            labels,
            folder / part,
        )
        for part in ("train", "t10k")
    )
    return train, test


def _read_idx(path: Path, n_dims: int) -> np.ndarray:
    """Read the uint8 array of an idx file, or of its gzipped version if only that exists.

    The file holds two zero bytes, the type (8: unsigned bytes), the number of dimensions, each
    dimension as a big-endian 32-bit number, and the values.
    """
    if not path.is_file():
        path = path.with_name(path.name + ".gz")
    if not path.is_file():
        raise UserError(f"missing file: {path}")
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            header = stream.read(4 + 4 * n_dims)
            shape = np.frombuffer(header[4:].ljust(4 * n_dims), ">u4").tolist()
            claimed = math.prod(shape)
            # A compressed file may unpack to far more than the header says.
            right = header[:4] == bytes([0, 0, _IDX_OF_BYTES, n_dims])
            right &= claimed <= _MOST_UNPACKED * path.stat().st_size
            content = stream.read(claimed + 1) if right else b""
    except _DAMAGED as error:
        raise UserError(f"{path} is damaged: {error}") from error
    if not right or len(content) != claimed:
        raise UserError(f"{path} is not an idx file of {n_dims} dimensions, or it is incomplete")
    return np.frombuffer(content, np.uint8).reshape(shape)


def read_cifar10(path: Path) -> Parts:
    """Read ``cifar-10-batches-bin/{data_batch_1..5,test_batch}.bin`` in or at ``path``, or ``.npz``."""
    if path.suffix == ".npz":
        return read_npz(path, CIFAR10)
    folder = _cifar_folder(path, "cifar-10-batches-bin", "test_batch.bin", "cifar-10-binary.tar.gz")
    batches = [f"data_batch_{number}.bin" for number in range(1, 6)]
    train = np.concatenate([_read_cifar_rows(folder / batch, 1) for batch in batches])
    test = _read_cifar_rows(folder / "test_batch.bin", 1)
    return _from_cifar_rows(train, 1, CIFAR10, folder), _from_cifar_rows(test, 1, CIFAR10, folder)


def read_cifar100(path: Path) -> Parts:
    """Read ``cifar-100-binary/{train,test}.bin`` in or at ``path``, or ``.npz``; classes are fine."""
    labels = tuple(f"class {number}" for number in range(_N_CIFAR100))
    if path.suffix == ".npz":
        return read_npz(path, labels)
    folder = _cifar_folder(path, "cifar-100-binary", "test.bin", "cifar-100-binary.tar.gz")
    names_file = folder / "fine_label_names.txt"
    if names_file.is_file():
        labels = tuple(names_file.read_text(errors="replace").split())
        if len(labels) != _N_CIFAR100 or len(set(labels)) < _N_CIFAR100:
            raise UserError(f"{names_file} must hold {_N_CIFAR100} different names, one a line")
    files = [folder / f"{part}.bin" for part in ("train", "test")]
    train, test = (_read_cifar_rows(file, 2) for file in files)
    for file, rows in zip(files, (train, test), strict=True):
        if (wrong := rows[:, 0] >= _N_COARSE).any():
            raise UserError(
                f"{file}, row {int(np.argmax(wrong)) + 1}: coarse class {rows[np.argmax(wrong), 0]} is "
                f"not 0 to {_N_COARSE - 1}"
            )
    return (
        _from_cifar_rows(train, 2, labels, folder),
        _from_cifar_rows(test, 2, labels, folder),
    )


def _cifar_folder(path: Path, name: str, marker: str, archive: str) -> Path:
    advice = (
        f"unpack {archive} there (the python version holds pickles, which can run code and are not "
        f"read), or give {_NPZ}; images of another layout are named by --dataset, such as folder"
    )
    return folder_with(path, (marker,), (name,), advice)


def _read_cifar_rows(path: Path, n_classes: int) -> np.ndarray:
    """Read rows (n, n_classes + 3072) uint8: class numbers, then the red, green and blue planes."""
    if not path.is_file():
        raise UserError(f"missing file: {path}")
    values = np.fromfile(path, np.uint8)
    length = n_classes + int(np.prod(_CIFAR_SHAPE))
    if not values.size or values.size % length:
        raise UserError(f"{path} does not hold rows of {length} bytes: it is incomplete")
    return values.reshape(-1, length)


def _from_cifar_rows(
    rows: np.ndarray, n_classes: int, labels: Sequence[str], folder: Path
) -> ImageSet:
    """Convert rows to images of their last class, which in CIFAR-100 is the fine one."""
    pixels = rows[:, n_classes:].reshape(-1, *_CIFAR_SHAPE).transpose(0, 2, 3, 1)
    return _labelled(np.ascontiguousarray(pixels), rows[:, n_classes - 1], labels, folder)


def read_npz(path: Path, labels: Sequence[str]) -> Parts:
    """Read x_train, y_train, x_test, y_test, or x and y, which are divided into halves.

    Images are (n, side, side) or (n, side, side, 3 or 1) uint8, classes (n,) or (n, 1) integers.
    """
    arrays = _arrays(path)
    if {"x_train", "y_train", "x_test", "y_test"} <= arrays.keys():
        train, test = (
            _labelled(arrays[f"x_{part}"], arrays[f"y_{part}"], labels, path)
            for part in ("train", "test")
        )
        return train, test
    if {"x", "y"} <= arrays.keys():
        return random_halves(_labelled(arrays["x"], arrays["y"], labels, path))
    raise UserError(f"{path} has neither x_train, y_train, x_test, y_test nor x and y")


def read_catalogue_npz(path: Path) -> np.ndarray:
    """Read the images ``x`` of a catalogue, whose row i is item i: (n, side, side[, 3]) uint8."""
    images = _arrays(path).get("x")
    if images is None or images.dtype != np.uint8 or images.ndim not in (3, 4):
        raise UserError(f"{path} has no x of images, (n, side, side) or (n, side, side, 3) uint8")
    return images.squeeze(3) if images.shape[3:] == (1,) else images


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """Read the arrays of images and classes; ``UserError`` for a missing or damaged archive."""
    return read_arrays(path, [name for name in array_names(path) if name[:1] in ("x", "y")])


def _labelled(
    pixels: np.ndarray, classes: np.ndarray, labels: Sequence[str], source: Path
) -> ImageSet:
    """Check shapes, types and ranges, and return the images; ``UserError`` names ``source``."""
    if pixels.ndim and not len(pixels):
        raise UserError(f"{source}: there are no images in it, or in a part of it")
    pixels = pixels[..., None] if pixels.ndim == 3 else pixels
    classes = classes.reshape(-1) if classes.ndim and classes.size == len(classes) else classes
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[3] not in (1, 3):
        raise UserError(
            f"{source}: images are {pixels.dtype} {pixels.shape}, not uint8 (n, side, side)"
        )
    if pixels.shape[1] != pixels.shape[2]:
        raise UserError(f"{source}: images of {pixels.shape[2]}x{pixels.shape[1]} are not square")
    if classes.shape != (len(pixels),) or not np.issubdtype(classes.dtype, np.integer):
        raise UserError(
            f"{source}: {len(pixels)} images but classes are {classes.dtype} {classes.shape}"
        )
    if classes.min() < 0 or classes.max() >= len(labels):
        raise UserError(f"{source}: classes must be 0 to {len(labels) - 1}")
    return ImageSet.of(ImageArray(pixels), classes, labels)
