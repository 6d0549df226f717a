"""Residual U-Net of AiD ("Denoise to protect visual recommenders", SIGIR 2023), and its checkpoints."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from src.artifacts.errors import UserError
from src.extractors.checkpoints import load_plain, write_plain

FORMAT = "var-denoiser"
_DOWN = ((2, 1), (3, 2), (3, 4), (3, 4), (3, 4))
"""Blocks of each group, and their channels as multiples of the width; each but the first halves."""
_UP = ((3, 4), (3, 4), (3, 2), (2, 1))


class UNet(nn.Module):
    """Images x (N, 3, H, W) -> x + g(x), not clamped, where g is a U-Net of five scales.

    The published ``width`` is 64 channels at full resolution. Sides need not be multiples of 16: a
    coarser scale is enlarged to the size of the next finer one. In evaluation mode batch norm uses the
    statistics of the training, so that an image does not depend on its batch.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.width = width
        channels = 3
        self.down = nn.ModuleList()
        for number, (blocks, multiple) in enumerate(_DOWN):
            self.down.append(_group(blocks, channels, multiple * width, 1 if number == 0 else 2))
            channels = multiple * width
        self.up = nn.ModuleList()
        for (blocks, multiple), (_, skipped) in zip(_UP, reversed(_DOWN[:-1]), strict=True):
            self.up.append(_group(blocks, channels + skipped * width, multiple * width))
            channels = multiple * width
        self.last = nn.Conv2d(channels, 3, 1, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        scales = [images]
        for group in self.down:
            scales.append(group(scales[-1]))
        values = scales.pop()
        for group in self.up:
            finer = scales.pop()
            larger = F.interpolate(values, finer.shape[2:], mode="bilinear", align_corners=False)
            values = group(torch.cat([larger, finer], dim=1))
        return images + self.last(values)


def _group(blocks: int, inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """Return ``blocks`` blocks of 3 x 3 convolution, batch norm and ReLU, the first with ``stride``."""
    layers: list[nn.Module] = []
    for number in range(blocks):
        layers += [
            nn.Conv2d(
                inputs if number == 0 else outputs,
                outputs,
                3,
                stride=stride if number == 0 else 1,
                padding=1,
                bias=False,
            ),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


def save_denoiser(path: Path, network: UNet, training: Mapping[str, Any]) -> None:
    """Write a checkpoint of ``network``; ``training`` records how it was trained, in plain values."""
    state_dict = {key: value.cpu() for key, value in network.state_dict().items()}
    content = {
        "format": FORMAT,
        "width": network.width,
        "training": dict(training),
        "state_dict": state_dict,
    }
    write_plain(path, content)


def load_denoiser(path: Path, device: torch.device | str = "cpu") -> UNet:
    """Read a checkpoint of ``save_denoiser``: evaluation mode, frozen, on ``device``.

    Nothing in the file is executed. Raises ``UserError`` for any other file.
    """
    content = load_plain(path)
    if not isinstance(content, Mapping) or content.get("format") != FORMAT:
        raise UserError(f"{path} is not a denoiser: train one with train_extractor.py")
    network = UNet(content["width"])
    try:
        network.load_state_dict(content["state_dict"])
    except RuntimeError as error:
        raise UserError(f"{path} is not a denoiser of width {content['width']}") from error
    return network.to(device).eval().requires_grad_(False)
