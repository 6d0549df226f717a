"""Recipe, schedule and budget of the user's options, completed with defaults."""

import argparse
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any

from src.artifacts.errors import UserError
from src.extractors.architectures import build_extractor, check_arch, input_size
from src.extractors.zoo import code_of, recorded_name, split_arch
from src.training.adversaries import Adversary, AdversaryBudget, AttackAdversary, Free
from src.training.arp_keys import parse_keys, with_keys
from src.training.attention import Attention
from src.training.command import WITHOUT_LABELS, RecipeOptions
from src.training.config_names import parse_config
from src.training.cost import Cost, cost_of
from src.training.loop import Schedule
from src.training.losses import Denoising, EmbeddingLoss
from src.training.metric_losses import METRIC_LOSSES, metric_loss
from src.training.miners import MINERS
from src.training.objectives import misclassify
from src.training.pictures import FLIPPED, UNCHANGED, Augmentation, parse_augmentation
from src.training.recipes import (
    CLASSIFIER_ADVERSARIES,
    RECIPES,
    Recipe,
    Training,
    altered,
    chosen,
    described,
    hardness_manipulation,
    parts,
)
from src.training.sharing import parse_gradient_defence
from src.training.terms import barlow_twins, benign_departure, intraclass_structure

_HM_ONLY = ("dest", "objective", "anchor")


@dataclass(frozen=True)
class Defaults:
    """Default schedule and budget for a kind of network."""

    schedule: Schedule
    eps: float
    """Budget in grey levels of 255, the unit of ``step`` too."""
    step: float
    steps: int


CLASSIFIERS = Defaults(Schedule(epochs=12), eps=4, step=1, steps=7)
# Found on 256 fashion photos. The rate of SGD above makes SqueezeNet's loss NaN, and a tenth of it ruins
# its features.
TRAINED_CLASSIFIERS = replace(
    CLASSIFIERS,
    schedule=Schedule(epochs=12, batch_size=32, lr=3e-4, optimizer="adamw", weight_decay=1e-4),
)
# The published settings; learning rate and inner steps are those of the published code.
SMALL_EMBEDDERS = Defaults(
    Schedule(8, 128, 1e-3, "adam", weight_decay=1e-7, augmentation=UNCHANGED),
    eps=77,
    step=3,
    steps=32,
)
LARGE_EMBEDDERS = Defaults(
    Schedule(75, 56, 1e-5, "adam", weight_decay=4e-4, augmentation=Augmentation("crop", 224)),
    eps=8,
    step=1,
    steps=8,
)

# FARE's published settings, but for the number of passes: a catalogue is much smaller than ImageNet.
LARGE_FARE = Defaults(
    Schedule(20, 128, 1e-5, "adamw", weight_decay=1e-4, augmentation=UNCHANGED),
    eps=4,
    step=1,
    steps=10,
)
# Tuned on Fashion-MNIST. The budget is larger than the attacks' 8, and few long steps do as well as many.
SMALL_FARE = Defaults(
    replace(LARGE_FARE.schedule, epochs=60, batch_size=64, lr=3e-3), eps=10, step=5, steps=3
)
# The published ones.
DENOISER = Defaults(
    Schedule(100, 16, 1e-4, "adam", weight_decay=0.0, augmentation=UNCHANGED),
    eps=8,
    step=1,
    steps=8,
)

# 50,000 iterations on CIFAR-10; 0.15 of pixels in [-1, 1].
PUBLISHED_ARP = Defaults(
    Schedule(50, 50, 1e-4, "adam", weight_decay=0.032, decays="dense", augmentation=FLIPPED),
    eps=0.15 / 2 * 255,
    step=1,
    steps=1,
)


CONSERVATIVE: dict[str, Any] = {
    "batch_size": 64,
    "lr": 0.1,
    "optimizer": "sgd",
    "momentum": 0.9,
    "weight_decay": 5e-4,
    "decays": "all",
    "lr_drops": (2.667, 1.6, 1.142),
}
"""The strategy of that name for networks whose gradients are inverted (Geiping et al. 2020)."""


def defaults_of(arch: str, preset: str | None = None, recipe: str = "plain") -> Defaults:
    """Return our defaults of classifiers, or the published ones of embedders for 28 or 224 pixels.

    The ``preset`` ``paper`` has the published ones of attention rectification and preservation.
    Recipes of networks that are trained already have their own.
    """
    if preset == "paper":
        return PUBLISHED_ARP
    if recipe in WITHOUT_LABELS:
        if isinstance(parts(RECIPES[recipe])[0].loss, Denoising):
            return DENOISER
        return SMALL_FARE if input_size(arch) < 224 else LARGE_FARE
    if split_arch(arch)[1] is None:
        return CLASSIFIERS
    return SMALL_EMBEDDERS if input_size(arch) < 224 else LARGE_EMBEDDERS


@dataclass(frozen=True)
class Job:
    """Training of ``train_extractor.py``: network, recipe, schedule and budget."""

    arch: str
    dataset: str | None
    """Layout of a retrieval set."""
    recipe: str
    """Name of the row of ``RECIPES``."""
    training: Training
    schedule: Schedule
    eps: float
    """Budget in grey levels of 255."""
    pretrained: str | None = None

    @property
    def is_embedder(self) -> bool:
        return split_arch(self.arch)[1] is not None

    @property
    def denoises(self) -> bool:
        return isinstance(parts(self.training)[0].loss, Denoising)

    def notes(self) -> Iterator[str]:
        """Yield properties of the recipe that a user may not expect."""
        for recipe in parts(self.training):
            if recipe.adversary is None and self.recipe == "hm":
                yield "source and destination are the same: nothing is perturbed"
            elif _has_structure(recipe) and recipe.adversary and recipe.adversary.perturbs == "pn":
                yield "anchors are not perturbed, so the intraclass structure term stays at 0"

    def cost(self) -> Cost | None:
        """Return the cost of a classifier's step; None for embedders and denoisers."""
        recipe = parts(self.training)[0]
        if self.is_embedder or self.denoises:
            return None
        return cost_of(recipe, has_closed_form(recipe, self.arch))

    def described(self) -> dict[str, object]:
        """Return the training in values that JSON knows, without fields of the schedule that are None."""
        return {
            "arch": recorded_name(self.arch),
            **({"code": code} if (code := code_of(self.arch)) else {}),
            "pretrained": self.pretrained,
            "recipe": described(self.training),
            **asdict(self.schedule, dict_factory=_without_none),
        }


def _without_none(items: list[tuple[str, object]]) -> dict[str, object]:
    return {name: value for name, value in items if value is not None}


def job_of(
    options: argparse.Namespace, recipe_options: RecipeOptions, started: str | None = None
) -> Job:
    """Return the training that the options of ``train_extractor.py`` name, completed with defaults.

    ``started`` is the architecture of the network that the training continues, if it continues one.
    """
    arch, dataset = started or options.arch or "resnet18", options.dataset
    if options.C:
        for name in ("arch", "dataset"):
            if getattr(options, name) is not None:
                raise UserError(f"-C says what --{name} says: give one of them")
        config = parse_config(options.C)
        arch, dataset = config.arch, config.dataset
        beside = {"steps": recipe_options.steps or config.options.steps}
        recipe_options = replace(config.options, batch_norm=recipe_options.batch_norm, **beside)
    keys = parse_keys(recipe_options.arp)
    defaults = defaults_of(check_arch(arch), keys.get("preset"), recipe_options.recipe)
    eps = defaults.eps if options.eps is None else options.eps
    training = build_recipe(recipe_options, arch, eps, options.step_size)
    if options.replays is not None:
        training = altered(training, lambda recipe: _with_replays(recipe, options.replays))
    if defaults is CLASSIFIERS and started:
        defaults = TRAINED_CLASSIFIERS
    schedule = _scheduled(defaults.schedule, options)
    if options.units is not None:
        schedule = replace(schedule, epochs=_epochs_for(options.units, training, arch))
    if schedule.augmentation.kind == "crop":
        side = options.size or input_size(arch)
        schedule = replace(schedule, augmentation=Augmentation("crop", side))
    return Job(arch, dataset, recipe_options.recipe, training, schedule, eps, options.pretrained)


def _scheduled(usual: Schedule, options: argparse.Namespace) -> Schedule:
    """Return ``usual`` with the changes of the options."""
    changed = {
        "epochs": options.epochs,
        "batch_size": options.batch,
        "lr": options.lr,
        "augmentation": options.augmentation,
        "gradient_defence": options.gradient_defence,
    }
    given = {name: value for name, value in changed.items() if value is not None}
    if "augmentation" in given:
        given["augmentation"] = parse_augmentation(options.augmentation)
    if "gradient_defence" in given:
        parse_gradient_defence(options.gradient_defence)  # raises an error that says what is wrong
    base = CONSERVATIVE if options.schedule == "conservative" else {}
    return replace(usual, seed=options.seed, **{**base, **given})


def _epochs_for(units: float, training: Training, arch: str) -> int:
    """Return the number of passes, at least one, that cost about ``units`` of plain training."""
    if split_arch(arch)[1] is not None:
        raise UserError("--units is for classifiers: an embedder's cost depends on its triplets")
    recipe = parts(training)[0]
    return max(1, round(units / cost_of(recipe, has_closed_form(recipe, arch)).total))


def has_closed_form(recipe: Recipe, arch: str) -> bool:
    """Return whether ``recipe`` reads the attention of a network ``arch`` without differentiation."""
    if recipe.attention is None or recipe.attention.map == "energy":
        return True
    return _is_averaged(recipe.attention, arch)


@cache
def _is_averaged(attention: Attention, arch: str) -> bool:
    """Build a network ``arch`` and return whether its attention is averaged."""
    return attention.watch(build_extractor(arch, ("a", "b"))).averaged


def _with_replays(recipe: Recipe, replays: int) -> Recipe:
    if not isinstance(recipe.adversary, Free):
        raise UserError("--replays belongs to the recipes of free adversarial training")
    return replace(recipe, adversary=replace(recipe.adversary, replays=replays))


def build_recipe(options: RecipeOptions, arch: str, eps: float, step: float | None) -> Training:
    """Return the recipe of ``options`` for ``arch``, within ``eps`` in steps of ``step`` grey levels.

    ``step`` None is the default. A single step, as in FGSM and in Free-AT for classifiers, has the length
    ``eps`` unless ``step`` is given. Raises ``UserError`` for options that do not go together.
    """
    training = _named(options)
    keys = parse_keys(options.arp)
    defaults = defaults_of(arch, keys.get("preset"), options.recipe)
    is_embedder = split_arch(arch)[1] is not None
    if is_embedder != _embeds(training) and options.recipe not in WITHOUT_LABELS:
        needed = "an embedder (--arch resnet18+512)" if _embeds(training) else "a classifier"
        raise UserError(f"recipe {options.recipe} trains {needed}, not {arch}")
    steps = options.steps or defaults.steps

    def finished(recipe: Recipe) -> Recipe:
        recipe = _with_terms(_with_loss(recipe, options), options)
        if keys:
            recipe = with_keys(recipe, keys)
        recipe = _with_clean_weight(recipe, options)
        if options.adversary is not None:
            recipe = _with_adversary(recipe, options)
        if recipe.fine_tunes and options.batch_norm:
            raise UserError(f"--batch_norm does not go with recipe {options.recipe}")
        recipe = replace(recipe, batch_norm=options.batch_norm or recipe.batch_norm)
        if recipe.adversary is None:
            return recipe
        carried = isinstance(recipe.adversary, Free)
        n_steps = 1 if carried else steps
        whole = n_steps == 1 and not (carried and is_embedder)
        length = step or (eps if whole else defaults.step)
        budget = AdversaryBudget(eps / 255, length / 255, n_steps)
        return replace(recipe, adversary=replace(recipe.adversary, budget=budget))

    training = altered(training, finished)
    for recipe in parts(training):
        _check(recipe, options.recipe)
    return training


def _named(options: RecipeOptions) -> Training:
    """Return a row of ``RECIPES``, or HM[S, D] made of its parts."""
    if options.recipe == "hm":
        return hardness_manipulation(
            options.source or "softhard",
            options.dest or "lga",
            options.objective or "et",
            options.anchor or "free",
        )
    training = chosen(RECIPES, options.recipe, "recipe")
    if given := [name for name in _HM_ONLY if getattr(options, name) is not None]:
        raise UserError(f"--{given[0]} belongs to --recipe hm, not to {options.recipe}")
    if options.source is None:
        return training
    if options.recipe == "hm-mix":
        raise UserError("recipe hm-mix has miners of its own: it takes no --source")
    miner = chosen(MINERS, options.source, "miner")
    return altered(training, lambda recipe: replace(recipe, miner=miner))


def _with_loss(recipe: Recipe, options: RecipeOptions) -> Recipe:
    if not isinstance(recipe.loss, EmbeddingLoss):
        for name in ("loss", "metric", "margin", "source"):
            if getattr(options, name) is not None:
                raise UserError(f"--{name} belongs to embedders, not to recipe {options.recipe}")
        return recipe
    loss = EmbeddingLoss(
        options.loss or recipe.loss.name, options.metric or recipe.loss.metric, options.margin
    )
    named = metric_loss(loss.name, loss.metric)  # raises an error that says what is wrong
    if options.margin is not None and not named.has_margin:
        raise UserError(f"--margin does not go with the loss {loss.name}, which has none")
    return replace(recipe, loss=loss)


def _with_adversary(recipe: Recipe, options: RecipeOptions) -> Recipe:
    without_classes = isinstance(recipe.loss, EmbeddingLoss) or recipe.fine_tunes
    if not isinstance(recipe.adversary, Adversary) or without_classes:
        raise UserError(f"--adversary does not go with recipe {options.recipe}")
    named = AttackAdversary("all", misclassify, attack=options.adversary)
    adversary = CLASSIFIER_ADVERSARIES.get(options.adversary, named)
    return replace(recipe, adversary=replace(adversary, gate=recipe.adversary.gate))


def _with_clean_weight(recipe: Recipe, options: RecipeOptions) -> Recipe:
    if options.clean_weight is None:
        return recipe
    if benign_departure not in [term for _, term in recipe.terms]:
        raise UserError(f"--clean_weight belongs to fare and fare_rec, not to {options.recipe}")
    if options.clean_weight < 0:
        raise UserError("--clean_weight must not be negative")
    return replace(recipe, terms=((options.clean_weight, benign_departure),))


def _with_terms(recipe: Recipe, options: RecipeOptions) -> Recipe:
    weights = ((options.ics, intraclass_structure), (options.barlow, barlow_twins))
    given = tuple((weight, term) for weight, term in weights if weight is not None)
    if given and not isinstance(recipe.loss, EmbeddingLoss):
        raise UserError(f"--ics and --barlow belong to embedders, not to recipe {options.recipe}")
    added = tuple((weight, term) for weight, term in given if weight)
    return replace(recipe, terms=recipe.terms + added)


def _check(recipe: Recipe, name: str) -> None:
    """Raise ``UserError`` for a loss that does not fit the adversary's triplets or its hardness."""
    moves_triplets = recipe.adversary is not None and recipe.adversary.perturbs != "all"
    if moves_triplets and METRIC_LOSSES[recipe.loss.name].of_triplets is None:
        raise UserError(f"the loss {recipe.loss.name} cannot judge perturbed triplets")
    if name.startswith("hm") and recipe.loss.metric != "N":
        raise UserError(f"recipe {name} measures hardness on the unit sphere: --metric N")


def _has_structure(recipe: Recipe) -> bool:
    return any(term is intraclass_structure for _, term in recipe.terms)


def _embeds(training: Training) -> bool:
    return isinstance(parts(training)[0].loss, EmbeddingLoss)
