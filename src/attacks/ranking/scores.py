"""What attacks achieve: measures of embeddings (N, d) of attacked images, (N,) each.

Percentiles are 100 * (images that are strictly nearer) / G, with the clean images of both partners among
the G, as Zhou et al. count. Recalls and shares are 0 or 100. A query that no other image matches has no
recall: NaN.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from src.attacks.ranking.aims import Aim
from src.attacks.ranking.gallery import Gallery, paired_distance

Measures = dict[str, Tensor]
"""By name: (N,) float32."""
Score = Callable[[Tensor, Gallery, Aim], Measures]

RETAINED = 4
"""GTT asks whether the nearest image is still among so many."""


def candidate_percentile(embeddings: Tensor, gallery: Gallery, aim: Aim) -> Measures:
    """CA: where the attacked candidate stands for the queries, averaged over them."""
    queries = gallery.embeddings[aim.items]
    of_candidate = _distance_as_ranked(queries, embeddings[:, None])
    nearer = gallery.distances(queries) < of_candidate[..., None]
    return {"percentile": _percent(nearer).mean(dim=1)}


def query_percentile(embeddings: Tensor, gallery: Gallery, aim: Aim) -> Measures:
    """QA: where the candidates stand for the attacked query, averaged over them."""
    return {"percentile": _percentile(gallery.distances(embeddings), aim.items)}


def query_percentiles(embeddings: Tensor, gallery: Gallery, aim: Aim) -> Measures:
    """SPQA: as QA, and where the kept images stand."""
    distances = gallery.distances(embeddings)
    return {
        "percentile": _percentile(distances, aim.items),
        "kept_percentile": _percentile(distances, aim.kept),
    }


def _percentile(distances: Tensor, items: Tensor) -> Tensor:
    """(N, G), (N, M) -> (N,)."""
    of_items = distances.gather(1, items)
    ranks = [_percent(distances < of_item[:, None]) for of_item in of_items.unbind(1)]
    return torch.stack(ranks).mean(dim=0)


def _percent(nearer: Tensor) -> Tensor:
    return 100 * nearer.float().mean(dim=-1)


def _distance_as_ranked(a: Tensor, b: Tensor) -> Tensor:
    """As ``Gallery.distances`` computes it, so that both round alike."""
    return (2 - 2 * (a * b).sum(dim=-1)).clamp_min(0).sqrt()


def cosine(embeddings: Tensor, gallery: Gallery, aim: Aim) -> Measures:
    """TMA: cosine with the image that was aimed at."""
    return {"cosine": (embeddings * gallery.embeddings[aim.items[:, 0]]).sum(dim=1)}


def shift(embeddings: Tensor, gallery: Gallery, aim: Aim) -> Measures:
    """ES: distance to the image's own clean embedding, and R@1."""
    moved = paired_distance(embeddings, gallery.embeddings[aim.own])
    return {"distance": moved, **recall(embeddings, gallery, aim)}


def recall(embeddings: Tensor, gallery: Gallery, aim: Aim) -> Measures:
    """LTM, GTM: R@1, whether the nearest other image matches; images as near that do not come first."""
    distances = gallery.distances_from_others(aim.own, embeddings)
    matching = gallery.matches(aim.own)
    match = distances.masked_fill(~matching, torch.inf).amin(dim=1)
    unmatched = distances.masked_fill(matching, torch.inf).amin(dim=1)
    found = 100 * (match < unmatched).float()
    return {"r1": found.masked_fill(match == torch.inf, torch.nan)}


def retained(embeddings: Tensor, gallery: Gallery, aim: Aim) -> Measures:
    """GTT: whether the nearest image is still among the ``RETAINED`` nearest others."""
    distances = gallery.distances_from_others(aim.own, embeddings)
    nearer = (distances < distances.gather(1, aim.items)).sum(dim=1)
    return {"retained": 100 * (nearer < RETAINED).float()}


def order(embeddings: Tensor, gallery: Gallery, aim: Aim) -> Measures:
    """FOA: Kendall's tau in [-1, 1] of the candidates' order with the wanted one."""
    distances = paired_distance(embeddings[:, None], gallery.embeddings[aim.items])
    agreement = (distances[:, None, :] - distances[:, :, None]).sign()
    size = distances.shape[1]
    tau = agreement.triu(diagonal=1).sum(dim=(1, 2)) / (size * (size - 1) / 2)
    return {"tau": tau}


def reversed_order(embeddings: Tensor, gallery: Gallery, aim: Aim) -> Measures:
    """FOA of two candidates: whether they have changed places."""
    distances = paired_distance(embeddings[:, None], gallery.embeddings[aim.items])
    return {"accuracy": 100 * (distances[:, 0] < distances[:, 1]).float()}
