"""Which recommenders there are, and how run names show them.

A model is called by the paper's name, followed by what of its form is not the default (``VBPRfull``,
``BPRMFbias``) and, for AMF, by how its perturbation differs from He et al.'s (``AMF-full``).
"""

import re
from dataclasses import dataclass, replace
from typing import Literal

from src.artifacts.errors import UserError
from src.recommenders.scores import Form

Name = Literal["VBPR", "AMR", "BPRMF", "AMF"]

PLAIN = {"AMR": "VBPR", "AMF": "BPRMF"}
"""Which model each adversarial one continues, and is compared with."""
VISUAL = ("VBPR", "AMR")
FACTOR_MODELS: tuple[Name, ...] = ("VBPR", "BPRMF", "AMR", "AMF")
"""What is trained; plain models before those that continue them. What is not: ``baselines.BASELINES``."""
_FORMS: dict[bool, dict[str, Form]] = {
    True: {"": "shared", "full": "full"},
    False: {"": "mf", "bias": "mf_bias"},
}
"""By whether the model is visual: what its name shows of its form."""
_LABEL = re.compile(
    rf"(?P<name>{'|'.join(FACTOR_MODELS)})(?P<form>full|bias)?(?:-(?P<variant>[a-z-]+))?"
)


@dataclass(frozen=True)
class Model:
    """A factor model: its name, its form, and the variant of its adversary."""

    name: Name
    form: Form
    variant: str = ""

    @classmethod
    def parse(cls, label: str) -> "Model":
        """Read a label back; raises ``UserError`` for anything that was not trained."""
        match = _LABEL.fullmatch(label)
        if match is None:
            raise UserError(f"{label!r} is not a factor model: it is none of {FACTOR_MODELS}")
        forms = _FORMS[match["name"] in VISUAL]
        if (match["form"] or "") not in forms:
            raise UserError(f"{label!r}: {match['name']} has no form {match['form']!r}")
        return cls(match["name"], forms[match["form"] or ""], match["variant"] or "")

    @property
    def label(self) -> str:
        """``VBPR``, ``BPRMFbias``, ``AMF-full``: what run names show."""
        form = next(label for label, form in _FORMS[self.visual].items() if form == self.form)
        return f"{self.name}{form}" + (f"-{self.variant}" if self.variant else "")

    @property
    def visual(self) -> bool:
        return self.name in VISUAL

    @property
    def adversarial(self) -> bool:
        return self.name in PLAIN

    @property
    def plain(self) -> "Model":
        """What an adversarial model continues; a plain model is its own."""
        return replace(self, name=PLAIN.get(self.name, self.name), variant="")
