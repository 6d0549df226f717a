"""Effects of attacks on rankings on an embedder: a table, the Empirical Robustness Score, an overview."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from src.artifacts.atomic import atomic_outputs
from src.artifacts.columns import read_results
from src.artifacts.errors import UserError
from src.artifacts.locks import sole_maker
from src.artifacts.tables import write_table, write_tables
from src.attacks.profiles import AttackSpec
from src.measures.terminal import format_table
from src.metrics.ranking_robustness import (
    TERMS,
    collapsed,
    empirical_robustness_score,
    score_interval,
    term_score,
)
from src.metrics.retrieval import chance, nmi, retrieval, spread

TERM_OF = {
    ("CA+", "percentile"): "ca+",
    ("CA-", "percentile"): "ca-",
    ("QA+", "percentile"): "qa+",
    ("QA-", "percentile"): "qa-",
    ("TMA", "cosine"): "tma",
    ("ES", "distance"): "es:d",
    ("ES", "r1"): "es:r",
    ("LTM", "r1"): "ltm",
    ("GTM", "r1"): "gtm",
    ("GTT", "retained"): "gtt",
}
"""Terms of the ERS by attack (of W = 1 or M = 1) and measure."""


@dataclass(frozen=True)
class Benign:
    """Embedder before any attack. All values but ``first_rank`` and ``spread`` are in percent."""

    measures: Mapping[str, float]
    """Values of r1, r2, map, map_r, map_10, first_rank and, if requested, nmi."""
    chance: float
    """R@1 of a random ranking."""
    spread: float
    """Root mean squared distance of the embeddings, at most about 1.41."""

    @classmethod
    def of(
        cls, embeddings: np.ndarray, classes: np.ndarray, seed: int, *, with_nmi: bool
    ) -> "Benign":
        """Measure ``embeddings`` (n, d) of length 1; ``seed`` is that of k-means."""
        measures = retrieval(embeddings, classes).means()
        if with_nmi:
            measures["nmi"] = nmi(embeddings, classes, seed)
        return cls(measures, chance(classes), spread(embeddings))

    @property
    def collapsed(self) -> bool:
        return collapsed(self.measures["r1"], self.chance, self.spread)


@dataclass(frozen=True)
class RankingOutcome:
    """Means over images before and after, (repeats, 2) float64, by (attack, measure)."""

    benign: Benign
    means: Mapping[tuple[AttackSpec, str], np.ndarray]

    @classmethod
    def of(
        cls,
        benign: Benign,
        scores: Mapping[
            AttackSpec, Sequence[tuple[Mapping[str, np.ndarray], Mapping[str, np.ndarray]]]
        ],
    ) -> "RankingOutcome":
        """Average scores of single images, (before, after) in each repeat; NaN is left out."""
        means = {
            (spec, measure): np.array(
                [[_known_mean(state[measure]) for state in repeat] for repeat in repeats]
            )
            for spec, repeats in scores.items()
            for measure in repeats[0][0]
        }
        return cls(benign, means)

    def table(self) -> pd.DataFrame:
        """Return a row for each attack and measure; ES and SPQA have two measures.

        ``after`` is the mean of all repeats, ``ci_low`` and ``ci_high`` bound it with 95 % confidence;
        ``term`` names the term of the ERS, ``score`` is its value there. Missing values are NaN.
        """
        return pd.DataFrame([self._row(*key) for key in self.means])

    def _row(self, spec: AttackSpec, measure: str) -> dict[str, object]:
        before, after = self.means[spec, measure].T
        mean, low, high = score_interval(after)
        term = _term_of(spec, measure)
        return {
            "attack": str(spec),
            "kind": spec.title,
            "size": spec.size,
            "eps": 255 * spec.eps,
            "step": 255 * spec.step,
            "steps": spec.steps,
            "restarts": spec.restarts,
            "measure": measure,
            "repeats": len(after),
            "before": float(before.mean()),
            "after": mean,
            "ci_low": low,
            "ci_high": high,
            "term": term,
            "score": term_score(term, mean) if term else np.nan,
        }

    def robustness(self) -> pd.DataFrame:
        """Return a row for each budget under which all ten terms were measured.

        Columns are budget (as in the attacks' text), the ten terms as measured, ers, ers_low, ers_high.
        """
        by_budget: dict[str, dict[str, np.ndarray]] = {}
        for (spec, measure), values in self.means.items():
            if term := _term_of(spec, measure):
                by_budget.setdefault(spec.budget, {})[term] = values[:, 1]
        rows = [
            {
                "budget": budget,
                **{term: float(terms[term].mean()) for term in TERMS},
                **dict(zip(("ers", "ers_low", "ers_high"), _ers(terms), strict=True)),
            }
            for budget, terms in by_budget.items()
            if terms.keys() == TERMS.keys()
        ]
        return pd.DataFrame(rows, columns=["budget", *TERMS, "ers", "ers_low", "ers_high"])

    def record(self, options: Mapping[str, object]) -> dict[str, object]:
        """Return all results as JSON values, with None for missing ones.

        Keys are ``options``; ``benign`` with chance, spread and whether the embedder has ``collapsed``;
        ``attacks`` with the rows of the table; ``robustness`` with an entry for each budget.
        """
        benign = self.benign
        return _json_values(
            {
                "options": options,
                "benign": {**benign.measures, "chance": benign.chance, "spread": benign.spread},
                "collapsed": benign.collapsed,
                "attacks": self.table().to_dict("records"),
                "robustness": self.robustness().to_dict("records"),
            }
        )


def _known_mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else np.nan


def _term_of(spec: AttackSpec, measure: str) -> str | None:
    return TERM_OF.get((spec.title, measure)) if spec.size == 1 else None


def _ers(terms: Mapping[str, np.ndarray]) -> tuple[float, float, float]:
    """Return mean and interval over repeats."""
    repeats = [
        dict(zip(terms, values, strict=True)) for values in zip(*terms.values(), strict=True)
    ]
    return score_interval(np.array([empirical_robustness_score(repeat) for repeat in repeats]))


def _json_values(content: object) -> Any:
    """Return ``content`` with None for NaN, which JSON does not have."""
    if isinstance(content, Mapping):
        return {key: _json_values(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_json_values(value) for value in content]
    return None if isinstance(content, float) and np.isnan(content) else content


def write_outcome(
    outcome: RankingOutcome, options: Mapping[str, object], table: Path, record: Path
) -> dict[str, Any]:
    """Write the attacks as TSV and the record as JSON; return the record."""
    content = outcome.record(options)
    with atomic_outputs(table, record) as (table_file, record_file):
        write_table(table_file, outcome.table())
        record_file.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")
    return content


def read_record(path: Path) -> dict[str, Any]:
    """Read the JSON record of ``write_outcome``."""
    return json.loads(path.read_text())


COMPARED = ("r1", "r2", "map", "nmi")
"""The clean measures that a table of embedders shows."""


def compare(record: Mapping[str, Any], table: Path, name: str) -> None:
    """Put one embedder's row into a table of them; a row of that name is replaced.

    Columns: recipe, r1, r2, map, nmi, the ten terms as measured, ers. Raises ``UserError`` if the
    record has no ERS or several, and for a file that is no such table.
    """
    columns = ["recipe", *COMPARED, *TERMS, "ers"]
    if len(record["robustness"]) != 1:
        raise UserError(
            f"{table} shows one ERS of each embedder, and {name} has {len(record['robustness'])}: give "
            "all ten attacks one budget"
        )
    values = {**record["benign"], **record["robustness"][0], "recipe": name}
    row = pd.DataFrame([{column: values.get(column) for column in columns}])
    row = row.astype(dict.fromkeys(columns[1:], float))  # None becomes an empty cell
    with sole_maker(table):
        if table.is_file():
            known = read_results(table, (), text=("recipe",), numbers=columns[1:])
            if list(known) != columns:
                raise UserError(f"{table} is not a table of embedders: its columns are others")
            at = known.index[known["recipe"] == name]
            kept = known[known["recipe"] != name]
            place = at[0] if len(at) else len(known)
            row = pd.concat([kept.loc[: place - 1], row, kept.loc[place:]])
        write_tables({table: row})


def overview(record: Mapping[str, Any]) -> str:
    """Return a text overview: the clean embedder, the attacks, the ERS."""
    benign = {_NAMES.get(name, name): value for name, value in record["benign"].items()}
    attacks = pd.DataFrame(record["attacks"])
    shown = [name for name in _SHOWN if attacks[name].notna().any()]
    sections = [
        format_table(list(benign), [list(benign.values())]),
        format_table(
            [_NAMES.get(name, name) for name in shown], attacks[shown].to_numpy(object).tolist()
        ),
        *map(_ers_in_words, record["robustness"]),
    ]
    if record["collapsed"]:
        sections.append(
            "collapsed: the clean embeddings rank hardly better than chance, or lie in one point; there "
            "is nothing for an attack to destroy, and the ERS says nothing"
        )
    return "\n\n".join(sections)


_SHOWN = ("kind", "size", "eps", "measure", "before", "after", "ci_low", "ci_high", "score")
_NAMES = {
    "kind": "attack",
    "size": "W, M",
    "ci_low": "95 % from",
    "ci_high": "to",
    "score": "score of 100",
    "chance": "r1 by chance",
    "first_rank": "first rank",
}


def _ers_in_words(row: Mapping[str, Any]) -> str:
    if row["ers"] is None:
        missing = ", ".join(term for term in TERMS if row[term] is None)
        return (
            f"no ERS at {row['budget']}: there is no {missing} where no attacked image has another one "
            "of its class"
        )
    interval = ""
    if row["ers_low"] is not None:
        interval = f" (95 % interval {row['ers_low']:.1f} to {row['ers_high']:.1f})"
    return f"ERS {row['ers']:.1f}{interval} at {row['budget']}"
