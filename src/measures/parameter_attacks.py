"""Effects of attacks on recommenders' parameters on accuracy, beside those of controls."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from src.artifacts.atomic import atomic_outputs
from src.artifacts.columns import read_results
from src.artifacts.errors import UserError
from src.artifacts.tables import TestRanks, write_table
from src.measures.accuracy_figure import NAMES, Line, draw_accuracy
from src.measures.terminal import format_table
from src.metrics import ranking
from src.metrics.significance import decrease, decrease_interval, paired_tests

ACCURACY_METRICS = ("hr", "ndcg", "auc")
"""The columns of tables; AUC has no K."""
CLEAN = "clean"
"""The recommender of this name is ``attacked``, not ``clean_attacked``."""
CONTROL = "random"
"""The kind of attack that the others are compared with."""


def accuracy(draws: Sequence[TestRanks], k: int) -> np.ndarray:
    """Return HR@k, nDCG@k and AUC (test users, metrics) float64, averaged over draws."""
    values = [
        (
            ranking.hit_ratio(draw.users, draw.ranks, k),
            ranking.ndcg(draw.users, draw.ranks, k),
            ranking.auc(draw.users, draw.ranks, draw.negatives),
        )
        for draw in draws
    ]
    return np.mean(values, axis=0).T


@dataclass(frozen=True)
class ParameterStudy:
    """Recommenders and attacks: every attack is made on every recommender, under every seed."""

    recommenders: tuple[str, ...]
    controls: Mapping[str, str]
    """Plain recommender of as many epochs, by adversarial recommender."""
    attacks: Mapping[str, Mapping[str, object]]
    """Attributes kind, epsilon, steps, step_size, projection, by name of the attack."""
    threat: Mapping[str, str]
    """Columns of the table that all attacks share: parameters, negatives."""
    seeds: tuple[int, ...]
    k: int
    """K of HR and nDCG."""

    def __post_init__(self) -> None:
        states = [self.state(*cell) for cell in self.cells]
        if len(set(states)) < len(states):
            twice = next(state for state in states if states.count(state) > 1)
            raise UserError(f"two states would be called {twice!r}: choose other names")

    @property
    def cells(self) -> list[tuple[str, str | None]]:
        """Pairs (recommender, attack) of all states; None is no attack."""
        return [(name, attack) for name in self.recommenders for attack in (None, *self.attacks)]

    def state(self, recommender: str, attack: str | None) -> str:
        """Return the name of a state in the raw table; the first attack needs no name."""
        if attack is None:
            return recommender
        if attack != next(iter(self.attacks)):
            return f"{recommender}_{attack}"
        return "attacked" if recommender == CLEAN else f"{recommender}_attacked"

    def control_attack(self, attack: str) -> str | None:
        """Return the attack in a random direction with the same eps; None for the control itself."""
        wanted = (CONTROL, self.attacks[attack]["epsilon"])
        for name, other in self.attacks.items():
            if name != attack and (other["kind"], other["epsilon"]) == wanted:
                return name
        return None


@dataclass(frozen=True)
class ParameterOutcome:
    """Accuracy in every state of a study."""

    study: ParameterStudy
    values: Mapping[tuple[str, str | None], np.ndarray]
    """Accuracy (seeds, test users, metrics) float64, by (recommender, attack)."""
    groups: Mapping[str, np.ndarray]
    """Masks (test users,) by name: ``all`` and, if some are not attacked, ``attacked`` and ``others``."""

    @classmethod
    def of(
        cls,
        study: ParameterStudy,
        ranks: Mapping[tuple[str, int, str | None], Sequence[TestRanks]],
        attacked_users: np.ndarray | None = None,
    ) -> "ParameterOutcome":
        """Compute accuracy from ranks of held-out items in each draw, by (recommender, seed, attack)."""
        values = {
            (name, attack): np.stack(
                [accuracy(ranks[name, seed, attack], study.k) for seed in study.seeds]
            )
            for name, attack in study.cells
        }
        users = np.unique(next(iter(ranks.values()))[0].users)
        groups = {"all": np.ones(len(users), bool)}
        if attacked_users is not None:
            attacked = np.isin(users, attacked_users)
            groups |= {"attacked": attacked, "others": ~attacked}
        return cls(study, values, {name: of for name, of in groups.items() if of.any()})

    def table(self) -> pd.DataFrame:
        """Return a row for each seed and state: columns seed, state, hr, ndcg, auc."""
        rows = [
            (seed, self.study.state(*cell), *self.values[cell][at].mean(axis=0))
            for at, seed in enumerate(self.study.seeds)
            for cell in self.study.cells
        ]
        return pd.DataFrame(rows, columns=["seed", "state", *ACCURACY_METRICS])

    def effects(self) -> pd.DataFrame:
        """Return a row for each recommender, attack, group of users and metric.

        ``before`` and ``after`` are means over seeds and users; ``decrease`` is the decrease in
        percent, ``ci_low`` and ``ci_high`` bound it with 95 % confidence over users and seeds, and
        ``sd`` is the standard deviation of the seeds' decreases. ``difference`` (percentage points) is
        against the plain control; its p-value is that of a paired t-test over the seeds' decreases.
        Missing values are NaN.
        """
        return pd.concat(
            [
                self._effects(recommender, attack, group)
                for recommender in self.study.recommenders
                for attack in self.study.attacks
                for group in self.groups
            ],
            ignore_index=True,
        ).rename(columns={"epsilon": "eps"})

    def _effects(self, recommender: str, attack: str, group: str) -> pd.DataFrame:
        """Return the rows of all metrics."""
        study = self.study
        effect = self._effect(recommender, attack, group)
        control = study.controls.get(recommender)
        of_control = self._effect(control, attack, group) if control else Effect.unknown(effect)
        random = study.control_attack(attack)
        of_random = self._effect(recommender, random, group) if random else Effect.unknown(effect)
        ci_low, ci_high = effect.interval
        return pd.DataFrame(
            {
                "recommender": recommender,
                "attack": attack,
                **study.attacks[attack],
                **study.threat,
                "users": group,
                "metric": ACCURACY_METRICS,
                "k": pd.array([study.k, study.k, None], dtype="Int64"),
                "seeds": len(study.seeds),
                "before": effect.before.mean(axis=(0, 1)),
                "after": effect.after.mean(axis=(0, 1)),
                "decrease": effect.decrease,
                "ci_low": ci_low,
                "ci_high": ci_high,
                "sd": pd.DataFrame(effect.of_seeds).std().to_numpy(),
                "control": control,
                "control_decrease": of_control.decrease,
                "difference": effect.decrease - of_control.decrease,
                "p_value": paired_tests(of_control.of_seeds, effect.of_seeds)[0],
                "random_decrease": of_random.decrease,
            }
        )

    def _effect(self, recommender: str, attack: str, group: str) -> "Effect":
        users = self.groups[group]
        before, after = (self.values[recommender, state][:, users] for state in (None, attack))
        return Effect(before, after)

    def lines(self) -> list[Line]:
        """Return lines of accuracy against eps, for each recommender and attack without its eps."""
        study = self.study
        series: dict[str, dict[float, str]] = {}
        for name, attack in study.attacks.items():
            series.setdefault(_without_eps(attack), {})[float(attack["epsilon"])] = name
        lines = []
        for recommender in study.recommenders:
            for label, by_eps in series.items():
                eps = sorted({0.0, *by_eps})
                means = [self.values[recommender, by_eps.get(e)].mean(axis=1) for e in eps]
                kind = study.attacks[next(iter(by_eps.values()))]["kind"]
                lines.append(Line(recommender, label, str(kind), np.array(eps), np.stack(means, 1)))
        return lines


@dataclass(frozen=True)
class Effect:
    """Effect of an attack on a recommender: accuracy (seeds, users, metrics) before and after."""

    before: np.ndarray
    after: np.ndarray

    @classmethod
    def unknown(cls, like: "Effect") -> "Effect":
        nothing = np.full_like(like.before, np.nan)
        return cls(nothing, nothing)

    @property
    def decrease(self) -> np.ndarray:
        """Decrease (metrics,) in percent of the means over seeds and users."""
        return decrease(self.before.mean(axis=(0, 1)), self.after.mean(axis=(0, 1)))

    @property
    def of_seeds(self) -> np.ndarray:
        """Decrease (seeds, metrics) in percent for each seed."""
        return decrease(self.before.mean(axis=1), self.after.mean(axis=1))

    @property
    def interval(self) -> tuple[np.ndarray, np.ndarray]:
        return decrease_interval(self.before, self.after)


def _without_eps(attack: Mapping[str, object]) -> str:
    """Return an attack in words, for a legend."""
    kind = str(attack["kind"])
    if kind == CONTROL:
        return "random direction"
    if kind == "fgsm":
        return "one step"
    box = ", box" if attack["projection"] == "box" else ""
    return f"{kind.upper()}, {attack['steps']} steps{box}"


def write_outcome(
    outcome: ParameterOutcome, options: Mapping[str, object], title: str, outputs: Sequence[Path]
) -> pd.DataFrame:
    """Write the raw table, the effects, their JSON record and figures; return the effects.

    ``outputs`` are the paths in this order; figures, if any, have the format of their suffixes.
    """
    effects = outcome.effects()
    with atomic_outputs(*outputs) as (raw, table, record, *figures):
        write_table(raw, outcome.table(), numbers="%.6f")
        write_table(table, effects)
        rows = effects.astype(object).where(effects.notna(), None).to_dict("records")
        content = {"options": options, "effects": rows}
        record.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")
        if figures:
            draw_accuracy(outcome.lines(), outcome.study.k, title, figures)
    return effects


def read_effects(path: Path) -> pd.DataFrame:
    """Read the effects that ``write_outcome`` wrote."""
    return read_results(path, (), numbers=("k",)).astype({"k": "Int64"})


def effects_overview(effects: pd.DataFrame) -> str:
    """Return a text table for each metric and group of users."""
    return "\n\n".join(
        f"{_heading(str(metric), k, str(users))}\n{_overview(rows)}"
        for (metric, k, users), rows in effects.groupby(
            ["metric", "k", "users"], sort=False, dropna=False
        )
    )


def _heading(metric: str, k: object, users: str) -> str:
    name = NAMES[metric] + ("" if pd.isna(k) else f"@{k}")
    return name if users == "all" else f"{name}, {users} users"


def _overview(rows: pd.DataFrame) -> str:
    columns = {
        "recommender": rows["recommender"],
        "attack": rows["attack"],
        "before": rows["before"],
        "after": rows["after"],
        "decrease %": rows["decrease"].map(_percent),
        "95 % interval": list(map(_interval, rows["ci_low"], rows["ci_high"])),
        "sd": rows["sd"].map(_percent),
        "plain control %": rows["control_decrease"].map(_percent),
        "difference (pp)": rows["difference"].map(_percent),
        "p": rows["p_value"],
        "random %": rows["random_decrease"].map(_percent),
    }
    shown = {name: column for name, column in columns.items() if any(map(_is_shown, column))}
    return format_table(list(shown), list(zip(*shown.values(), strict=True)))


def _is_shown(cell: object) -> bool:
    return cell != "" and not pd.isna(cell)


def _interval(low: float, high: float) -> str:
    return "" if pd.isna(low) else f"{_percent(low)} to {_percent(high)}"


def _percent(value: float) -> str:
    return "" if pd.isna(value) else f"{value:z.2f}"
