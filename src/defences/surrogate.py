"""Surrogate gradients: the value of one function with the gradient of another."""

from torch import Tensor


def with_gradient_of(exact: Tensor, stand_in: Tensor) -> Tensor:
    """Return the values of ``exact``, bit for bit, with the gradient of ``stand_in``.

    If ``stand_in`` is the images themselves, the backward pass is the identity.
    """
    return exact.detach() + (stand_in - stand_in.detach())
