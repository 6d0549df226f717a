"""Material of a report on one data set: experiments, runs, and effects of attacks on the lists."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from src.artifacts.attack_report import read_attack_report
from src.artifacts.experiments import Experiment, Run
from src.artifacts.layout import Layout
from src.artifacts.manifest import read_record
from src.cli import require_within_lists
from src.measures.changes import Measure, Measured
from src.measures.comparable import (
    require_other_trainings,
    require_same_extractors,
    require_same_recommenders,
)
from src.measures.comparison import (
    Comparison,
    common_seeds,
    comparisons_of,
    comparisons_with,
    require_one_configuration,
)
from src.measures.designs import Design, designs_of
from src.measures.runs import list_runs, select_configuration, unpaired_runs
from src.measures.summary import effect_rows, input_files
from src.measures.verdicts import corrected
from src.metrics.significance import Estimate
from src.report.estimates import (
    feature_loss_estimate,
    mean_of_runs,
    resampled,
    stacked,
    success_estimate,
)
from src.report.names import attack_labels, attack_order, pair_label

_KS = (1, 2, 5, 10, 20, 30, 40, 50, 70, 100, 150, 200, 300, 500, 1000)
"""Points of the curves over K, as far as the lists go."""
_OF_LISTS = ("chr", "chr_normalised", "ncdcg")
"""Measures of the users who have lists; the others are of the users with a held-out item."""


@dataclass(frozen=True)
class Study:
    """A data set's experiments and the runs of one configuration of each recommender."""

    layout: Layout
    k: int
    """K of the tables."""
    runs: tuple[Run, ...]
    """Clean runs, and attacked runs that have their clean run; empty if lists are missing."""
    attacked: tuple[Experiment, ...]
    """Experiments that stage 3 has finished, in the order in which they are shown."""
    others: tuple[tuple[Layout, tuple[Run, ...]], ...] = ()
    """Data sets with the same runs on other trainings of the extractors. What attacks do to the lists is
    shown over all of them; images, their outcomes and everything else are those of ``layout``."""

    @classmethod
    def find(
        cls,
        layout: Layout,
        k: int,
        epochs: int | None,
        fidelity: str | None,
        options: Collection[str] | None = None,
        trainings: Sequence[Layout] = (),
    ) -> "Study":
        """Read what there is of a data set and of ``trainings``, the ``others``.

        ``UserError`` where configurations must be chosen from, ``k`` is beyond the lists, or something
        cannot be compared.
        """
        layouts = [layout, *trainings]
        runs = [attacked_runs(of, epochs, fidelity, options) for of in layouts]
        attacked = attacked_classes(layout)
        for of, of_layout in zip(layouts, runs, strict=True):
            require_same_recommenders(of, of_layout)
            require_same_extractors(of, attacked_classes(of))
            if of_layout:
                require_within_lists([k], min(run.top_k for run in of_layout))
        require_other_trainings(layouts, {of.clean for of in attacked})
        first, *others = map(tuple, runs)
        return cls(layout, k, first, tuple(attacked), tuple(zip(trainings, others, strict=True)))

    @cached_property
    def labels(self) -> dict[str, str]:
        """Labels of attacks by their part of the experiment name."""
        return attack_labels(self.attacked)

    def label(self, experiment: Experiment) -> str:
        return self.labels[experiment.attack_name]

    @property
    def attacked_extractors(self) -> list[str]:
        return list(dict.fromkeys(experiment.extractor for experiment in self.attacked))

    @cached_property
    def pairs(self) -> dict[tuple[int | None, str], str]:
        """Labels of attacked classes and aims by (origin class, ``Experiment.aim``)."""
        return {
            (of.origin, of.aim): pair_label(self.layout, of)
            + (", a placebo" if (of.origin, of.target) in self.placebos else "")
            for of in reversed(self.attacked)
        }

    @cached_property
    def placebos(self) -> list[tuple[int, int]]:
        """Pairs of classes whose attacks the summary takes for placebos."""
        options = read_record(self.layout.summary).get("options", {})
        return list(map(tuple, options.get("placebos", ())))

    @cached_property
    def ks(self) -> tuple[int, ...]:
        """Values of K at which curves are drawn, ascending; the tables' K among them."""
        length = min(run.top_k for run in self.runs)
        return tuple(sorted({self.k, length, *(k for k in _KS if k <= length)}))

    @cached_property
    def outcomes(self) -> pd.DataFrame:
        """Success and feature loss of each attack, with intervals: a row an experiment."""
        return pd.DataFrame([self._outcome(experiment) for experiment in self.attacked])

    def _outcome(self, experiment: Experiment) -> dict[str, object]:
        row: dict[str, object] = {"experiment": experiment.name}
        row |= success_estimate(self.layout, experiment).columns("success_rate")
        row |= feature_loss_estimate(self.layout, experiment).columns("feature_loss")
        if (path := self.layout.attack_report(experiment)).is_file():
            images = read_attack_report(path, needs=["linf", "l2"])
            row["images"] = len(images)
            row["largest_change"] = images["linf"].max()
            row |= resampled(images["l2"].to_numpy(np.float64)).columns("l2")
        return row

    @cached_property
    def effects(self) -> pd.DataFrame:
        """The summary's rows at every K, behind the name of the experiment.

        Bounds of ``before``, ``after`` and ``change`` (``*_low``, ``*_high``) follow.
        """
        layouts, runs = zip((self.layout, self.runs), *self.others, strict=True)
        rows = []
        for comparisons in comparisons_of(layouts, runs, self.ks):
            require_one_configuration(comparisons)
            if comparisons[0].layout != self.layout:
                continue  # what the report's own data set lacks has no name in it
            for design in designs_of(comparisons[0].attacked, placebos=self.placebos):
                bounds = _intervals(comparisons, design)
                for row in effect_rows(comparisons, design):
                    of_measure = bounds[row["metric"], row["k"]]
                    intervals = [of_measure[of].columns(of) for of in of_measure]
                    change = {"change_low": row["low"], "change_high": row["high"]}
                    named = {"experiment": design.flat[0].name}
                    rows.append({**named, **row, **_merged(intervals), **change})
        return corrected(pd.DataFrame(rows))

    def inputs(self) -> list[Path]:
        """Return the files whose content determines the report, except for the shown images."""
        files = input_files(self.layout, self.runs)
        files += [file for layout, runs in self.others for file in input_files(layout, runs)]
        for experiment in self.attacked:
            files += [self.layout.classes(experiment), self.layout.classes(experiment.clean)]
            files += [self.layout.features(experiment), self.layout.features(experiment.clean)]
            files += [self.layout.attack_report(experiment)]
            files += sorted(self.layout.experiment(experiment).glob("attention*"))
        return sorted({file for file in files if file.is_file()} | set(result_tables(self.layout)))


def attacked_runs(
    layout: Layout, epochs: int | None, fidelity: str | None, options: Collection[str] | None
) -> list[Run]:
    """Return the runs to report, of the longest lists; none where no attacked lists are written."""
    if not any(layout.recommendations_dir.glob("*.*")):
        return []
    attacked = [run for run in list_runs(layout) if run.experiment.attack]
    if not attacked:
        return []
    longest = max(run.top_k for run in attacked)
    runs = select_configuration(layout, epochs, longest, fidelity, options)
    return sorted(set(runs).difference(unpaired_runs(runs)), key=lambda run: run.name)


def attacked_classes(layout: Layout) -> list[Experiment]:
    """Return the finished attacks on images of a class, undefended extractors first."""
    found = [
        of
        for of in layout.attacked_experiments()
        if of.origin is not None
        and layout.classes(of).is_file()
        and layout.classes(of.clean).is_file()
    ]
    return sorted(
        found,
        key=lambda of: (of.origin, of.target or -1, of.aim, of.model_dir or "", *attack_order(of)),
    )


def result_tables(layout: Layout) -> list[Path]:
    """Return the tables that studies left in ``results/<dataset>/``."""
    return sorted(layout.results.glob("*.tsv"))


def _intervals(
    comparisons: Sequence[Comparison], design: Design
) -> Mapping[Measure, Mapping[str, Estimate]]:
    """Return ``before`` and ``after`` of every measure, over trainings and seeds as ``effect_rows``."""
    comparisons, protocol = comparisons_with(comparisons, design), design.protocol
    seeds = common_seeds(comparisons, design)

    def run(of: Comparison, state: str, seed: int) -> Measured:
        runs = [of.attacked[one, protocol][seed] for one in design.flat]
        values = of.values(design, runs if state == "after" else [of.clean[seed]] * len(runs))
        return {name: value.reshape(len(runs), -1).mean(axis=0) for name, value in values.items()}

    measured = {
        state: [[run(of, state, seed) for seed in seeds] for of in comparisons]
        for state in ("before", "after")
    }
    flat = [run for trainings in measured.values() for runs in trainings for run in runs]
    common = [name for name in flat[0] if all(name in run for run in flat)]
    found: dict[Measure, dict[str, Estimate]] = {}
    for of_lists in (True, False):
        measures = [name for name in common if (name[0] in _OF_LISTS) == of_lists]
        for state, trainings in measured.items():
            estimates = mean_of_runs(stacked(trainings, measures), protocol) if measures else []
            for measure, estimate in zip(measures, estimates, strict=True):
                found.setdefault(measure, {})[state] = estimate
    return found


def _merged(parts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: value for part in parts for name, value in part.items()}
