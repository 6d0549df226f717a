"""What happens to training images before the network sees them, and what is learnt from its gradient."""

from typing import Protocol

import torch
from torch import Tensor

State = dict[str, Tensor]


class Adversary(Protocol):
    """Perturbs a mini-batch and sees the gradient that the training step computed anyway."""

    def perturb(self, images: Tensor) -> Tensor:
        """The images to train on, (N, 3, H, W) in [0, 1]; a leaf of the graph."""
        ...

    def observe(self, gradient: Tensor | None) -> None:
        """Take note of the loss's gradient with respect to what ``perturb`` returned, if it has one."""
        ...

    def state(self) -> State:
        """What training needs to continue after a stop."""
        ...

    def restore(self, state: State) -> None: ...


class NoAdversary:
    """Plain training."""

    def __init__(self, eps: float) -> None:
        """Every adversary is made from a budget; this one has no use for it."""

    def perturb(self, images: Tensor) -> Tensor:
        return images

    def observe(self, gradient: Tensor | None) -> None: ...

    def state(self) -> State:
        return {}

    def restore(self, state: State) -> None: ...


class FreeAdversary:
    """Free adversarial training (Shafahi et al. 2019, algorithm 1).

    One perturbation is carried over from replay to replay and from mini-batch to mini-batch. Each
    backward pass serves twice: the network descends, and the perturbation ascends by one FGSM step
    of length ``eps``, then returns to the L-inf ball of ``eps``.
    """

    def __init__(self, eps: float) -> None:
        """``eps``: radius of the ball and length of the step, in [0, 1] pixels."""
        self.eps = eps
        self.perturbation: Tensor | None = None
        """(batch, 3, H, W); as large as the largest batch so far."""

    def perturb(self, images: Tensor) -> Tensor:
        if self.perturbation is None:
            self.perturbation = torch.zeros_like(images)
        # The gradient is taken after the clamp: in front of it, white and black pixels had none.
        return (images + self.perturbation).clamp(0, 1).requires_grad_()

    def observe(self, gradient: Tensor | None) -> None:
        if gradient is not None and self.perturbation is not None:
            self.perturbation += self.eps * gradient.sign()
            self.perturbation.clamp_(-self.eps, self.eps)

    def state(self) -> State:
        return {} if self.perturbation is None else {"perturbation": self.perturbation}

    def restore(self, state: State) -> None:
        self.perturbation = state.get("perturbation")
