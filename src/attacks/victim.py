"""The network under attack, as attacks see it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from torch import Tensor

from src.attacks.goals import Box, CountedLogits
from src.extractors.attention import Attended, Watched
from src.extractors.extractor import Extractor, Precision, fast_copy


@dataclass(frozen=True)
class Victim:
    """An extractor in the space where the budget is measured.

    In pixel space points are images and the box is [0, 1]. In the normalised space of the published
    code points are images after mean and std, without a box: a budget of 8/255 there is about 1.8 grey
    levels.
    """

    networks: tuple[Extractor, Extractor]
    """What has to be held still during an attack: the extractor, and what the attack differentiates."""
    logits: CountedLogits
    """What the attack differentiates: the extractor itself, or a tuned copy."""
    exact: CountedLogits
    """The extractor itself."""
    box: Box | None
    to_points: Callable[[Tensor], Tensor]
    to_images: Callable[[Tensor], Tensor]
    """Inverse of ``to_points``, within [0, 1]."""

    @property
    def passes(self) -> int:
        """Images that have gone through either network so far."""
        return self.logits.passes + self.exact.passes

    @cached_property
    def watched(self) -> Watched:
        """What the attack differentiates, with its attention; passes count as those of ``logits``.

        The extractor itself where a tuned copy has lost the layer: tracing drops modules that only hold
        others, and operations between modules (a sum, a concatenation) have no name then.
        """
        exact, attacked = (_CountedWatch(network, self.logits) for network in self.networks)
        return attacked if attacked.averaged or attacked.layer == exact.layer else exact

    @classmethod
    def of(
        cls,
        extractor: Extractor,
        space: Literal["pixel", "normalised"] = "pixel",
        *,
        fast: bool = False,
        precision: Precision = "fp32",
    ) -> "Victim":
        """``fast`` attacks a tuned copy (``fast_copy``) in ``precision``; otherwise exactly fp32."""
        attacked = fast_copy(extractor, precision) if fast else extractor
        if space == "pixel":
            return cls(
                (extractor, attacked),
                CountedLogits(lambda images: attacked(images).logits),
                CountedLogits(lambda images: extractor(images).logits),
                (0.0, 1.0),
                lambda images: images,
                lambda points: points.clamp(0, 1),
            )
        exact, attacked = _normalised(extractor), _normalised(attacked)
        return cls(
            (exact, attacked),
            CountedLogits(lambda points: attacked(points).logits),
            CountedLogits(lambda points: exact(points).logits),
            None,
            lambda images: (images - extractor.mean) / extractor.std,
            lambda points: (points * extractor.std + extractor.mean).clamp(0, 1),
        )


class _CountedWatch(Watched):
    """A watched network that counts the images that pass through it."""

    def __init__(self, extractor: Extractor, counter: CountedLogits) -> None:
        super().__init__(extractor)
        self._counter = counter

    def __call__(self, images: Tensor) -> Attended:
        attended = super().__call__(images)
        self._counter.count(len(images))
        return attended


def _normalised(extractor: Extractor) -> Extractor:
    """The same network for points that are normalised already."""
    inner = Extractor(
        extractor.network,
        extractor.labels,
        extractor.head_name,
        arch=extractor.arch,
        mean=(0, 0, 0),
        std=(1, 1, 1),
    ).to(extractor.device)
    inner.precision = extractor.precision
    return inner
