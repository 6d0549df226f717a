"""Scores of transformation policies for privacy and accuracy, without an inversion.

Gao et al. (CVPR 2021) search policies by two scores. The privacy score measures how soon the gradient
of a blend of noise and image resembles that of the image. The accuracy score measures how well an
untrained network distinguishes transformed images (after Mellor et al., "Neural Architecture Search
without Training", ICML 2021).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap
from torch.nn import functional

from src.attacks.freezing import frozen
from src.extractors.extractor import Extractor
from src.training.ats import SUB_POLICIES, Policy
from src.training.pictures import to_images

N_POINTS = 21
"""Number of blends from noise to an image."""
LEAST_ACCURACY = -85.0
"""Smallest accuracy score of an acceptable policy."""
MEAN_WEIGHT = 0.7
"""Weight of the mean privacy score in the ranking; the variance has the rest."""
_TINY = 1e-5
_IMAGES_AT_ONCE = 2
"""Number of images in a chunk, each with the weight gradients of all blends."""


@dataclass(frozen=True)
class PolicyScore:
    """Scores of a policy in the search."""

    policy: Policy
    privacy: np.ndarray
    """(n,) scores of the images; a lower score means less leakage."""
    accuracy: float
    """Score that predicts accuracy; higher is better."""


def random_policies(n: int, generator: torch.Generator) -> list[Policy]:
    """Draw ``n`` policies of one chain of up to three sub-policies each, uniformly.

    The second and the third sub-policy are each missing with probability 1 / 51.
    """
    numbers = torch.randint(-1, len(SUB_POLICIES), (n, 3), generator=generator)
    numbers[:, 0] = torch.randint(len(SUB_POLICIES), (n,), generator=generator)
    return [Policy((tuple(i for i in chain if i >= 0),)) for chain in numbers.tolist()]


def score_policies(
    policies: Sequence[Policy],
    trained: Extractor,
    untrained: Extractor,
    pixels: Tensor,
    classes: Tensor,
    seed: int = 0,
) -> list[PolicyScore]:
    """Score each policy on ``pixels`` (n, 3, H, W) uint8 of ``classes`` (n,) int64.

    Gradients come from the network ``trained`` (on part of the data, without a policy), Jacobians from
    the network ``untrained``. All policies get the same noise and the same random choices.
    """

    def drawn() -> torch.Generator:
        return torch.Generator().manual_seed(seed)

    return [
        PolicyScore(
            policy,
            privacy_scores(trained, policy(pixels, drawn()), classes, drawn()),
            accuracy_score(untrained, policy(pixels, drawn())),
        )
        for policy in policies
    ]


def privacy_scores(
    extractor: Extractor, pixels: Tensor, classes: Tensor, generator: torch.Generator
) -> np.ndarray:
    """Return the privacy scores (n,) of transformed ``pixels`` (n, 3, H, W) uint8 of ``classes``.

    A score is the area under sim(t), t from 0 to 1, the mean over parameter tensors of the cosine between
    the cross-entropy gradients of the image and of (1 - t) noise + t image, with noise uniform in [0, 1].
    """
    images = to_images(pixels, extractor.device)
    noise = torch.rand(images.shape, generator=generator).to(images.device)
    with frozen(extractor):
        parameters = dict(extractor.named_parameters())
        shares = torch.linspace(0, 1, N_POINTS, device=images.device)

        def loss(parameters: dict[str, Tensor], image: Tensor, number: Tensor) -> Tensor:
            logits = functional_call(extractor, parameters, (image[None],)).logits
            return functional.cross_entropy(logits, number[None])

        def similarities(image: Tensor, start: Tensor, number: Tensor) -> Tensor:
            wanted = grad(loss)(parameters, image, number)

            def similarity(t: Tensor) -> Tensor:
                found = grad(loss)(parameters, start + t * (image - start), number)
                cosines = [_cosine(found[name], wanted[name]) for name in parameters]
                return torch.stack(cosines).mean()

            return vmap(similarity)(shares)

        curves = vmap(similarities, chunk_size=_IMAGES_AT_ONCE)(
            images, noise, classes.to(images.device)
        )
    return torch.trapezoid(curves, shares, dim=1).cpu().numpy()


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    return functional.cosine_similarity(a.flatten(), b.flatten(), dim=0)


def accuracy_score(extractor: Extractor, pixels: Tensor, batch_size: int = 100) -> float:
    """Return the mean over batches of -sum_v(log(v + 1e-5) + 1 / (v + 1e-5)).

    v are the eigenvalues of the correlation between the Jacobians of images, the derivatives of the sum
    of logits by pixels. Images that the network treats alike have small eigenvalues and a low score.
    ``pixels`` are (n, 3, H, W) uint8, transformed. A last batch of fewer than ``batch_size`` is left
    out unless it is the only one.
    """
    n_batches = max(1, len(pixels) // batch_size)
    scores = []
    with frozen(extractor):
        for batch in pixels[: n_batches * batch_size].split(batch_size):
            images = to_images(batch, extractor.device).requires_grad_()
            (jacobians,) = torch.autograd.grad(extractor(images).logits.sum(), images)
            correlations = np.corrcoef(jacobians.flatten(1).cpu().double().numpy())
            values = np.linalg.eigvalsh(correlations).clip(0) + _TINY
            scores.append(-float(np.sum(np.log(values) + 1 / values)))
    return float(np.mean(scores))


def ranked(
    scores: Sequence[PolicyScore], least_accuracy: float = LEAST_ACCURACY
) -> list[PolicyScore]:
    """Return the scores with at least ``least_accuracy``, the most private first.

    The order is by 0.7 mean + 0.3 variance of the privacy scores, each scaled to [0, 1].
    """
    kept = [score for score in scores if score.accuracy >= least_accuracy]
    if not kept:
        return []
    means = _scaled(np.array([score.privacy.mean() for score in kept]))
    variances = _scaled(np.array([score.privacy.var() for score in kept]))
    order = np.argsort(MEAN_WEIGHT * means + (1 - MEAN_WEIGHT) * variances, kind="stable")
    return [kept[place] for place in order]


def _scaled(values: np.ndarray) -> np.ndarray:
    """Scale values to [0, 1]; equal values become 0."""
    spread = np.ptp(values)
    return (values - values.min()) / (spread or 1.0)
