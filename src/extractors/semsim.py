"""SemSim, a distance of images that follows what people recognise (Sun et al., NeurIPS 2023)."""

import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from src.artifacts.errors import UserError
from src.extractors.architectures import build_network, check_arch, head_of, normalisation
from src.extractors.checkpoints import read_checkpoint, write_plain
from src.extractors.zoo import IMAGENET_MEAN, IMAGENET_STD, is_own, split_arch

_N_OUTPUTS = 1000
"""Width of the head that is cut off; the random numbers drawn for it precede those of training."""
DEFAULT_ARCH = "cifar_resnet18"
"""Published architecture, a ResNet18 for 32x32 images with 512 features."""


class SemSim(nn.Module):
    """Distance of images by their features in a network that is trained on triplets.

    A triplet holds an original, a reconstruction of it that people recognise and one that they do not. A
    new model is in evaluation mode.
    """

    size: Tensor
    human: Tensor
    mean: Tensor
    std: Tensor
    higher_is_closer = False
    name = "semsim"

    def __init__(
        self,
        network: nn.Module,
        size: int = 32,
        *,
        arch: str = "",
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        human: bool = True,
    ) -> None:
        """Use ``network``, which maps normalised images (n, 3, ``size``, ``size``) to features (n, D).

        ``arch`` is the name of its architecture. ``human`` is true if people judged the triplets.
        """
        super().__init__()
        self.network = network
        self.arch = arch
        # Buffers, so that all values on which a score depends are saved with the parameters.
        self.register_buffer("size", torch.tensor(size))
        self.register_buffer("human", torch.tensor(human))
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(3, 1, 1))
        self.eval()

    @property
    def device(self) -> torch.device:
        return self.mean.device

    def forward(self, images: Tensor) -> Tensor:
        """Return features (n, D) of ``images`` (n, 3, height, width) in [0, 1], resized if necessary."""
        side = int(self.size)
        if images.shape[2:] != (side, side):
            images = functional.interpolate(
                images, (side, side), mode="bilinear", align_corners=False, antialias=True
            )
        return self.network((images - self.mean) / self.std)

    @torch.no_grad()
    def score(
        self, a: Tensor, b: Tensor, *, normalised: bool = True, batch_size: int = 256
    ) -> Tensor:
        """Return distances (n,) float32, on the CPU, between images of ``a`` and ``b``; lower is closer.

        Both are (n, 3, height, width) float in [0, 1]. Features are ``normalised`` to length 1, as in
        training, so that a distance is at most 2. Otherwise the score is the published one, which also
        depends on the lengths of features. Raises ``ValueError`` if the shapes differ.
        """
        if a.shape != b.shape:
            raise ValueError(f"images of {tuple(a.shape)} and {tuple(b.shape)} cannot be compared")
        pairs = zip(a.split(batch_size), b.split(batch_size), strict=True)
        return torch.cat([self._distances(*pair, normalised) for pair in pairs])

    def _distances(self, a: Tensor, b: Tensor, normalised: bool) -> Tensor:
        first, second = (self(images.to(self.device)) for images in (a, b))
        if normalised:
            first, second = functional.normalize(first), functional.normalize(second)
        return torch.linalg.vector_norm(first - second, dim=1).cpu()


def build_semsim(arch: str = DEFAULT_ARCH, size: int = 32, *, human: bool = True) -> SemSim:
    """Build the network ``arch``, randomly initialised, without its head, with its normalisation."""
    if is_own(split_arch(arch)[0]):
        # A SemSim is loaded by the name in its file, which must not decide which code is run.
        raise UserError(f"--arch {arch}: a SemSim is a network of the table or of timm")
    network = build_network(arch, _N_OUTPUTS)
    network.set_submodule(head_of(arch), nn.Identity())
    mean, std = normalisation(arch)
    return SemSim(network, size, arch=arch, mean=mean, std=std, human=human)


def save_semsim(path: Path, model: SemSim) -> None:
    """Write a model as a dict of plain tensors and strings."""
    state_dict = {key: value.cpu() for key, value in model.state_dict().items()}
    write_plain(path, {"format": "semsim", "arch": model.arch, "state_dict": state_dict})


def load_semsim(path: Path, device: torch.device | str = "cpu") -> SemSim:
    """Read a model of ``save_semsim``, frozen and in evaluation mode, without running code from the file.

    Prints a note on stderr if the model was trained on synthetic labels. Raises ``UserError`` for a file
    that is no SemSim.
    """
    checkpoint = read_checkpoint(path)
    if checkpoint.arch is None or "human" not in checkpoint.state_dict:
        raise UserError(f"{path} is no SemSim: train one with python -m audits.images train")
    check_arch(checkpoint.arch)
    if not all(torch.isfinite(value).all() for value in checkpoint.state_dict.values()):
        raise UserError(f"{path} is a damaged SemSim: it holds NaN or infinite values")
    model = build_semsim(checkpoint.arch)
    try:
        model.load_state_dict(checkpoint.state_dict)
    except RuntimeError as error:
        first = " ".join(str(error).partition(",")[0].split())
        raise UserError(f"{path} is no SemSim of {checkpoint.arch}: {first}") from error
    if not (model.std > 0).all() or int(model.size) < 1:
        raise UserError(f"{path} is a damaged SemSim: its std or its size is not above 0")
    if not model.human:
        print(f"note: {path} was trained on synthetic labels, NOT human ones", file=sys.stderr)
    return model.to(device).requires_grad_(False)
