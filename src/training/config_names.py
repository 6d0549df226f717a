"""Names of published experiments: ``cub:rres18ghmetsmi:ptripletN`` is data set, model and loss.

A model is a task letter (r: embedder, c: classifier), a backbone and a defence. The name of hardness
manipulation HM[S, D] has ``g`` for a gradual destination, ``hm`` or ``rh`` for a free or a fixed anchor,
the objective, the letters of S and D, and ``i`` for ICS. A loss is ``p`` for pairs, the letter of a miner
unless it is random, the loss and its metric.
"""

import re
from dataclasses import dataclass, replace

from src.artifacts.errors import UserError
from src.training.command import RecipeOptions
from src.training.miners import MINER_LETTERS

DATASETS = ("mnist", "fashion", "cub", "cars", "sop", "cifar10", "cifar100")

EMBEDDERS = {
    "c2f2": "c2f2+512",
    "lenet": "lenet+128",
    "res18": "resnet18+512",
    "res50": "resnet50+512",
    "mnas05": "mnasnet0_5+512",
    "mnas10": "mnasnet1_0+512",
    "effb0": "efficientnet_b0+512",
    "swint": "swin_t+512",
    "swins": "swin_s+512",
    "swinb": "swin_b+512",
}
CLASSIFIERS = {"c2f2": "c2f2", "lenet": "lenet", "res18": "resnet18", "res50": "resnet50"}

DEFENCES: dict[str, RecipeOptions] = {
    "": RecipeOptions("none"),
    "d": RecipeOptions("est"),
    "df": RecipeOptions("est", steps=1),
    "r": RecipeOptions("rest"),
    "e": RecipeOptions("ses"),
    "p": RecipeOptions("act"),
    "pf": RecipeOptions("act", steps=1),
    "pa": RecipeOptions("act"),  # every adversary here uses the metric of the loss
    "px": RecipeOptions("act-or-none"),
    "pbt": RecipeOptions("act", barlow=1e-5),
    "t": RecipeOptions("tbc"),
    "a": RecipeOptions("acap"),
    "m": RecipeOptions("amd"),
    "amd": RecipeOptions("amd"),
    "ramd": RecipeOptions("ramd"),
    "amdsemi": RecipeOptions("amdsemi"),
    "amdsemiaap": RecipeOptions("amdsemi-aap"),
    "amdsemiact": RecipeOptions("act-or-amdsemi"),
    "fatnone": RecipeOptions("free-est"),
    "fatamd": RecipeOptions("free-amd"),
    "fatamdsemi": RecipeOptions("free-amdsemi"),
    "hmix": RecipeOptions("hm-mix"),
}

ICS_WEIGHT = 0.5
ICS_WEIGHTS = {"sop": 0.05}
"""Published weights by data set that differ from ``ICS_WEIGHT``."""

_LOSSES = {"contrast": "contrast", "glift": "lift"} | {
    name: name
    for name in (
        *("triplet", "tripxa", "margin", "quad", "rhom", "ms", "npair"),
        *("snr", "angular", "nca", "ice"),
    )
}

_NAME = re.compile(r"(\w+):(\w+):(\w+)")
_MODEL = re.compile(rf"r({'|'.join(EMBEDDERS)})(\w*)")
_HARDNESS = re.compile(r"(g?)(hm|rh)(kl|l2|et)([rmsdh])([rmsdh])(i?)")
_LOSS = re.compile(rf"p([mshdD]?)({'|'.join(_LOSSES)})(BT)?([CEN])")
_CLASSIFIER = re.compile(rf"c({'|'.join(CLASSIFIERS)})")


@dataclass(frozen=True)
class Config:
    """Options of ``train_extractor.py`` that an experiment's name stands for."""

    dataset: str
    arch: str
    options: RecipeOptions


@dataclass(frozen=True)
class HardnessName:
    """Parts of the name of a defence by hardness manipulation."""

    gradual: bool
    anchor: str
    """Kind: ``hm`` or ``rh``."""
    objective: str
    source: str
    destination: str
    """Letter of the destination; with ``gradual`` it has no meaning unless it equals the source's."""
    ics: bool

    def __str__(self) -> str:
        gradual, ics = "g" * self.gradual, "i" * self.ics
        return f"{gradual}{self.anchor}{self.objective}{self.source}{self.destination}{ics}"

    def options(self, dataset: str) -> RecipeOptions:
        """Return the options; equal source and destination mean training without an adversary."""
        source, destination = MINER_LETTERS[self.source], MINER_LETTERS[self.destination]
        gradual = self.gradual and source != destination
        return RecipeOptions(
            "hm",
            source=source,
            dest="lga" if gradual else destination,
            objective=self.objective,
            anchor="free" if self.anchor == "hm" else "fixed",
            ics=ICS_WEIGHTS.get(dataset, ICS_WEIGHT) if self.ics else None,
        )


def parse_hardness_name(text: str) -> HardnessName | None:
    """Parse a name such as ``ghmetsmi``; None for other words."""
    match = _HARDNESS.fullmatch(text)
    if match is None:
        return None
    gradual, anchor, objective, source, destination, ics = match.groups()
    return HardnessName(bool(gradual), anchor, objective, source, destination, bool(ics))


def parse_config(name: str) -> Config:
    """Parse ``dataset:model:loss``; ``UserError`` names an unknown part."""
    match = _NAME.fullmatch(name)
    if match is None:
        raise UserError(f"{name!r} is no <dataset>:<model>:<loss>")
    dataset, model, loss = match.groups()
    if dataset not in DATASETS:
        raise UserError(f"unknown data set {dataset}: choose from {', '.join(DATASETS)}")
    if classifier := _CLASSIFIER.fullmatch(model):
        if loss != "ce":
            raise UserError(f"{model} is a classifier: its loss is ce, not {loss}")
        return Config(dataset, CLASSIFIERS[classifier[1]], RecipeOptions("plain"))
    embedder = _MODEL.fullmatch(model)
    if embedder is None:
        known = ", ".join(f"r{backbone}" for backbone in EMBEDDERS)
        raise UserError(
            f"unknown model {model}: it must start with {known}, or be c and a backbone, like cres18"
        )
    backbone, defence = embedder.groups()
    return Config(dataset, EMBEDDERS[backbone], _with_loss(_defence(defence, dataset), loss))


def _defence(text: str, dataset: str) -> RecipeOptions:
    if hardness := parse_hardness_name(text):
        return hardness.options(dataset)
    if text not in DEFENCES:
        known = ", ".join(filter(None, DEFENCES))
        raise UserError(f"unknown defence {text}: hm or rh with its letters, or one of {known}")
    return DEFENCES[text]


def _with_loss(options: RecipeOptions, text: str) -> RecipeOptions:
    """Add the loss of ``text``; it also sets the miner, except with hardness manipulation."""
    match = _LOSS.fullmatch(text)
    if match is None:
        known = ", ".join(_LOSSES)
        raise UserError(f"unknown loss {text}: p, [m s h d D], one of {known}, then C, E or N")
    letter, loss, barlow, metric = match.groups()
    source = options.source
    if letter and not options.recipe.startswith("hm"):
        source = MINER_LETTERS[letter]
    weight = 1e-5 if barlow else options.barlow
    return replace(options, loss=_LOSSES[loss], metric=metric, source=source, barlow=weight)
