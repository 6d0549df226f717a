"""Exact labels from gradients: Zhao et al., "iDLG: Improved Deep Leakage from Gradients" (2020)."""

from collections.abc import Sequence

from torch import Tensor

from src.artifacts.errors import UserError
from src.leaks.observations import Observation


def label_from_gradient(observe: Observation, observed: Sequence[Tensor]) -> Tensor:
    """Return the label of each target's single image, (targets,) int64, exact for cross-entropy.

    The gradient of logit c is p_c - [c = label], negative only for the label. The head's bias has that
    gradient. The rows of the head's weight have it times the features, so that their sums have its sign
    if no feature is negative. Raises ``UserError`` if neither was shared, and for targets of several
    images, whose gradients mix several labels.
    """
    if observe.given is not None and observe.given.ndim > 1:
        raise UserError("labels can be computed only from gradients of single images")
    head = observe.extractor.head_name
    shared = dict(zip(observe.names, observed, strict=True))
    if f"{head}.bias" in shared:
        return shared[f"{head}.bias"].argmin(dim=1)
    if f"{head}.weight" in shared:
        return shared[f"{head}.weight"].flatten(2).sum(dim=2).argmin(dim=1)
    raise UserError(
        f"the gradient of the last layer {head}, which determines the label, was not shared"
    )
