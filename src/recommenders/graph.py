"""Loss of LightGCN on a graph of users and items, in torch."""

from collections.abc import Mapping

import numpy as np
import torch
from scipy.sparse import coo_array
from torch import Tensor
from torch.nn.functional import softplus

from src.recommenders.adam import half_square
from src.recommenders.lightgcn import propagated


class _Propagation(torch.autograd.Function):
    """``propagated`` of a symmetric graph, which is its own gradient: no layer is kept for it."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, rows: Tensor, graph: Tensor, mix: Tensor):
        ctx.save_for_backward(graph, mix)
        return propagated(graph, rows, mix)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor):
        return propagated(ctx.saved_tensors[0], gradient, ctx.saved_tensors[1]), None, None


def on_device(graph: coo_array, device: torch.device) -> Tensor:
    """Return a graph whose entries are sorted and distinct as a sparse tensor."""
    at = torch.from_numpy(np.stack(graph.coords)).to(device)
    values = torch.from_numpy(graph.data).to(device)
    return torch.sparse_coo_tensor(
        at, values, graph.shape, check_invariants=False, is_coalesced=True
    )


def batch_loss(
    tables: Mapping[str, Tensor],
    triples: Tensor,
    *,
    graph: Tensor,
    penalties: tuple[float, float, float],
) -> Tensor:
    """Return the loss of ``triples`` (3, n), rows user, positive and negative, with its regulariser.

    It is the sum of softplus(s_uj - s_ui) and of half the squared norms of the rows of P and Q of every
    triple, as they are before the graph, weighted by the ``penalties`` of users and of items.
    """
    users, preferred, other = triples
    p, q = tables["P"], tables["Q"]
    smoothed = _Propagation.apply(torch.cat([p, q]), graph, tables["mix"].detach())
    of_users, of_items = smoothed[: len(p)], smoothed[len(p) :]
    margins = (of_users[users] * (of_items[other] - of_items[preferred])).sum(dim=1)
    penalty = penalties[0] * half_square(p[users])
    return softplus(margins).sum() + penalty + penalties[1] * half_square(q[preferred], q[other])
