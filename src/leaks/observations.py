"""Observations that the owner of images shares, as differentiable functions of the images.

Gradients: Zhu et al., "Deep Leakage from Gradients" (NeurIPS 2019). Updates after several local steps:
Geiping et al., "Inverting Gradients" (NeurIPS 2020), section 6. Features: the data that a visual
recommender with a frozen extractor exchanges.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap
from torch.nn import functional

from src.artifacts.errors import UserError
from src.attacks.freezing import frozen
from src.extractors.extractor import Extractor, Prediction
from src.leaks.folding import fold_norms

Loss = Callable[[Prediction, Tensor], Tensor]
"""Function (prediction for a target's n images, classes or users of the target) -> scalar."""

Shared = tuple[Tensor, ...]
"""Shared tensors; the first axis of each counts targets."""

Weights = dict[str, Tensor]


def cross_entropy(prediction: Prediction, classes: Tensor) -> Tensor:
    """Return the mean over n images; ``classes`` are numbers (n,) int64 or shares (n, C) float.

    The published code halves the loss. That does not change cosine costs; with gradients twice as long,
    l1 and max costs are twice and l2 costs four times as large relative to the total variation.
    """
    return functional.cross_entropy(prediction.logits, classes)


def pairwise_ranking(prediction: Prediction, users: Tensor) -> Tensor:
    """Return the BPR loss, the mean of -ln sigmoid(u.f(positive) - u.f(negative)); f are the features.

    Rendle et al., "BPR: Bayesian Personalized Ranking from Implicit Feedback" (UAI 2009). The images
    are m positive and then m negative items; ``users`` is (m, D), or (D,) for one user of all pairs.
    """
    positives, negatives = prediction.features.chunk(2)
    return functional.softplus(-((positives - negatives) * users).sum(dim=-1)).mean()


@dataclass(frozen=True)
class Observation:
    """Function from images to shared tensors, made by the functions below.

    The extractor is evaluated in evaluation mode and not changed: its modes, gradient flags, gradients
    and running statistics stay.
    """

    extractor: Extractor
    of_target: Callable[[Tensor, Tensor | None], Shared]
    """Function (images (n, 3, H, W), classes or user of one target) -> tensors without a target axis."""
    given: Tensor | None
    """Classes (targets,) or (targets, n), or vectors of users (targets, D)."""
    names: tuple[str, ...]
    """Names of the shared tensors, which are those of the extractor's parameters."""

    def __call__(self, images: Tensor, given: Tensor | None = None) -> Shared:
        """Observe ``images`` (targets, 3, H, W) or (targets, n, 3, H, W), float in [0, 1].

        ``given`` replaces the classes or users of the observation. Targets are stacked with ``vmap``,
        which is faster than a loop and gives the same values.
        """
        given = self.given if given is None else given
        if images.ndim == 4:  # a single image per target
            images = images[:, None]
            given = None if given is None else given[:, None]
        with frozen(self.extractor):
            if len(images) == 1:  # vmap over a single target would cost a third more
                alone = self.of_target(images[0], None if given is None else given[0])
                return tuple(tensor[None] for tensor in alone)
            return vmap(self.of_target, in_dims=(0, None if given is None else 0))(images, given)

    def __getitem__(self, rows: slice) -> "Observation":
        """Return the observation of the targets ``rows``."""
        return replace(self, given=None if self.given is None else self.given[rows])


def gradients_of(extractor: Extractor, loss: Loss, given: Tensor) -> Observation:
    """Return the observation of gradients of a target's ``loss`` by the parameters, in their order.

    With ``cross_entropy``, ``given`` are the classes, (targets,) int64 for single images and (targets, n)
    for batches; with ``pairwise_ranking`` they are the users, (targets, D), of pairs of images (targets,
    2, 3, H, W).
    """
    weights, folded = _weights(extractor), fold_norms(extractor)

    def of_target(images: Tensor, given: Tensor | None) -> Shared:
        gradients = _gradients(folded, loss, images, given)
        return tuple(gradients(weights).values())

    return Observation(extractor, of_target, given.to(extractor.device), tuple(weights))


def local_updates_of(
    extractor: Extractor, loss: Loss, given: Tensor, *, steps: int, lr: float
) -> Observation:
    """Return the observation of ``steps`` of SGD on a target's images, (w_0 - w_k) / (lr steps).

    In these units it is the mean gradient along the path, which for one step is the gradient, so that
    strengths of defences apply to both. ``given`` is as in ``gradients_of``.
    """
    if steps < 1 or lr <= 0:
        raise UserError(f"local updates need a step and a positive rate, not {steps} steps of {lr}")
    start, folded = _weights(extractor), fold_norms(extractor)

    def of_target(images: Tensor, given: Tensor | None) -> Shared:
        gradients = _gradients(folded, loss, images, given)
        weights, total = start, {name: torch.zeros_like(weight) for name, weight in start.items()}
        for _ in range(steps):
            gradient = gradients(weights)
            weights = {name: weight - lr * gradient[name] for name, weight in weights.items()}
            total = {name: so_far + gradient[name] for name, so_far in total.items()}
        return tuple(so_far / steps for so_far in total.values())

    return Observation(extractor, of_target, given.to(extractor.device), tuple(start))


def features_of(extractor: Extractor) -> Observation:
    """Return the observation of the features of a target's images, (targets, n, D)."""

    def of_target(images: Tensor, _: Tensor | None) -> Shared:
        return (extractor(images).features,)

    return Observation(extractor, of_target, None, ())


def _weights(extractor: Extractor) -> Weights:
    """Return the detached parameters by their names."""
    return {
        name.removeprefix("network."): parameter.detach()
        for name, parameter in extractor.named_parameters()
    }


def _gradients(
    extractor: Extractor, loss: Loss, images: Tensor, given: Tensor | None
) -> Callable[[Weights], Weights]:
    """Return the gradient of one target's loss as a function of the parameters."""

    def loss_at(weights: Weights) -> Tensor:
        named = {f"network.{name}": weight for name, weight in weights.items()}
        return loss(functional_call(extractor, named, (images,)), given)

    return grad(loss_at)
