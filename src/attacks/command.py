"""Command line of the scripts about attacks."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from src.artifacts.errors import UserError
from src.artifacts.experiments import (
    CLASS_MEANS,
    DEMOTE,
    LINEAR,
    LIST_OBJECTIVES,
    NO_HEAD,
    Experiment,
    Run,
)
from src.artifacts.fidelity import Fidelity
from src.artifacts.layout import Layout
from src.attacks.given import Given, given_files
from src.attacks.items import Items
from src.attacks.registry import Noise
from src.attacks.settings import AttackSettings, add_attack_options, attack_settings, experiment
from src.cli import (
    Parser,
    add_common_options,
    add_extractor_options,
    add_fidelity_option,
    fidelity_of,
)
from src.datasets.image_files import limit_pixels
from src.defences.defence import NONE
from src.defences.options import add_preprocess_option, model_dir_of
from src.recommenders.models import Model
from src.recommenders.read_out import score_weights_of, weights_text
from src.recommenders.recommender import Recommender


def named_experiment(
    options: argparse.Namespace,
    settings: AttackSettings,
    fidelity: Fidelity,
    scored_by: Path | None,
) -> Experiment:
    """Name the experiment of parsed options; ``scored_by`` are the weights of ``--score_model``.

    ``UserError`` for an attack on lists without them, but for given images.
    """
    recommender = ""
    if settings.objective and scored_by is None and not isinstance(settings.attack, Given):
        raise UserError(
            f"--objective {options.objective} needs a recommender: --score_model or --weights"
        )
    if settings.objective and scored_by:
        recommender = weights_text(Run.parse_weights_name(scored_by.stem))
    return experiment(settings, model_dir_of(options), fidelity, recommender)


@dataclass(frozen=True)
class AttackCommand:
    """Attack on a data set that the options describe."""

    options: argparse.Namespace
    settings: AttackSettings
    fidelity: Fidelity
    layout: Layout
    experiment: Experiment
    scored_by: Path | None = None
    """Weight file of the recommender whose lists are attacked; None for an attack on classes."""

    @classmethod
    def parse(
        cls,
        description: str | None,
        *,
        attack: str = "pgd",
        eps: float = 8.0,
        add_options: Callable[[argparse.ArgumentParser], None] | None = None,
    ) -> "AttackCommand":
        """Read the command line; ``attack`` and ``eps`` are the script's own defaults.

        ``add_options`` adds the options of that script alone.
        """
        parser = Parser(description or "")
        add_common_options(parser)
        add_attack_options(parser, attack=attack, eps=eps)
        add_extractor_options(parser)
        add_preprocess_option(parser)
        add_fidelity_option(parser)
        if add_options:
            add_options(parser)
        options = parser.parse_args()
        limit_pixels(options.max_pixels)
        fidelity = fidelity_of(options)
        settings = attack_settings(options, fidelity)
        _check_head(options.head, settings, fidelity)
        layout = Layout(options.dataset, options.root)
        layout.require_data()
        scored_by = score_weights_of(options, layout, Experiment(model_dir_of(options)))
        if scored_by:
            check_recommender(options, settings, _kind_of(scored_by))
        elif settings.target_item is not None:
            raise UserError("--target_item needs a recommender: --score_model or --weights")
        name = named_experiment(options, settings, fidelity, scored_by)
        return cls(options, settings, fidelity, layout, name, scored_by)

    @property
    def reads_pixels(self) -> bool:
        """True if the recommender whose lists are attacked has a network of its own."""
        return self.scored_by is not None and _kind_of(self.scored_by).reads_pixels

    def require_attacked(self) -> None:
        """Raise ``UserError`` unless stage 3 has been run with the same options."""
        folder = self.layout.experiment(self.experiment)
        if not self.layout.classes(self.experiment).is_file():
            raise UserError(
                f"no attacked experiment at {folder}: run classify_extract_attack.py with the same "
                "options first"
            )

    @property
    def resembled(self) -> Path | None:
        """Return the report of the attack whose changes have the size of this noise; None without noise.

        Raises ``UserError`` if stage 3 has not been run for that attack.
        """
        attack = self.settings.attack
        if not isinstance(attack, Noise) or not attack.like:
            return None
        kind, _, parameters = attack.like.partition("_")
        objective, _, rest = parameters.partition("_")
        liked = replace(self.experiment, attack=kind, parameters=parameters)
        if objective.removeprefix(DEMOTE) in LIST_OBJECTIVES:
            liked = replace(liked, target=None, parameters=rest, objective=objective)
        path = self.layout.attack_report(liked)
        if not path.is_file():
            raise UserError(f"missing file: {path}; run classify_extract_attack.py for it first")
        return path

    @property
    def given(self) -> dict[int, Path]:
        """Files of images that were attacked elsewhere, by item id; none for an attack.

        ``UserError`` where they are not items of the catalogue.
        """
        attack = self.settings.attack
        if not isinstance(attack, Given):
            return {}
        return given_files(attack.folder(self.layout), self.layout.images)

    @property
    def chosen_by(self) -> tuple[Path, ...]:
        """Files that decide which items are attacked and for whom, besides those of stage 1."""
        items, attack = self.settings.items, self.settings.attack
        files = [self.scored_by] if self.settings.objective and self.scored_by else []
        by_interactions = bool(files) or items != Items()
        if isinstance(attack, Given):
            by_interactions = bool(files)
            files += [attack.folder(self.layout)]
        elif items.file:
            files += [Path(items.file)]
        if by_interactions:
            files += [self.layout.training_set, *self.layout.held_out_sets]
        return tuple(files)

    @property
    def stage_1(self) -> str:
        """Return the command that classifies the clean images with the same extractor."""
        options = self.options
        command = f"python classify_extract.py --dataset {options.dataset}"
        command += f" --defence {options.defence}"
        if options.defence:
            command += f" --model_dir {options.model_dir}"
        if options.model_file:
            command += f" --model_file {options.model_file}"
        if options.preprocess.text != NONE:
            command += f" --preprocess {options.preprocess.text}"
        if options.arch:
            command += f" --arch {options.arch}"
        if options.head != LINEAR:
            command += f" --head {options.head} --classes {options.classes}"
        return command


def _kind_of(weights: Path) -> type[Recommender]:
    """Return the recommender of a weight file."""
    return Model.parse(Run.parse_weights_name(weights.stem).model).kind


def check_recommender(
    options: argparse.Namespace, settings: AttackSettings, kind: type[Recommender]
) -> None:
    """Raise ``UserError`` for options that do not apply to an attack on the lists of ``kind``."""
    if settings.objective and not kind.reads_images:
        raise UserError(
            f"--score_model {kind.__name__} does not look at images: its lists cannot be attacked "
            "through them"
        )
    objective, target = settings.objective.removeprefix(DEMOTE), settings.target_item
    if target is not None and not kind.moves_users:
        raise UserError(
            f"--target_item: {kind.__name__} reads an image for its own item, which is the one to push"
        )
    if objective and kind.moves_users:
        if target is None:
            raise UserError(
                f"--score_model {kind.__name__}: an image moves the lists of the users who have its "
                "item, and not the item's own place: name another item to show them, --target_item"
            )
        if objective == "expa" or settings.attack.asks_places:
            raise UserError(
                f"--score_model {kind.__name__} takes no --objective expa and no attack on places: an "
                "image has no place of its own in its lists"
            )
    elif objective and kind.slopes is Recommender.slopes:
        raise UserError(f"--score_model {kind.__name__} gives no slopes of its scores in features")
    if not kind.reads_pixels:
        return
    if not settings.objective:
        raise UserError(f"--score_model {kind.__name__} is for an --objective in lists")
    if options.preprocess.text != NONE or settings.evade:
        raise UserError(
            f"--score_model {kind.__name__} reads images through its own network: "
            "--preprocess and --evade stand in front of the extractor"
        )


def _check_head(head: str, settings: AttackSettings, fidelity: Fidelity) -> None:
    """Raise ``UserError`` for a head whose extractor the attack cannot aim at."""
    if head == NO_HEAD and not settings.objective:
        raise UserError(
            f"--head {NO_HEAD} scores no classes, and --attack_type {settings.kind} aims at one: attack "
            f"--head {CLASS_MEANS}, or lists with --objective"
        )
    if head != LINEAR and settings.attack.precise:
        raise UserError(f"--attack_type {settings.kind} reads the weights of a linear head")
    if head != LINEAR and "undefended" in (fidelity.origin_classes, fidelity.base_features):
        raise UserError(f"--fidelity {fidelity.name} is for linear heads, as published")
