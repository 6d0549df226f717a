"""Names of experiments and of recommender runs.

An experiment is one set of images seen by one extractor: ``original``, ``madry_original``,
``madry_pgd_774_770_eps8.0_eps_it8.0_nb_it10_linf``. A run is one recommender trained on the features
of one experiment: ``original_top150_ep4000_VBPR``. The names are those of the published artifacts;
options that the paper did not have are appended only where they differ from its values, so the names
of the paper's own runs never change.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from src.artifacts.errors import UserError

CLEAN = "original"
UNTARGETED = "any"
PUBLISHED = "published"
LIST_OBJECTIVES = ("score", "rank", "insa", "expa")
"""Objectives of attacks on lists, which take the place of the target class in names."""
DEMOTE = "demote-"
DEPLOYED = "_of-"
"""Stands before the extractor from whose features a deployed recommender learnt, in names of its runs."""

LINEAR, NO_HEAD, CLASS_MEANS, ZERO_SHOT = "linear", "none", "class_means", "zero_shot"
HEADS = {LINEAR: "", NO_HEAD: "none", CLASS_MEANS: "means", ZERO_SHOT: "zero_shot"}
"""Heads of extractors, and what names of experiments show of them."""

_ATTACKED = re.compile(
    rf"(?:(?P<model_dir>.+)_)?(?!{CLEAN}_)(?P<attack>[a-z][a-z0-9]*)"
    rf"_(?P<origin>\d+|random\d+|ids-[A-Za-z0-9.-]+)"
    rf"_(?P<target>\d+|{UNTARGETED}|(?:{DEMOTE})?(?:{'|'.join(LIST_OBJECTIVES)}))_(?P<parameters>.+)"
)
_ATTACK_SEED = re.compile(r"_seed(\d+)(?=_|$)")
_TARGET_ITEM = re.compile(r"(?<=_)item(\d+)(?=_|$)")
_CLEAN = re.compile(rf"(?:(?P<model_dir>.+)_)?{CLEAN}")
_RECOMMENDER = re.compile(r"[A-Z][A-Za-z-]*-ep\d+[A-Za-z0-9.+-]*")


def check_name(name: str, what: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise UserError(
            f"{what} {name!r} is not a plain name (letters, digits, '.', '_' and '-' only)"
        )
    return name


def option_text(options: Mapping[str, object]) -> str:
    """Return options as names show them: ``_K8_lr0.05``, in the given order."""
    return "".join(f"_{key}{value}" for key, value in options.items())


@dataclass(frozen=True)
class Experiment:
    """Images of one catalogue, clean or attacked, seen by one extractor."""

    model_dir: str | None = None
    """Folder of the defended model below ``models/``; None is the undefended extractor."""
    attack: str | None = None
    origin: int | None = None
    """Class whose images are attacked; None if ``items`` names the attacked ones."""
    target: int | None = None
    """Class to reach; None for an untargeted attack, and for an attack on lists."""
    parameters: str = ""
    """Parameters of the attack as in the name, for example ``eps4.0_it1_linf_XX``."""
    objective: str = ""
    """Aim of an attack on lists: ``rank``, ``demote-score``; empty for attacks on classes."""
    items: str = ""
    """Attacked items if they are not those of a class: ``random64``, ``ids-chosen``."""

    @classmethod
    def parse(cls, name: str) -> "Experiment":
        """Read a full experiment name; ``UserError`` for anything else."""
        check_name(name, "experiment")
        if match := _CLEAN.fullmatch(name):
            return cls(match["model_dir"])
        if match := _ATTACKED.fullmatch(name):
            origin, target = match["origin"], match["target"]
            return cls(
                match["model_dir"],
                match["attack"],
                int(origin) if origin.isdigit() else None,
                int(target) if target.isdigit() else None,
                match["parameters"],
                "" if target.isdigit() or target == UNTARGETED else target,
                "" if origin.isdigit() else origin,
            )
        raise UserError(
            f"{name!r} is not an experiment name: expected 'original', '<model_dir>_original' or "
            "'[<model_dir>_]<attack>_<origin>_<target>_<parameters>'"
        )

    @property
    def name(self) -> str:
        prefix = f"{check_name(self.model_dir, 'model_dir')}_" if self.model_dir else ""
        if self.attack is None:
            return prefix + CLEAN
        return f"{prefix}{self.attack}_{self.items or self.origin}_{self.aim}_{self.parameters}"

    @property
    def attack_name(self) -> str:
        """Name without the extractor, as tables have it in the column ``attack``."""
        return replace(self, model_dir=None).name

    @property
    def aim(self) -> str:
        """The number of the target class, ``any`` of an untargeted attack, or the objective in lists."""
        return self.objective or (UNTARGETED if self.target is None else str(self.target))

    @property
    def attack_seed(self) -> int:
        """Seed of the attack; 0 where the name shows none."""
        seeds = _ATTACK_SEED.findall(f"_{self.parameters}")
        return int(seeds[-1]) if seeds else 0

    @property
    def every_seed(self) -> "Experiment":
        """Experiment without its seed: equal for attacks that differ in nothing else."""
        return replace(self, parameters=_ATTACK_SEED.sub("", f"_{self.parameters}")[1:])

    @property
    def clean(self) -> "Experiment":
        """Unattacked experiment of the same extractor."""
        return Experiment(self.model_dir)

    @property
    def recommender(self) -> str:
        """Recommender whose lists are attacked: ``VBPR-ep100-lr0.05``; empty if the name shows none."""
        parts = self.parameters.split("_")
        return next((part for part in parts if _RECOMMENDER.fullmatch(part)), "")

    @property
    def target_item(self) -> int | None:
        """Item that the buyers of the attacked ones shall be shown; None for those themselves."""
        items = _TARGET_ITEM.findall(self.parameters) if self.objective else []
        return int(items[0]) if items else None

    @property
    def extractor(self) -> str:
        """Name of the extractor in tables: ``original``, ``madry``, ``free_adv``, ..."""
        return self.model_dir or CLEAN


@dataclass(frozen=True)
class Run:
    """Recommender on an experiment, to which top-K lists and weight files belong."""

    experiment: Experiment
    model: str = "VBPR"
    epochs: int = 4000
    top_k: int = 150
    seed: int = 0
    protocol: Literal["retrained", "test_time"] = "retrained"
    """Protocol: ``retrained`` on this experiment's features, or ``test_time``, trained on clean ones."""
    fidelity: str = field(default="corrected")
    options: str = ""
    """Options that are not at the published defaults, as in the name: ``_K8_lr0.05``."""

    _ENDING = (
        r"(?P<options>(?:_(?!testtime|seed|paper)[A-Za-z][A-Za-z0-9.-]*)*)"
        r"(?:_seed(?P<seed>\d+))?(?P<paper>_paper)?"
    )
    _PATTERN = re.compile(
        r"(?P<experiment>.+)_top(?P<top_k>\d+)_ep(?P<epochs>\d+)_(?P<model>[A-Za-z-]+)"
        rf"(?P<protocol>_testtime)?{_ENDING}"
    )
    _WEIGHTS = re.compile(rf"(?P<experiment>.+)_step(?P<epochs>\d+)_(?P<model>[A-Za-z-]+){_ENDING}")

    @classmethod
    def parse(cls, name: str) -> "Run":
        """Read the stem of a top-K file name; ``UserError`` for anything else."""
        match = cls._PATTERN.fullmatch(name)
        if match is None:
            raise UserError(
                f"{name!r} is not a run name: expected '<experiment>_top<K>_ep<epochs>_<MODEL>'"
            )
        return cls(
            Experiment.parse(match["experiment"]),
            match["model"],
            int(match["epochs"]),
            int(match["top_k"]),
            int(match["seed"] or 0),
            "test_time" if match["protocol"] else "retrained",
            "paper" if match["paper"] else "corrected",
            match["options"],
        )

    @property
    def name(self) -> str:
        protocol = "_testtime" if self.protocol == "test_time" else ""
        return (
            f"{self.experiment.name}_top{self.top_k}_ep{self.epochs}_{self.model}{protocol}"
            f"{self._variant}"
        )

    @property
    def weights_name(self) -> str:
        """Stem of the weight file after all epochs: ``original_step2000_VBPR``."""
        return f"{self.experiment.name}_step{self.epochs}_{self.model}{self._variant}"

    @classmethod
    def parse_weights_name(cls, name: str) -> "Run":
        """Read the stem of a weight file: a run of so many epochs; ``UserError`` if it is none."""
        match = cls._WEIGHTS.fullmatch(name)
        if match is None:
            raise UserError(
                f"{name!r} does not name weights: expected '<experiment>_step<epochs>_<MODEL>'"
            )
        return cls(
            Experiment.parse(match["experiment"]),
            match["model"],
            int(match["epochs"]),
            seed=int(match["seed"] or 0),
            fidelity="paper" if match["paper"] else "corrected",
            options=match["options"],
        )

    @property
    def options_label(self) -> str:
        """Options as users name them: ``K8_lr0.05``, or ``published`` without any."""
        return self.options[1:] or PUBLISHED

    @property
    def fitted_at_once(self) -> bool:
        """True if the run's recommender trains without epochs and options."""
        return self.epochs == 0 and not self.options

    @property
    def clean(self) -> "Run":
        """Run of the recommender on the clean experiment, against which a change is measured."""
        return replace(self, experiment=self.experiment.clean, protocol="retrained")

    def deployed_on(self, experiment: Experiment) -> "Run":
        """Run of this recommender, unchanged, on features of another extractor."""
        origin = self.experiment.extractor.replace("_", "-")
        return replace(self, experiment=experiment, options=f"{self.options}{DEPLOYED}{origin}")

    @property
    def _variant(self) -> str:
        seed = f"_seed{self.seed}" if self.seed else ""
        return self.options + seed + ("_paper" if self.fidelity == "paper" else "")
