"""Table of networks against torchvision and the project's own modules."""

import pytest
from torch import nn
from torchvision import models

from src.artifacts.errors import UserError
from src.extractors.architectures import build_network, head_of
from src.extractors.zoo import (
    ARCHITECTURES,
    IMAGENET_MEAN,
    IMAGENET_STD,
    SMALL_NETWORKS,
    TORCHVISION,
    check_classifier,
)


def test_the_table_has_torchvisions_classifiers():
    assert set(TORCHVISION) == set(models.list_models(module=models))


@pytest.mark.parametrize("arch", TORCHVISION)
def test_means_and_stds_are_the_published_ones(arch):
    """Only the Inceptions differ, since torchvision rescales their pixels inside the network."""
    preset = next(iter(models.get_model_weights(arch))).transforms()
    published = (
        tuple(getattr(preset, "mean", IMAGENET_MEAN)),
        tuple(getattr(preset, "std", IMAGENET_STD)),
    )
    row = TORCHVISION[arch]
    if arch in ("googlenet", "inception_v3"):
        assert (row.mean, row.std) == ((0.5,) * 3, (0.5,) * 3)
    else:
        assert (row.mean, row.std) == published


SMALLEST = (
    "alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "efficientnet_v2_s", "googlenet",
    "inception_v3", "maxvit_t", "mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small", "regnet_y_400mf",
    "resnet18", "shufflenet_v2_x0_5", "squeezenet1_0", "swin_t", "swin_v2_t", "vgg11", "vit_b_32",
)  # fmt: skip
"""One network of each of torchvision's families."""


@pytest.mark.parametrize("arch", [*SMALLEST, *SMALL_NETWORKS])
def test_the_named_head_is_the_last_layer_and_has_one_output_a_class(arch):
    network = build_network(arch, 7)
    layers = [name for name, m in network.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    assert head_of(arch) == ARCHITECTURES[arch].head == layers[-1]
    assert len(network.get_submodule(head_of(arch)).weight) == 7


def test_unknown_networks_are_named():
    with pytest.raises(UserError, match="no classifier 'resnet5'"):
        check_classifier("resnet5")
    check_classifier("resnet50+512")
