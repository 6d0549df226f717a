"""Losses of recipes on the views of a batch: cross-entropy, or a loss of metric learning."""

from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from src.training.metric_losses import metric_loss
from src.training.views import Views


class Loss(Protocol):
    @property
    def metric(self) -> str:
        """Metric of embeddings for the loss and for the adversary that perturbs its images."""
        ...

    def __call__(self, views: Views) -> Tensor:
        """Return the loss, a scalar."""
        ...

    def parameters(self, device: torch.device) -> dict[str, nn.Parameter]:
        """Return new parameters of the loss by name; calls read them from ``views.learnt``."""
        ...


@dataclass(frozen=True)
class CrossEntropy:
    """Cross-entropy of the logits."""

    metric: str = "N"

    def __call__(self, views: Views) -> Tensor:
        return functional.cross_entropy(views.trained_on.logits, views.trained_classes)

    def parameters(self, device: torch.device) -> dict[str, nn.Parameter]:
        return {}


@dataclass(frozen=True)
class MixedCrossEntropy:
    """Loss ``weight`` (CE(x) + CE(x')) of benign and perturbed images (Kurakin et al., ICLR 2017)."""

    weight: float = 1.0
    metric: str = "N"

    def __call__(self, views: Views) -> Tensor:
        benign = functional.cross_entropy(views.benign.logits, views.classes)
        perturbed = functional.cross_entropy(views.perturbed.logits, views.classes)
        return self.weight * (benign + perturbed)

    def parameters(self, device: torch.device) -> dict[str, nn.Parameter]:
        return {}


@dataclass(frozen=True)
class FeatureDeparture:
    """Mean of |f'(x') - f(x)|^2, with f the network before training (FARE: Schlarmann et al., ICML 2024).

    Recipes with it need no classes, keep the head, and leave the network in evaluation mode.
    """

    reader: Literal["network", "recommender"] = "network"
    """``recommender``: differences count as a recommender's users see them (``original.Reading``)."""
    metric: str = "E"

    def __call__(self, views: Views) -> Tensor:
        return views.departure(views.perturbed.features).square().sum(dim=1).mean()

    def parameters(self, device: torch.device) -> dict[str, nn.Parameter]:
        return {}


@dataclass(frozen=True)
class Denoising(FeatureDeparture):
    """Mean of |f(g(x')) - f(x)|_1 of a denoiser g in front of a fixed network f (AiD, SIGIR 2023)."""

    attacked: Literal["network", "denoised"] = "network"
    """Attacked network: f alone, as published, or f behind the denoiser."""

    def __call__(self, views: Views) -> Tensor:
        return views.departure(views.perturbed.features).abs().sum(dim=1).mean()


@dataclass(frozen=True)
class EmbeddingLoss:
    """Loss of ``metric_losses`` by name, in the metric C, E or N.

    An embedder's features have unit length, for which E and N differ only in the default margins.
    """

    name: str = "triplet"
    metric: str = "N"
    margin: float | None = None
    """Margin; None for the published one."""

    def __call__(self, views: Views) -> Tensor:
        return metric_loss(self.name, self.metric)(
            views.trained_on.features,
            views.trained_classes,
            views.trained_triplets,
            self.metric,
            self.margin,
            **views.learnt,
        )

    def parameters(self, device: torch.device) -> dict[str, nn.Parameter]:
        fresh = metric_loss(self.name, self.metric).parameters()
        return {name: nn.Parameter(value.detach().to(device)) for name, value in fresh.items()}
