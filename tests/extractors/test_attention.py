"""Attention maps: closed form against autograd, sums, masks, erased pixels."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from src.artifacts.errors import UserError
from src.extractors.architectures import build_extractor
from src.extractors.attention import (
    Watched,
    above_mean,
    class_directions,
    energy,
    erase,
    fill_of,
    normalise,
    overlap,
    soft_cells,
    top_cells,
)
from src.extractors.extractor import Extractor, fast_copy

LABELS = tuple("abcde")


def images(n: int = 3, side: int = 64) -> torch.Tensor:
    return torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(0))


def extractor(arch: str = "resnet18") -> Extractor:
    torch.manual_seed(0)
    return build_extractor(arch, LABELS).eval()


def by_autograd(watched: Watched, pictures: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Compute Grad-CAM of logits with a hook at the layer."""
    kept = []
    layer = watched.extractor.network.get_submodule(watched.layer)
    hook = layer.register_forward_hook(lambda _, __, output: kept.append(output))
    logits = watched.extractor(pictures).logits
    hook.remove()
    score = logits.gather(1, classes[:, None]).sum()
    (gradient,) = torch.autograd.grad(score, kept[-1])
    return (gradient.mean(dim=(2, 3), keepdim=True) * kept[-1]).sum(dim=1)


@pytest.mark.parametrize("arch", ["resnet18", "cifar_resnet8", "mobilenet_v2", "densenet121"])
def test_the_closed_form_is_what_autograd_finds(arch):
    watched, classes = Watched(extractor(arch)), torch.tensor([0, 3, 4])
    assert watched.averaged
    pictures = images()
    attended = watched(pictures)
    closed = watched.attention(attended, class_directions(watched.extractor, classes))
    torch.testing.assert_close(closed, by_autograd(watched, pictures, classes), rtol=0, atol=1e-6)


@pytest.mark.parametrize("arch", ["resnet18", "squeezenet1_1", "densenet121"])
def test_in_bf16_too_a_map_sums_to_the_value_of_its_read_out(arch):
    """DenseNet's last ReLU works in place on the maps, and the features are the means behind it."""
    network = extractor(arch)
    network.precision = "bf16"
    watched = Watched(network)
    assert watched.averaged
    attended = watched(images())
    anything = torch.randn(attended.features.shape, generator=torch.Generator().manual_seed(1))
    value = (anything * attended.features).sum(dim=1)
    sums = watched.attention(attended, anything).sum(dim=(1, 2))
    torch.testing.assert_close(sums, value, rtol=0.05, atol=0.05 * value.abs().max().item())


def test_elsewhere_maps_are_those_of_the_layer_itself():
    """A ReLU may follow in place; the gradient is that of the maps in both precisions."""
    network = extractor()
    kept = []
    hook = network.network.bn1.register_forward_hook(lambda _, __, maps: kept.append(maps.clone()))
    network(images())
    hook.remove()
    for precision, tolerance in (("fp32", 1e-5), ("bf16", 0.05)):
        network.precision = precision
        watched = Watched(network, "bn1")
        attended = watched(images())
        torch.testing.assert_close(attended.maps, kept[0], rtol=tolerance, atol=tolerance)
        directions = class_directions(network, torch.tensor([0, 3, 4]))
        gradient = watched.gradient(attended, directions)
        assert (gradient[attended.maps < 0] == 0).all() and gradient.any()


@pytest.mark.parametrize("arch", ["c2f2", "cifarnet", "resnet18+16"])
def test_elsewhere_it_is_grad_cam(arch):
    watched = Watched(extractor(arch))
    assert not watched.averaged
    pictures, classes = images(3, 28 if arch == "c2f2" else 32), torch.tensor([0, 3, 4])
    if arch == "resnet18+16":
        nn.init.normal_(watched.extractor.network.head.weight)
    attended = watched(pictures)
    maps = watched.attention(attended, class_directions(watched.extractor, classes))
    torch.testing.assert_close(maps, by_autograd(watched, pictures, classes), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("arch", ["resnet18", "squeezenet1_1"])
def test_a_map_sums_to_the_value_of_its_read_out(arch):
    watched = Watched(extractor(arch))
    attended = watched(images())
    anything = torch.randn(
        3, attended.features.shape[1], generator=torch.Generator().manual_seed(1)
    )
    value = (anything * attended.features).sum(dim=1)
    sums = watched.attention(attended, anything).sum(dim=(1, 2))
    torch.testing.assert_close(sums, value, rtol=1e-5, atol=1e-5)
    if arch == "resnet18":
        classes = torch.tensor([1, 1, 2])
        maps = watched.attention(attended, class_directions(watched.extractor, classes))
        logits = attended.logits.gather(1, classes[:, None])[:, 0]
        bias = watched.extractor.network.fc.bias[classes]
        torch.testing.assert_close(maps.sum(dim=(1, 2)), logits - bias, rtol=1e-5, atol=1e-5)


def test_watching_changes_nothing_and_any_layer_can_be_watched():
    network = extractor().train()
    network.network.bn1.eval()
    modes = [module.training for module in network.modules()]
    before = {name: value.clone() for name, value in network.state_dict().items()}
    watched = Watched(network, "layer3")
    assert [module.training for module in network.modules()] == modes
    after = network.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    network.eval()
    attended, plain = watched(images()), network(images())
    assert attended.maps.shape == (3, 256, 4, 4) and not watched.averaged
    assert torch.equal(attended.logits, plain.logits)
    assert torch.equal(attended.features, plain.features)


def test_second_derivatives_of_a_map_agree_with_the_closed_form():
    """At the last layer both ways exist; the gradient of a loss of the map is the same in weights."""
    network = extractor("cifar_resnet8")
    watched, classes = Watched(network), torch.tensor([0, 3, 4])
    gradients = []
    for averaged in (True, False):
        watched.averaged = averaged
        attended = watched(images(side=32))
        directions = class_directions(network, classes)
        maps = watched.attention(attended, directions, differentiable=True)
        loss = maps.square().sum()
        gradients.append(torch.autograd.grad(loss, list(network.network.parameters())[:-1]))
    for closed, twice in zip(*gradients, strict=True):
        torch.testing.assert_close(twice, closed, rtol=1e-3, atol=1e-5 * closed.abs().max().item())


def test_a_tuned_copy_is_watched_alike():
    network = extractor("resnet18")
    exact, tuned = Watched(network), Watched(fast_copy(network))
    assert tuned.averaged
    directions = class_directions(network, torch.tensor([0, 1, 2]))
    torch.testing.assert_close(
        tuned.attention(tuned(images()), directions),
        exact.attention(exact(images()), directions),
        rtol=1e-3,
        atol=1e-4,
    )


def test_rounding_does_not_hide_the_closed_form():
    network = extractor("cifar_resnet8")
    network.precision = "bf16"
    assert Watched(network).averaged and network.precision == "bf16"
    flat = extractor("cifarnet")
    flat.precision = "bf16"
    watched, classes = Watched(flat), torch.tensor([0, 3, 4])
    rounded = watched.attention(watched(images(side=32)), class_directions(flat, classes))
    flat.precision = "fp32"
    exact = watched.attention(watched(images(side=32)), class_directions(flat, classes))
    torch.testing.assert_close(rounded, exact, rtol=0.1, atol=0.1 * exact.abs().max().item())


def test_layers_without_maps_are_refused():
    with pytest.raises(UserError, match="no spatial layer 'fc'"):
        Watched(extractor(), "fc")
    flat = Extractor(nn.Sequential(nn.Flatten(), nn.Linear(3 * 224**2, 5)), LABELS, "1")
    with pytest.raises(UserError, match="no layer with spatial maps"):
        Watched(flat)


maps_of_any_kind = st.lists(
    st.floats(-100, 100, width=32).map(lambda value: round(value, 3)), min_size=12, max_size=12
).map(lambda values: torch.tensor(values, dtype=torch.float32).view(1, 3, 4))


@given(maps_of_any_kind, st.floats(0.01, 1))
def test_top_cells_are_as_many_as_asked_and_none_larger_is_left_out(maps, share):
    cells = top_cells(maps, share)
    assert cells.sum() == math.ceil(share * 12 - 1e-9)
    if cells.sum() < 12:
        assert maps[cells].min() >= maps[~cells].max()


def test_ties_go_to_the_lower_index():
    assert top_cells(torch.zeros(1, 4, 4), 0.125).flatten().nonzero().flatten().tolist() == [0, 1]
    assert top_cells(torch.zeros(2, 8, 8), 0.125).sum(dim=(1, 2)).tolist() == [8, 8]


@given(maps_of_any_kind)
def test_normalised_maps(maps):
    assert normalise(maps, "sum").sum() == pytest.approx(1, abs=1e-5)
    assert normalise(maps, "softmax_0.5").sum() == pytest.approx(1, abs=1e-5)
    shown = normalise(maps, "minmax")
    assert shown.min() >= 0 and shown.max() <= 1
    assert normalise(maps, "l2").norm() <= 1 + 1e-5
    assert soft_cells(maps).min() > 0 and soft_cells(maps).max() < 1


def test_no_image_depends_on_the_others():
    maps = torch.randn(4, 5, 5, generator=torch.Generator().manual_seed(0))
    for kind in ("l2", "softmax", "softmax_3", "minmax", "sum"):
        alone = torch.cat([normalise(one[None], kind) for one in maps])
        torch.testing.assert_close(normalise(maps, kind), alone)
    assert normalise(-maps.abs(), "sum").flatten() == pytest.approx(torch.full((100,), 1 / 25))
    with pytest.raises(ValueError, match="unknown normalisation"):
        normalise(maps, "max")


def test_cells_by_hand():
    maps = torch.tensor([[[0.0, 1.0], [2.0, 5.0]]])
    assert above_mean(maps).tolist() == [[[False, False], [False, True]]]
    assert overlap(maps > 0, maps > 1).item() == pytest.approx(2 / 3)
    assert overlap(maps > 9, maps > 8).item() == 1
    assert overlap(maps > 9, maps > 1).item() == 0
    assert energy(torch.tensor([[[[1.0]], [[-2.0]]]])).item() == 5


def test_erasing_takes_exactly_the_cells():
    pictures, cells = images(2, 8), torch.zeros(2, 4, 4, dtype=torch.bool)
    cells[0, 1, 2] = cells[1, 3, 3] = True
    erased = erase(pictures, cells, 0.25)
    where = torch.zeros(2, 1, 8, 8, dtype=torch.bool)
    where[0, :, 2:4, 4:6] = where[1, :, 6:8, 6:8] = True
    assert torch.equal(erased != pictures, where.expand_as(pictures))
    assert (erased[where.expand_as(pictures)] == 0.25).all()


def test_what_erased_pixels_become():
    network, pictures = extractor(), images(2, 32)
    whole = torch.ones(2, 4, 4, dtype=torch.bool)
    mean = erase(pictures, whole, fill_of(network, pictures, "mean"))
    torch.testing.assert_close((mean - network.mean) / network.std, torch.zeros_like(mean))
    assert (erase(pictures, whole, fill_of(network, pictures, "zero")) == 0.5).all()
    blurred = fill_of(network, pictures, "blur")
    assert blurred.shape == pictures.shape and blurred.std() < 0.3 * pictures.std()
    half = erase(pictures, torch.full((2, 4, 4), 0.5), 1.0)
    torch.testing.assert_close(half, (pictures + 1) / 2)


def test_a_map_has_a_gradient_through_the_soft_mask():
    maps = torch.randn(1, 4, 4, requires_grad=True)
    erase(images(1, 8), soft_cells(maps), 0.0).sum().backward()
    assert maps.grad.abs().sum() > 0
    assert functional.interpolate(maps[:, None], (8, 8)).shape == (1, 1, 8, 8)
