"""Detectors of attacked images, by name: ``squeeze:bits:n=4``, ``neighbours:k=5``.

A detector gives an image a score, larger for a more suspicious one, from the features that the
deployed extractor reads; a shop refuses images above a threshold. Scores are differentiable, so that an
attack can keep them low (``attacks/evasion.py``). Nothing here needs torch before a detector runs.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from src.artifacts.errors import UserError
from src.defences.defence import Chain, Defence, NoDefence
from src.defences.registry import parse_defence

if TYPE_CHECKING:
    from torch import Tensor

    from src.datasets.image_set import ImageSet
    from src.extractors.extractor import Extractor

FALSE_ALARMS = 0.01
"""Share of clean images that a threshold refuses."""
CLEAN_IMAGES = 500
"""Largest number of clean images that a threshold is read from."""
_FEWEST = round(1 / FALSE_ALARMS)
_TINY = 1e-12


@dataclass(frozen=True)
class Detector:
    """Score of images by their features; subclasses say how."""

    kind: ClassVar[str]

    squeeze: Defence | None = None
    """Change of images whose features are compared with theirs; None where nothing is compared."""

    @property
    def text(self) -> str:
        raise NotImplementedError

    @property
    def folder(self) -> str:
        """Text of the detector in names of experiments."""
        return self.text.replace(":", "-").replace("=", "").replace(",", "-").replace("+", ".")

    def fitted(self, features: "Tensor") -> "Detector":
        """Return the detector after it has learnt from clean ``features`` (n, D)."""
        del features
        return self

    def score(self, features: "Tensor", squeezed: "Tensor | None") -> "Tensor":
        """Score n images by their ``features`` (n, D) and those after ``squeeze``; (n,)."""
        raise NotImplementedError


@dataclass(frozen=True)
class Squeeze(Detector):
    """Distance of features before and after a squeeze, relative to their length.

    After Xu et al., "Feature Squeezing", NDSS 2018, who compare probabilities of classes.
    """

    kind: ClassVar = "squeeze"

    @property
    def text(self) -> str:
        return f"{self.kind}:{self.squeeze.text}"

    @property
    def folder(self) -> str:
        return f"{self.kind}-{self.squeeze.folder}"

    def score(self, features: "Tensor", squeezed: "Tensor | None") -> "Tensor":
        change = (features - squeezed).square().sum(dim=1).clamp_min(_TINY).sqrt()
        return change / features.norm(dim=1).clamp_min(_TINY)


@dataclass(frozen=True)
class Neighbours(Detector):
    """Mean distance of unit features to the ``k`` nearest ones of clean images.

    It stands for detectors by distances of features. The published one for visual recommenders (Yin
    et al., arXiv 2306.07992) is another: it learns its distance by contrast.
    """

    kind: ClassVar = "neighbours"

    k: int = 5
    known: "Tensor | None" = None
    """Unit features (n, D) of clean images."""

    @property
    def text(self) -> str:
        return f"{self.kind}:k={self.k}"

    def fitted(self, features: "Tensor") -> "Neighbours":
        if len(features) < self.k:
            raise UserError(f"{self.text}: there are {len(features)} clean images to be near to")
        return replace(self, known=_unit(features))

    def score(self, features: "Tensor", squeezed: "Tensor | None") -> "Tensor":
        near = (_unit(features) @ self.known.T).topk(self.k, dim=1).values
        return (2 - 2 * near).clamp_min(_TINY).sqrt().mean(dim=1)


def _unit(features: "Tensor") -> "Tensor":
    return features / features.norm(dim=1, keepdim=True).clamp_min(_TINY)


def parse_detector(text: str) -> Detector:
    """Read ``squeeze:DEFENCE`` or ``neighbours:k=NUMBER``; ``UserError`` for other texts."""
    kind, _, rest = text.partition(":")
    if kind == Squeeze.kind:
        squeeze = parse_defence(rest)
        if isinstance(squeeze, NoDefence) or squeeze.is_random or not squeeze.changes_images:
            raise UserError(f"{text}: a squeeze changes images, and always alike")
        return Squeeze(squeeze)
    if kind == Neighbours.kind:
        name, _, number = (rest or f"k={Neighbours.k}").partition("=")
        if name != "k" or not number.isdecimal() or int(number) < 1:
            raise UserError(f"{text}: write {Neighbours.kind}:k=NUMBER, from 1 on")
        return Neighbours(k=int(number))
    raise UserError(
        f"no detector {text!r}: choose from {Squeeze.kind}:DEFENCE, {Neighbours.kind}:k=NUMBER"
    )


@dataclass(frozen=True)
class Guard:
    """Detector in front of a shop: images with a score above ``threshold`` are refused."""

    detector: Detector
    threshold: float
    clean: np.ndarray
    """Scores (n,) of the clean images that the threshold is read from."""

    @classmethod
    def of(
        cls,
        detector: Detector,
        extractor: "Extractor",
        catalogue: "ImageSet",
        features: np.ndarray,
        attacked: np.ndarray,
        *,
        batch_size: int,
        workers: int,
    ) -> "Guard":
        """Read the threshold from images of a ``catalogue`` that are not ``attacked`` (ids).

        ``features`` (items, D) are the clean ones. Up to ``CLEAN_IMAGES`` images, and at most half,
        give scores; the detector knows the others. ``UserError`` where they are too few.
        """
        import torch

        # One order for all attacks, so that their thresholds come from nearly the same images.
        order = np.random.default_rng(0).permutation(len(features))
        clean = order[~np.isin(order, attacked)]
        n_scored = min(CLEAN_IMAGES, len(clean) // 2)
        if n_scored < _FEWEST:
            raise UserError(
                f"a threshold at {FALSE_ALARMS:.0%} false alarms needs {2 * _FEWEST} clean images that "
                f"are not attacked, and there are {len(clean)}"
            )
        scored, others = np.sort(clean[:n_scored]), np.sort(clean[n_scored:])
        known = torch.from_numpy(features[others]).to(extractor.device)
        detector = detector.fitted(known)
        scores = scores_of(
            detector,
            extractor,
            catalogue,
            catalogue.positions(scored),
            features[scored],
            batch_size=batch_size,
            workers=workers,
        )
        threshold = float(np.quantile(scores, 1 - FALSE_ALARMS, method="higher"))
        return cls(detector, threshold, scores)


def scores_of(
    detector: Detector,
    extractor: "Extractor",
    images: "ImageSet",
    positions: np.ndarray,
    features: np.ndarray,
    *,
    batch_size: int,
    workers: int,
) -> np.ndarray:
    """Return the scores (n,) of images whose ``features`` (n, D) are known."""
    import torch

    from src.extractors.inference import predict

    squeezed = None
    if detector.squeeze is not None:
        predicted = predict(
            squeezing(detector.squeeze, extractor),
            images,
            positions,
            batch_size=batch_size,
            workers=workers,
            progress=detector.text,
        )
        squeezed = torch.from_numpy(predicted.features).to(extractor.device)
    read = torch.from_numpy(np.ascontiguousarray(features)).to(extractor.device)
    return detector.score(read, squeezed).cpu().numpy()


def squeezing(squeeze: Defence, extractor: "Extractor") -> "Extractor":
    """Return the ``extractor``, with any defence of its own, behind a ``squeeze``."""
    own = extractor.preprocess
    return (squeeze if own is None else Chain((squeeze, own))).in_front_of(extractor)
