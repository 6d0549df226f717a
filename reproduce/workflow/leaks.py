"""Gradient inversion: networks trained in several ways, and the attacks on what each of them shares."""

import itertools
import shlex
from dataclasses import dataclass

from reproduce.workflow.entries import Entries
from reproduce.workflow.options import OptionsParser
from src.artifacts.errors import UserError
from src.attacks.inversion.command import (
    NO_DEFENCE,
    TrainingRecord,
    add_inversion_options,
    condition_of,
)
from src.training.command import add_schedule_options


@dataclass(frozen=True)
class Leaks:
    """Networks x ways of training x attacks x defences of what is shared."""

    networks: dict[str, tuple[str, ...]]
    """The attacks on each: options of ``invert_gradients.py``."""
    trained: dict[str, str]
    """What each way of training adds to the options of ``train_extractor.py``."""
    shared: dict[str, tuple[str, ...]]
    """The defences, or none, with which such networks share gradients when they are attacked."""
    training: str
    """The options of ``train_extractor.py`` that all have in common."""

    @classmethod
    def read(cls, entries: Entries) -> "Leaks":
        """Raises ``UserError`` for what is missing or unknown."""
        networks, conditions = entries.mapping("networks"), entries.mapping("conditions")
        leaks = cls(
            {name: of.texts("attacks") for name, of in networks.items()},
            {name: of.text("train") for name, of in conditions.items()},
            {name: of.texts("shared", NO_DEFENCE) for name, of in conditions.items()},
            entries.text("training"),
        )
        for of in (*networks.values(), *conditions.values()):
            of.require_all_read()
        return leaks

    def training_of(self, network: str, condition: str) -> str:
        return f"--arch {network} {self.training} {self.trained[condition]}"

    def attacks(self) -> "dict[str, Attack]":
        """By the name of the folder of reconstructions; ``UserError`` where two have the same."""
        named: dict[str, Attack] = {}
        for network, attacks in self.networks.items():
            for condition, defences in self.shared.items():
                trained = _trained_as(self.training_of(network, condition), condition)
                for options, defence in itertools.product(attacks, defences):
                    attack = Attack(network, condition, f"{options} --defence {defence}")
                    name = attack.folder_name(trained, defence)
                    if name in named:
                        raise UserError(f"networks: {network}: two attacks would be named {name}")
                    named[name] = attack
        return named


@dataclass(frozen=True)
class Attack:
    """A call of ``invert_gradients.py`` on one network."""

    network: str
    condition: str
    options: str

    def folder_name(self, trained: TrainingRecord, defence: str) -> str:
        parser = OptionsParser(f"networks: {self.network}: attacks: {self.options}")
        add_inversion_options(parser)
        parsed = parser.parse_args(["--data", ".", *shlex.split(self.options)])
        shared = None if defence == NO_DEFENCE else defence
        return condition_of(parsed, self.network, trained.with_options(parsed), shared)


def _trained_as(training: str, condition: str) -> TrainingRecord:
    """What names of reconstructions say about a training with these options."""
    parser = OptionsParser(f"conditions: {condition}")
    add_schedule_options(parser)
    parsed, _ = parser.parse_known_args(shlex.split(training))
    if parsed.epochs is None or parsed.augmentation is None:
        parser.error("--epochs and --augmentation must be said, for the names of reconstructions")
    return TrainingRecord(
        parsed.epochs, parsed.augmentation, parsed.gradient_defence, parsed.augmentation
    )
