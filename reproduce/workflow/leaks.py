"""Studies of gradient inversion: networks trained in several ways, and attacks on their gradients."""

import itertools
import shlex
from dataclasses import dataclass

from reproduce.workflow.entries import Entries
from reproduce.workflow.options import OptionsParser
from src.artifacts.errors import UserError
from src.leaks.command import (
    NO_DEFENCE,
    TrainingRecord,
    add_inversion_options,
    condition_name,
)
from src.training.command import add_training_options


@dataclass(frozen=True)
class Leaks:
    """Networks x training conditions x attacks x defences of gradients."""

    networks: dict[str, tuple[str, ...]]
    """Attacks on each network, as options of ``audits.leaks``."""
    trained: dict[str, str]
    """Options that each training condition adds to ``train_extractor.py``."""
    shared: dict[str, tuple[str, ...]]
    """Defences (or ``none``) of the gradients that networks of each condition share."""
    training: str
    """Common options of ``train_extractor.py``."""

    @classmethod
    def read(cls, entries: Entries) -> "Leaks":
        """Read the entries; ``UserError`` for a missing or unknown one."""
        networks, conditions = entries.mapping("networks"), entries.mapping("conditions")
        leaks = cls(
            {name: network.texts("attacks") for name, network in networks.items()},
            {name: condition.text("train") for name, condition in conditions.items()},
            {name: condition.texts("shared", NO_DEFENCE) for name, condition in conditions.items()},
            entries.text("training"),
        )
        for below in (*networks.values(), *conditions.values()):
            below.require_all_read()
        return leaks

    def training_of(self, network: str, condition: str) -> str:
        return f"--arch {network} {self.training} {self.trained[condition]}"

    def attacks(self) -> "dict[str, Inversion]":
        """Return attacks by the names of their output folders; ``UserError`` for equal names."""
        named: dict[str, Inversion] = {}
        for network, attacks in self.networks.items():
            for condition, defences in self.shared.items():
                trained = _training_record(self.training_of(network, condition), condition)
                for options, defence in itertools.product(attacks, defences):
                    attack = Inversion(
                        network, condition, f"{options} --gradient_defence {defence}"
                    )
                    name = attack.folder_name(trained, defence)
                    if name in named:
                        raise UserError(f"networks: {network}: two attacks would be named {name}")
                    named[name] = attack
        return named


@dataclass(frozen=True)
class Inversion:
    """Call of ``audits.leaks`` on one network."""

    network: str
    condition: str
    options: str

    def folder_name(self, trained: TrainingRecord, defence: str) -> str:
        parser = OptionsParser(f"networks: {self.network}: attacks: {self.options}")
        add_inversion_options(parser)
        parsed = parser.parse_args(["--data", ".", *shlex.split(self.options)])
        shared = None if defence == NO_DEFENCE else defence
        return condition_name(parsed, self.network, trained.with_options(parsed), shared)


def _training_record(training: str, condition: str) -> TrainingRecord:
    """Return the part of the names of reconstructions that a training with these options determines."""
    parser = OptionsParser(f"conditions: {condition}")
    add_training_options(parser)
    parsed = parser.parse_args(shlex.split(training))
    if parsed.epochs is None or parsed.augmentation is None:
        parser.error("--epochs and --augmentation must be said, for the names of reconstructions")
    return TrainingRecord(
        parsed.epochs, parsed.augmentation, parsed.gradient_defence, parsed.augmentation
    )
