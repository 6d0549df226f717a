"""Contract of defences in front of an extractor. Read this file first; ``registry.py`` has the table.

    defence(images) -> images
    defence.predict(network, images) -> prediction

- The images (N, 3, H, W) are float32 in [0, 1], and so is the result, of the same shape. The network
  predicts the result. A defence that asks the network more than once has ``predict`` alone.
- A defence is a frozen dataclass of its own parameters. Its text, ``jpeg:quality=50``, names it in
  commands; ``resize:side=200+jpeg:quality=75`` is a chain.
- It is part of the extractor (``in_front_of``): stages 1 and 3 extract and judge through it, and attacks
  take their gradients through it. If its own gradient is useless, ``backward`` names the
  surrogate (BPDA: Athalye et al., "Obfuscated Gradients", ICML 2018; ``surrogate.py``).

Nothing here needs torch: bad options fail before it is loaded.
"""

import copy
from collections.abc import Callable
from dataclasses import Field, dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from src.artifacts.errors import UserError
from src.artifacts.experiments import check_name
from src.artifacts.manifest import fingerprint

if TYPE_CHECKING:
    from torch import Tensor

    from src.extractors.extractor import Extractor, Prediction

    Network = Callable[[Tensor], Prediction]

NONE = "none"
"""Text of no defence."""


def parameter(default: Any, help: str, *, least: float, most: float) -> Any:
    """Return a field of a defence that its text shows: a number from ``least`` to ``most``.

    It is a whole number if the ``default`` is one.
    """
    return field(default=default, metadata={"help": help, "least": least, "most": most})


def file_parameter(help: str) -> Any:
    """Return the only field of a defence that is read from a file: ``denoiser:FILE``."""
    return field(default="", metadata={"help": help})


@dataclass(frozen=True)
class Defence:
    """Change of images before a network reads them. Subclasses add ``parameter`` fields.

    A defence that is made with a parameter out of range raises ``UserError``. Random choices come
    from torch's global generator, which the caller seeds.
    """

    kind: ClassVar[str]
    """Name in texts."""
    backward: ClassVar[str] = "its own gradient"
    """Gradient: the defence's own, or the name of a surrogate."""
    is_random: ClassVar[bool] = False
    """True if each call draws random numbers."""
    changes_images: ClassVar[bool] = True
    """False if it asks the network for more than one prediction of an image instead."""

    def __post_init__(self) -> None:
        for of in parameters_of(type(self)):
            value = getattr(self, of.name)
            if reads_file(of):
                if not Path(value).is_file():
                    raise UserError(f"{self.kind}: missing file: {value}")
                check_name(Path(value).stem, "name of the file of a defence")
            elif not of.metadata["least"] <= value <= of.metadata["most"]:
                raise UserError(f"{self.kind}: {expected(of)}, not {value}")

    def __call__(self, images: "Tensor") -> "Tensor":
        raise NotImplementedError

    def predict(self, network: "Network", images: "Tensor") -> "Prediction":
        """Return what the defended ``network`` makes of ``images``."""
        changed = self(images)
        if changed.shape != images.shape:
            shapes = " to ".join("x".join(map(str, of.shape[1:])) for of in (images, changed))
            raise UserError(f"{self.text} turns images of {shapes}: a defence keeps their shape")
        return network(changed)

    def in_front_of(self, extractor: "Extractor") -> "Extractor":
        """Return the ``extractor`` behind this defence; it shares the parameters."""
        defended = copy.copy(extractor)
        defended.preprocess = self
        return defended

    @property
    def text(self) -> str:
        """Text of the defence in commands: ``jpeg:quality=50``, ``denoiser:models/aid.pt``."""
        values = ",".join(
            getattr(self, of.name) if reads_file(of) else f"{of.name}={self._shown(of)}"
            for of in parameters_of(type(self))
        )
        return f"{self.kind}:{values}" if values else self.kind

    @property
    def recorded(self) -> str:
        """Text of the defence in manifests, where the hash of a file stands for its path."""
        files = [getattr(self, of.name) for of in parameters_of(type(self)) if reads_file(of)]
        return f"{self.kind}:{fingerprint(Path(files[0]))}" if files else self.text

    @property
    def folder(self) -> str:
        """Text of the defence in names of experiments: ``jpeg-quality50``."""
        values = (
            Path(getattr(self, of.name)).stem if reads_file(of) else f"{of.name}{self._shown(of)}"
            for of in parameters_of(type(self))
        )
        return "-".join([self.kind, *values])

    def _shown(self, of: Field) -> str:
        return repr(getattr(self, of.name)).removesuffix(".0")


@dataclass(frozen=True)
class NoDefence(Defence):
    """Defence that leaves images unchanged."""

    kind: ClassVar = NONE

    def __call__(self, images: "Tensor") -> "Tensor":
        return images

    def in_front_of(self, extractor: "Extractor") -> "Extractor":
        return extractor


@dataclass(frozen=True)
class Chain(Defence):
    """Several defences in their order."""

    links: tuple[Defence, ...]

    def __call__(self, images: "Tensor") -> "Tensor":
        for link in self.links:
            images = link(images)
        return images

    def predict(self, network: "Network", images: "Tensor") -> "Prediction":
        for link in reversed(self.links):
            network = partial(link.predict, network)
        return network(images)

    @property
    def backward(self) -> str:
        return ", ".join(f"{link.kind}: {link.backward}" for link in self.links)

    @property
    def is_random(self) -> bool:
        return any(link.is_random for link in self.links)

    @property
    def changes_images(self) -> bool:
        return all(link.changes_images for link in self.links)

    @property
    def text(self) -> str:
        return "+".join(link.text for link in self.links)

    @property
    def recorded(self) -> str:
        return "+".join(link.recorded for link in self.links)

    @property
    def folder(self) -> str:
        return ".".join(link.folder for link in self.links)


def parameters_of(defence: type[Defence]) -> list[Field]:
    """Return the fields of a defence that its text shows, in their order."""
    return [of for of in fields(defence) if "help" in of.metadata]


def reads_file(of: Field) -> bool:
    """Return whether a field of a defence is a ``file_parameter``."""
    return "least" not in of.metadata


def expected(of: Field) -> str:
    """Return the values that a parameter may have: ``side (of the square) is a whole number``, ..."""
    number = "a whole number" if isinstance(of.default, int) else "a number"
    least, most = of.metadata["least"], of.metadata["most"]
    return f"{of.name} ({of.metadata['help']}) is {number} from {least:g} to {most:g}"
