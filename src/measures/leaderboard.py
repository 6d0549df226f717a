"""Rows of the leaderboard: what each attacker reaches against one entry, beside what the entry costs.

A row is one (entry, scope, norm, eps), made of the rows of ``promotion.py``. Exposure is that of scope
``one``; scope ``all`` has CHR@K, the attacked items in a list when all are attacked at once.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from src.artifacts.columns import id_column, read_headed, require_numbers
from src.artifacts.errors import UserError
from src.artifacts.experiments import LIST_OBJECTIVES, Run
from src.artifacts.layout import Layout
from src.artifacts.tables import TestRanks
from src.attacks.given import GIVEN
from src.measures.attack_failures import MORE_DRAWS
from src.measures.changes import SEED, TRAINING, USER
from src.measures.exposure import Subject
from src.measures.promotion import promotion_table
from src.measures.reliance import HARDLY
from src.measures.threats import WORST
from src.measures.trainings import Trainings
from src.measures.verdicts import CONTROL
from src.metrics import ranking
from src.metrics.effects import Interval, nested_interval
from src.recommenders.data import load_training_data
from src.recommenders.ranking import test_ranks

COLUMNS = (
    *("entry", "place", "recommender", "hr20", "hr20_low", "hr20_high", "reliance"),
    *("scope", "norm", "eps", "clean", "noise", "knows_nothing", "knows_defence"),
    *("low", "high", "attack", "bound", "bound_method", "indicator", "extractor_seeds"),
    *("seconds", "suite"),
)
"""``low`` and ``high`` are the interval of the best known attack, which ``attack`` names; ``suite`` is
its version and budget."""
UNDEFENDED = "undefended"
"""Entry whose network and recommender the others defend."""
SUBMITTED = "submitted:"
"""Begins the name of an attack that somebody's own images are."""
COST = 0.02
"""Share of HR@20 that an entry may cost."""
LOOKS = 0.1
"""Share of the reliance that an entry may cost."""
_KNOWS_NOTHING = ("transfer", "other_recommender", "unaware")
_KNOWS_DEFENCE = ("white_box", "ranks_only")
_ROUNDED = 1e-5
"""Exposure that tables leave out: they have six digits."""
_ROUNDED_SHARE = 1e-5
"""Relative error of a number in a table, which has six digits."""
_MORE = 0.02
"""Share by which an attack that knows less must do more to be a sign of failure."""


@dataclass(frozen=True)
class MeasuredEntry:
    """One entry after its attacks: the trainings, and what the table says of the entry itself."""

    entry: str
    place: str
    trainings: Trainings
    suite: str
    seconds: float

    @classmethod
    def read(
        cls,
        entry: tuple[str, str],
        layouts: Sequence[Layout],
        run: Run,
        seeds: Collection[int],
        k: int,
        attacks: Collection[str],
        suite: str,
        seconds: float,
    ) -> "MeasuredEntry":
        """Read the recommender of ``run`` with each seed on every training of the extractor.

        ``entry`` is its name and its place, ``attacks`` are names of experiments without the extractor.
        Raises ``UserError`` for missing files.
        """
        subjects = []
        for layout in layouts:
            data = load_training_data(layout, run.experiment)
            wanted = [Run(run.experiment, run.model, run.epochs, seed=seed) for seed in seeds]
            subjects.append(
                [Subject.read(layout, of, data, k, [run.options_label]) for of in wanted]
            )
        return cls(*entry, Trainings(subjects, attacks), suite, seconds)

    @property
    def hit_rate(self) -> Interval:
        """HR@K of the clean lists, over trainings, seeds and users."""

        def hits_of(ranks: TestRanks, k: int) -> np.ndarray:
            return ranking.hit_ratio(ranks.users, ranks.ranks, k)

        hits = [
            [hits_of(test_ranks(*of.factors, of.data.at_test_time), of.k) for of in seeds]
            for seeds in self.trainings.subjects
        ]
        return nested_interval(np.array(hits, np.float64), (TRAINING, SEED, USER))

    @property
    def items(self) -> np.ndarray:
        """Attacked items (n,), ascending; ``UserError`` where attacks have different ones."""
        first, *others = self.trainings.ids.values()
        if any(not np.array_equal(first, of) for of in others):
            raise UserError(f"{self.entry}: its attacks are on different items: evaluate it again")
        return first

    @cached_property
    def promotion(self) -> pd.DataFrame:
        """A row for each attack, threat and scope, on all its items."""
        table = promotion_table([self.trainings])
        table = table[table["threat"] != "retrained"]
        # The first row of an attack is on all its items; others are on those of one popularity.
        return table.drop_duplicates(["attack", "threat", "scope"])

    def rows(self) -> pd.DataFrame:
        """Return the rows of the entry: ``COLUMNS``, with no bounds yet."""
        hits, run, promotion = self.hit_rate, self.trainings.first.run, self.promotion
        common = {
            "entry": self.entry,
            "place": self.place,
            "recommender": run.model + run.options,
            "hr20": float(hits.effect),
            "hr20_low": float(hits.low),
            "hr20_high": float(hits.high),
            "reliance": promotion["reliance"].mean(),
            "extractor_seeds": len(self.trainings.subjects),
            "seconds": self.seconds,
            "suite": self.suite,
        }
        keys = ["scope", "norm", "eps"]
        rows = [
            common | dict(zip(keys, key, strict=True)) | best_known(of)
            for key, of in promotion.groupby(keys, sort=False)
        ]
        table = pd.DataFrame(rows).reindex(columns=list(COLUMNS))
        texts = dict.fromkeys(("attack", "bound_method", "indicator"), "")
        return table.fillna(texts).sort_values(
            ["scope", "eps"], ascending=[False, True], ignore_index=True
        )


def strongest_objectives(rows: pd.DataFrame) -> set[str]:
    """Return the objective of the strongest attack on lists that knows the defence, of each eps.

    ``rows`` are those of ``MeasuredEntry.promotion``.
    """
    on_lists = rows["threat"].isin(_KNOWS_DEFENCE) & rows["objective"].isin(LIST_OBJECTIVES)
    rows = rows[on_lists & (rows["scope"] == "one")]
    return set(rows.loc[rows.groupby("eps")["after"].idxmax(), "objective"])


def best_known(rows: pd.DataFrame) -> dict[str, object]:
    """Return the columns of the attacks, from the rows of ``promotion.tsv`` of one scope and eps."""
    noise = rows[(rows["objective"] == CONTROL) & ~rows["attack"].str.startswith(GIVEN)]
    attacks = rows[rows["objective"] != CONTROL]
    nothing = attacks[attacks["threat"].isin(_KNOWS_NOTHING)]
    knowing = attacks[attacks["threat"].isin(_KNOWS_DEFENCE)]
    worst = attacks[attacks["threat"] == WORST]
    known = pd.concat([knowing, worst, nothing])
    best = known.loc[known["after"].idxmax()]
    adaptive = knowing.loc[knowing["after"].idxmax()]
    # Where twice the steps gain, the row of the fewer steps says so: that of the more is not checked.
    # Whether the draws of a random defence are enough is checked for one objective, for all of them.
    signs = [
        sign
        for objective, text in zip(knowing["objective"], knowing["indicator"], strict=True)
        for sign in text.split("; ")
        if sign and (objective == adaptive["objective"] or sign == MORE_DRAWS)
    ]
    if nothing["after"].max() > adaptive["after"] * (1 + _MORE):
        signs.append("an attack that knows less gains more")
    return {
        "clean": adaptive["before"],
        "noise": noise["after"].max(),
        "knows_nothing": nothing["after"].max(),
        "knows_defence": pd.concat([knowing, worst])["after"].max(),
        "low": best["before"] + best["low"],
        "high": best["before"] + best["high"],
        "attack": best["attack"],
        "indicator": "; ".join(dict.fromkeys(signs)),
    }


def strongest(table: pd.DataFrame) -> pd.Series:
    """Return the value under the best known attack, by row."""
    return table[["knows_nothing", "knows_defence"]].max(axis=1)


def with_submissions(table: pd.DataFrame, recorded: pd.DataFrame) -> pd.DataFrame:
    """Return ``table`` with recorded images of others where these do more, under the same suite."""
    keys = ["scope", "norm", "eps", "suite"]
    table = table.copy()
    recorded = recorded[recorded["attack"].str.startswith(SUBMITTED)].set_index(keys)
    best = strongest(table)
    for at, row in table.iterrows():
        key = tuple(row[keys])
        if key in recorded.index:
            old = recorded.loc[key]
            if old["knows_defence"] > best.loc[at]:
                taken = ["knows_defence", "low", "high", "attack"]
                table.loc[at, taken] = old[taken]
    return table


def with_bounds(table: pd.DataFrame, files: Sequence[Path], items: np.ndarray) -> pd.DataFrame:
    """Return ``table`` with what ``audits.bounds`` proved of its ``items``.

    There is a file for each training and eps. A bound is the mean over items and trainings, in the row
    of its norm and eps. ``UserError`` where an item is missing; ``RuntimeError`` where an attack exceeds
    a bound, since one of the two is wrong.
    """
    proven = []
    for path in files:
        of = read_headed(path, (id_column("item"),), text=("norm",))
        require_numbers(path, of, ("eps", "bound"))
        if missing := set(items.tolist()) - set(of["item"]):
            raise UserError(f"{path}: item {min(missing)} of the suite is missing")
        proven.append(of[of["item"].isin(items)])
    table = table.copy()
    for (norm, eps), of in pd.concat(proven).groupby(["norm", "eps"]):
        rows = (table["scope"] == "one") & (table["norm"] == norm) & (table["eps"] == eps)
        bound, reached = of["bound"].mean(), strongest(table)[rows].max()
        if reached > bound + _ROUNDED:
            raise RuntimeError(
                f"{files[0]}: the bound {bound:.6f} is below {reached:.6f}, which an attack reached: "
                "one of them is wrong"
            )
        table.loc[rows, "bound"] = bound
        table.loc[rows, "bound_method"] = of["method"].iloc[0]
    return table


def submitted_rows(
    recorded: pd.DataFrame, name: str, promotion: pd.DataFrame, eps: float
) -> pd.DataFrame:
    """Return ``recorded`` with the images ``name`` in each row within ``eps`` that they beat."""
    table = recorded.copy()
    best = strongest(recorded)
    for at, row in recorded[recorded["eps"] == eps].iterrows():
        of = promotion[promotion["scope"] == row["scope"]].iloc[0]
        if of["after"] > best.loc[at] * (1 + _ROUNDED_SHARE):
            table.loc[at, "knows_defence"] = of["after"]
            table.loc[at, "low"] = of["before"] + of["low"]
            table.loc[at, "high"] = of["before"] + of["high"]
            table.loc[at, "attack"] = SUBMITTED + name
    return table


def read_results(path: Path) -> pd.DataFrame:
    """Read the rows of one entry."""
    table = read_headed(path, (), text=("norm", "suite"))
    if tuple(table) != COLUMNS:
        raise UserError(f"{path}: its columns are not {' '.join(COLUMNS)}")
    require_numbers(
        path, table, ("hr20", "reliance", "eps", "clean", "noise", "low", "high", "bound")
    )
    texts = dict.fromkeys(("attack", "bound_method", "indicator"), "")
    return table.astype(dict.fromkeys(texts, object)).fillna(texts)


def ranked(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of scope ``one`` within the largest eps, the least exposed first.

    Further columns are ``exposure``, under the best known attack; ``costs_more``, whether an entry costs
    more than 2 % of the undefended HR@20; ``looks_less``, whether its recommender looks at images less
    than the undefended one; and ``marks``, which say both, and where it is not evaluated.
    """
    rows = table[table["scope"] == "one"]
    rows = rows[rows["eps"] == rows["eps"].max()]
    # Without an undefended entry these are NaN, and no entry is below them.
    plain = rows[rows["entry"] == UNDEFENDED][["hr20", "reliance"]].max()
    rows = rows.assign(
        exposure=strongest(rows),
        costs_more=rows["hr20"] < (1 - COST) * plain["hr20"],
        looks_less=rows["reliance"] < (1 - LOOKS) * plain["reliance"],
    )
    marks = [_marks_of(row) for _, row in rows.iterrows()]
    return rows.assign(marks=marks).sort_values("exposure", kind="stable", ignore_index=True)


def _marks_of(row: pd.Series) -> list[str]:
    marks = []
    if row["costs_more"]:
        marks.append(f"costs more than {100 * COST:.0f} % of HR@20")
    if row["reliance"] < HARDLY:
        marks.append("hardly looks")
    elif row["looks_less"]:
        marks.append("looks less")
    if row["indicator"]:
        marks.append(f"not evaluated: {row['indicator']}")
    return marks
