"""Attacked experiments that one row of the summary is about: pairs of classes x seeds of an attack."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from functools import cached_property

from src.artifacts.experiments import Experiment
from src.metrics.effects import Factor

Pair = tuple[int, int]
"""Origin class and target class."""

PAIR = Factor("pair of classes")
ATTACK_SEED = Factor("attack seed")
REVERSED, OTHER_TARGET = "reversed", "other target"
"""Kinds of placebos: the attack from the target class to the origin class of a pair, and the attack
towards a class that the lists hold little of."""


@dataclass(frozen=True)
class Design:
    """Experiments of one attack under one protocol, which an effect is averaged over."""

    experiments: tuple[tuple[Experiment, ...], ...]
    """Experiments of each pair of classes, by seed of the attack; every pair has the same seeds."""
    protocol: str
    placebo: str = ""
    """Kind of placebo; empty for an attack that is tested."""

    @classmethod
    def of(cls, experiment: Experiment, protocol: str) -> "Design":
        return cls(((experiment,),), protocol)

    @cached_property
    def flat(self) -> list[Experiment]:
        return [experiment for of_pair in self.experiments for experiment in of_pair]

    @property
    def n_pairs(self) -> int:
        return len(self.experiments)

    @property
    def n_seeds(self) -> int:
        return len(self.experiments[0])

    @property
    def name(self) -> str:
        """Attack's part of the name of the first experiment; over several pairs without classes."""
        first = self.experiments[0][0]
        if self.n_pairs == 1:
            return first.attack_name
        return "_".join(filter(None, (first.attack, first.objective, first.every_seed.parameters)))

    @property
    def crossed(self) -> dict[Factor, int]:
        """Factors of which there are several units, and their numbers, in the order of the axes."""
        counts = {PAIR: self.n_pairs, ATTACK_SEED: self.n_seeds}
        return {factor: count for factor, count in counts.items() if count > 1}


def designs_of(
    attacked: Iterable[tuple[Experiment, str]],
    pairs: Collection[Pair] = (),
    placebos: Collection[Pair] = (),
) -> list[Design]:
    """Put the attacked (experiment, protocol) of one extractor into designs.

    Experiments that differ in the seed of the attack alone are one design. An attack that was made on
    several of ``pairs`` has one more, over those pairs and the seeds that all of them have.
    """
    attacked = list(attacked)
    tested = {(of.origin, of.target) for of, _ in attacked}.difference(placebos)
    found: dict[tuple[Experiment, str], dict[int, Experiment]] = {}
    for experiment, protocol in attacked:
        seeds = found.setdefault((experiment.every_seed, protocol), {})
        seeds[experiment.attack_seed] = experiment
    designs = []
    together: dict[tuple[Experiment, str], list[dict[int, Experiment]]] = {}
    for (attack, protocol), by_seed in found.items():
        placebo = ""
        if (attack.origin, attack.target) in placebos:
            placebo = REVERSED if (attack.target, attack.origin) in tested else OTHER_TARGET
        in_order = tuple(by_seed[seed] for seed in sorted(by_seed))
        designs.append(Design((in_order,), protocol, placebo))
        if any(attack.origin == o and attack.target in (t, None) for o, t in pairs):
            everywhere = replace(attack, origin=None, target=None)
            together.setdefault((everywhere, protocol), []).append(by_seed)
    for (_, protocol), of_pairs in together.items():
        seeds = sorted(set.intersection(*map(set, of_pairs)))
        if len(of_pairs) > 1 and seeds:
            grid = tuple(tuple(by_seed[seed] for seed in seeds) for by_seed in of_pairs)
            designs.append(Design(grid, protocol))
    return designs
