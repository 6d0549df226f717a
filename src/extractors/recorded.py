"""Which extractor made the clean features, so that later stages use the same one."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.artifacts.errors import UserError
from src.artifacts.manifest import fingerprint, read_record, record_path

if TYPE_CHECKING:
    from src.extractors.extractor import Extractor, Precision


@dataclass(frozen=True)
class RecordedExtractor:
    """What determines the features of an image; part of the manifest of the stage that classifies."""

    arch: str
    weights: str
    """SHA-256 of the checkpoint file."""
    resize: int
    """Side in pixels of what the network read; 0 for native sizes."""
    precision: "Precision"

    @classmethod
    def of(cls, extractor: "Extractor", resize: int, precision: "Precision") -> "RecordedExtractor":
        """Describe an extractor that ``load_extractor`` made."""
        return cls(extractor.arch, fingerprint(extractor.weights_file), resize, precision)

    @classmethod
    def read(cls, classes: Path) -> "RecordedExtractor":
        """The extractor that made ``classes.csv`` and ``features.npy`` beside it, from their manifest."""
        options = read_record(classes).get("options", {})
        try:
            return cls(**{name: options[name] for name in cls.__dataclass_fields__})
        except KeyError as error:
            raise UserError(
                f"no record of the extractor in {record_path(classes)}: run classify_extract.py first"
            ) from error

    def options(self) -> dict[str, Any]:
        """As JSON values, for ``Manifest.of``."""
        return asdict(self)

    def require_same(self, clean: "RecordedExtractor", classes: Path) -> None:
        """``UserError`` unless this is the extractor ``clean`` that made ``classes``.

        Rows of two extractors in one feature matrix could not be compared. The precision may differ:
        it moves features by rounding.
        """
        for what in ("arch", "weights", "resize"):
            if getattr(self, what) != getattr(clean, what):
                raise UserError(
                    f"{classes} was made with {what} {getattr(clean, what)}, this run has "
                    f"{getattr(self, what)}: use the same extractor, or run classify_extract.py again"
                )
