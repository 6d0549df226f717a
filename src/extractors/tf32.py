"""TF32 for the passes of one network.

With TF32, convolutions and matrix products on a GPU round their inputs to 10 bits of mantissa and run
several times as fast. torch has one switch for the whole process, so that the passes of a network turn
it on where they begin and off where they end, and all other work keeps full precision.
"""

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx


def allow_tf32(allowed: bool) -> None:
    """Allow or forbid TF32 in convolutions and matrix products on GPUs from now on."""
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed


class EnterTF32(torch.autograd.Function):
    """Identity on the input of a network: the forward begins here, and the backward ends here."""

    @staticmethod
    def forward(ctx: FunctionCtx, images: Tensor) -> Tensor:
        allow_tf32(True)
        return images.view_as(images)

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> Tensor:
        allow_tf32(False)
        return gradient


class LeaveTF32(torch.autograd.Function):
    """Identity on the features and the output of a network: the forward ends, and the backward begins."""

    @staticmethod
    def forward(ctx: FunctionCtx, features: Tensor, output: Tensor) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        allow_tf32(False)
        return features.view_as(features), output.view_as(output)

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> tuple[Tensor, ...]:
        allow_tf32(True)
        return gradients
