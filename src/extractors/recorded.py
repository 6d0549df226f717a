"""Record of the extractor that made the clean features, so that later stages use the same one."""

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.artifacts.errors import UserError
from src.artifacts.experiments import LINEAR
from src.artifacts.item_classes import ItemClasses
from src.artifacts.manifest import fingerprint, read_record, record_path, require_as_written
from src.extractors.zoo import code_of, is_own, recorded_name, split_arch

if TYPE_CHECKING:
    from src.extractors.extractor import Extractor, Precision


@dataclass(frozen=True)
class RecordedExtractor:
    """Values that determine the features of an image, in the manifest of the classification stage."""

    arch: str
    weights: str
    """SHA-256 of the checkpoint file."""
    resize: int
    """Side in pixels of the images that the network read; 0 for native sizes."""
    precision: "Precision"
    preprocess: str | None = None
    """Text of the defence in front of the network; None where there is none."""

    head: str = LINEAR
    item_classes: str = ""
    """SHA-256 of the table of the items' classes; empty for a linear head."""
    code: str = ""
    """SHA-256 of the file of a user's own network; empty for all others."""
    decoder: str = "pillow"
    """Decoder of the image files, ``pillow`` or ``gpu``."""

    @classmethod
    def of(
        cls,
        extractor: "Extractor",
        resize: int,
        precision: "Precision",
        head: str = LINEAR,
        item_classes: ItemClasses | None = None,
        decoder: str = "pillow",
    ) -> "RecordedExtractor":
        """Describe an extractor that ``load_extractor`` made, and the head that scores its features.

        Raises ``UserError`` if its checkpoint is not as the training that wrote it left it.
        """
        require_as_written(extractor.weights_file)
        weights, preprocess = fingerprint(extractor.weights_file), extractor.preprocess
        classes = fingerprint(item_classes.path) if item_classes else ""
        preprocess = preprocess and preprocess.recorded
        arch, code = recorded_name(extractor.arch), code_of(extractor.arch)
        return cls(arch, weights, resize, precision, preprocess, head, classes, code, decoder)

    @classmethod
    def like(
        cls,
        classes: Path,
        extractor: "Extractor",
        options: argparse.Namespace,
        item_classes: ItemClasses | None,
    ) -> "RecordedExtractor":
        """Describe the extractor of the options, at the size of ``classes`` unless they say another.

        Raises ``UserError`` unless it is the one that made ``classes``.
        """
        made = cls.read(classes)
        resize = made.resize if options.resize is None else options.resize
        recorded = cls.of(extractor, resize, options.precision, options.head, item_classes)
        recorded.require_same(made, classes)
        return recorded

    @classmethod
    def read(cls, classes: Path) -> "RecordedExtractor":
        """Read the extractor of ``classes.csv`` and the ``features.npy`` beside it from the manifest."""
        options = read_record(classes).get("options", {})
        try:
            return cls(**{of.name: options[of.name] for of in fields(cls) if of.name in options})
        except TypeError as error:
            raise UserError(
                f"no record of the extractor in {record_path(classes)}: run classify_extract.py first"
            ) from error

    def options(self) -> dict[str, Any]:
        """Return the fields as JSON values for ``Manifest.of``, without those at their defaults."""
        values = asdict(self)
        return {of.name: values[of.name] for of in fields(self) if values[of.name] != of.default}

    def require_same(self, clean: "RecordedExtractor", classes: Path) -> None:
        """Raise ``UserError`` unless this is the extractor ``clean`` that made ``classes``.

        Rows of different extractors in one feature matrix are not comparable. The precision may differ,
        since it changes features only by rounding.
        """
        self._require_equal(
            clean, classes, [of.name for of in fields(self) if of.name != "precision"]
        )

    def require_same_network(self, clean: "RecordedExtractor", classes: Path) -> None:
        """Raise ``UserError`` unless this is the network of ``clean``; it may read images differently."""
        self._require_equal(clean, classes, ("arch", "weights"))

    def _require_equal(
        self, clean: "RecordedExtractor", classes: Path, names: Sequence[str]
    ) -> None:
        for what in names:
            if getattr(self, what) != getattr(clean, what):
                raise UserError(
                    f"{classes} was made with {what} {getattr(clean, what)}, this run has "
                    f"{getattr(self, what)}: use the same extractor, or run classify_extract.py again"
                )


def recorded_arch(classes: Path, weights: Path | None) -> str | None:
    """Return the architecture in the record of ``classes``; None without a record.

    It is None as well if ``weights`` are another checkpoint than the recorded one. Raises ``UserError``
    for a user's own network, since a record must not decide which code is run.
    """
    if not record_path(classes).is_file():
        return None
    made = RecordedExtractor.read(classes)
    if weights is not None and fingerprint(weights) != made.weights:
        return None
    if is_own(split_arch(made.arch)[0]):
        raise UserError(
            f"{classes} was made with {made.arch}: name its file with --arch FOLDER/{made.arch}"
        )
    return made.arch
