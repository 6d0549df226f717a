"""Contract of defences in front of an extractor. Read this file first; ``registry.py`` has the table.

    defence(images) -> images

- The images (N, 3, H, W) are float32 in [0, 1], and so is the result, of the same shape.
- A defence is a frozen dataclass of its own parameters. Its text, ``jpeg:quality=50``, names it in
  commands and manifests; ``resize:side=200+jpeg:quality=75`` is a chain.
- It is part of the extractor (``in_front_of``): stages 1 and 3 extract and judge through it, and attacks
  take their gradients through it. If its own gradient is useless, ``backward`` names the
  surrogate (BPDA: Athalye et al., "Obfuscated Gradients", ICML 2018; ``surrogate.py``).

Nothing here needs torch: bad options fail before it is loaded.
"""

import copy
from dataclasses import Field, dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar

from src.artifacts.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from src.extractors.extractor import Extractor

NONE = "none"
"""Text of no defence."""


def parameter(default: Any, help: str, *, least: float, most: float) -> Any:
    """Return a field of a defence that its text shows: a number from ``least`` to ``most``.

    It is a whole number if the ``default`` is one.
    """
    return field(default=default, metadata={"help": help, "least": least, "most": most})


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

    def __post_init__(self) -> None:
        for of in parameters_of(type(self)):
            value, least, most = getattr(self, of.name), of.metadata["least"], of.metadata["most"]
            if not least <= value <= most:
                raise UserError(f"{self.kind}: {expected(of)}, not {value}")

    def __call__(self, images: "Tensor") -> "Tensor":
        raise NotImplementedError

    def in_front_of(self, extractor: "Extractor") -> "Extractor":
        """Return the ``extractor`` behind this defence; it shares the parameters."""
        defended = copy.copy(extractor)
        defended.preprocess = self
        return defended

    @property
    def text(self) -> str:
        """Text of the defence in commands and manifests: ``jpeg:quality=50``."""
        values = ",".join(f"{name}={value}" for name, value in self._values.items())
        return f"{self.kind}:{values}" if values else self.kind

    @property
    def folder(self) -> str:
        """Text of the defence in names of experiments: ``jpeg-quality50``."""
        return "-".join([self.kind, *(f"{name}{value}" for name, value in self._values.items())])

    @property
    def _values(self) -> dict[str, str]:
        values = {of.name: getattr(self, of.name) for of in parameters_of(type(self))}
        return {name: repr(value).removesuffix(".0") for name, value in values.items()}


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

    @property
    def backward(self) -> str:
        return ", ".join(f"{link.kind}: {link.backward}" for link in self.links)

    @property
    def is_random(self) -> bool:
        return any(link.is_random for link in self.links)

    @property
    def text(self) -> str:
        return "+".join(link.text for link in self.links)

    @property
    def folder(self) -> str:
        return ".".join(link.folder for link in self.links)


def parameters_of(defence: type[Defence]) -> list[Field]:
    """Return the fields of a defence that its text shows, in their order."""
    return [of for of in fields(defence) if "help" in of.metadata]


def expected(of: Field) -> str:
    """Return the values that a parameter may have: ``side (of the square) is a whole number``, ..."""
    number = "a whole number" if isinstance(of.default, int) else "a number"
    least, most = of.metadata["least"], of.metadata["most"]
    return f"{of.name} ({of.metadata['help']}) is {number} from {least:g} to {most:g}"
