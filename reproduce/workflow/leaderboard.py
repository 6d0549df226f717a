"""Entries, suite and catalogues of the leaderboard, and the study that evaluates an entry.

All of them are YAML files below ``leaderboard/``. A wrong one is a ``UserError`` that names the file
and the key.
"""

import argparse
import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import yaml

from reproduce.workflow.catalogue import CatalogueStudy, studies_of
from reproduce.workflow.entries import Entries
from reproduce.workflow.options import OptionsParser
from src.artifacts.errors import UserError
from src.artifacts.experiments import CLEAN, Experiment, Run, check_name
from src.artifacts.layout import Layout
from src.attacks.registry import PGD
from src.cli import add_extractor_options, add_fidelity_option
from src.defences.defence import NONE
from src.defences.options import add_preprocess_option, model_dir_of
from src.measures.leaderboard import UNDEFENDED
from src.measures.verdicts import CONTROL
from src.recommenders.command import add_recommender_options, run_of
from src.recommenders.registry import RECOMMENDERS
from src.training.command import (
    add_training_options,
    check_training_options,
    recipe_options_of,
)

FOLDER = Path("leaderboard")
BUDGETS = ("small", "full")
ALL = "all"
"""Stands for the names of all entries."""
NOWHERE, FRONT, EXTRACTOR, RECOMMENDER = "nowhere", "in front", "in extractor", "in recommender"
LONGEST = 8
"""Factor of the budget's steps beyond which an attack that has not converged is not repeated."""
PROOFS = ("crown", "ibp")
"""Methods of ``audits.bounds`` that prove in L-inf, and of the recommender as it ranks."""
BRIEF = {
    "small": "--max_images 500 --epochs 5 --batch 32 --lr 1e-4 --steps 3 --step_size 5",
    "full": "",
}
"""Trainings on a catalogue's own photos, by budget: a CPU has time for few of them at 224 pixels.

``catalogue.sh`` tunes equally (``studies/catalogue.yaml``).
"""
ORIGIN = 0
"""Origin class of the class attack, whose items are drawn from the whole catalogue instead."""

_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_OBJECTIVE = re.compile(r"--objective (\S+)")
_NAMES_PICTURES = re.compile(r"(^|\s)--(data|images)\s")
_LATER = ("dataset", "extractor_seed")
"""Placeholders that the study fills for each training of an extractor."""


@dataclass(frozen=True)
class Described:
    """Value read from a YAML file whose keys are the names of its fields."""

    @classmethod
    def read(cls, path: Path, values: Mapping[str, Any] | None = None) -> Self:
        """Read the file; ``values`` take the place of its own. ``UserError`` names a wrong key."""
        return cls.of(_mapping(path) | dict(values or {}), f"{path}: ")

    @classmethod
    def of(cls, given: Mapping[str, Any], place: str) -> Self:
        known = {of.name: of for of in fields(cls)}
        for key in given:
            if key not in known:
                raise UserError(f"{place}{key}: no such key; there are {', '.join(known)}")
        values = {}
        for key, of in known.items():
            if key not in given:
                if of.default is MISSING and of.default_factory is MISSING:
                    raise UserError(f"{place}{key} is missing")
                continue
            values[key] = of.metadata["parse"](given[key], f"{place}{key}")
        return cls(**values)


def _mapping(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(f"missing file: {path}")
    try:
        given = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is no YAML file: {error}") from error
    if not isinstance(given, Mapping):
        raise UserError(f"{path}: it holds keys and values")
    return dict(given)


def _text(value: Any, place: str) -> str:
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        raise UserError(f"{place}: {value!r} is no text")
    text = str(value)
    try:
        shlex.split(text.replace("'", ""))
    except ValueError as error:
        raise UserError(f"{place}: {text!r}: {error}") from None
    return text


def _number(value: Any, place: str, least: int = 0) -> int:
    if isinstance(value, bool) or not str(value).isdecimal() or int(value) < least:
        raise UserError(f"{place}: {value!r} is no whole number from {least} on")
    return int(value)


def _positive(value: Any, place: str) -> int:
    return _number(value, place, 1)


def _list(value: Any, place: str) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise UserError(f"{place}: it is a list")
    return value


def _texts(value: Any, place: str) -> tuple[str, ...]:
    return tuple(_text(of, place) for of in _list(value, place))


def _attacks_on_lists(value: Any, place: str) -> tuple[str, ...]:
    texts = _texts(value, place)
    for text in texts:
        if not _OBJECTIVE.search(text):
            raise UserError(f"{place}: {text!r} has no --objective")
    return texts


def _numbers(value: Any, place: str) -> tuple[int, ...]:
    numbers = tuple(_number(of, place) for of in _list(value, place))
    if len(set(numbers)) < len(numbers):
        raise UserError(f"{place}: a number is there twice")
    return numbers


def _levels(value: Any, place: str) -> tuple[float, ...]:
    for of in _list(value, place):
        if isinstance(of, bool) or not isinstance(of, int | float) or not 1 <= of <= 255:
            raise UserError(f"{place}: {of!r} is no number of grey levels from 1 to 255")
    return tuple(float(of) for of in value)


def _by_budget(value: Any, place: str) -> dict[str, str]:
    """Return the text of each budget; one text serves all of them."""
    if isinstance(value, str):
        return dict.fromkeys(BUDGETS, _text(value, place))
    if not isinstance(value, Mapping) or set(value) != set(BUDGETS):
        raise UserError(f"{place}: it holds {' and '.join(BUDGETS)}")
    return {name: _text(of, f"{place}: {name}") for name, of in value.items()}


def _key(parse: Any, default: Any = MISSING) -> Any:
    return field(metadata={"parse": parse}, **({} if default is MISSING else {"default": default}))


@dataclass(frozen=True)
class Budget(Described):
    """Amount of the suite that is run: budgets, items, steps and seeds."""

    eps: tuple[float, ...] = _key(_levels)
    """Grey levels of 255."""
    items: int = _key(_positive)
    """Items that are attacked, drawn from the whole catalogue."""
    steps: int = _key(_positive)
    seeds: tuple[int, ...] = _key(_numbers)
    """Seeds of the recommenders; attacks on lists are after the first."""
    extractor_seeds: tuple[int, ...] = _key(_numbers)
    """Seeds of the trainings of extractors."""
    entries: tuple[str, ...] = _key(_texts)
    """Names of the entries that are evaluated where a call names none; ``all`` is every entry."""


def _budgets(value: Any, place: str) -> dict[str, Budget]:
    if not isinstance(value, Mapping) or set(value) != set(BUDGETS):
        raise UserError(f"{place}: it holds {' and '.join(BUDGETS)}")
    found = {}
    for name, of in value.items():
        if not isinstance(of, Mapping):
            raise UserError(f"{place}: {name}: it holds keys and values")
        found[name] = Budget.of(of, f"{place}: {name}: ")
    return found


@dataclass(frozen=True)
class Suite(Described):
    """The standard attacks, equal for all entries of a catalogue."""

    version: int = _key(_positive)
    k: int = _key(_positive)
    """Length of the lists."""
    norm: str = _key(_text)
    attacks: tuple[str, ...] = _key(_attacks_on_lists)
    """Attacks on lists, one an objective: ``{steps}`` stands for the budget's steps."""
    random_attacks: tuple[str, ...] = _key(_attacks_on_lists)
    """Further attacks on lists, on defences that draw random numbers: more draws must gain nothing."""
    budgets: Mapping[str, Budget] = _key(_budgets)


@dataclass(frozen=True)
class Catalogue(Described):
    """Data set with its undefended network, and what its entries train on."""

    arch: str = _key(_text)
    target: int = _key(_positive)
    """Class that the class attack is after."""
    weights: str = _key(_text, "")
    """File of the undefended network; empty for one that is trained."""
    pictures: str = _key(_text, "")
    """Options of ``train_extractor.py``: the labelled pictures. Entries that train need them."""
    training: Mapping[str, str] = _key(_by_budget, None)
    """Options of every training on ``pictures``, by budget."""
    tuning: Mapping[str, str] = _key(_by_budget, None)
    """Options of every training on pictures that the entry names, by budget; without them ``BRIEF``.

    The entry's own options win.
    """
    reading: str = _key(_text, "")
    """Further options of stages 1 and 3, such as ``--resize 224``."""
    side: int = _key(_positive, 112)
    """Side in pixels to which the entry ``resize`` shrinks."""
    epoch: int = _key(_positive, 100)
    recommender_options: str = _key(_text, "--lr 0.05")


def _part(known: Mapping[str, str]) -> Any:
    """Parse a mapping of texts with the keys ``known``, whose values are the defaults."""

    def parse(value: Any, place: str) -> dict[str, str]:
        if not isinstance(value, Mapping):
            raise UserError(f"{place}: it holds {', '.join(known)}")
        for key in value:
            if key not in known:
                raise UserError(f"{place}: {key}: no such key; there are {', '.join(known)}")
        return dict(known) | {key: _text(of, f"{place}: {key}") for key, of in value.items()}

    return parse


def _flag(value: Any, place: str) -> bool:
    if not isinstance(value, bool):
        raise UserError(f"{place}: it is yes or no, not {value!r}")
    return value


def _proof(value: Any, place: str) -> str:
    if value not in PROOFS:
        raise UserError(f"{place}: no {value!r}: choose from {', '.join(PROOFS)}")
    return value


_NETWORK = {"arch": "", "checkpoint": "", "train": ""}
_PLAIN = {"name": "VBPR", "options": ""}


@dataclass(frozen=True)
class Entry(Described):
    """One defence on the leaderboard."""

    name: str = _key(_text)
    place: str = _key(_text)
    source: str = _key(_text)
    claimed: str = _key(_text)
    extractor: Mapping[str, str] = _key(_part(_NETWORK), None)
    """``checkpoint``: a file ``models/<folder>/<file>``; or ``train``: options of ``train_extractor.py``
    beside those of the catalogue, which an entry with pictures of its own does not get. Its file is the
    network or, with ``{trained}`` in ``preprocess``, a part of the defence in front of it. ``arch``:
    another network than the catalogue's."""
    preprocess: str = _key(_text, NONE)
    recommender: Mapping[str, str] = _key(_part(_PLAIN), None)
    deployed: bool = _key(_flag, False)
    """True if the undefended entry's recommender ranks unchanged; others learn from the features of this
    entry."""
    bounds: str = _key(_proof, "")
    """Method of ``audits.bounds`` that proves what no attack exceeds; empty for no proof."""
    datasets: tuple[str, ...] = _key(_texts, ())
    """Catalogues that it is for; none means all."""
    notes: str = _key(_text, "")

    @classmethod
    def read(cls, path: Path) -> Self:
        entry = super().read(path)
        entry._check(f"{path}: ")
        return entry

    def _check(self, place: str) -> None:
        check_name(self.name, f"{place}name")
        if self.network["checkpoint"] and self.network["train"]:
            raise UserError(f"{place}extractor: it has a checkpoint or train, not both")
        parts = Path(self.network["checkpoint"]).parts
        if parts and (len(parts) != 3 or parts[0] != "models"):
            raise UserError(f"{place}extractor: checkpoint: it is models/<folder>/<file>")
        if ("{trained}" in self.preprocess) > bool(self.network["train"]):
            raise UserError(f"{place}preprocess: {{trained}} needs extractor: train")
        if self.bounds and self.preprocess != NONE:
            raise UserError(f"{place}bounds: there are none through {self.preprocess}")
        if self.ranking["name"] not in RECOMMENDERS:
            known = ", ".join(RECOMMENDERS)
            raise UserError(f"{place}recommender: no {self.ranking['name']!r}: choose from {known}")
        if not RECOMMENDERS[self.ranking["name"]].reads_images:
            raise UserError(f"{place}recommender: {self.ranking['name']} reads no images")
        if self.deployed and self._where not in (FRONT, EXTRACTOR, f"{FRONT} and {EXTRACTOR}"):
            raise UserError(f"{place}deployed: it is for a defence {FRONT} or {EXTRACTOR} alone")
        if self.place != self._where:
            raise UserError(
                f"{place}place: {self.place!r}: by its other keys it is {self._where!r}"
            )

    @property
    def network(self) -> Mapping[str, str]:
        return self.extractor or _NETWORK

    @property
    def ranking(self) -> Mapping[str, str]:
        return self.recommender or _PLAIN

    @property
    def trains_network(self) -> bool:
        """True if ``train`` makes the network, not a part of the defence in front of it."""
        return bool(self.network["train"]) and "{trained}" not in self.preprocess

    @property
    def _where(self) -> str:
        changed = {
            FRONT: self.preprocess != NONE,
            EXTRACTOR: self.name != UNDEFENDED
            and (self.trains_network or bool(self.network["checkpoint"])),
            RECOMMENDER: self.ranking != _PLAIN,
        }
        return " and ".join(name for name, is_changed in changed.items() if is_changed) or NOWHERE


@dataclass(frozen=True)
class Evaluation:
    """One entry under the suite on one catalogue."""

    entry: Entry
    undefended: Entry
    catalogue: Catalogue
    dataset: str
    suite: Suite
    budget_name: str
    changed: str = ""
    """Numbers of the budget that are not the suite's, for the label."""
    repeats: Mapping[str, int] = field(default_factory=dict)
    """Factor of the budget's steps by objective, of the strongest attacks, which take half as many too.

    Attacks on the other objectives take the budget's steps.
    """
    shown: Mapping[str, int] = field(default_factory=dict)
    """``repeats`` of the undefended entry, whose attacked images are shown to this one."""

    @property
    def budget(self) -> Budget:
        return self.suite.budgets[self.budget_name]

    @property
    def longest(self) -> bool:
        return max(self.repeats.values(), default=1) >= LONGEST

    def with_twice_the_steps(self, objectives: Collection[str]) -> "Evaluation":
        """Return the evaluation under attacks on these ``objectives`` with twice the steps as well."""
        return replace(self, repeats={name: 2 * self.repeats.get(name, 1) for name in objectives})

    @property
    def label(self) -> str:
        """Version and budget of the suite, as results show them: ``1 small``."""
        return f"{self.suite.version} {self.budget_name} {self.changed}".strip()

    @property
    def needs_pictures(self) -> bool:
        """True if it trains on labelled pictures that the catalogue does not name."""
        return bool(self.training_options) and not _NAMES_PICTURES.search(self.training_options)

    @property
    def extractor_seeds(self) -> tuple[int, ...]:
        """Seeds of the trainings; the first alone where the undefended network is given."""
        seeds = self.budget.extractor_seeds
        given = self.catalogue.weights or self.entry.network["checkpoint"]
        return seeds[:1] if given else seeds

    @property
    def run(self) -> Run:
        """Run of the recommender on the undefended extractor, with its options in the name."""
        parser = OptionsParser(f"{self.entry.name}: recommender: options")
        add_recommender_options(parser)
        add_fidelity_option(parser)
        words = shlex.split(f"--epochs {self.catalogue.epoch} {self._recommender_options}")
        run = run_of(
            parser.parse_args(words), self.entry.ranking["name"], Experiment(), self.suite.k
        )
        return run.deployed_on(Experiment()) if self.entry.deployed else run

    @property
    def _recommender_options(self) -> str:
        return f"{self.catalogue.recommender_options} {self.entry.ranking['options']}".strip()

    @property
    def extractor_options(self) -> str:
        """Options of stages 1 and 3; ``{dataset}`` stands for the data set of a training."""
        network, of = self.entry.network, self.catalogue
        arch = self._arch(self.entry)
        if self.entry.trains_network and self.entry.name != UNDEFENDED:
            words = f"--defence 1 --model_dir {self.entry.name} --model_file {{dataset}}.pt"
        elif network["checkpoint"]:
            _, folder, file = Path(network["checkpoint"]).parts
            words = f"--defence 1 --model_dir {folder} --model_file {file}"
        else:
            words = f"--defence 0 --model_file {shlex.quote(self._undefended_file)}"
        options = f"{words} --arch {arch} {of.reading}".strip()
        if self.entry.preprocess != NONE:
            options += f" --preprocess {self._filled(self.entry.preprocess)}"
        return options

    @property
    def _undefended_file(self) -> str:
        return self.catalogue.weights or f"models/{UNDEFENDED}/{{dataset}}.pt"

    @property
    def training_options(self) -> str:
        """Options of ``train_extractor.py``; empty where nothing is trained."""
        entry = self.entry
        if entry.network["train"] and entry.name != UNDEFENDED:
            return self._training(entry)
        if self.catalogue.weights or entry.network["checkpoint"]:
            return ""
        return self._training(self.undefended)

    def _training(self, entry: Entry) -> str:
        of, own = self.catalogue, entry.network["train"]
        words = [own, f"--arch {self._arch(entry)}"]
        if _NAMES_PICTURES.search(own):
            words.insert(0, (of.tuning or BRIEF)[self.budget_name])
        else:
            words += [of.pictures, (of.training or {}).get(self.budget_name, "")]
        words += [f"--out {_trained_file(entry)} --seed {{extractor_seed}}"]
        return self._filled(" ".join(filter(None, words)))

    def check_options(self) -> None:
        """Raise ``UserError`` for an option that a script of the study would refuse before it starts."""
        self._check_training()
        if not self.part:  # until the part is trained, the defence cannot be read
            _ = self.studies

    def _check_training(self) -> None:
        if not self.training_options:
            return
        place = f"{self.entry.name}: extractor: train"
        parser = OptionsParser(place)
        add_training_options(parser)
        words = self.training_options.replace("{dataset}", self.dataset)
        options = parser.parse_args(
            shlex.split(words.replace("{extractor_seed}", str(self.extractor_seeds[0])))
        )

        from src.training.options import job_of

        try:
            check_training_options(options)
            job_of(options, recipe_options_of(options))
        except UserError as error:
            raise UserError(f"{place}: {error}") from error

    def _arch(self, entry: Entry) -> str:
        return entry.network["arch"].replace("{arch}", self.catalogue.arch) or self.catalogue.arch

    def _filled(self, text: str) -> str:
        """Return ``text`` with the placeholders that are the same for all trainings replaced."""
        values = {
            "trained": _trained_file(self.entry),
            UNDEFENDED: shlex.quote(self._undefended_file),
            "scored": f"--dataset {{dataset}} {self.of_undefended.scored}",
            "side": str(self.catalogue.side),
        }

        def replacement(match: re.Match[str]) -> str:
            if match[1] in _LATER:
                return match[0]
            if match[1] not in values:
                known = ", ".join(f"{{{name}}}" for name in (*values, *_LATER))
                raise UserError(f"{self.entry.name}: {match[0]}: there are {known}")
            return values[match[1]]

        return _PLACEHOLDER.sub(replacement, text)

    @property
    def scored(self) -> str:
        """Options that name its recommender to stage 3."""
        run = self.run
        return (
            f"--score_model {self.entry.ranking['name']} --score_epochs {run.epochs} "
            f"--score_seed {self.budget.seeds[0]} --score_options {run.options_label}"
        )

    @property
    def extractor(self) -> str | None:
        """Prefix of the extractor's experiments; None for the undefended network."""
        return model_dir_of(self._extractor_options())

    def _extractor_options(self) -> argparse.Namespace:
        """Return the options of stages 1 and 3 on the first training, as these read them."""
        parser = OptionsParser(f"{self.entry.name}: extractor")
        add_extractor_options(parser)
        add_preprocess_option(parser)
        options = self.extractor_options.replace("{dataset}", self.dataset)
        return parser.parse_args(shlex.split(options))

    def _attacks(self) -> list[str]:
        """Return the options of stage 3: noise, then the attack on classes, then those on the lists."""
        budget, on_lists = self.budget, self._on_lists()
        attacks = []
        for eps in budget.eps:
            within = f"--eps {eps:g} --l {self.suite.norm} --items random:{budget.items}"
            attacks += [f"--attack_type noise {within}"]
            if self.suite.norm in PGD.norms:
                attacks += [f"--attack_type pgd --steps {budget.steps} {within}"]
            attacks += [f"{attack} {within} {self.scored}" for attack in on_lists]
        return attacks

    def _on_lists(self) -> list[str]:
        """Return the options of the suite's attacks on lists, those of ``repeats`` with more steps."""
        steps = self.budget.steps
        further = (
            self.suite.random_attacks if self._extractor_options().preprocess.is_random else ()
        )
        attacks = []
        for text in (*self.suite.attacks, *further):
            longest = steps * self.repeats.get(_objective(text), 1)
            attacks.append(text.replace("{steps}", str(max(steps, longest // 2))))
            if longest > steps and text not in further:
                attacks.append(text.replace("{steps}", str(longest)))
        return [self._filled(attack) for attack in attacks]

    def _proofs(self) -> list[str]:
        """Return the options of ``audits.bounds`` for each budget, if the entry asks for bounds."""
        if not self.entry.bounds or self.suite.norm != "inf":
            return []
        return [
            f"--method {self.entry.bounds} --eps {eps:g} --k {self.suite.k} "
            f"--items random:{self.budget.items} {self.scored}"
            for eps in self.budget.eps
        ]

    @cached_property
    def studies(self) -> dict[str, CatalogueStudy]:
        return studies_of(Entries.of(self.study))

    @cached_property
    def attacks(self) -> frozenset[str]:
        """Names, without the extractor, of the attacks that the entry is measured under."""
        own = next(iter(self.studies.values())).attack_options
        if self.extractor is None and self.entry.name != UNDEFENDED:
            return frozenset({*own, *self._of_undefended})
        return frozenset(own)

    @property
    def bounds(self) -> list[Path]:
        """Tables of proven bounds of its items, which are there once its study has run."""
        return [Path(table) for study in self.studies.values() for table in study.bounds_tables]

    @property
    def trained_files(self) -> list[str]:
        """Checkpoints of its trainings, which are there once its study has run."""
        return _trained_by(self.studies)

    @property
    def reports(self) -> list[Path]:
        """Reports of all its attacks, which are there once its study has run."""
        return [
            Layout(dataset).attack_report(replace(Experiment.parse(name), model_dir=self.extractor))
            for dataset, study in self.studies.items()
            for name in study.attack_options
        ]

    @property
    def of_undefended(self) -> "Evaluation":
        """Evaluation of the undefended entry under the same suite."""
        return replace(self, entry=self.undefended, repeats=self.shown)

    @cached_property
    def _of_undefended(self) -> list[str]:
        """Names of the attacks on the undefended extractor, without noise."""
        names = next(iter(self.of_undefended.studies.values())).attack_options
        return [name for name in names if Experiment.parse(name).attack != CONTROL]

    @cached_property
    def part(self) -> dict[str, Any]:
        """Entries of the study that trains a part of the defence in front; none without such a part.

        It runs first: the defence is read only once that file is there.
        """
        if not self.entry.network["train"] or self.entry.trains_network:
            return {}
        (of,) = self.of_undefended.study["extractors"].values()
        trained = of | {"train": self.training_options}
        return self.of_undefended.study | {
            "extractor_seeds": list(self.extractor_seeds),
            "extractors": {"original": trained},
        }

    @property
    def part_files(self) -> list[str]:
        """Files that the study ``part`` trains."""
        return _trained_by(studies_of(Entries.of(self.part)))

    @cached_property
    def study(self) -> dict[str, Any]:
        """Entries of the catalogue study that attacks the entry."""
        noise, *attacks = self._attacks()
        if self.extractor is not None:
            for name in self._of_undefended:
                eps = re.search(r"_eps([\d.]+)_", f"{name}_")[1]
                attacks.append(
                    f"--attack_type given --images_from {name} --eps {eps} --l {self.suite.norm}"
                )
        model = self.entry.ranking["name"]
        plain = RECOMMENDERS[model].continues
        return {
            "dataset": self.dataset,
            "extractor_seeds": list(self.extractor_seeds),
            "origin": ORIGIN,
            "target": self.catalogue.target,
            "extractors": {
                self.extractor or "original": {
                    "options": self.extractor_options,
                    "train": self.training_options,
                }
            },
            "attacks": [noise],
            "test_time_attacks": attacks,
            "recommenders": [plain, model] if plain else [model],
            "recommender_options": self._recommender_options,
            "deployed": CLEAN if self.entry.deployed else "",
            "bounds": self._proofs(),
            "epoch": self.catalogue.epoch,
            "seeds": list(self.budget.seeds),
            "protocols": ["test_time"],
            "topk": max(50, self.suite.k),
        }


def _trained_by(studies: Mapping[str, CatalogueStudy]) -> list[str]:
    return [file for of in studies.values() for one in of.extractors for file in one.trained]


def _objective(attack: str) -> str:
    return _OBJECTIVE.search(attack)[1]


def _trained_file(entry: Entry) -> str:
    """Return the file of an entry's training; that of a part of a defence has the entry's name.

    Experiments show the name of that file, which must be the same for all trainings.
    """
    folder = (entry.name, "{dataset}") if entry.trains_network else ("{dataset}", entry.name)
    return f"models/{'/'.join(folder)}.pt"


def entry_names(folder: Path = FOLDER) -> list[str]:
    """Return the names of all entries, the undefended one first."""
    names = sorted(path.stem for path in (folder / "entries").glob("*.yaml"))
    return sorted(names, key=lambda name: name != UNDEFENDED)


def catalogue_names(folder: Path = FOLDER) -> list[str]:
    """Return the names of the catalogues that have a file."""
    return sorted(path.stem for path in (folder / "catalogues").glob("*.yaml"))


def entries_named(names: Sequence[str], folder: Path = FOLDER) -> list[Entry]:
    """Read the entries ``names``, or all of them where ``ALL`` is one of the names."""
    if ALL in names:
        names = entry_names(folder)
    return [read_entry(name, folder) for name in names]


def read_entry(name: str, folder: Path = FOLDER) -> Entry:
    """Return the entry ``name``; ``UserError`` where there is none."""
    if name not in entry_names(folder):
        known = ", ".join(entry_names(folder)) or "none yet"
        raise UserError(f"no entry {name!r}: there are {known}")
    path = folder / "entries" / f"{name}.yaml"
    entry = Entry.read(path)
    if entry.name != name:
        raise UserError(f"{path}: name: {entry.name}: the file has another name")
    return entry


def _scalar(text: str) -> Any:
    return yaml.safe_load(text)


def read_suite(budget: str, settings: Mapping[str, str], folder: Path = FOLDER) -> Suite:
    """Return the suite with ``settings`` in the place of numbers of its ``budget``."""
    suite = Suite.read(folder / "suite.yaml")
    values = {of.name: getattr(suite.budgets[budget], of.name) for of in fields(Budget)}
    values = {name: list(of) if isinstance(of, tuple) else of for name, of in values.items()}
    for key, text in settings.items():
        is_list = isinstance(values.get(key), list)
        values[key] = [_scalar(word) for word in text.split()] if is_list else _scalar(text)
    changed = Budget.of(values, "--suite: ")
    return replace(suite, budgets={**suite.budgets, budget: changed})


def read_catalogue(dataset: str, settings: Mapping[str, Any], folder: Path = FOLDER) -> Catalogue:
    """Return a catalogue with ``settings`` in the place of what its file, if there is one, says."""
    path = folder / "catalogues" / f"{check_name(dataset, '--catalogue')}.yaml"
    if path.is_file():
        return Catalogue.read(path, settings)
    return Catalogue.of(settings, f"{path} is not there, and --set: ")
