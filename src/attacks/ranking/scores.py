"""Scores of attacks: measures of embeddings (N, d) of attacked images, (N,) each.

Percentiles are 100 * (number of strictly nearer images) / G, where the G images include the clean query
and candidate, as in Zhou et al. Recalls and shares are 0 or 100. The recall of a query that no other
image matches is NaN.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from src.attacks.ranking.aims import Aim
from src.attacks.ranking.gallery import Gallery, paired_distance

Measures = dict[str, Tensor]
"""Measures (N,) float32 by name."""
Score = Callable[[Tensor, Gallery, Aim], Measures]

RETAINED = 4
"""Number of nearest images among which GTT looks for the formerly nearest one."""


def candidate_percentile(embeddings: Tensor, gallery: Gallery, aim: Aim) -> Measures:
    """Return CA: the percentile of the attacked candidate, averaged over queries."""
    queries = gallery.embeddings[aim.items]
    of_candidate = _distance_as_ranked(queries, embeddings[:, None])
    nearer = gallery.distances(queries) < of_candidate[..., None]
    return {"percentile": _percent(nearer).mean(dim=1)}


def query_percentile(embeddings: Tensor, gallery: Gallery, aim: Aim) -> Measures:
    """Return QA: the percentile for the attacked query, averaged over candidates."""
    return {"percentile": _percentile(gallery.distances(embeddings), aim.items)}


def query_percentiles(embeddings: Tensor, gallery: Gallery, aim: Aim) -> Measures:
    """Return SPQA: the percentiles of the candidates, as in QA, and of the kept images."""
    distances = gallery.distances(embeddings)
    return {
        "percentile": _percentile(distances, aim.items),
        "kept_percentile": _percentile(distances, aim.kept),
    }


def _percentile(distances: Tensor, items: Tensor) -> Tensor:
    """Average the percentiles of ``items`` (N, M) by ``distances`` (N, G): (N,)."""
    of_items = distances.gather(1, items)
    ranks = [_percent(distances < of_item[:, None]) for of_item in of_items.unbind(1)]
    return torch.stack(ranks).mean(dim=0)


def _percent(nearer: Tensor) -> Tensor:
    return 100 * nearer.float().mean(dim=-1)


def _distance_as_ranked(a: Tensor, b: Tensor) -> Tensor:
    """Return distances with the formula of ``Gallery.distances``, so that both round alike."""
    return (2 - 2 * (a * b).sum(dim=-1)).clamp_min(0).sqrt()


def cosine(embeddings: Tensor, gallery: Gallery, aim: Aim) -> Measures:
    """Return TMA: the cosine with the target image."""
    return {"cosine": (embeddings * gallery.embeddings[aim.items[:, 0]]).sum(dim=1)}


def shift(embeddings: Tensor, gallery: Gallery, aim: Aim) -> Measures:
    """Return ES: the distance to the image's own clean embedding, and R@1."""
    moved = paired_distance(embeddings, gallery.embeddings[aim.own])
    return {"distance": moved, **recall(embeddings, gallery, aim)}


def recall(embeddings: Tensor, gallery: Gallery, aim: Aim) -> Measures:
    """Return R@1 for LTM and GTM: 100 if the nearest other image matches; ties count as mismatches."""
    distances = gallery.distances_from_others(aim.own, embeddings)
    matching = gallery.matches(aim.own)
    match = distances.masked_fill(~matching, torch.inf).amin(dim=1)
    unmatched = distances.masked_fill(matching, torch.inf).amin(dim=1)
    found = 100 * (match < unmatched).float()
    return {"r1": found.masked_fill(match == torch.inf, torch.nan)}


def retained(embeddings: Tensor, gallery: Gallery, aim: Aim) -> Measures:
    """Return GTT: 100 if the clean nearest image is still among the ``RETAINED`` nearest others."""
    distances = gallery.distances_from_others(aim.own, embeddings)
    nearer = (distances < distances.gather(1, aim.items)).sum(dim=1)
    return {"retained": 100 * (nearer < RETAINED).float()}


def order(embeddings: Tensor, gallery: Gallery, aim: Aim) -> Measures:
    """Return FOA: Kendall's tau, in [-1, 1], of the candidates' order and the aimed order."""
    distances = paired_distance(embeddings[:, None], gallery.embeddings[aim.items])
    agreement = (distances[:, None, :] - distances[:, :, None]).sign()
    size = distances.shape[1]
    tau = agreement.triu(diagonal=1).sum(dim=(1, 2)) / (size * (size - 1) / 2)
    return {"tau": tau}


def reversed_order(embeddings: Tensor, gallery: Gallery, aim: Aim) -> Measures:
    """Return FOA of two candidates: 100 if they have changed places."""
    distances = paired_distance(embeddings[:, None], gallery.embeddings[aim.items])
    return {"accuracy": 100 * (distances[:, 0] < distances[:, 1]).float()}
