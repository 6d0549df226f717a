"""The command line that the scripts about attacks share."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from src.artifacts.errors import UserError
from src.artifacts.experiments import CLASS_MEANS, LINEAR, NONE, Experiment
from src.artifacts.fidelity import Fidelity
from src.artifacts.layout import Layout
from src.attacks.registry import Noise
from src.attacks.settings import AttackSettings, add_attack_options, attack_settings, experiment
from src.cli import (
    Parser,
    add_common_options,
    add_extractor_options,
    add_fidelity_option,
    fidelity_of,
    model_dir_of,
)


@dataclass(frozen=True)
class AttackCommand:
    """One attack on one data set, as the options describe it."""

    options: argparse.Namespace
    settings: AttackSettings
    fidelity: Fidelity
    layout: Layout
    experiment: Experiment

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

        ``add_options`` adds what the script alone takes.
        """
        parser = Parser(description or "")
        add_common_options(parser, dataset="amazon_men")
        add_attack_options(parser, attack=attack, eps=eps)
        add_extractor_options(parser)
        add_fidelity_option(parser)
        if add_options:
            add_options(parser)
        options = parser.parse_args()
        fidelity = fidelity_of(options)
        settings = attack_settings(options, fidelity)
        _check_head(options.head, settings, fidelity)
        layout = Layout(options.dataset, options.root)
        layout.require_data()
        return cls(
            options,
            settings,
            fidelity,
            layout,
            experiment(settings, model_dir_of(options), fidelity),
        )

    def require_attacked(self) -> None:
        """``UserError`` unless stage 3 has been run with the same options."""
        folder = self.layout.experiment(self.experiment)
        if not self.layout.classes(self.experiment).is_file():
            raise UserError(
                f"no attacked experiment at {folder}: run classify_extract_attack.py with the same "
                "options first"
            )

    @property
    def resembled(self) -> Path | None:
        """The report of the attack whose changes are the size of this noise; None for other attacks.

        ``UserError`` where stage 3 has not been run for that attack.
        """
        attack = self.settings.attack
        if not isinstance(attack, Noise) or not attack.like:
            return None
        kind, _, parameters = attack.like.partition("_")
        liked = replace(self.experiment, attack=kind, parameters=parameters)
        path = self.layout.attack_report(liked)
        if not path.is_file():
            raise UserError(f"missing file: {path}; run classify_extract_attack.py for it first")
        return path

    @property
    def stage_1(self) -> str:
        """The command that classifies the clean images with the same extractor."""
        options = self.options
        command = f"python classify_extract.py --dataset {options.dataset}"
        command += f" --defense {options.defense}"
        if options.defense:
            command += f" --model_dir {options.model_dir}"
        if options.model_file:
            command += f" --model_file {options.model_file}"
        if options.arch:
            command += f" --arch {options.arch}"
        if options.head != LINEAR:
            command += f" --head {options.head} --classes {options.classes}"
        return command


def _check_head(head: str, settings: AttackSettings, fidelity: Fidelity) -> None:
    """Raise ``UserError`` for a head whose extractor the attack cannot aim at."""
    if head == NONE:
        raise UserError(
            f"--head {NONE} scores no classes, and --attack_type {settings.kind} aims at one: attack "
            f"--head {CLASS_MEANS}"
        )
    if head != LINEAR and settings.attack.precise:
        raise UserError(f"--attack_type {settings.kind} reads the weights of a linear head")
    if head != LINEAR and "undefended" in (fidelity.origin_classes, fidelity.base_features):
        raise UserError(f"--fidelity {fidelity.name} is for linear heads, as published")
