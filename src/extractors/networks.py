"""Small networks for 28x28 and 32x32 images that torchvision does not have."""

from collections.abc import Iterator
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional


class C2F2(nn.Module):
    """Network of two convolutions and two fully connected layers for 28x28 images of 1 or 3 channels.

    It is the backbone of "Adversarial Attack and Defense in Deep Ranking" (Zhou et al. 2021) on MNIST and
    Fashion-MNIST. Channels are averaged.
    """

    def __init__(self, n_outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, kernel_size=5, padding=2)
        self.conv2 = nn.Conv2d(32, 64, kernel_size=5, padding=2)
        self.fc1 = nn.Linear(64 * 7 * 7, 1024)
        self.fc2 = nn.Linear(1024, n_outputs)

    def forward(self, images: Tensor) -> Tensor:
        grey = images.mean(dim=1, keepdim=True)
        maps = functional.max_pool2d(functional.relu(self.conv1(grey)), 2)
        maps = functional.max_pool2d(functional.relu(self.conv2(maps)), 2)
        return self.fc2(functional.relu(self.fc1(maps.flatten(1))))


class LeNet(nn.Module):
    """LeNet in Caffe's version, without activations after convolutions, for 28x28 images."""

    def __init__(self, n_outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 20, kernel_size=5)
        self.conv2 = nn.Conv2d(20, 50, kernel_size=5)
        self.fc1 = nn.Linear(50 * 4 * 4, 500)
        self.fc2 = nn.Linear(500, n_outputs)

    def forward(self, images: Tensor) -> Tensor:
        grey = images.mean(dim=1, keepdim=True)
        maps = functional.max_pool2d(self.conv1(grey), 2)
        maps = functional.max_pool2d(self.conv2(maps), 2)
        return self.fc2(functional.relu(self.fc1(maps.flatten(1))))


class WongSmall(nn.Sequential):
    """Small network of "Scaling provable adversarial defenses" (Wong et al., NeurIPS 2018), 28x28.

    Its robustness can be proven layer by layer. Channels are averaged.
    """

    def __init__(self, n_outputs: int) -> None:
        super().__init__(
            nn.Conv2d(1, 16, kernel_size=4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, kernel_size=4, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(32 * 7 * 7, 100),
            nn.ReLU(),
            nn.Linear(100, n_outputs),
        )

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images.mean(dim=1, keepdim=True))


class CifarResNet(nn.Module):
    """Residual network for 32x32 images (He et al. 2016, section 4.2).

    It has 2 ``stages`` ``blocks`` + 2 layers. The first stage has ``width`` channels, each further stage
    twice as many as the one before. A shortcut between stages has no parameters (option A), or is a
    ``projection`` (option B), as in the wide networks of Geiping et al. 2020.
    """

    def __init__(
        self,
        n_outputs: int,
        blocks: int = 3,
        width: int = 16,
        stages: int = 3,
        projection: bool = False,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, kernel_size=3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        widths = [width, *(width * 2**stage for stage in range(stages))]
        self.stages = tuple(f"layer{stage + 1}" for stage in range(stages))
        for name, n_in, n_out in zip(self.stages, widths[:-1], widths[1:], strict=True):
            self.add_module(name, _residual_stage(n_in, n_out, blocks, projection))
        self.linear = nn.Linear(widths[-1], n_outputs)

    def forward(self, images: Tensor) -> Tensor:
        maps = functional.relu(self.bn1(self.conv1(images)))
        for stage in self.stages:
            maps = self.get_submodule(stage)(maps)
        return self.linear(maps.mean(dim=(2, 3)))


def _residual_stage(n_in: int, n_out: int, blocks: int, projection: bool) -> nn.Sequential:
    """Build a stage of ``blocks``, of which the first halves the resolution if it adds channels."""
    rest = (_ResidualBlock(n_out, n_out) for _ in range(blocks - 1))
    return nn.Sequential(_ResidualBlock(n_in, n_out, projection), *rest)


class _ResidualBlock(nn.Module):
    """Two convolutions beside a shortcut, which has parameters only with ``projection``."""

    def __init__(self, n_in: int, n_out: int, projection: bool = False) -> None:
        super().__init__()
        self.stride = n_out // n_in
        self.conv1 = nn.Conv2d(n_in, n_out, 3, stride=self.stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(n_out)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(n_out)
        if projection and self.stride > 1:
            self.downsample = nn.Sequential(
                nn.Conv2d(n_in, n_out, 1, stride=self.stride, bias=False), nn.BatchNorm2d(n_out)
            )
        else:
            self.downsample = None

    def forward(self, maps: Tensor) -> Tensor:
        residual = functional.relu(self.bn1(self.conv1(maps)))
        return functional.relu(self.bn2(self.conv2(residual)) + self._shortcut(maps))

    def _shortcut(self, maps: Tensor) -> Tensor:
        """Return the projection, or every second pixel with channels of zeros added on both sides."""
        if self.downsample is not None:
            return self.downsample(maps)
        if self.stride == 1:
            return maps
        added = self.bn1.num_features - self.conv1.in_channels
        pixels = maps[:, :, :: self.stride, :: self.stride]
        return functional.pad(pixels, (0, 0, 0, 0, added // 2, added // 2))


class ConvNet(nn.Sequential):
    """Network of eight convolutions with batch norm for 32x32 images, from Geiping et al. 2020.

    It has ``width`` to 4 ``width`` channels; only two poolings over 3x3 pixels reduce the resolution.
    """

    def __init__(self, n_outputs: int, width: int) -> None:
        before, after = (width, 2 * width, 2 * width, *3 * [4 * width]), 2 * (4 * width,)
        super().__init__(
            *_normalised_convolutions(3, *before),
            nn.MaxPool2d(3),
            *_normalised_convolutions(4 * width, *after),
            nn.MaxPool2d(3),
            nn.Flatten(),
            nn.Linear(36 * width, n_outputs),
        )


def _normalised_convolutions(*channels: int) -> Iterator[nn.Module]:
    for n_in, n_out in pairwise(channels):
        yield from (nn.Conv2d(n_in, n_out, 3, padding=1), nn.BatchNorm2d(n_out), nn.ReLU())


class LeNetZhu(nn.Sequential):
    """LeNet of "Deep Leakage from Gradients" (Zhu et al., NeurIPS 2019) for 32x32 images.

    It is smooth, so that gradients of its gradients exist everywhere. Parameters start from U(-.5, .5).
    """

    def __init__(self, n_outputs: int) -> None:
        super().__init__(
            nn.Conv2d(3, 12, 5, stride=2, padding=2),
            nn.Sigmoid(),
            nn.Conv2d(12, 12, 5, stride=2, padding=2),
            nn.Sigmoid(),
            nn.Conv2d(12, 12, 5, padding=2),
            nn.Sigmoid(),
            nn.Flatten(),
            nn.Linear(768, n_outputs),
        )
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -0.5, 0.5)


class CifarResNet2b(nn.Module):
    """Network of two residual blocks without batch norm for 32x32 images, used to verify robustness.

    It is "resnet2b" of alpha-beta-CROWN's CIFAR-10 models.
    """

    def __init__(self, n_outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, kernel_size=3, stride=2, padding=1)
        self.layer1 = nn.Sequential(_PlainBlock(8, 16, stride=2), _PlainBlock(16, 16, stride=1))
        self.linear1 = nn.Linear(16 * 8 * 8, 100)
        self.linear2 = nn.Linear(100, n_outputs)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.layer1(functional.relu(self.conv1(images)))
        return self.linear2(functional.relu(self.linear1(maps.flatten(1))))


class _PlainBlock(nn.Module):
    """Two convolutions beside a shortcut, which is a convolution if the shape changes."""

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(n_in, n_out, kernel_size=3, stride=stride, padding=1)
        self.conv2 = nn.Conv2d(n_out, n_out, kernel_size=3, padding=1)
        same = stride == 1 and n_in == n_out
        self.shortcut = nn.Sequential(
            *([] if same else [nn.Conv2d(n_in, n_out, kernel_size=1, stride=stride)])
        )

    def forward(self, maps: Tensor) -> Tensor:
        residual = self.conv2(functional.relu(self.conv1(maps)))
        return functional.relu(residual + self.shortcut(maps))


class CifarNet(nn.Module):
    """Network "cifarnet" of TensorFlow's slim models, used by Wu et al. 2018 on CIFAR-10.

    It has two convolutions of 64 channels, each with pooling and local response normalisation, and three
    fully connected layers.
    """

    def __init__(self, n_outputs: int) -> None:
        super().__init__()
        # torch divides alpha by the number of summed channels, TensorFlow does not.
        self.norm = nn.LocalResponseNorm(9, alpha=0.001, beta=0.75, k=1.0)
        self.conv1 = nn.Conv2d(3, 64, kernel_size=5, padding=2)
        self.conv2 = nn.Conv2d(64, 64, kernel_size=5, padding=2)
        self.pool1, self.pool2 = nn.MaxPool2d(2), nn.MaxPool2d(2)
        self.dropout = nn.Dropout(0.5)
        self.fc3 = nn.Linear(64 * 8 * 8, 384)
        self.fc4 = nn.Linear(384, 192)
        self.logits = nn.Linear(192, n_outputs)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.norm(self.pool1(functional.relu(self.conv1(images))))
        maps = self.pool2(self.norm(functional.relu(self.conv2(maps))))
        hidden = self.dropout(functional.relu(self.fc3(maps.flatten(1))))
        return self.logits(functional.relu(self.fc4(hidden)))
