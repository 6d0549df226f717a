"""Names of runs, which show recommenders and their options.

A model has the paper's name, then its form if that is not the default (``VBPRfull``, ``BPRMFbias``),
then for AMF the difference of its perturbation from He et al.'s (``AMF-full``), then the options that
are not at the published defaults: ``AMR_K8_eps0.3``.
"""

import re
from dataclasses import dataclass, replace

from src.artifacts.errors import UserError, choose_from
from src.artifacts.experiments import Run
from src.recommenders.recommender import Recommender
from src.recommenders.registry import RECOMMENDERS
from src.recommenders.scores import Form


@dataclass(frozen=True)
class Option:
    """Option of a training, as names of runs show it and as rec_generator.py takes it."""

    key: str
    flag: str
    adversarial: bool = False
    """True if only adversarial models read it."""


OPTIONS = {
    "factors": Option("K", "--emb1_K"),
    "batch": Option("batch", "--batch"),
    "learning_rates": Option("lr", "--lr"),
    "penalties": Option("regs", "--regs"),
    "regulariser": Option("reduction", "--reg_reduction"),
    "negatives": Option("neg", "--negatives"),
    "features": Option("features", "--features"),
    "hidden": Option("hidden", "--hidden"),
    "layers": Option("layers", "--layers"),
    "search": Option("search", "--search"),
    "weight": Option("lmd", "--adv_reg", adversarial=True),
    "epsilon": Option("eps", "--eps", adversarial=True),
    "kind": Option("type", "--adv_type", adversarial=True),
    "keep_accumulators": Option("acc", "--accumulators", adversarial=True),
    "steps": Option("advsteps", "--adv_steps", adversarial=True),
    "step_size": Option("stepsize", "--step_size", adversarial=True),
    "projection": Option("proj", "--projection", adversarial=True),
    "adversarial_epochs": Option("adv", "--adv_epochs", adversarial=True),
}
"""By the names that manifests have for them, in the order of names of runs."""
_ADVERSARIAL = re.compile(
    rf"_(?:{'|'.join(option.key for option in OPTIONS.values() if option.adversarial)})[^_]*"
)
_ADVERSARIAL_EPOCHS = re.compile(rf"_{OPTIONS['adversarial_epochs'].key}\d+")

_LABEL = re.compile(
    rf"(?P<name>{'|'.join(RECOMMENDERS)})(?P<form>[a-z]+)?(?:-(?P<variant>[a-z-]+))?"
)


@dataclass(frozen=True)
class Model:
    """Recommender: its name, its form if it has several, and the variant of its adversary."""

    name: str
    form: Form | None = None
    variant: str = ""

    @classmethod
    def parse(cls, label: str) -> "Model":
        """Read a label; ``UserError`` for a name that is not in the table of recommenders."""
        match = _LABEL.fullmatch(label)
        if match is None:
            raise UserError(f"{label!r} is no recommender: {choose_from(label, RECOMMENDERS)}")
        forms = RECOMMENDERS[match["name"]].forms
        if (match["form"] or "") not in forms:
            raise UserError(f"{label!r}: {match['name']} has no form {match['form']!r}")
        return cls(match["name"], forms[match["form"] or ""], match["variant"] or "")

    @property
    def label(self) -> str:
        """Label in run names: ``VBPR``, ``BPRMFbias``, ``AMF-full``."""
        form = next(label for label, form in self.kind.forms.items() if form == self.form)
        return f"{self.name}{form}" + (f"-{self.variant}" if self.variant else "")

    @property
    def kind(self) -> type[Recommender]:
        """Row of the recommender in the table."""
        return RECOMMENDERS[self.name]

    @property
    def plain(self) -> "Model":
        """Plain model that an adversarial one continues, or the model itself."""
        return replace(self, name=self.kind.continues or self.name, variant="")


def default_adversarial_epochs(epochs: int) -> int:
    """Return half of ``epochs``, rounded up."""
    return (epochs + 1) // 2


def with_adversarial_epochs(run: Run, adversarial_epochs: int) -> Run:
    """Return ``run`` with a number of adversarial epochs, which its name shows unless it is half."""
    options = _ADVERSARIAL_EPOCHS.sub("", run.options)
    if adversarial_epochs != default_adversarial_epochs(run.epochs):
        options += f"_{OPTIONS['adversarial_epochs'].key}{adversarial_epochs}"
    return replace(run, options=options)


def plain_run(run: Run) -> Run:
    """Return the plain run of as many epochs, with the options that it reads, or ``run`` if plain."""
    label = Model.parse(run.model).plain.label
    return replace(run, model=label, options=_ADVERSARIAL.sub("", run.options))
