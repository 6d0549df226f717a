"""Study of one catalogue, read from its YAML file: its jobs and the names of its artifacts.

The rules take every option and every name from here. The parsers of the scripts build the names, so
that a rule expects exactly the files that its script writes.
"""

import argparse
import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path

import numpy as np

from reproduce.workflow.entries import Entries, files_in, seed_parts
from reproduce.workflow.options import OptionsParser
from reproduce.workflow.training import Training, trained_file
from src.artifacts.errors import UserError
from src.artifacts.experiments import CLEAN, PUBLISHED, Experiment, Run, check_name
from src.artifacts.layout import Layout
from src.attacks.command import check_recommender
from src.attacks.given import Given
from src.attacks.registry import ATTACKS
from src.attacks.settings import add_attack_options, attack_of, attack_settings, experiment
from src.cli import (
    add_extractor_options,
    add_fidelity_option,
    fidelity_of,
)
from src.defences.options import add_preprocess_option, model_dir_of
from src.extractors.weights import item_classes_of
from src.measures.changes import SEED, TRAINING
from src.measures.designs import REVERSED
from src.metrics.effects import smallest_effect
from src.recommenders.command import add_recommender_options, run_of
from src.recommenders.cornac_models import FOLDED, require_cornac
from src.recommenders.factor_models import FactorModel
from src.recommenders.read_out import add_score_options, weights_text
from src.recommenders.registry import RECOMMENDERS

PROTOCOLS = ("retrained", "test_time")
DISPLACED = "displaced"
PLACEBOS = (REVERSED, DISPLACED)
"""Placebos for all pairs: attacks from the target to the origin class, and features that move as far in
random directions."""
DEFAULT_RECOMMENDERS = ("VBPR", "AMR")


@dataclass(frozen=True)
class StudiedExtractor:
    """Extractor: the options that select it and, if the study trains it, those of its training."""

    name: str
    """Name: ``original``, or the folder of a defended model below ``models/``."""
    options: str
    train: str = ""
    """Options of ``train_extractor.py``; empty for a checkpoint that is there already."""

    @property
    def prefix(self) -> str:
        """Beginning of the names of its experiments: empty, or ``free_adv_``."""
        return "" if self.name == CLEAN else f"{self.name}_"

    @property
    def trained(self) -> list[str]:
        """File that the study's training writes, if it trains."""
        if not self.train:
            return []
        return [trained_file(self.train, f"extractors: {self.name}: train")]

    @property
    def files(self) -> list[str]:
        """Files that must exist before it reads images: its checkpoint, if the options name it."""
        return list(dict.fromkeys([*self.trained, *files_in(self.options)]))


def studies_of(entries: Entries) -> dict[str, "CatalogueStudy"]:
    """Read a study once for every training of its extractors, by the data set of each.

    ``extractor_seeds`` are the seeds of these trainings. In the options of extractors
    ``{extractor_seed}`` stands for one of them and ``{dataset}`` for its data set: the study's own for
    the first, ``<dataset>_<seed>`` for others. ``UserError`` where another seed trains nothing else.
    """
    dataset = entries.text("dataset")
    seeds = entries.numbers("extractor_seeds", ())
    if not seeds:
        return {dataset: CatalogueStudy.of(entries)}
    if "extractor_seed" in entries.values:
        raise UserError("extractor_seed: a study has extractor_seeds, and is run once for each")
    names = [dataset, *(f"{dataset}_{seed}" for seed in seeds[1:])]
    studies = {
        name: CatalogueStudy.of(entries.with_values(dataset=name, extractor_seed=seed))
        for name, seed in zip(names, seeds, strict=True)
    }
    first, *others = studies.values()
    for other in others:
        if [of.name for of in other.extractors] != [of.name for of in first.extractors]:
            raise UserError(
                "extractor_seeds: the names of extractors must not depend on the data set"
            )
        for extractor, again in zip(first.extractors, other.extractors, strict=True):
            if not extractor.train:
                raise UserError(
                    f"extractor_seeds: the study trains no {extractor.name}, so intervals cover the "
                    "seeds of recommenders only: name one seed"
                )
            if extractor.trained == again.trained or extractor.train == again.train:
                raise UserError(
                    f"extractors: {extractor.name}: train needs {{extractor_seed}}, and {{dataset}} in "
                    "the name of its checkpoint: else all extractor_seeds give the same training"
                )
    return studies


def power(trainings: int, seeds: int) -> str:
    """Say in a line which net effect a study of so many trainings and recommender seeds can tell."""
    level = TRAINING if trainings > 1 else SEED
    smallest = smallest_effect({level.name: 1.0}, (TRAINING, SEED), (trainings, seeds))
    units = (
        f"{trainings} extractor training{'s' * (trainings > 1)} x "
        f"{seeds} recommender seed{'s' * (seeds > 1)}"
    )
    if np.isnan(smallest):
        return f"{units}: no net effect gets an interval; that takes several seeds"
    line = (
        f"{units}: a net effect of at least about {smallest:.1f} standard deviations between "
        f"{level.name}s is found with a probability of 80 %"
    )
    return line if level is TRAINING else f"{line}; no verdict is about another training"


@dataclass(frozen=True)
class CatalogueStudy:
    """Extractors x attacks x recommenders x seeds on one data set."""

    dataset: str
    pairs: tuple[tuple[int, int], ...]
    """Origin and target class of the attacks."""
    attack_seeds: tuple[int, ...]
    """Seeds of attacks that draw; others are made once."""
    placebos: tuple[str, ...]
    """Controls: ``PLACEBOS``, and pairs of classes whose target is unpopular (``0 7``)."""
    extractors: tuple[StudiedExtractor, ...]
    attacks: tuple[str, ...]
    """The options of each, without the pair of classes and the seed; noise is the control of the others.

    In the file ``--like`` may name the kind of an attack in place of its experiment.
    """
    test_time_attacks: tuple[str, ...]
    """Further attacks, without retrained recommenders."""
    recommenders: tuple[str, ...]
    epoch: int
    seeds: tuple[int, ...]
    """Seeds of all recommenders."""
    prepare: str
    """Source and options of ``prepare_dataset.py``; empty for an existing data set."""
    recommender_options: str
    deployed: str
    """Clean experiment, of no extractor of the study, whose recommenders rank unchanged; empty trains."""
    protocols: tuple[str, ...]
    topk: int
    list_of_k: tuple[int, ...]
    """Values of K in the summary."""
    rankings: str
    """Options of ``audits.rankings`` for every extractor; empty skips it."""
    bounds: tuple[str, ...]
    """Options of ``audits.bounds`` for every extractor, with ``--score_model``; empty proves nothing."""
    promotion: bool
    """True if ``audits.promotion`` measures exposure and places of the attacked items."""
    job_per_seed: bool
    """True if each seed is a job of its own, for long trainings on many machines. Otherwise one job
    trains an experiment's recommenders with all seeds, and starts TensorFlow once."""

    @classmethod
    def of(cls, entries: Entries) -> "CatalogueStudy":
        """Read the study; ``UserError`` for missing, unknown or impossible entries."""
        extractors = entries.mapping("extractors")
        study = cls(
            dataset=check_name(entries.text("dataset"), "dataset"),
            pairs=_pairs(entries, extractors.values()),
            attack_seeds=entries.numbers("attack_seeds", (0,)),
            placebos=entries.texts("placebos", ()),
            extractors=tuple(
                StudiedExtractor(name, of.text("options", ""), of.text("train", ""))
                for name, of in extractors.items()
            ),
            attacks=entries.texts("attacks"),
            test_time_attacks=entries.texts("test_time_attacks", ()),
            recommenders=entries.choices("recommenders", RECOMMENDERS, DEFAULT_RECOMMENDERS),
            epoch=entries.number("epoch"),
            seeds=entries.numbers("seeds"),
            prepare=entries.text("prepare", ""),
            recommender_options=entries.text("recommender_options", ""),
            deployed=entries.text("deployed", ""),
            protocols=entries.choices("protocols", PROTOCOLS, PROTOCOLS),
            topk=entries.number("topk", 150),
            list_of_k=entries.numbers("list_of_k", (20, 50)),
            rankings=entries.text("rankings", ""),
            bounds=entries.texts("bounds", ()),
            promotion=entries.flag("promotion", False),
            job_per_seed=entries.flag("job_per_seed", False),
        )
        for part in (entries, *extractors.values()):
            part.require_all_read()
        study.check()
        return study

    def _on(self, pair: tuple[int, int], attack: str, seed: int) -> str:
        """Return the options of an attack with its classes and its seed, and the name of ``--like``."""
        options = f"--origin_class {pair[0]} --target_class {pair[1]} {attack}"
        if seed:
            options += f" --seed {seed}"
        liked = re.search(r"(?<=--like )\S+", options)
        if not liked or liked[0] not in ATTACKS:
            return options
        of_kind = [
            of
            for of in self.all_attacks
            if f"--attack_type {liked[0]} " in f"{of} " and of != attack
        ]
        if len(of_kind) != 1:
            raise UserError(
                f"attacks: --like {liked[0]}: {len(of_kind)} attacks of the study are of that kind: "
                "write the name of the experiment"
            )
        same_seed = seed if seed in self._seeds_of(of_kind[0]) else 0
        original = self._on(pair, of_kind[0], same_seed)
        name = self._attacked(self.extractors[0], original).attack_name
        return f"{options[: liked.start()]}{name}{options[liked.end() :]}"

    def _seeds_of(self, attack: str) -> tuple[int, ...]:
        """Return the seeds with which an attack is made; the seed in its options is the only one."""
        options = self._attack_options(self.extractors[0], attack)
        draws = attack_of(options.attack_type, options).draws
        return self.attack_seeds if draws and not options.seed else (0,)

    @property
    def placebo_pairs(self) -> list[tuple[int, int]]:
        """Pairs of classes whose attacks are placebos."""
        swapped = [(target, origin) for origin, target in self.pairs]
        named = [text for text in self.placebos if text not in PLACEBOS]
        return [*(swapped if REVERSED in self.placebos else []), *_classes("placebos", named)]

    def _made(self, attacks: Iterable[str]) -> dict[str, str]:
        """Return the options of attacks on all pairs with all seeds, by their part of names."""
        made: dict[str, str] = {}
        for pair in (*self.pairs, *self.placebo_pairs):
            for attack in attacks:
                if pair in self.placebo_pairs and "--objective" in attack:
                    continue  # aims in lists have no target class
                for seed in self._seeds_of(attack):
                    options = self._on(pair, attack, seed)
                    made[self._attacked(self.extractors[0], options).attack_name] = options
        return made

    def trains(self, recommenders: Iterable[str]) -> bool:
        """Return whether one of ``recommenders`` trains in epochs, and so takes options of trainings."""
        return any(issubclass(RECOMMENDERS[name], FactorModel) for name in recommenders)

    def check(self) -> None:
        """Raise ``UserError`` for jobs that the stages cannot run, or would run twice."""
        self._check_recommenders()
        if self.deployed:
            self._check_deployed()
        self._check_names()
        self._runs("retrained")
        if len(self.proofs) < len(self.bounds):
            raise UserError("bounds: two of them have the same name")

    def _check_recommenders(self) -> None:
        """Raise ``UserError`` for recommenders that cannot be trained, or that nothing attacks."""
        for name in self.recommenders:
            plain = RECOMMENDERS[name].continues
            if plain not in (None, *self.recommenders):
                raise UserError(f"recommenders: {name} continues {plain}: name both")
            if name in FOLDED:
                require_cornac(FOLDED[name].learner)
        if self.searches and self.prepare and not re.search(r"--(validation|split)", self.prepare):
            raise UserError(
                f"recommender_options: --search chooses by validation rows, which prepare_dataset.py "
                f"{self.prepare} does not make: add --validation_split or --validation FILE to prepare"
            )
        if not self.visual:
            raise UserError("recommenders: none of them reads images: name one that does")
        if self.promotion and not self.promoted:
            raise UserError(
                f"promotion: an image moves the lists of the users who have its item in "
                f"{self.visual[0]}: name an attack with --target_item, or a recommender such as VBPR"
            )
        if self.blind and CLEAN not in self.by_name:
            raise UserError(
                f"recommenders: {self.blind[0]} reads no images, so its only experiment is {CLEAN}: "
                f"name the extractor {CLEAN} too"
            )

    def _check_names(self) -> None:
        """Raise ``UserError`` for attacks that share a name or are named otherwise on an extractor."""
        names = list(self.attack_options)
        once = {self._on_first(attack).attack_name for attack in self.all_attacks}
        if len(once) < len(self.all_attacks):
            raise UserError("attacks: two of them have the same name")
        if set(self.placebo_pairs) & set(self.pairs):
            raise UserError("placebos: one of them, or the reverse of a pair, is among the pairs")
        for extractor in self.extractors:
            of_extractor = [self._attacked(extractor, of) for of in self.attack_options.values()]
            if {named.extractor for named in of_extractor} != {extractor.name}:
                raise UserError(
                    f"extractors: {extractor.name}: its options are those of "
                    f"{of_extractor[0].extractor}: original has --defence 0, others --defence 1 and "
                    "--model_dir with their name, or a --preprocess that is named so"
                )
            if [named.attack_name for named in of_extractor] != names:
                raise UserError(
                    f"extractors: {extractor.name}: its attacks would be named otherwise than those "
                    f"of {self.extractors[0].name}: give --precision to all extractors alike"
                )

    def _check_deployed(self) -> None:
        """Raise ``UserError`` for a deployed recommender that the study would train."""
        experiment = Experiment.parse(self.deployed)
        if experiment.attack or experiment.extractor in self.by_name:
            raise UserError(
                f"deployed: {self.deployed} is not the clean experiment of an extractor of another study"
            )
        if self.protocols != ("test_time",):
            raise UserError("deployed: recommenders stay, so that protocols has test_time alone")
        for name in self.visual:
            if RECOMMENDERS[name].reads_pixels or not self.trains([name]):
                raise UserError(f"deployed: {name} has no weights that read features")

    @property
    def deployed_files(self) -> list[str]:
        """Features and weights of the deployed recommenders, which another study makes."""
        if not self.deployed:
            return []
        layout, clean = Layout(self.dataset), Experiment.parse(self.deployed)
        runs = [self._trained(name, seed) for name in self.visual for seed in self.seeds]
        return [str(layout.features(clean)), *(str(layout.weights(run)) for run in runs)]

    @property
    def all_attacks(self) -> tuple[str, ...]:
        return (*self.attacks, *self.test_time_attacks)

    @property
    def visual(self) -> list[str]:
        """Recommenders that read images, and are attacked."""
        return [name for name in self.recommenders if RECOMMENDERS[name].reads_images]

    @cached_property
    def target_item(self) -> int | None:
        """Item that attacks shall show to the buyers of the attacked ones; ``UserError`` for several."""
        parsed = (self._attack_options(self.extractors[0], of) for of in self.all_attacks)
        items = {of.target_item for of in parsed} - {None}
        if len(items) > 1:
            raise UserError(f"attacks: a study has one --target_item, not {sorted(items)}")
        return items.pop() if items else None

    @property
    def promoted(self) -> list[str]:
        """Visual recommenders whose lists ``audits.promotion`` reads.

        Without a target item it says nothing of those whose users read the images of their own items.
        """
        without = self.target_item is None
        return [of for of in self.visual if not (without and RECOMMENDERS[of].moves_users)]

    @property
    def promotion_options(self) -> str:
        """Options of ``audits.promotion`` for its recommenders."""
        options = f"--model {' '.join(self.promoted)} --epochs {self.epoch}"
        if any(RECOMMENDERS[of].moves_users for of in self.promoted):
            options += f" --target_item {self.target_item}"
        return options

    @property
    def blind(self) -> list[str]:
        """Recommenders that read no images, whose lists no attack on images changes."""
        return [name for name in self.recommenders if not RECOMMENDERS[name].reads_images]

    @cached_property
    def by_prefix(self) -> dict[str, StudiedExtractor]:
        return {extractor.prefix: extractor for extractor in self.extractors}

    @cached_property
    def by_name(self) -> dict[str, StudiedExtractor]:
        return {extractor.name: extractor for extractor in self.extractors}

    @property
    def prepared(self) -> list[str]:
        """Files of the data set that stages read."""
        searched = ["validationset"] if self.searches else []
        return [f"data/{self.dataset}/{name}.tsv" for name in ("trainingset", "testset", *searched)]

    @property
    def searches(self) -> bool:
        """Whether validation rows choose the options of recommenders."""
        return self._recommender_options.search is not None

    @property
    def labels(self) -> list[str]:
        """Categories of an existing data set, if it has some."""
        labels = Path("data", self.dataset, "items.csv")
        return [str(labels)] if labels.exists() and not self.prepare else []

    def trainings(self, given: Iterable[str]) -> dict[str, Training]:
        """Trainings of the study's extractors, which read ``given``, by the file that each writes."""
        trained = [file for extractor in self.extractors for file in extractor.trained]
        return {
            file: Training.of(extractor.train, [*self.prepared, *given], trained)
            for extractor in self.extractors
            for file in extractor.trained
        }

    @cached_property
    def attack_options(self) -> dict[str, str]:
        """Options of each attack, with its classes and seed, by its part of experiment names."""
        return self._made(self.all_attacks)

    def _on_first(self, attack: str) -> Experiment:
        """Return the attack's experiment on the first pair."""
        return self._attacked(self.extractors[0], self._on(self.pairs[0], attack, 0))

    def scored_by(self, attack: str) -> list[str]:
        """Return the ending of the weights that an attack on lists reads: ``_step100_VBPR``."""
        options = self._attack_options(self.extractors[0], self.attack_options[attack])
        if options.objective == "class":
            return []
        return [_weights_ending(self._scored(options, _aim(options)))]

    def resembled(self, prefix: str, attack: str) -> list[str]:
        """Return the report of the attack that noise resembles (``--like``), if the study runs it."""
        liked = re.search(r"(?<=--like )\S+", self.attack_options[attack])
        name = liked and Experiment.parse(liked[0]).attack_name
        known = name in self.attack_options
        return [f"data/{self.dataset}/{prefix}{name}/attack.tsv"] if known else []

    @property
    def retrained_attacks(self) -> list[str]:
        """Names of the attacks on whose features recommenders are retrained."""
        return list(self._made(self.attacks))

    @property
    def compared(self) -> str:
        """Options of ``summarize.py`` for pairs of classes and placebos."""
        options = ""
        for name, pairs in (("pairs", self.pairs), ("placebos", self.placebo_pairs)):
            if len(pairs) > (name == "pairs"):
                listed = " ".join(f"{origin}:{target}" for origin, target in pairs)
                options += f"--{name} {listed} "
        return options + ("--displaced " if DISPLACED in self.placebos else "")

    @property
    def fidelity(self) -> str:
        """Fidelity of the recommenders."""
        return self._recommender_options.fidelity

    @property
    def options_shown(self) -> list[str]:
        """Options in the names of attacked runs, as ``summarize.py --options`` takes them."""
        trained = [run for run in self._runs("retrained") if not run.fitted_at_once]
        return list(dict.fromkeys(run.options_label for run in trained)) or [PUBLISHED]

    @property
    def ranked(self) -> list[str]:
        """Names of the extractors whose rankings are attacked."""
        return [extractor.name for extractor in self.extractors] if self.rankings else []

    @cached_property
    def proofs(self) -> dict[str, str]:
        """Options of each proof of bounds by its part of names: ``crown_eps8_VBPR-ep100-lr0.05``."""
        made = {}
        for options in self.bounds:
            of = self._proof_options(options)
            run = self._scored(of, f"bounds: {options}:")
            made[f"{of.method}_eps{of.eps:g}_{weights_text(run)}"] = options
        return made

    def proven_of(self, proof: str) -> str:
        """Return the ending of the weights that a proof reads: ``_step100_VBPR``."""
        return _weights_ending(self._scored(self._proof_options(self.proofs[proof]), "bounds"))

    @property
    def bounds_tables(self) -> list[str]:
        """Tables of items that ``audits.bounds`` writes."""
        return [
            f"results/{self.dataset}/bounds_{prefix}{proof}.tsv"
            for prefix in self.by_prefix
            for proof in self.proofs
        ]

    @property
    def seed_parts(self) -> dict[str, int]:
        """Seeds by their part of names."""
        return seed_parts(self.seeds)

    def list_endings(self, seeds: Iterable[int | str], protocol: str = "retrained") -> list[str]:
        """Return the parts of list names after the experiment's: ``_top150_ep100_VBPR_seed1``.

        A wildcard ``{seed}`` may replace the ``seed_parts``.
        """
        runs = self._runs(protocol)
        return [_with_seed(run.name, run, seed) for run in runs for seed in seeds]

    @property
    def blind_lists(self) -> list[str]:
        """Return the names of lists of recommenders that read no images, with every seed."""
        options = self._recommender_options
        return [
            run_of(options, name, Experiment(), self.topk, seed).name
            for name in self.blind
            for seed in self.seeds
        ]

    def weight_endings(self, seeds: Iterable[int | str]) -> list[str]:
        """Return the parts of weight names after the experiment's: ``_step100_VBPR_seed1``."""
        runs = self._runs("retrained")
        return [_with_seed(run.weights_name, run, seed) for run in runs for seed in seeds]

    @cached_property
    def _recommender_options(self) -> argparse.Namespace:
        parser = OptionsParser("recommender_options")
        add_recommender_options(parser)
        add_fidelity_option(parser)
        return parser.parse_args(shlex.split(f"--epochs {self.epoch} {self.recommender_options}"))

    def _runs(self, protocol: str) -> list[Run]:
        """Return a run of each attacked recommender, with seed 1."""
        return [replace(self._run(name, 1), protocol=protocol) for name in self.visual]

    def _run(self, name: str, seed: int) -> Run:
        """Return the run of a recommender on the undefended extractor, whose ending all others have."""
        run = self._trained(name, seed)
        return run.deployed_on(Experiment()) if self.deployed else run

    def _trained(self, name: str, seed: int) -> Run:
        """Return the run of a recommender on the clean experiment that it learns, or learnt, from."""
        clean = Experiment.parse(self.deployed or CLEAN)
        return run_of(self._recommender_options, name, clean, self.topk, seed)

    def _attacked(self, extractor: StudiedExtractor, attack: str) -> Experiment:
        """Return the attacked experiment, named as stage 3 names it."""
        options = self._attack_options(extractor, attack)
        fidelity = fidelity_of(options)
        settings = attack_settings(options, fidelity)
        made_here = settings.objective and not isinstance(settings.attack, Given)
        recommender = ""
        if made_here:
            recommender = weights_text(self._scored(options, _aim(options)))
            check_recommender(options, settings, RECOMMENDERS[options.score_model])
        return experiment(settings, model_dir_of(options), fidelity, recommender)

    def _scored(self, options: argparse.Namespace, needing: str) -> Run:
        """Return the recommender that ``--score_model`` names; ``UserError`` if the study lacks it.

        ``needing`` begins the message: what needs that recommender.
        """
        name = options.score_model
        if name not in self.visual:
            raise UserError(f"{needing} needs --score_model with one of {', '.join(self.visual)}")
        if self.trains([name]) and options.score_epochs != self.epoch:
            raise UserError(
                f"{needing} needs --score_model {name} with --score_epochs {self.epoch}"
            )
        if options.score_seed not in self.seeds:
            raise UserError(
                f"{needing} has --score_seed {options.score_seed}, which is none of the seeds"
            )
        return self._run(name, options.score_seed)

    def _proof_options(self, options: str) -> argparse.Namespace:
        """Return the options of ``audits.bounds`` that name a proof."""
        parser = OptionsParser(f"bounds: {options}")
        parser.add_argument("--method", default="crown")
        parser.add_argument("--eps", type=float, default=8.0)
        add_score_options(parser)
        return parser.parse_known_args(shlex.split(options))[0]

    def _attack_options(self, extractor: StudiedExtractor, attack: str) -> argparse.Namespace:
        """Return the options of stage 3, as it reads them."""
        parser = _attack_parser()
        parser.prog = f"attacks: {attack}"
        return parser.parse_args(shlex.split(f"{attack} {extractor.options}"))


@cache
def _attack_parser() -> OptionsParser:
    """Return the parser of stage 3, which takes several times as long to make as to use."""
    parser = OptionsParser("attacks")
    add_attack_options(parser)
    add_extractor_options(parser)
    add_preprocess_option(parser)
    add_fidelity_option(parser)
    return parser


def _pairs(entries: Entries, extractors: Iterable[Entries]) -> tuple[tuple[int, int], ...]:
    """Read ``pairs``, or ``origin`` and ``target`` of the only one.

    The latter may be names if the first of ``extractors`` has classes of the shop.
    """
    if "pairs" not in entries.values:
        origin, target = (entries.text(key) for key in ("origin", "target"))
        if origin.isdecimal() and target.isdecimal():
            return ((int(origin), int(target)),)
        options = OptionsParser("extractors")
        add_extractor_options(options)
        first = next(iter(extractors)).text("options", "")
        named = item_classes_of(options.parse_known_args(shlex.split(first))[0])
        if named is None:
            return ((entries.number("origin"), entries.number("target")),)
        return ((named.class_of(origin, "origin"), named.class_of(target, "target")),)
    if both := {"origin", "target"} & set(entries.values):
        raise UserError(f"{both.pop()}: a study with pairs has no other classes")
    return tuple(_classes("pairs", entries.texts("pairs")))


def _classes(entry: str, texts: Sequence[str]) -> list[tuple[int, int]]:
    """Return origin and target class of each text."""
    pairs = []
    for text in texts:
        words = text.split()
        if len(words) != 2 or not all(map(str.isdecimal, words)):
            raise UserError(f'{entry}: {text!r} is no origin and target class, such as "0 1"')
        pairs.append((int(words[0]), int(words[1])))
    if len(set(pairs)) < len(pairs):
        raise UserError(f"{entry}: one of them is there twice")
    return pairs


def _aim(options: argparse.Namespace) -> str:
    """Return how a message begins about the recommender that an attack is after."""
    return f"attacks: --objective {options.objective}"


def _weights_ending(run: Run) -> str:
    return run.weights_name.removeprefix(run.experiment.name)


def _with_seed(name: str, run: Run, seed: int | str) -> str:
    """Return the ending of the name of ``run``, with ``seed`` in the place of its own."""
    (part,) = [seed] if isinstance(seed, str) else seed_parts([seed])
    ending = name.removeprefix(run.experiment.name)
    return re.sub(rf"_seed{run.seed}(?=_|$)", lambda _: part, ending)
