"""Attention of ACF over the items that a user has, in torch."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

from src.recommenders.adam import half_square


@dataclass(frozen=True)
class Lists:
    """Items of some users, as arrays: n users, who have m items together."""

    users: Tensor
    """Users (n,) int64."""
    items: Tensor
    """Items (m,) int64 of all users, those of the first user first."""
    lengths: Tensor
    """Number of items (n,) int64 of each user."""

    @classmethod
    def of(cls, train: Tensor, first: Tensor, users: Tensor) -> "Lists":
        """Look up ``users``; user u has the rows first[u] to first[u + 1] of the pairs ``train``."""
        lengths = first[users + 1] - first[users]
        start = torch.repeat_interleave(first[users] - lengths.cumsum(0) + lengths, lengths)
        return cls(users, train[start + torch.arange(len(start), device=start.device), 1], lengths)

    @property
    def owners(self) -> Tensor:
        """Position among ``users`` of the user that has each of ``items``, (m,) int64."""
        return torch.repeat_interleave(self.lengths)


def attention_logits(
    tables: Mapping[str, Tensor], features: Tensor, lists: Lists
) -> tuple[Tensor, Tensor]:
    """Return the logit (m,) of each item in its user's list, and the hidden layer (m, H).

    ``features`` (items, F) are those that the attention reads. Its tables map to the hidden layer a
    user's row (A_user), an item's two rows (A_item, A_own) and its features.
    """
    distinct, position = lists.items.unique(return_inverse=True)
    of_items = tables["Q"][distinct] @ tables["A_item"]
    of_items = of_items + tables["Y"][distinct] @ tables["A_own"]
    of_items = of_items + features[distinct] @ tables["A_features"] + tables["A_bias"]
    of_users = tables["P"][lists.users] @ tables["A_user"]
    hidden = (of_users[lists.owners] + of_items[position]).relu()
    return hidden @ tables["A_out"], hidden


def attention(
    tables: Mapping[str, Tensor], features: Tensor, lists: Lists
) -> tuple[Tensor, Tensor]:
    """Return the weight (m,) of each item in its user's list, and the hidden layer (m, H).

    Weights of a user sum to 1. Arguments are those of ``attention_logits``.
    """
    logits, hidden = attention_logits(tables, features, lists)
    owners = lists.owners
    largest = torch.segment_reduce(logits.detach(), "max", lengths=lists.lengths)
    grown = (logits - largest[owners]).exp()
    sums = torch.segment_reduce(grown, "sum", lengths=lists.lengths)
    return grown / sums[owners], hidden


def split_rows(
    tables: Mapping[str, Tensor], features: Tensor, lists: Lists, items: Tensor
) -> tuple[Tensor, Tensor]:
    """Split each list of n users into one of its ``items`` (n,) and the others.

    Returns the log of the sum of exp(logit) over the others (n,), -inf where there are none, and the
    user's row (n, K) if the item had weight 0.
    """
    owners, lengths = lists.owners, lists.lengths
    logits, _ = attention_logits(tables, features, lists)
    others = logits.masked_fill(lists.items == items[owners], -torch.inf)
    largest = torch.segment_reduce(others, "max", lengths=lengths).nan_to_num(neginf=0.0)
    grown = (others - largest[owners]).exp()
    sums = torch.segment_reduce(grown, "sum", lengths=lengths)
    taken = grown[:, None] * tables["Y"][lists.items]
    mean = torch.segment_reduce(taken, "sum", lengths=lengths) / sums.clamp_min(1e-30)[:, None]
    return largest + sums.log(), tables["P"][lists.users] + mean


def user_rows(tables: Mapping[str, Tensor], features: Tensor, lists: Lists) -> Tensor:
    """Return g_u + sum over the user's items l of alpha(u, l) p_l, (n, K)."""
    weights, _ = attention(tables, features, lists)
    taken = weights[:, None] * tables["Y"][lists.items]
    return tables["P"][lists.users] + torch.segment_reduce(taken, "sum", lengths=lists.lengths)


def batch_loss(
    tables: Mapping[str, Tensor],
    triples: Tensor,
    *,
    features: Tensor,
    train: Tensor,
    first: Tensor,
    penalties: tuple[float, float, float],
    fixed_users: bool,
) -> Tensor:
    """Return the loss of ``triples`` (3, n), rows user, positive and negative, with its regulariser.

    It is the sum of softplus(s_uj - s_ui) and of half the squared norms of the rows of every triple and
    of the attention, weighted by ``penalties`` of users, of items and of the attention. ``fixed_users``
    takes the users' rows as constants of the first term, as in the published code.
    """
    users, preferred, other = triples
    distinct, position = users.unique(return_inverse=True)
    rows = user_rows(tables, features, Lists.of(train, first, distinct))[position]
    if fixed_users:
        rows = rows.detach()
    chosen, refused = tables["Q"][preferred], tables["Q"][other]
    ranking = softplus((rows * (refused - chosen)).sum(dim=1)).sum()
    of_users, of_items, of_attention = penalties
    in_lists = tables["Y"][preferred], tables["Y"][other]
    return (
        ranking
        + of_users * half_square(tables["P"][users])
        + of_items * half_square(chosen, refused, *in_lists)
        + of_attention * half_square(*(of for name, of in tables.items() if name.startswith("A_")))
    )
