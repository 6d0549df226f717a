"""Recipes of training as data: a loss, its images, an adversary and terms.

Metric learning and its names follow Zhou and Patel, "Enhancing Adversarial Robustness for Deep Metric
Learning" (CVPR 2022), and Zhou et al., "Adversarial Attack and Defense in Deep Ranking"
(2021).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Literal, TypeVar

import torch

from src.artifacts.errors import UserError, choose_from
from src.attacks.least_likely import half_sign_start
from src.attacks.pgd import random_start
from src.training.adversaries import Adversary, Free, Gate, near_start
from src.training.attention import Attention, Preserve, Rectify
from src.training.batches import Batches, pairs, plain
from src.training.hardness import LossGuided, parse_destination
from src.training.losses import (
    CrossEntropy,
    Denoising,
    EmbeddingLoss,
    FeatureDeparture,
    Loss,
    MixedCrossEntropy,
)
from src.training.miners import MINERS, Miner
from src.training.objectives import (
    HARDNESS_OBJECTIVES,
    collapse,
    collapse_all,
    collapse_or_invert,
    depart,
    diverge,
    harden,
    invert,
    misclassify,
    resemble_least_likely,
    shift,
)
from src.training.terms import (
    Term,
    benign_departure,
    embedding_shift,
    intraclass_structure,
    prediction_shift,
)

Value = TypeVar("Value")


@dataclass(frozen=True)
class Recipe:
    """Quantity that a training step minimises, and the images on which it does so."""

    loss: Loss
    batches: Batches
    adversary: Adversary | Free | None = None
    miner: Miner = MINERS["random"]
    """Miner of the perturbed triplets, if triplets are perturbed, and of the triplets of the loss."""
    loss_on: Literal["perturbed", "benign"] = "perturbed"
    terms: tuple[tuple[float, Term], ...] = ()
    """Pairs of a weight and a term, which are added to the loss."""
    batch_norm: Literal["frozen", "train"] = "frozen"
    """frozen keeps the initial statistics of batch norm; its affine part is always trained."""
    attention: Attention | None = None
    """Maps that terms and the adversary's gate read."""
    warm_up: float = 0.0
    """Part of the steps in which the weights of the terms grow from 0."""
    clip_norm: float | None = None
    """Largest length of the gradient of all weights."""

    @property
    def together(self) -> bool:
        """True if benign and perturbed images share one forward."""
        return isinstance(self.loss, MixedCrossEntropy) and self.adversary is not None

    @property
    def fine_tunes(self) -> bool:
        """True if a network that is trained already is kept close to itself, without classes."""
        return isinstance(self.loss, FeatureDeparture)

    @property
    def has_teacher(self) -> bool:
        return any(isinstance(t, Preserve) and t.teacher == "frozen" for _, t in self.terms)

    def share_of_terms(self, progress: float) -> float:
        """Return the share of the terms' full weights after a share ``progress`` of the steps."""
        return min(1.0, progress / self.warm_up) if self.warm_up else 1.0

    @property
    def replays(self) -> int:
        """Number of steps on each mini-batch; epochs are divided by it for equal cost of recipes."""
        return self.adversary.replays if isinstance(self.adversary, Free) else 1


@dataclass(frozen=True)
class Mix:
    """Training in which each step follows ``first`` with ``probability``, else ``second``."""

    probability: float
    first: Recipe
    second: Recipe


Training = Recipe | Mix

_CLASSIFY = Recipe(CrossEntropy(), plain, batch_norm="train")
_EMBED = Recipe(EmbeddingLoss(), pairs)

_PGD = Adversary("all", misclassify, start=random_start)
CLASSIFIER_ADVERSARIES: dict[str, Adversary] = {
    "fgsm": Adversary("all", misclassify, leap=1.0),
    "pgd": _PGD,
    "stepll": Adversary("all", resemble_least_likely, leap=1.0),
    "r_stepll": Adversary("all", resemble_least_likely, start=half_sign_start, leap=0.5),
    "iterll": Adversary("all", resemble_least_likely),
}
"""Adversaries of classifiers that draw their starts from the training's generator, as recipes do.
Every other attack of ``registry.ATTACKS`` may be named too (``adversaries.AttackAdversary``)."""

_MIXED = Recipe(MixedCrossEntropy(), plain, _PGD, batch_norm="train")
_ARP = replace(
    _MIXED,
    attention=Attention(),
    terms=((0.5, Preserve()), (0.25, Rectify())),
    warm_up=0.2,
    clip_norm=5.0,
)

_FARE = Recipe(
    FeatureDeparture(),
    plain,
    Adversary("all", depart, start=random_start),
    terms=((0.5, benign_departure),),
)
_DENOISER = replace(_FARE, loss=Denoising(), terms=(), batch_norm="train")

_ACT = replace(_EMBED, adversary=Adversary("pn", collapse))
_AMDSEMI = replace(_EMBED, adversary=Adversary("apn", harden, LossGuided(power=0.5)))


def chosen(choices: Mapping[str, Value], name: str, kind: str) -> Value:
    """Return ``choices[name]``; ``UserError`` lists the choices for an unknown name."""
    if name not in choices:
        raise UserError(f"unknown {kind} {name}: {choose_from(name, choices)}")
    return choices[name]


def hardness_manipulation(
    source: str, destination: str, objective: str = "et", anchor: str = "free"
) -> Recipe:
    """Return HM[S, D], in which triplets of the miner ``source`` become as hard as ``destination``.

    ``hardness.parse_destination`` reads ``destination``; ``objective`` is a key of
    ``HARDNESS_OBJECTIVES``; a ``fixed`` anchor is not perturbed. HM[X, X] has no adversary, since its
    triplets are already as hard as they should be. Raises ``UserError`` for unknown names.
    """
    recipe = replace(_EMBED, miner=chosen(MINERS, source, "miner"))
    descend = chosen(HARDNESS_OBJECTIVES, objective, "objective")
    perturbs = chosen({"free": "apn", "fixed": "pn"}, anchor, "kind of anchor")
    if source == destination:
        return recipe
    return replace(recipe, adversary=Adversary(perturbs, descend, parse_destination(destination)))


RECIPES: dict[str, Training] = {
    # Classifiers.
    "plain": _CLASSIFY,
    "madry": replace(_CLASSIFY, adversary=_PGD),
    "free": replace(_CLASSIFY, adversary=Free("all")),
    "trades": replace(
        _CLASSIFY,
        adversary=Adversary("all", diverge, start=near_start),
        loss_on="benign",
        terms=((6.0, prediction_shift),),
    ),
    # Benign and perturbed images, with terms on the network's attention.
    "pgd_at": _MIXED,
    "stepll_at": replace(_MIXED, adversary=CLASSIFIER_ADVERSARIES["stepll"]),
    "preserve": replace(_ARP, terms=_ARP.terms[:1]),
    "rectify": replace(_ARP, terms=_ARP.terms[1:]),
    "arp": _ARP,
    "arp_strong": replace(_ARP, adversary=replace(_PGD, gate=Gate())),
    # Networks that are trained already: no classes, and features stay where they are.
    "fare": _FARE,
    "fare_rec": replace(_FARE, loss=FeatureDeparture("recommender")),
    "denoiser": _DENOISER,
    "denoiser_adv": replace(_DENOISER, loss=Denoising(attacked="denoised")),
    # Embedders. Only EST was published with batch norm that follows its batches.
    "none": _EMBED,
    "est": replace(_EMBED, adversary=Adversary("all", shift), batch_norm="train"),
    "rest": replace(_EMBED, adversary=Adversary("pn", shift)),
    "ses": replace(
        _EMBED,
        adversary=Adversary("all", shift),
        loss_on="benign",
        terms=((1.0, embedding_shift),),
    ),
    "act": _ACT,
    "tbc": replace(_EMBED, adversary=Adversary("apn", collapse_all)),
    "acap": replace(_EMBED, adversary=Adversary("apn", collapse_or_invert)),
    "amd": replace(_EMBED, adversary=Adversary("apn", invert)),
    "ramd": replace(_EMBED, adversary=Adversary("pn", invert)),
    "amdsemi": _AMDSEMI,
    "amdsemi-aap": replace(_AMDSEMI, terms=((1.0, intraclass_structure),)),
    "free-est": replace(_EMBED, adversary=Free("all")),
    "free-amd": replace(_EMBED, adversary=Free("apn")),
    "free-amdsemi": replace(_EMBED, adversary=Free("apn", release=-0.2)),
    "hm": hardness_manipulation("softhard", "lga"),
    "act-or-none": Mix(0.5, _ACT, _EMBED),
    "act-or-amdsemi": Mix(0.5, _ACT, _AMDSEMI),
    "hm-mix": Mix(
        0.5,
        hardness_manipulation("random", "semihard"),
        hardness_manipulation("softhard", "semihard"),
    ),
}


def parts(training: Training) -> tuple[Recipe, ...]:
    """Return the recipes that a training follows, one or two."""
    return (training,) if isinstance(training, Recipe) else (training.first, training.second)


def altered(training: Training, alter: Callable[[Recipe], Recipe]) -> Training:
    """Return the training with each of its recipes altered."""
    if isinstance(training, Recipe):
        return alter(training)
    return replace(training, first=alter(training.first), second=alter(training.second))


def described(value: object) -> object:
    """Return a recipe or a part of it in values that JSON knows: functions by name, the rest by field."""
    if is_dataclass(value):
        content = {field.name: described(getattr(value, field.name)) for field in fields(value)}
        return {type(value).__name__: content}
    if isinstance(value, tuple):
        return [described(part) for part in value]
    return value.__name__ if callable(value) else value


def drawn(training: Training, generator: torch.Generator) -> Recipe:
    """Return the recipe of the next step."""
    if isinstance(training, Recipe):
        return training
    heads = torch.rand((), generator=generator) < training.probability
    return training.first if heads else training.second
