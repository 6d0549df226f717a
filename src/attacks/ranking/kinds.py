"""Attacks on rankings, each with its selection of images, its objective and its score.

CA, QA, SPQA: Zhou et al., "Adversarial Ranking Attack and Defense", ECCV 2020. TMA: Tolias et al.,
"Targeted Mismatch Adversarial Attack", ICCV 2019. ES: embedding shift; GTM, GTT: greedy top-1
misranking and translocation, Zhou et al., "Adversarial Attack and Defense in Deep Ranking", 2021. LTM:
Wang et al., CVPR 2020. FOA: Zhou et al., ICCV 2021.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from src.attacks.profiles import AttackSpec, Definitions
from src.attacks.ranking import aims, objectives, scores


@dataclass(frozen=True)
class RankingAttack:
    """Parts in which attacks differ; the minimisation is the same for all."""

    select: aims.Select
    objective: objectives.Objective
    score: scores.Score


Build = Callable[[AttackSpec, Definitions], RankingAttack]

_CANDIDATE = {"+": objectives.raise_candidate, "-": objectives.lower_candidate}
_QUERY = {"+": objectives.raise_in_query, "-": objectives.lower_in_query}


def _candidate(spec: AttackSpec, _: Definitions) -> RankingAttack:
    select = aims.random_images(spec.size) if spec.pm == "+" else aims.top_images(spec.size)
    return RankingAttack(select, _CANDIDATE[spec.pm], scores.candidate_percentile)


def _query(spec: AttackSpec, _: Definitions) -> RankingAttack:
    select = aims.random_images(spec.size) if spec.pm == "+" else aims.top_images(spec.size)
    return RankingAttack(select, _QUERY[spec.pm], scores.query_percentile)


def _query_keeping(spec: AttackSpec, _: Definitions) -> RankingAttack:
    select = (
        aims.random_images(spec.size, keep_top=True)
        if spec.pm == "+"
        else aims.top_images(spec.size, keep_rest=True)
    )
    objective = objectives.keeping(_QUERY[spec.pm], spec.balance)
    return RankingAttack(select, objective, scores.query_percentiles)


def _targeted_mismatch(_: AttackSpec, __: Definitions) -> RankingAttack:
    return RankingAttack(aims.random_images(1), objectives.turn_towards, scores.cosine)


def _embedding_shift(_: AttackSpec, __: Definitions) -> RankingAttack:
    return RankingAttack(aims.own_images, objectives.move_away, scores.shift)


def _learning_to_misrank(_: AttackSpec, definitions: Definitions) -> RankingAttack:
    published = definitions.ltm_keeps_self
    objective = objectives.misrank_as_published if published else objectives.misrank
    return RankingAttack(aims.own_images, objective, scores.recall)


def _top_1_misranking(_: AttackSpec, definitions: Definitions) -> RankingAttack:
    published = definitions.gtm_index_in_subset
    select = aims.nearest_unmatching_as_published if published else aims.nearest_unmatching
    return RankingAttack(select, objectives.approach, scores.recall)


def _top_1_translocation(_: AttackSpec, __: Definitions) -> RankingAttack:
    return RankingAttack(aims.nearest, objectives.lower_in_query, scores.retained)


def _order(spec: AttackSpec, _: Definitions) -> RankingAttack:
    score = scores.reversed_order if spec.size == 2 else scores.order
    return RankingAttack(aims.reordered_top_images(spec.size), objectives.reorder, score)


KINDS: Mapping[str, Build] = {
    "CA": _candidate,
    "QA": _query,
    "SPQA": _query_keeping,
    "TMA": _targeted_mismatch,
    "ES": _embedding_shift,
    "LTM": _learning_to_misrank,
    "GTM": _top_1_misranking,
    "GTT": _top_1_translocation,
    "FOA": _order,
}


def build_ranking_attack(spec: AttackSpec, definitions: Definitions) -> RankingAttack:
    return KINDS[spec.kind](spec, definitions)
