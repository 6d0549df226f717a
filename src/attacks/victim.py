"""Extractor as attacks see it."""

from collections.abc import Callable
from functools import cached_property

from torch import Tensor

from src.attacks.attack import Space
from src.extractors.attention import Attended, Watched
from src.extractors.extractor import Extractor, Precision, Prediction, fast_copy


class ExtractorVictim:
    """Extractor in the space where the budget is measured, with a count of the images that pass it.

    In pixel space points are images and the box is [0, 1]. In the normalised space of the published
    code points are images after mean and std, without a box: a budget of 8/255 there is about 1.8 grey
    levels.
    """

    def __init__(
        self,
        extractor: Extractor,
        space: Space = "pixel",
        *,
        fast: bool = False,
        precision: Precision = "fp32",
    ) -> None:
        """Attack a tuned copy (``fast_copy``) in ``precision`` if ``fast``, otherwise exact fp32."""
        self._extractor = extractor
        self._is_normalised = space == "normalised"
        self.box = None if self._is_normalised else (0.0, 1.0)
        attacked = fast_copy(extractor, precision) if fast else extractor
        self.network = _normalised(attacked) if self._is_normalised else attacked
        """Network through which the attack takes gradients: a tuned copy, or the extractor itself."""
        self.exact: ExtractorVictim = ExtractorVictim(extractor, space) if fast else self
        """The extractor itself, which judges."""
        self.passes = 0
        self.on_pass: Callable[[int], object] | None = None
        """Called with the number of images after each forward, for a progress bar."""
        self.on_start: Callable[[Tensor], object] | None = None
        """Called once, with the gradient (n, ...) at the first points that are differentiated."""

    def __call__(self, points: Tensor) -> Prediction:
        if self.on_start and points.requires_grad:
            points.register_hook(self.on_start)
            self.on_start = None
        prediction = self.network(points)
        self._count(len(points))
        return prediction

    def to_points(self, images: Tensor) -> Tensor:
        """Return the points of the attacked space for ``images`` in [0, 1]."""
        if self._is_normalised:
            return (images - self._extractor.mean) / self._extractor.std
        return images

    def to_images(self, points: Tensor) -> Tensor:
        """Inverse of ``to_points``, within [0, 1].

        In the normalised space it rounds as the published code, which normalises by -mean / std and
        1 / std, decimals in double precision: truncated, an unchanged image then loses a grey level at
        104, 26 and 94 of the 256 levels of red, green and blue.
        """
        if self._is_normalised:
            mean, std = (
                of.double().round(decimals=6) for of in (self._extractor.mean, self._extractor.std)
            )
            points = (points - (-mean / std).to(points.dtype)) / (1 / std).to(points.dtype)
        return points.clamp(0, 1)

    @property
    def networks(self) -> tuple[Extractor, Extractor]:
        """Networks that must not change during an attack."""
        return self.exact.network, self.network

    @property
    def all_passes(self) -> int:
        """Number of images that have gone through the attacked network or the exact one so far."""
        return self.passes + (0 if self.exact is self else self.exact.passes)

    @cached_property
    def watched(self) -> Watched:
        """Return the attacked network with its attention; its passes count as passes of this victim.

        It is the extractor itself if a tuned copy has lost the layer. Tracing drops modules that only
        hold others, and operations between modules (a sum, a concatenation) then have no name.
        """
        exact, attacked = (_CountedWatch(network, self._count) for network in self.networks)
        return attacked if attacked.averaged or attacked.layer == exact.layer else exact

    def _count(self, images: int) -> None:
        self.passes += images
        if self.on_pass:
            self.on_pass(images)


class _CountedWatch(Watched):
    """Watched network that reports how many images pass through it."""

    def __init__(self, extractor: Extractor, count: Callable[[int], object]) -> None:
        super().__init__(extractor)
        self._count = count

    def __call__(self, images: Tensor) -> Attended:
        attended = super().__call__(images)
        self._count(len(images))
        return attended


def _normalised(extractor: Extractor) -> Extractor:
    """Return the network for points that are already normalised.

    Raises ``ValueError`` if a defence that reads pixels stands in front of it.
    """
    if extractor.preprocess is not None:
        raise ValueError(f"{extractor.preprocess.text} reads pixels, not normalised points")
    return extractor.replaced(mean=(0, 0, 0), std=(1, 1, 1))
