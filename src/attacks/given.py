"""Attacked images that stand in files: of another extractor's experiment, or made elsewhere.

No attack runs: the images are judged by an extractor that they were not made for.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from src.artifacts.errors import UserError
from src.artifacts.experiments import Experiment
from src.artifacts.layout import Layout
from src.attacks.attack import BudgetedAttack, Goal, Norm, Space, Victim, norm_option, option
from src.datasets.catalogue import image_ids
from src.datasets.image_files import read_image, require_images
from src.datasets.image_set import ImageSet

if TYPE_CHECKING:
    from torch import Tensor

GIVEN = "given"


@dataclass(frozen=True)
class Given(BudgetedAttack):
    """Images that were attacked elsewhere, in the place of an attack."""

    template: ClassVar = "eps{eps}_l{norm}"
    norms: ClassVar = ("inf", "1", "2")
    spaces: ClassVar = ("pixel",)
    sees_network: ClassVar = False

    norm: Norm = norm_option(*norms)
    images_from: str = option(
        "",
        "name of an experiment that attacked another extractor, or a folder of attacked images <id>.tiff "
        "or <id>.png",
        named=False,
    )
    files: tuple[Path, ...] = ()
    """Files of the images that come next."""

    def check(self, kind: str, space: Space = "pixel") -> None:
        super().check(kind, space)
        if not self.images_from:
            raise UserError(f"--attack_type {kind} needs --images_from: an experiment or a folder")

    @property
    def source(self) -> Experiment | None:
        """The experiment that attacked the images; None where ``images_from`` is a folder."""
        if Path(self.images_from).is_dir():
            return None
        try:
            source = Experiment.parse(self.images_from)
        except UserError:
            raise UserError(
                f"--images_from {self.images_from}: it is neither an experiment nor a folder"
            ) from None
        if source.attack in (None, GIVEN):
            raise UserError(f"--images_from {self.images_from}: it has not attacked any image")
        return source

    def experiment(self, model_dir: str | None) -> Experiment:
        """Return the experiment of the images of ``source`` as the extractor ``model_dir`` sees them."""
        source = self.source
        parameters = f"{self.name}_of_{source.extractor}_{source.attack}_{source.parameters}"
        return replace(source, model_dir=model_dir, attack=GIVEN, parameters=parameters)

    def folder(self, layout: Layout) -> Path:
        source = self.source
        return layout.attacked_images(source) if source else Path(self.images_from)

    def __call__(self, victim: Victim, images: "Tensor", goal: Goal) -> "Tensor":
        import numpy as np

        from src.attacks.storage import to_pixels

        return to_pixels(np.stack([read_image(path)[0] for path in self.files]), images.device)


def given_files(folder: Path, catalogue: Path) -> dict[int, Path]:
    """Return the images of ``folder`` by their item ids, ascending.

    Raises ``UserError`` unless each is one item of the folder ``catalogue``.
    """
    items = set(image_ids(catalogue).tolist())
    files: dict[int, Path] = {}
    for path in sorted(require_images(folder)):
        if not path.stem.isdecimal() or int(path.stem) not in items:
            raise UserError(f"{path}: no item of the catalogue has this name")
        if int(path.stem) in files:
            raise UserError(f"{folder} has two images of item {int(path.stem)}")
        files[int(path.stem)] = path
    return dict(sorted(files.items()))


def check_given(files: Mapping[int, Path], catalogue: ImageSet, attack: Given) -> None:
    """Raise ``UserError`` for an image of another size than its clean one, or beyond the budget."""
    import numpy as np

    from src.attacks.storage import check_change

    ids = np.array(list(files))
    for path, position in zip(files.values(), catalogue.positions(ids), strict=True):
        clean, (image, _) = catalogue.image(int(position)), read_image(path)
        if image.shape != clean.shape:
            sizes = (f"{width}x{height}" for height, width, _ in (image.shape, clean.shape))
            raise UserError(
                "{}: {} pixels, but the extractor reads its item at {}".format(path, *sizes)
            )
        check_change(path, image.astype(np.int16) - clean, attack.budget)
