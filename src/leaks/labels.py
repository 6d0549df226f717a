"""Exact solutions for labels and images from gradients, without optimisation.

Labels: Zhao et al., "iDLG: Improved Deep Leakage from Gradients" (2020). Images: Phong et al.,
"Privacy-Preserving Deep Learning via Additively Homomorphic Encryption" (2018), section 3.
"""

from collections.abc import Sequence

import torch
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


def analytic_first_layer(
    observe: Observation, observed: Sequence[Tensor], shape: tuple[int, int, int]
) -> Tensor:
    """Return the image (targets, 3, H, W), in [0, 1], that a linear first layer with a bias has read.

    dW_i = db_i x for every output i, so that x = sum_i db_i dW_i / sum_i db_i^2, which is exact for one
    image and the least-squares solution after noise. ``shape`` is (3, H, W). Raises ``UserError`` if the
    first layer is of another kind, or its gradients were not shared or are all 0.
    """
    name, size = observe.names[0].removesuffix(".weight") if observe.names else "", _size(shape)
    shared = dict(zip(observe.names, observed, strict=True))
    weight, bias = (shared.get(f"{name}.{part}") for part in ("weight", "bias"))
    if weight is None or bias is None or weight.shape[2:] != (size,):
        raise UserError(f"the first shared layer is not linear over {size} pixels with a bias")
    squares = bias.square().sum(dim=1)
    if (squares == 0).any():
        raise UserError("the gradient of the first layer is 0 and determines no image")
    points = torch.einsum("to,top->tp", bias, weight) / squares[:, None]
    images = points.unflatten(1, shape)
    return (images * observe.extractor.std + observe.extractor.mean).clamp(0, 1)


def _size(shape: tuple[int, int, int]) -> int:
    channels, height, width = shape
    return channels * height * width
