"""Lists and ranks as in ``ranking``, computed by torch on a GPU in blocks of users."""

import numpy as np
import torch
from torch import Tensor

from src.artifacts.tables import TestRanks, TopK
from src.datasets.interactions import Interactions
from src.extractors.feeding import FittingBatches
from src.recommenders.ranking import placed

SCORES_AT_ONCE = 2**28
"""1 GiB of float32, which the GPU needs three times; a GPU that is smaller gets smaller blocks."""
_ROWS_SORTED_AT_ONCE = 1024


def lists_and_ranks_on(
    device: torch.device,
    users: np.ndarray,
    items: np.ndarray,
    interactions: Interactions,
    k: int,
) -> tuple[TopK, TestRanks]:
    """Return what ``ranking.lists_and_ranks`` returns, in its order of ties.

    Scores are float32 products of full precision that may differ from the CPU's in the last bits, and
    so may the order of two items whose scores differ by no more. A block that the GPU cannot hold is
    halved; ``UserError`` if it cannot hold one user.
    """
    k = min(k, len(items))
    best = TopK(np.empty((len(users), k), np.int64), np.empty((len(users), k), np.float32))
    test_users = interactions.test[:, 0]
    ranks = np.empty(len(test_users), np.int64)
    table = torch.from_numpy(np.ascontiguousarray(items, np.float32)).to(device)

    def rank(rows: slice) -> None:
        tests = slice(*np.searchsorted(test_users, (rows.start, rows.stop)))
        found = _rank_block(table, users[rows], interactions.block(rows), k)
        best.items[rows], best.scores[rows], ranks[tests] = found

    FittingBatches(max(1, SCORES_AT_ONCE // len(items)), "user").run(rank, len(users))
    best.items[np.isneginf(best.scores)] = -1
    return best, placed(ranks, interactions, len(users), len(items))


def _rank_block(
    items: Tensor, users: np.ndarray, interactions: Interactions, k: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return items (n, k) and scores (n, k) of the best, and the ranks of the block's test rows."""
    rows = torch.from_numpy(np.ascontiguousarray(users, np.float32)).to(items.device)
    train, test = (
        torch.from_numpy(np.ascontiguousarray(pairs.T)).to(items.device)
        for pairs in (interactions.train, interactions.test)
    )
    scores = rows @ items.T
    scores[train[0], train[1]] = -torch.inf
    own = scores[test[0], test[1]]
    places = (scores[test[0]] >= own[:, None]).sum(dim=1) - 1
    columns, values = best_of_rows(scores, k)
    return columns.cpu().numpy(), values.cpu().numpy(), places.cpu().numpy()


def best_of_rows(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return columns and scores (n, k) of the k best of each row; ties go to the smaller column.

    ``topk`` chooses freely among equal scores, so rows in which several columns tie for the k-th place
    are sorted as a whole.
    """
    n_items = scores.shape[1]
    if k == 0:
        return scores.new_empty((len(scores), 0), dtype=torch.long), scores[:, :0]
    values, columns = scores.topk(min(k + 1, n_items), dim=1)
    if k < n_items:
        # the order of items that nobody can be shown does not matter
        tied = (values[:, k - 1] == values[:, k]) & ~values[:, k].isneginf()
        for rows in tied.nonzero()[:, 0].split(_ROWS_SORTED_AT_ONCE):
            whole, order = scores[rows].sort(dim=1, descending=True, stable=True)
            values[rows, :k], columns[rows, :k] = whole[:, :k], order[:, :k]
    columns, order = columns[:, :k].sort(dim=1)
    values, order = values[:, :k].gather(1, order).sort(dim=1, descending=True, stable=True)
    return columns.gather(1, order), values
