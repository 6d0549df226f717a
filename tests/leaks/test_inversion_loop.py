"""Loop that reconstructs images from shared observations."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from src.artifacts.errors import UserError
from src.extractors.architectures import build_extractor
from src.extractors.extractor import Extractor
from src.leaks.observations import (
    Observation,
    cross_entropy,
    features_of,
    gradients_of,
    local_updates_of,
    pairwise_ranking,
)
from src.leaks.presets import PRESETS, Preset, find_preset
from src.leaks.reconstruction import reconstruct, total_variation
from src.training.sharing import parse_gradient_defence
from tests.real_data import REAL_DATA

SIDE = 16
PIXELS = REAL_DATA / "cifar10_lossless_200.npz"
LABELS = torch.tensor([2, 0, 4])
STEEP = replace(PRESETS["inversed"], signed=False)


def psnr(found, images):
    return -10 * (found - images).square().flatten(1).mean(dim=1).log10()


@pytest.fixture(scope="module")
def extractor():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, stride=2),
        nn.BatchNorm2d(8),
        nn.Sigmoid(),
        nn.Conv2d(8, 8, 3, padding=1, stride=2),
        nn.Sigmoid(),
        nn.Flatten(),
        nn.Linear(128, 5),
    )
    for parameter in network.parameters():
        nn.init.uniform_(parameter, -0.5, 0.5)
    return Extractor(network, "abcde", "6").eval()


@pytest.fixture(scope="module")
def images():
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(3, 3, 4, 4, generator=generator)
    return nn.functional.interpolate(coarse, size=(SIDE, SIDE), mode="bilinear")


@pytest.fixture(scope="module")
def observe(extractor):
    return gradients_of(extractor, cross_entropy, LABELS)


@pytest.fixture(scope="module")
def observed(observe, images):
    return observe(images)


def toy(extractor, of_target):
    return Observation(extractor, of_target, None, ())


def test_total_variation_of_a_step():
    """The image has one vertical edge of height 1: |dx| is 1 at one of W - 1 columns, and |dy| is 0."""
    step = torch.zeros(2, 3, 4, 5)
    step[1, :, :, 3:] = 1
    assert total_variation(step).tolist() == [0, 0.25]
    assert total_variation(step[:, None].repeat(1, 2, 1, 1, 1)).tolist() == [0, 0.25]
    both = total_variation(torch.stack([step, step.flip(0)], dim=1))
    assert both.tolist() == [0.125, 0.125]


def test_published_presets():
    assert len(PRESETS) == 14
    assert find_preset("inversed") == Preset(iterations=8000)
    assert find_preset("inversed_large_24000_3_lr1").restarts == 4
    assert (PRESETS["zhu"].lr, PRESETS["dlg"].lr) == (1e-4, 1)
    with pytest.raises(UserError, match="no inversion has preset 'inversed-LR': it is one of"):
        find_preset("inversed-LR")


@pytest.mark.parametrize(
    "fields",
    [
        *({name: "x"} for name in ("cost", "optimizer", "init", "indices", "weights", "scoring")),
        *({"lr": value} for value in (0.0, float("nan"), float("inf"))),
        *({"tv": value} for value in (-1.0, float("nan"), float("inf"))),
        {"iterations": 0},
        {"restarts": 0},
    ],
)
def test_presets_are_checked(fields):
    with pytest.raises(UserError):
        Preset(**fields)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_lowers_the_cost_and_stays_in_the_box(
    name, extractor, observe, observed, images
):
    preset = PRESETS[name]
    iterations = 4 if preset.optimizer == "lbfgs" else 20
    preset = replace(preset, iterations=iterations, restarts=min(preset.restarts, 2))
    steps = []
    found = reconstruct(observe, observed, images.shape, preset, seed=0, progress=steps.append)
    assert found.images.shape == images.shape
    assert found.images.min() >= 0 and found.images.max() <= 1
    assert found.images.isfinite().all() and found.costs.isfinite().all()
    assert sum(steps) == 3 * preset.restarts * iterations
    assert found.history.shape == (iterations, 3)
    assert (found.costs / found.history[0]).median() < 1
    if preset.boxed:
        inside = (found.images > 0) & (found.images < 1)
        assert inside.any()


def test_costs_are_those_of_the_images(observe, observed, images):
    found = reconstruct(observe, observed, images.shape, replace(STEEP, iterations=20), seed=0)
    again = [
        1 - torch.cosine_similarity(*(torch.cat([t[k].flatten() for t in s]) for s in pair), dim=0)
        for pair in [(observe(found.images), observed)]
        for k in range(3)
    ]
    torch.testing.assert_close(found.costs, torch.stack(again), rtol=1e-3, atol=1e-5)


def test_a_stack_is_the_same_as_each_target_alone(observe, observed, images):
    """Stacks may be small, and targets may have ids.

    Adam enlarges the rounding of a pixel whose gradient is nearly zero, so pixels agree on average.
    """
    preset = replace(STEEP, iterations=30)
    together = reconstruct(observe, observed, images.shape, preset, seed=0)
    pairs = reconstruct(observe, observed, images.shape, preset, seed=0, targets=2)
    assert (together.images - pairs.images).abs().mean() < 1e-3
    for row in range(3):
        one = slice(row, row + 1)
        alone = reconstruct(
            observe[one], [t[one] for t in observed], (1, 3, SIDE, SIDE), preset, seed=0, ids=[row]
        )
        assert (alone.images[0] - together.images[row]).abs().mean() < 1e-3
        torch.testing.assert_close(alone.costs[0], together.costs[row], rtol=1e-2, atol=1e-6)
        torch.testing.assert_close(
            alone.history[:, 0], together.history[:, row], rtol=1e-2, atol=1e-6
        )


def test_signed_stacks_end_at_costs_like_those_of_targets_alone(observe, observed, images):
    """Rounding can turn a sign, after which the paths differ; their final costs are similar."""
    preset = replace(PRESETS["inversed"], iterations=100)
    together = reconstruct(observe, observed, images.shape, preset, seed=0)
    alone = reconstruct(observe, observed, images.shape, preset, seed=0, targets=1)
    assert (together.costs.log() - alone.costs.log()).abs().median() < 0.5


def test_residual_networks_in_a_stack_are_the_same_as_each_alone():
    torch.manual_seed(0)
    extractor = build_extractor("cifar_resnet20", "abcde")
    images = torch.rand(2, 3, 32, 32)
    observe = gradients_of(extractor, cross_entropy, LABELS[:2])
    preset = replace(STEEP, iterations=10)
    together, alone = (
        reconstruct(observe, observe(images), images.shape, preset, seed=0, targets=targets)
        for targets in (2, 1)
    )
    assert (together.images - alone.images).abs().mean() < 1e-3
    assert (together.images[0] - alone.images[1]).abs().mean() > 0.1


def test_a_seed_names_the_result(observe, observed, images):
    preset = replace(STEEP, iterations=3)
    first, again, other = (
        reconstruct(observe, observed, images.shape, preset, seed=seed).images for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(("init", "low", "high"), [("zeros", 0, 0), ("rand", -1, 1)])
def test_starts(init, low, high, extractor):
    """An observation that does not depend on the image does not move it."""
    observe = toy(extractor, lambda images, _: (0 * images,))
    preset = Preset("l2", iterations=1, init=init, tv=0, boxed=False)
    found = reconstruct(observe, [torch.zeros(1, 1, 3, 8, 8)], (1, 3, 8, 8), preset, seed=0)
    points = (found.images - extractor.mean) / extractor.std
    assert points.min() >= low - 1e-6 and points.max() <= high + 1e-6
    assert (points.std() > 0.4) == (high > low)


def test_the_rate_decays_thrice():
    """With sign descent a pixel falls by the rate in each step, until the slope is 0."""
    extractor = build_extractor("lenet_zhu", "abcde")
    observe = toy(extractor, lambda images, _: (images.sum()[None],))
    preset = Preset(
        "l1", "sgd", lr=0.01, iterations=8, tv=0, init="zeros", boxed=False, scoring="loss"
    )
    whole = reconstruct(observe, [torch.full((1, 1), 1e6)], (1, 3, 8, 8), preset, seed=0)
    steps = [10.0**-power for power in (0, 0, 1, 1, 2, 2, 2, 3)]  # after 2, 4 (8 // 1.6) and 7
    steps = [10.0**-power for power in (0, 0, 1, 1, 1, 2, 2, 3)] if 8 // 1.6 == 5 else steps
    velocity = moved = 0.0
    for size in steps:
        velocity = 0.9 * velocity + 1
        moved += 0.01 * size * (1 + 0.9 * velocity)
    points = (whole.images - extractor.mean) / extractor.std
    torch.testing.assert_close(points, torch.full_like(points, moved), rtol=1e-4, atol=1e-5)


def test_the_best_finite_restart_of_each_target_is_taken(extractor):
    """Restarts that begin brighter than a target's limit diverge; the brightest other one wins.

    Images do not move. All restarts of the first target diverge, and none of the last.
    """
    shape, n_restarts = (4, 3, 8, 8), 8
    preset = Preset("l2", iterations=1, restarts=n_restarts, lr=1e-9, tv=0, boxed=False)

    def brightness_below(limits):
        def of_target(images, limit):
            brightness = images.mean()
            return (torch.where(brightness > limit, torch.nan, brightness)[None],)

        return Observation(extractor, of_target, limits, ())

    everything = brightness_below(torch.full((4,), torch.inf))
    begins = torch.stack(
        [
            1 - brightest(everything, replace(preset, restarts=1), shape, seed).costs.sqrt()
            for seed in range(3)
        ]
    )
    limits = begins.median(dim=0).values
    limits[0], limits[3] = -torch.inf, torch.inf
    free, bound = (
        brightest(observe, preset, shape, 0) for observe in (everything, brightness_below(limits))
    )
    assert bound.restarts[0] == -1 and bound.costs[0] == torch.inf
    torch.testing.assert_close(bound.images[0], extractor.mean.expand(3, 8, 8))
    assert bound.history[:, 0].isnan().all()
    for row in (1, 2):
        assert bound.restarts[row] >= 0
        brightness = 1 - bound.costs[row].sqrt()
        assert brightness <= limits[row] + 1e-6
        assert brightness <= 1 - free.costs[row].sqrt() + 1e-6
    assert bound.restarts[3] == free.restarts[3]
    assert torch.equal(bound.images[3], free.images[3])
    assert len(set(free.restarts.tolist())) > 1


def brightest(observe, preset, shape, seed):
    """Reconstruct images from an observation whose cost is lowest for white images."""
    return reconstruct(observe, [torch.ones(shape[0], 1)], shape, preset, seed=seed)


def test_restarts_can_be_scored_by_total_variation(observe, observed, images):
    preset = replace(STEEP, iterations=2, restarts=4, scoring="tv")
    found = reconstruct(observe, observed, images.shape, preset, seed=0)
    first = reconstruct(observe, observed, images.shape, replace(preset, restarts=1), seed=0)
    assert (total_variation(found.images) <= total_variation(first.images)).all()
    assert found.restarts.any()


def test_an_orthogonal_layer_hides_nothing():
    torch.manual_seed(0)
    orthogonal = nn.Linear(192, 192, bias=False)
    nn.init.orthogonal_(orthogonal.weight)
    network = nn.Sequential(nn.Flatten(), orthogonal, nn.Linear(192, 5))
    observe, images = features_of(Extractor(network, "abcde", "2")), torch.rand(3, 3, 8, 8)
    preset = replace(STEEP, cost="l2", iterations=300, tv=0)
    found = reconstruct(observe, observe(images), images.shape, preset, seed=0)
    assert (psnr(found.images, images) > 40).all()


def test_features_of_a_residual_network_are_matched():
    torch.manual_seed(0)
    observe = features_of(build_extractor("cifar_resnet8", "abcde"))
    images = torch.rand(2, 3, 32, 32)
    preset = replace(STEEP, cost="l2", iterations=300, tv=0)
    found = reconstruct(observe, observe(images), images.shape, preset, seed=0)
    assert (found.costs < 0.1 * found.history[0]).all()


def test_both_images_of_a_pair_are_found(extractor, images):
    """The observation is a gradient of a ranking loss, which depends on both items."""
    users = torch.randn(1, 128, generator=torch.Generator().manual_seed(0))
    observe, pair = gradients_of(extractor, pairwise_ranking, users), images[None, :2]
    preset = replace(STEEP, iterations=100, tv=0.1)
    found = reconstruct(observe, observe(pair), pair.shape, preset, seed=0)
    assert found.costs[0] < 0.1 * found.history[0, 0]
    start = reconstruct(observe, observe(pair), pair.shape, replace(preset, iterations=1), seed=0)
    assert (psnr(found.images[0], pair[0]) > psnr(start.images[0], pair[0]) + 2).all()


def test_batches_and_local_updates_are_matched(extractor, images):
    labels, batch = LABELS[None, :2], images[None, :2]
    for observe in (
        gradients_of(extractor, cross_entropy, labels),
        local_updates_of(extractor, cross_entropy, labels, steps=3, lr=0.1),
    ):
        preset = replace(STEEP, iterations=60)
        found = reconstruct(observe, observe(batch), batch.shape, preset, seed=0)
        assert found.images.shape == batch.shape
        assert found.costs[0] < 0.1 * found.history[0, 0]


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_labels_are_found_beside_images(optimizer, extractor, observed, images):
    hidden = gradients_of(extractor, cross_entropy, torch.zeros_like(LABELS))
    preset = replace(STEEP, cost="l2", iterations=60, tv=0)
    if optimizer == "lbfgs":
        preset = replace(PRESETS["dlg"], iterations=5)
    found = reconstruct(hidden, observed, images.shape, preset, seed=0, n_classes=5)
    torch.testing.assert_close(found.shares.sum(dim=1), torch.ones(3))
    assert found.shares.argmax(dim=1).tolist() == LABELS.tolist()


def test_defences_of_what_is_shared_protect(observe, observed, images):
    preset = replace(STEEP, iterations=50, tv=1e-2)
    clean = reconstruct(observe, observed, images.shape, preset, seed=0)
    pruned = parse_gradient_defence("prune_99").stacked(observed, torch.Generator())
    defended = reconstruct(observe, pruned, images.shape, preset, seed=0)
    assert psnr(clean.images, images).mean() > psnr(defended.images, images).mean() + 2


def test_the_network_stays_as_it_was(observe, observed, images, extractor):
    before = {name: value.clone() for name, value in extractor.state_dict().items()}
    extractor.train()
    try:
        reconstruct(observe, observed, images.shape, replace(STEEP, iterations=2), seed=0)
        assert all(module.training for module in extractor.modules())
    finally:
        extractor.eval()
    after = extractor.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(parameter.requires_grad for parameter in extractor.parameters())
    assert all(parameter.grad is None for parameter in extractor.parameters())


@pytest.mark.parametrize(
    ("shape", "ids"), [((2, 3, SIDE, SIDE), None), ((3, 3, SIDE, SIDE), [1]), ((3, 1, 8, 8), None)]
)
def test_what_does_not_fit_is_refused(shape, ids, observe, observed):
    with pytest.raises(UserError, match="reconstruction"):
        reconstruct(observe, observed, shape, STEEP, seed=0, ids=ids)


@pytest.fixture(scope="module")
def lenet():
    """Untrained LeNetZhu, three photographs and their observation."""
    if not PIXELS.is_file():
        pytest.skip(f"{PIXELS} is not there")
    torch.manual_seed(0)
    extractor = build_extractor("lenet_zhu", [str(label) for label in range(10)])
    with np.load(PIXELS) as archive:
        images = torch.from_numpy(archive["x"][:3]).permute(0, 3, 1, 2) / 255
        labels = torch.from_numpy(archive["y"][:3]).long()
    observe = gradients_of(extractor, cross_entropy, labels)
    return observe, observe(images), images


def test_dlg_finds_a_photograph_and_the_published_rate_does_not(lenet):
    observe, observed, images = lenet
    last, observed = slice(2, 3), [tensor[2:] for tensor in observed]
    found, published = (
        reconstruct(observe[last], observed, (1, 3, 32, 32), preset, seed=0, ids=[2])
        for preset in (
            replace(PRESETS["dlg"], iterations=30),
            replace(PRESETS["zhu"], iterations=10, restarts=1),
        )
    )
    assert psnr(found.images, images[last]) > 20
    assert psnr(published.images, images[last]) < 10.5


def test_short_gradients_are_matched_as_well():
    """A trained network's gradients are short, and L-BFGS would not move below its tolerances."""
    torch.manual_seed(0)
    extractor = build_extractor("lenet_zhu", [str(label) for label in range(10)])
    images, labels = torch.rand(1, 3, 32, 32), torch.tensor([3])

    def faint(prediction, given):
        return 1e-5 * cross_entropy(prediction, given)

    observe = gradients_of(extractor, faint, labels)
    preset = replace(PRESETS["dlg"], iterations=3, restarts=1)
    found = reconstruct(observe, observe(images), images.shape, preset, seed=0)
    unmoved = reconstruct(observe, observe(images), images.shape, replace(preset, lr=1e-12), seed=0)
    assert found.costs < 0.1 * unmoved.costs


@pytest.mark.slow
def test_dlg_finds_most_photographs(lenet):
    observe, observed, images = lenet
    preset = replace(PRESETS["dlg"], iterations=50)
    found = reconstruct(observe, observed, images.shape, preset, seed=0)
    assert (psnr(found.images, images) > 20).sum() >= 2
