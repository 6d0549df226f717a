"""Predictions of an extractor for a catalogue; batches are read ahead, with one forward each."""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from src.artifacts.errors import UserError
from src.artifacts.item_classes import ItemClasses
from src.artifacts.parts import Parts
from src.artifacts.progress import ProgressBar, progress_bar
from src.cli import gpu_lacks_memory
from src.datasets.image_set import ImageSet
from src.datasets.read_ahead import read_ahead
from src.extractors.architectures import input_size
from src.extractors.distribution import own_share, rank, share_label
from src.extractors.extractor import Extractor, Precision, fast_copy, fast_layout
from src.extractors.feeding import FittingBatches, copied_ahead, pinned, read_back
from src.extractors.heads import ClassMeans

if TYPE_CHECKING:
    from src.extractors.decoding import JpegDecoder

_PARTS = 256
_IMAGES_PER_PART = 1024
_COLUMNS = ("classes", "probabilities", "features")

_Result = tuple[np.ndarray, Mapping[str, np.ndarray]]
"""Positions of images, and what was found in them: a row each, and the notes on some."""


@dataclass(frozen=True)
class Predictions:
    """Predictions of an extractor for n images, in the order of the requested positions.

    ``features`` is (n, D) float32. ``notes`` lists (position, note) of the files that were truncated or
    not RGB. ``classes`` (n,) int64 are the predicted classes, ``probabilities`` (n,) float32 their
    softmax; both are None if the extractor has no head. ``labels`` are the names of the classes.
    """

    features: np.ndarray
    notes: list[tuple[int, str]]
    classes: np.ndarray | None
    probabilities: np.ndarray | None
    labels: list[str]


def predict(
    extractor: Extractor,
    images: ImageSet,
    positions: np.ndarray | None = None,
    *,
    batch_size: int = 32,
    workers: int = 0,
    precision: Precision = "fp32",
    progress: str | None = "images",
    seed: int = 0,
    decoder: "JpegDecoder | None" = None,
) -> Predictions:
    """Predict the images at ``positions`` (distinct; default: all) with one forward each.

    ``seed`` draws the random choices of a defence. ``decoder`` reads the files; None is Pillow.

    Runs on the extractor's device. Memory holds the feature matrix and a few batches. ``workers``
    threads read ahead; 0 read no batch before it is needed. ``progress`` labels the bar; None shows
    none. Raises ``UserError`` for a file that is no image and for a size the network cannot read.
    """
    positions = np.arange(len(images)) if positions is None else np.asarray(positions)
    batches = list(images.batches(positions, batch_size))
    fast = fast_copy(extractor, precision)
    results = _forward_all(fast, images, [(seed, batches)], workers, decoder)
    with (
        progress_bar(
            total=len(positions), desc=progress, unit="img", disable=progress is None
        ) as bar,
        _own_random_state(extractor.device),
    ):
        return _collect(extractor, positions, _counted(zip(batches, results, strict=True), bar))


def predict_parts(
    extractor: Extractor,
    images: ImageSet,
    parts: Parts,
    *,
    batch_size: int = 32,
    workers: int = 0,
    precision: Precision = "fp32",
    progress: str | None = "images",
    decoder: "JpegDecoder | None" = None,
) -> None:
    """Predict all images into ``parts``; finished parts are not predicted again.

    If ``torchrun`` has started several processes, each does its share of the unfinished parts. The
    content of a part depends only on the images, ``batch_size`` and the ``decoder`` of the files (None
    is Pillow).
    """
    plan = _plan(images, batch_size)
    unfinished = parts.unfinished(len(plan))
    own = own_share(unfinished)
    finished = len(images) - sum(_n_images(plan[number]) for number in unfinished)
    batches = [batch for number in own for batch in plan[number]]
    fast = fast_copy(extractor, precision)
    shares = [(number, plan[number]) for number in own]
    results = _forward_all(fast, images, shares, workers, decoder)
    with (
        progress_bar(
            total=finished + _n_images(batches),
            initial=finished,
            desc=progress and share_label(progress),
            unit="img",
            disable=progress is None or rank() > 0,
        ) as bar,
        _own_random_state(extractor.device),
    ):
        counted = _counted(zip(batches, results, strict=True), bar)
        for number in own:
            part = [result for _, result in itertools.islice(counted, len(plan[number]))]
            parts.save(number, _join(part))


def _own_random_state(device: torch.device) -> AbstractContextManager[None]:
    """Keep the caller's random state: the draws of a defence depend on seeds of their own."""
    return torch.random.fork_rng([device] if device.type == "cuda" else [])


def join_parts(
    extractor: Extractor, images: ImageSet, parts: Parts, *, batch_size: int = 32
) -> Predictions:
    """Return the predictions of ``predict_parts``; ``UserError`` if a part is not finished."""
    plan = _plan(images, batch_size)
    found = ((np.concatenate(batches), parts.read(n)) for n, batches in enumerate(plan))
    return _collect(extractor, np.arange(len(images)), found)


def classify(predictions: Predictions, item_classes: ItemClasses) -> Predictions:
    """Classify all items of a catalogue by the nearest class mean of their features."""
    features = torch.from_numpy(predictions.features)
    scored = _classes_of(ClassMeans.of(predictions.features, item_classes)(features, features))
    found = {name: of.numpy() for name, of in scored.items()}
    labels = [item_classes.labels[number] for number in found["classes"]]
    return replace(predictions, **found, labels=labels)


def _plan(images: ImageSet, batch_size: int) -> list[list[np.ndarray]]:
    """Return the parts, each a list of batches, which any number of processes plans alike.

    A kill costs at most the part in work, and processes share parts. There are ``_PARTS`` parts if
    there are as many batches, and more if a part would exceed ``_IMAGES_PER_PART``.
    """
    batches = list(images.batches(np.arange(len(images)), batch_size))
    per_part = max(1, min(len(batches) // _PARTS, _IMAGES_PER_PART // batch_size))
    return [batches[start : start + per_part] for start in range(0, len(batches), per_part)]


def _n_images(batches: Sequence[np.ndarray]) -> int:
    return sum(map(len, batches))


def _counted(results: Iterable[_Result], bar: ProgressBar) -> Iterator[_Result]:
    for batch, arrays in results:
        bar.update(len(batch))
        yield batch, arrays


def _collect(
    extractor: Extractor, positions: np.ndarray, results: Iterable[_Result]
) -> Predictions:
    """Enter results, which cover ``positions`` in any order, into one table."""
    table: dict[str, np.ndarray] = {}
    notes: list[tuple[int, str]] = []
    ascending = np.argsort(positions)
    for done, arrays in results:
        rows = ascending[np.searchsorted(positions, done, sorter=ascending)]
        for name in [name for name in _COLUMNS if name in arrays]:
            values = arrays[name]
            if name not in table:
                table[name] = np.empty((len(positions), *values.shape[1:]), values.dtype)
            table[name][rows] = values
        notes.extend(zip(arrays["noted"].tolist(), arrays["notes"].tolist(), strict=True))
    classes = table.get("classes")
    labels = [] if classes is None else [extractor.labels[number] for number in classes]
    return Predictions(
        table["features"], sorted(notes), classes, table.get("probabilities"), labels
    )


def _join(results: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([result[name] for result in results]) for name in results[0]}


def _forward_all(
    extractor: Extractor,
    images: ImageSet,
    parts: Sequence[tuple[int, Sequence[np.ndarray]]],
    workers: int,
    decoder: "JpegDecoder | None",
) -> Iterator[dict[str, np.ndarray]]:
    """Yield a result for each batch of the ``parts``, in order.

    A part is a seed, from which a defence draws its random choices, and batches. Files are read and
    copied to the device while the network works.
    """
    device, fitting = extractor.device, FittingBatches()
    batches = [batch for _, of_part in parts for batch in of_part]
    reader = partial(_read, images, device) if decoder is None else partial(decoder.read, images)
    read = read_ahead(reader, batches, workers)
    ahead = copied_ahead((found for _, found in read), device)

    def predicted() -> Iterator[tuple[dict[int, str], dict[str, Tensor]]]:
        for seed, of_part in parts:
            torch.manual_seed(seed)
            for notes, pixels in itertools.islice(ahead, len(of_part)):
                yield notes, _forward(extractor, pixels, fitting)

    for notes, columns in read_back(predicted(), device):
        yield {
            **columns,
            "noted": np.array(list(notes), np.int64),
            "notes": np.array(list(notes.values()), str),
        }


@contextmanager
def reading(size: Sequence[int], remedy: str, arch: str = "") -> Iterator[None]:
    """Raise ``UserError`` with a ``remedy`` where a network fails on images of ``size``.

    ``size`` is (height, width). ``{side}`` in the remedy becomes the side that ``arch`` expects. Memory
    that does not suffice stays torch's error.
    """
    try:
        yield
    except (RuntimeError, AssertionError) as error:
        if gpu_lacks_memory(error):
            raise
        height, width = size
        remedy = remedy.format(side=input_size(arch)) if arch else remedy
        raise UserError(
            f"{arch or 'the network'} cannot read images of {width}x{height} pixels ({error}): "
            f"try {remedy}"
        ) from error


def _forward(extractor: Extractor, pixels: Tensor, fitting: FittingBatches) -> dict[str, Tensor]:
    """Predict uint8 ``pixels`` (N, height, width, 3) on the extractor's device."""

    def predict(rows: slice) -> dict[str, Tensor]:
        images = pixels[rows].permute(0, 3, 1, 2).float() / 255
        if not pixels.is_cpu:
            images = images.contiguous(
                memory_format=fast_layout(extractor.precision, pixels.device)
            )
        readable = reading(pixels.shape[1:3], "--resize {side}", extractor.arch)
        with readable, torch.inference_mode():
            prediction = extractor(images)
        scored = {} if prediction.logits is None else _classes_of(prediction.logits)
        return {**scored, "features": prediction.features}

    results = fitting.run(predict, len(pixels))
    return {name: torch.cat([result[name] for result in results]) for name in results[0]}


def _classes_of(logits: Tensor) -> dict[str, Tensor]:
    """Return the class with the largest of the ``logits`` (N, C) of each image, and its softmax."""
    probabilities, classes = logits.softmax(dim=1).max(dim=1)
    return {"classes": classes, "probabilities": probabilities}


def _read(
    images: ImageSet, device: torch.device, positions: np.ndarray
) -> tuple[dict[int, str], Tensor]:
    """Read a batch for ``device``: notes on its files by position, and (m, height, width, 3) uint8."""
    read = [images.read(position) for position in positions]
    notes = {int(p): note for p, (_, note) in zip(positions, read, strict=True) if note}
    return notes, pinned(torch.from_numpy(np.stack([image for image, _ in read])), device)
