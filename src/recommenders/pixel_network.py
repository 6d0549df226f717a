"""Network of DVBPR: from the pixels of an image to its visual factors."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from src.recommenders.adam import half_square
from src.recommenders.dvbpr import LAYERS, STRIDE, network_shapes


class PixelNetwork(nn.Module):
    """CNN-F (Chatfield et al., BMVC 2014) as DVBPR has it: five convolutions and three dense layers.

    It reads images (N, 3, side, side) in [-1, 1] and returns factors (N, K). Convolutions keep the size,
    but for the first, whose stride is 4; three poolings halve it, rounded up.
    """

    def __init__(self, side: int, hidden: int, factors: int) -> None:
        super().__init__()
        self.side = side
        for name, (n_out, *n_in) in zip(
            LAYERS, network_shapes(side, hidden, factors)[::2], strict=True
        ):
            if len(n_in) == 1:
                layer: nn.Module = nn.Linear(n_in[0], n_out)
            else:
                padding = 0 if name == "conv1" else n_in[1] // 2
                stride = STRIDE if name == "conv1" else 1
                layer = nn.Conv2d(n_in[0], n_out, n_in[1], stride, padding)
            self.add_module(name, layer)
        self.dropout = nn.Dropout(0.5)

    def forward(self, images: Tensor) -> Tensor:
        missing = (-(-self.side // STRIDE) - 1) * STRIDE + 11 - self.side
        before = missing // 2  # TensorFlow's SAME padding, which has the larger half behind
        after = missing - before
        maps = self.conv1(functional.pad(images, (before, after, before, after))).relu()
        maps = self.conv2(_halved(maps)).relu()
        maps = self.conv3(_halved(maps)).relu()
        maps = self.conv5(self.conv4(maps).relu()).relu()
        hidden = self.dropout(self.fc1(_halved(maps).flatten(1)).relu())
        return self.fc3(self.dropout(self.fc2(hidden).relu()))


def to_images(pixels: np.ndarray | Tensor, side: int) -> Tensor:
    """Return grey levels (n, side * side * 3) as images (n, 3, side, side) in [-1, 1]."""
    images = torch.as_tensor(pixels).reshape(-1, side, side, 3).permute(0, 3, 1, 2)
    return images.float() / 127.5 - 1


def batch_loss(
    tables: Mapping[str, Tensor],
    triples: Tensor,
    *,
    network: PixelNetwork,
    pixels: np.ndarray,
    penalties: tuple[float, float, float],
) -> Tensor:
    """Return the loss of ``triples`` (3, n), rows user, positive and negative, with its regulariser.

    It is the sum of softplus(s_uj - s_ui) and of half the squared norms of the rows of users of every
    triple and of the weights, without biases, of the network. Each distinct image passes once.
    """
    users = tables["theta"][triples[0]]
    items, position = triples[1:].unique(return_inverse=True)
    levels = torch.from_numpy(pixels[items.cpu().numpy()]).to(users.device)
    images = to_images(levels, network.side)
    parameters = {name: table for name, table in tables.items() if name != "theta"}
    factors = torch.func.functional_call(network, parameters, (images,))
    preferred, other = factors[position]
    ranking = functional.softplus((users * (other - preferred)).sum(dim=1).clamp(max=80)).sum()
    weights = [table for name, table in parameters.items() if name.endswith("weight")]
    return ranking + penalties[0] * half_square(users) + penalties[2] * half_square(*weights)


def _halved(maps: Tensor) -> Tensor:
    return functional.max_pool2d(maps, 2, ceil_mode=True)
