"""Gradients of what has none: the value of one function, the gradient of another."""

from torch import Tensor


def with_gradient_of(exact: Tensor, stand_in: Tensor) -> Tensor:
    """The values of ``exact``, bit for bit; backward, the gradient of ``stand_in``.

    The images themselves as ``stand_in`` make the backward pass the identity.
    """
    return exact.detach() + (stand_in - stand_in.detach())
