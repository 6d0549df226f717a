"""Attacked runs of a recommender beside its clean runs, and beside noise of the same size."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from src.artifacts.errors import UserError
from src.artifacts.experiments import Experiment, Run
from src.artifacts.layout import Layout
from src.measures.attack_records import recorded_budget, resembles
from src.measures.changes import Measured
from src.measures.designs import Design
from src.measures.measures import accuracy_values, category_values
from src.measures.norm_restored import Restored
from src.measures.runs import (
    read_categories,
    read_held_out,
    read_lists,
    require_same_users,
    unpaired_runs,
)
from src.measures.verdicts import CONTROL


@dataclass(frozen=True)
class Comparison:
    """The runs of one recommender on one extractor's features, every attacked one with its clean run."""

    layout: Layout
    runs: tuple[Run, ...]
    ks: tuple[int, ...]

    @cached_property
    def clean(self) -> dict[int, Run]:
        """The clean run of each seed."""
        return {run.seed: run for run in self.runs if run.experiment.attack is None}

    @cached_property
    def attacked(self) -> dict[tuple[Experiment, str], dict[int, Run]]:
        """The runs of each attacked experiment and protocol, by seed."""
        found: dict[tuple[Experiment, str], dict[int, Run]] = {}
        for run in self.runs:
            if run.experiment.attack is not None:
                found.setdefault((run.experiment, run.protocol), {})[run.seed] = run
        return found

    @cached_property
    def users(self) -> tuple[np.ndarray, np.ndarray]:
        """The users with lists and those with a held-out item, as the first run has them."""
        n_items = len(read_categories(self.layout, self.runs[0].experiment).of_item)
        lists = read_lists(self.layout, self.runs[0], n_items)
        return lists.users, read_held_out(self.layout, self.runs[0]).users

    @cached_property
    def measured(self) -> dict[tuple[Run, int], Measured]:
        """Every run's values for each origin class it is compared for; each list is read once."""
        categories = read_categories(self.layout, self.runs[0].experiment)
        origins = sorted({experiment.origin for experiment, _ in self.attacked})
        members = {origin: categories.members(origin) for origin in origins}
        measured: dict[tuple[Run, int], Measured] = {}
        users, test_users = self.users
        for run in self.runs:
            lists = read_lists(self.layout, run, len(categories.of_item))
            held_out = read_held_out(self.layout, run)
            require_same_users(self.layout, lists.users, run, users, self.runs[0])
            require_same_users(self.layout, held_out.users, run, test_users, self.runs[0])
            accuracy = accuracy_values(held_out, self.ks, held_out.has_several)
            for origin in origins if run.experiment.attack is None else [run.experiment.origin]:
                of_class = category_values(lists.items, members[origin], self.ks)
                measured[run, origin] = of_class | accuracy
        return measured

    def values(self, design: Design, runs: Sequence[Run]) -> Measured:
        """Return what was measured on a run for each experiment: (crossed factors ..., users)."""
        each = [
            self.measured[run, experiment.origin]
            for run, experiment in zip(runs, design.flat, strict=True)
        ]
        shape = tuple(design.crossed.values())
        return {
            measure: np.reshape([of[measure] for of in each], (*shape, -1))
            for measure in each[0]
            if all(measure in of for of in each)
        }

    def restored(self, run: Run) -> Restored:
        """Return what ranks again for an attacked run; runs on the same items share it."""
        needed = Restored.of(self.layout, run, self.ks[-1])
        return self._restored.setdefault(needed, needed)

    @cached_property
    def _restored(self) -> dict[Restored, Restored]:
        return {}

    def noise(self, experiment: Experiment, protocol: str) -> dict[int, Run]:
        """Return the runs on the noise that is the control of an attack, by seed.

        It changes the same class, image by image by the size of the attack's changes or else within the
        same budget, with the seed of the attack where there is such noise. Empty where there is none,
        and for noise itself.
        """
        if experiment.attack == CONTROL:
            return {}
        candidates = [
            candidate
            for candidate, its_protocol in sorted(
                self.attacked,
                key=lambda key: (key[0].attack_seed != experiment.attack_seed, key[0].name),
            )
            if candidate.attack == CONTROL
            and its_protocol == protocol
            and candidate.origin == experiment.origin
        ]
        alike = [of for of in candidates if resembles(self.layout, of, experiment)]
        budget = recorded_budget(self.layout, experiment)
        same = [of for of in candidates if budget and recorded_budget(self.layout, of) == budget]
        found = alike or same
        return self.attacked[found[0], protocol] if found else {}


def comparisons_of(
    layouts: Sequence[Layout], runs: Sequence[Collection[Run]], ks: Sequence[int]
) -> list[tuple["Comparison", ...]]:
    """Group runs by extractor and recommender: a comparison for each data set that has them.

    ``runs`` are those of each of the ``layouts``, whose extractors of one name are trainings of one
    recipe. ``ks`` ascend. ``unpaired_runs`` and attacks on items of no one class are left out;
    ``UserError`` when nothing else is there.
    """
    groups: dict[tuple[str, str], list[Comparison]] = {}
    for layout, of_layout in zip(layouts, runs, strict=True):
        found: dict[tuple[str, str], list[Run]] = {}
        paired = set(of_layout).difference(unpaired_runs(of_layout))
        compared = [run for run in paired if not run.experiment.items]
        for run in sorted(compared, key=lambda run: run.name):
            found.setdefault((run.experiment.extractor, run.model), []).append(run)
        for key, members in found.items():
            comparison = Comparison(layout, tuple(members), tuple(ks))
            if comparison.attacked:
                groups.setdefault(key, []).append(comparison)
    if not groups:
        attacked = [run for of in runs for run in of if run.experiment.attack]
        if all(run.experiment.items for run in attacked):
            raise UserError(
                "no attack is on the items of one class, and the summary compares no others: "
                "audits.promotion measures them"
            )
        raise UserError(
            f"no attacked run in {layouts[0].recommendations_dir} has its clean run beside it: "
            "run rec_generator.py on the clean features with the same options and seed"
        )
    return [tuple(members) for members in groups.values()]


def comparisons_with(comparisons: Sequence[Comparison], design: Design) -> list[Comparison]:
    """Return those comparisons that have every experiment of a design."""
    keys = [(one, design.protocol) for one in design.flat]
    return [of for of in comparisons if all(key in of.attacked for key in keys)]


def common_seeds(comparisons: Sequence[Comparison], design: Design) -> list[int]:
    """Return the recommender seeds that all comparisons have of a design; ``UserError`` if none."""
    runs = [of.attacked[one, design.protocol] for of in comparisons for one in design.flat]
    seeds = sorted(set.intersection(*map(set, runs))) if runs else []
    if not seeds:
        raise UserError(
            f"{design.name}: the runs to compare have no seed of the recommender in common"
        )
    return seeds


def require_one_configuration(comparisons: Sequence[Comparison]) -> None:
    """Raise ``UserError`` unless trainings have recommenders of one configuration and the same users."""
    first, *others = (comparison.runs[0] for comparison in comparisons)
    for comparison, run in zip(comparisons[1:], others, strict=True):
        for field in ("epochs", "top_k", "fidelity", "options_label"):
            if getattr(run, field) != getattr(first, field):
                raise UserError(
                    f"{first.model} has {field} {getattr(first, field)} in "
                    f"{comparisons[0].layout.recommendations_dir} and {getattr(run, field)} in "
                    f"{comparison.layout.recommendations_dir}: choose runs of one configuration"
                )
        for users, other in zip(comparisons[0].users, comparison.users, strict=True):
            require_same_users(comparison.layout, other, run, users, first)
