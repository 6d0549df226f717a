"""Ranks of held-out items in trained recommenders whose parameters are attacked."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from src.artifacts.atomic import atomic_output
from src.artifacts.errors import UserError
from src.artifacts.experiments import Run
from src.artifacts.layout import Layout
from src.artifacts.manifest import fingerprint, input_name, read_record
from src.artifacts.tables import TestRanks, write_top_k
from src.recommenders.command import training_command
from src.recommenders.data import TrainingData
from src.recommenders.factor_models import FactorModel
from src.recommenders.fitting import Fitting, files_read
from src.recommenders.models import Model
from src.recommenders.pairwise_loss import (
    ExpectedNegatives,
    FixedNegatives,
    PairwiseLoss,
    SampledNegatives,
)
from src.recommenders.parameter_attack import Attacked, Parameter, ParameterAttack
from src.recommenders.ranking import test_ranks, top_k

NEGATIVES = ("expected", "sampled", "fixed")


@dataclass(frozen=True)
class Threat:
    """Access and knowledge of an attacker, equal for all attacks that are compared."""

    parameters: tuple[str, ...] = ("P", "Q")
    """Attacked parameters, by their names in ``parameters_of``."""
    negatives: Literal["expected", "sampled", "fixed"] = "expected"
    """Negatives of the loss that is raised. ``expected``: the exact mean over all negatives. ``sampled``:
    new negatives at every step, which depend on the seed of a recommender alone. ``fixed``: one draw for
    all."""
    draws: int = 1
    """Number of repetitions of random attacks."""
    seed: int = 0
    """Seed of negatives and random directions."""
    attacked_users: np.ndarray | None = None
    """User ids whose pairs are known and whose rows can be moved; None is all."""

    def draws_of(self, attack: ParameterAttack) -> int:
        """Return the number of different draws of ``attack``."""
        by_chance = attack.kind in ("random", "pgd") or (
            self.negatives == "sampled" and attack.steps > 0
        )
        return self.draws if by_chance else 1

    def shift(
        self, attack: ParameterAttack, recommender: "TrainedRecommender", draw: int
    ) -> Attacked:
        """Return the recommender under one draw of an attack."""
        rng = np.random.default_rng((self.seed, recommender.run.seed, draw))
        loss = self._loss(recommender.data, int(rng.integers(2**62)))
        parameters = {name: recommender.parameters[name] for name in self.parameters}
        folded = recommender.users, recommender.items
        return attack(*folded, parameters, loss, rng, self.attacked_users)

    def _loss(self, data: TrainingData, seed: int) -> PairwiseLoss:
        """Return the loss to raise; ``seed`` is that of sampled negatives."""
        sampler = data.sampler
        if self.negatives == "expected":
            return ExpectedNegatives(data.interactions, sampler.candidate_items)
        if self.negatives == "fixed":
            return FixedNegatives(sampler.epoch(self.seed, 0))
        return SampledNegatives(sampler, seed)


@dataclass(frozen=True)
class TrainedRecommender:
    """Factors of a recommender, and the data that it was trained on."""

    run: Run
    """Run whose ``top_k`` is the length of the lists that are written under attack."""
    data: TrainingData
    users: np.ndarray
    """Factors (n_users, d) float32."""
    items: np.ndarray
    """Factors (n_items, d) float32."""
    parameters: dict[str, Parameter]
    """Parameters that can be attacked, by name."""

    @classmethod
    def read(cls, layout: Layout, run: Run, data: TrainingData) -> "TrainedRecommender":
        """Read the weights of ``run`` after all its epochs; ``UserError`` if they do not fit.

        A recommender that is fitted at once is fitted now if it is not stored.
        """
        model = Model.parse(run.model)
        if issubclass(model.kind, FactorModel):
            recommender = model.kind.load(layout.weights(run), data, model.form)
        else:
            recommender = Fitting(layout, run).fitted(data)
        factors = recommender.factors(data.features)
        return cls(run, data, *factors, recommender.parameters(factors))

    @cached_property
    def ranks(self) -> TestRanks:
        """Return the ranks of the held-out items without an attack."""
        return test_ranks(self.users, self.items, self.data.at_test_time)

    def ranks_under(
        self, attack: ParameterAttack, threat: Threat, lists: Path | None = None
    ) -> list[TestRanks]:
        """Return ranks of held-out items in each draw; write the first draw's lists to ``lists``."""
        ranks = []
        for draw in range(threat.draws_of(attack)):
            attacked = threat.shift(attack, self, draw)
            ranks.append(test_ranks(attacked.users, attacked.items, self.data.at_test_time))
            if lists and draw == 0:
                best = top_k(attacked.users, attacked.items, self.data.at_test_time, self.run.top_k)
                with atomic_output(lists) as temporary:
                    write_top_k(temporary, best)
        return ranks


def input_files(layout: Layout, run: Run) -> tuple[Path, ...]:
    """Return the files on which ``TrainedRecommender.read`` and its data depend.

    Raises ``UserError`` if the weights are missing or were trained on other data.
    """
    kind = Model.parse(run.model).kind
    if not issubclass(kind, FactorModel):
        return (*Fitting(layout, run).inputs, *layout.held_out_sets)
    weights = layout.weights(run)
    if not weights.is_file():
        raise UserError(f"no weights at {weights}: first run {training_command(layout, run)}")
    trained_on = [layout.training_set, *files_read(layout, run)]
    recorded = read_record(weights).get("inputs", {})
    for path in trained_on:
        if recorded.get(input_name(path)) not in (None, fingerprint(path)):
            raise UserError(
                f"{weights} was trained on another {path}: run again "
                f"{training_command(layout, run)} --force"
            )
    return (weights, *trained_on, *layout.held_out_sets)
