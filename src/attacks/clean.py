"""Results of stage 1 that an attack reads: the images of the origin class and all clean features."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from src.artifacts.classes import Classes, read_classes
from src.artifacts.errors import UserError
from src.artifacts.experiments import Experiment
from src.artifacts.features import count_features, read_features
from src.artifacts.fidelity import Fidelity
from src.artifacts.item_classes import ItemClasses
from src.artifacts.layout import Layout
from src.attacks.items import Items
from src.attacks.settings import AttackSettings
from src.datasets.interactions import load_interactions
from src.extractors.recorded import RecordedExtractor

if TYPE_CHECKING:
    from src.extractors.extractor import Extractor


@dataclass(frozen=True)
class CleanSources:
    """Clean experiments that an attacked one is made from.

    Both belong to the attacked extractor. With the paper's fidelity the undefended extractor chooses
    the images, and its features fill the rows of all images that were not attacked.
    """

    layout: Layout
    own: Experiment
    """Clean experiment of the attacked extractor."""
    classes: Experiment
    """Experiment whose classes choose the images."""
    features: Experiment
    """Experiment whose features are kept for the other images."""

    @classmethod
    def of(cls, layout: Layout, attacked: Experiment, fidelity: Fidelity) -> "CleanSources":
        choices = {"same": attacked.clean, "undefended": Experiment()}
        return cls(
            layout,
            attacked.clean,
            choices[fidelity.origin_classes],
            choices[fidelity.base_features],
        )

    def require(self, stage_1: str) -> None:
        """Raise ``UserError`` with the command ``stage_1`` unless it has been run."""
        for path in (self.layout.classes(self.classes), self.layout.features(self.features)):
            if not path.is_file():
                raise UserError(f"missing file: {path}; run first: {stage_1}")

    @property
    def recorded(self) -> RecordedExtractor:
        """Return the extractor that made the features that are kept."""
        return RecordedExtractor.read(self.layout.classes(self.features))

    def require_same(self, recorded: RecordedExtractor) -> None:
        """Raise ``UserError`` unless the attacked extractor made all results that should be its own."""
        for source in {self.classes, self.features} & {self.own}:
            path = self.layout.classes(source)
            recorded.require_same(RecordedExtractor.read(path), path)

    def read_start(self, settings: AttackSettings, given: Iterable[int] = ()) -> Classes:
        """Return the clean predictions of the attacked images; ``UserError`` if there is none.

        The attacked images are those of the items ``given``, or those that the settings choose.
        """
        path = self.layout.classes(self.classes)
        classes = read_classes(path)
        n_items = count_features(self.layout.features(self.classes))
        if not np.array_equal(classes.image_ids, np.arange(n_items)):
            raise UserError(
                f"{path} has {len(classes.image_ids)} images and the features beside it {n_items} rows: "
                "run classify_extract.py again with --force"
            )
        if ids := list(given):
            return classes.rows(np.array(ids))
        items = settings.items
        if items == Items():
            return classes.rows(classes.of(settings.origin))
        interactions = load_interactions(self.layout, len(classes.image_ids))
        of_class = classes.image_ids[:0]
        if not items.name:
            of_class = classes.of(settings.origin)
        ids = items.choose(of_class, interactions.popularity)
        return classes.rows(ids)

    def with_class_means(self, extractor: "Extractor", item_classes: ItemClasses) -> "Extractor":
        """Return ``extractor`` with the head of class means that stage 1 classified by."""
        from src.extractors.heads import ClassMeans

        path = self.layout.features(self.own)
        head = ClassMeans.of(read_features(path, len(item_classes.items)), item_classes)
        return extractor.replaced(head=head.to(extractor.device), labels=item_classes.labels)

    def read_features(self, n_items: int, extractor: "Extractor") -> np.ndarray:
        """Return features (n_items, D) float32; ``UserError`` if they do not fit ``extractor``."""
        path = self.layout.features(self.features)
        features = read_features(path, n_items)
        if extractor.head_scores and features.shape[1] != extractor.n_features:
            raise UserError(
                f"{path} has {features.shape[1]} features for each image, but the attacked model "
                f"has {extractor.n_features}: they cannot stand in one matrix"
            )
        return features
