"""AiD's U-Net: the published shape, images of any size, and its checkpoints."""

import pytest
import torch

from src.artifacts.errors import UserError
from src.defences.unet import UNet, load_denoiser, save_denoiser


def test_the_published_shape():
    with torch.device("meta"):
        network = UNet()
    convolutions = [of for of in network.modules() if isinstance(of, torch.nn.Conv2d)]
    assert [of.out_channels for of in convolutions] == [
        *([64] * 2 + [128] * 3 + [256] * 9),
        *([256] * 6 + [128] * 3 + [64] * 2),
        3,
    ]
    assert [of.stride[0] for of in convolutions[:14]] == [1, 1, 2, 1, 1, 2, 1, 1, 2, 1, 1, 2, 1, 1]
    # What a group reads after it is joined by the finer scale.
    assert [convolutions[n].in_channels for n in (14, 17, 20, 23)] == [512, 512, 384, 192]
    assert all(of.bias is None for of in convolutions)


@pytest.mark.parametrize("size", [(32, 32), (29, 45)])
def test_without_weights_in_the_last_layer_it_leaves_images_as_they_are(size):
    network = UNet(2).eval()
    images = torch.rand(2, 3, *size)
    assert network(images).shape == images.shape
    assert not torch.equal(network(images), images)
    torch.nn.init.zeros_(network.last.weight)
    assert torch.equal(network(images), images)


def test_a_checkpoint_gives_the_same_network(tmp_path):
    network = UNet(2)
    images = torch.rand(4, 3, 32, 32)
    network(images)  # moves the statistics of batch norm
    save_denoiser(tmp_path / "aid.pt", network, {"epochs": 1})
    restored = load_denoiser(tmp_path / "aid.pt")
    assert torch.equal(restored(images), network.eval()(images))
    assert not any(of.requires_grad for of in restored.parameters())
    assert torch.load(tmp_path / "aid.pt", weights_only=True)["training"] == {"epochs": 1}


def test_other_files_are_refused(tmp_path):
    torch.save({"state_dict": {}}, tmp_path / "other.pt")
    with pytest.raises(UserError, match=r"other\.pt is not a denoiser"):
        load_denoiser(tmp_path / "other.pt")
    with pytest.raises(UserError, match="missing file"):
        load_denoiser(tmp_path / "none.pt")
