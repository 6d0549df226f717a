"""Shared observations of images, their defences, costs and exact solutions."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from src.artifacts.errors import UserError
from src.extractors.architectures import build_extractor
from src.extractors.extractor import Extractor
from src.leaks.costs import COSTS, INDICES, Matching
from src.leaks.labels import label_from_gradient
from src.leaks.observations import (
    cross_entropy,
    features_of,
    gradients_of,
    local_updates_of,
    pairwise_ranking,
)
from src.training.sharing import parse_gradient_defence

SIDE = 8


def last_layer(network):
    return [name for name, m in network.named_modules() if isinstance(m, nn.Linear)][-1]


def extractor_of(network, n_classes=5):
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.3)
            module.running_var.uniform_(0.5, 2)
            nn.init.normal_(module.bias)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return Extractor(network, [str(label) for label in range(n_classes)], last_layer(network))


@pytest.fixture
def extractor():
    torch.manual_seed(0)
    return extractor_of(
        nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1, stride=2),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Conv2d(6, 4, 3, bias=False),
            nn.BatchNorm2d(4),
            nn.Sigmoid(),
            nn.Flatten(),
            nn.Linear(16, 5),
        )
    )


@pytest.fixture
def images():
    return torch.rand(4, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


LABELS = torch.tensor([2, 0, 4, 2])


def state_of(extractor):
    return (
        {name: value.clone() for name, value in extractor.state_dict().items()},
        [module.training for module in extractor.modules()],
        [parameter.requires_grad for parameter in extractor.parameters()],
    )


def autograd(extractor, loss, images, given):
    """Return the gradient of one target as a training loop computes it."""
    modes = [module.training for module in extractor.modules()]
    extractor.eval()
    gradients = torch.autograd.grad(
        loss(extractor(images), given), list(extractor.parameters()), allow_unused=True
    )
    for module, mode in zip(extractor.modules(), modes, strict=True):
        module.training = mode
    return gradients


def assert_close(left, right, **tolerance):
    for a, b in zip(left, right, strict=True):
        torch.testing.assert_close(a, b, **tolerance or {"rtol": 1e-4, "atol": 1e-6})


def test_gradients_of_single_images_are_those_of_a_training_loop(extractor, images):
    stacked = gradients_of(extractor, cross_entropy, LABELS)(images)
    for target in range(4):
        row = slice(target, target + 1)
        alone = autograd(extractor, cross_entropy, images[row], LABELS[row])
        assert_close([tensor[target] for tensor in stacked], alone)
        observe = gradients_of(extractor, cross_entropy, LABELS)[row]
        assert_close([tensor[0] for tensor in observe(images[row])], alone)


def test_gradients_of_batches_are_those_of_the_mean_loss(extractor, images):
    labels = LABELS.view(2, 2)
    stacked = gradients_of(extractor, cross_entropy, labels)(images.view(2, 2, 3, SIDE, SIDE))
    for target in range(2):
        batch = images[2 * target : 2 * target + 2]
        alone = autograd(extractor, cross_entropy, batch, labels[target])
        assert_close([tensor[target] for tensor in stacked], alone)


@pytest.mark.parametrize("arch", ["cifar_resnet8", "convnet8", "resnet18"])
def test_folded_norms_share_gradients_of_real_networks(arch):
    torch.manual_seed(0)
    extractor = extractor_of(build_extractor(arch, "abcde").network)
    image, label = torch.rand(1, 3, 32, 32), torch.tensor([3])
    expected = autograd(extractor, cross_entropy, image, label)
    found = [tensor[0] for tensor in gradients_of(extractor, cross_entropy, label)(image)]
    for a, b in zip(found, expected, strict=True):
        assert (a - b).norm() <= 1e-4 * b.norm() + 1e-7


def test_a_network_that_cannot_be_traced_is_observed_as_it_is(images):
    class Branching(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(3, 5)

        def forward(self, maps):
            means = maps.mean(dim=(2, 3))
            return self.head(means if len(means) else -means)

    extractor = extractor_of(Branching())
    alone = autograd(extractor, cross_entropy, images[:1], LABELS[:1])
    shared = gradients_of(extractor, cross_entropy, LABELS[:1])(images[:1])
    assert_close([tensor[0] for tensor in shared], alone)


def test_observations_are_differentiable_in_the_images(images):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Sigmoid(), nn.Flatten(), nn.Linear(72, 5))
    extractor = extractor_of(network).double()
    image = images[:1].double().requires_grad_()
    observe = gradients_of(extractor, cross_entropy, LABELS[:1])
    total = sum(tensor.square().sum() for tensor in observe(image))
    (slope,) = torch.autograd.grad(total, image)
    for at in [(0, 0, 2, 3), (0, 2, 7, 7)]:
        step = torch.zeros_like(image)
        step[at] = 1e-3  # logits are float32, however precise the weights are
        above, below = (
            sum(tensor.square().sum() for tensor in observe(image + sign * step)).item()
            for sign in (1, -1)
        )
        assert slope[at].item() == pytest.approx((above - below) / 2e-3, rel=2e-3)


def test_an_observation_leaves_the_network_as_it_was(extractor, images):
    extractor.train()
    extractor.network[1].eval()
    next(extractor.parameters()).requires_grad_(False)
    before = state_of(extractor)
    for observe in (
        gradients_of(extractor, cross_entropy, LABELS),
        local_updates_of(extractor, cross_entropy, LABELS, steps=2, lr=0.1),
        features_of(extractor),
    ):
        observe(images.requires_grad_())[0].sum().backward()
    after = state_of(extractor)
    assert before[1:] == after[1:]
    assert all(torch.equal(before[0][name], after[0][name]) for name in before[0])
    assert all(parameter.grad is None for parameter in extractor.parameters())


def test_local_updates_are_those_of_sgd(extractor, images):
    steps, lr = 3, 0.05
    labels = LABELS.view(2, 2)
    batches = images.view(2, 2, 3, SIDE, SIDE)
    observe = local_updates_of(extractor, cross_entropy, labels, steps=steps, lr=lr)
    updates = observe(batches)
    start = [parameter.detach().clone() for parameter in extractor.parameters()]
    optimizer = torch.optim.SGD(extractor.parameters(), lr)
    extractor.eval()
    for _ in range(steps):
        optimizer.zero_grad()
        cross_entropy(extractor(batches[1]), labels[1]).backward()
        optimizer.step()
    moved = [
        (before - after.detach()) / (lr * steps)
        for before, after in zip(start, extractor.parameters(), strict=True)
    ]
    assert_close([tensor[1] for tensor in updates], moved, rtol=1e-3, atol=1e-5)


def test_one_local_step_is_the_gradient(extractor, images):
    one = local_updates_of(extractor, cross_entropy, LABELS, steps=1, lr=0.1)(images)
    assert_close(one, gradients_of(extractor, cross_entropy, LABELS)(images))
    with pytest.raises(UserError, match="positive rate"):
        local_updates_of(extractor, cross_entropy, LABELS, steps=0, lr=0.1)


def test_features_are_the_extractors(extractor, images):
    (features,) = features_of(extractor)(images)
    torch.testing.assert_close(features[:, 0], extractor.eval()(images).features)


def test_a_pairwise_loss_reads_users_and_both_images(extractor, images):
    users = torch.randn(2, 16)
    pairs = images.view(2, 2, 3, SIDE, SIDE)
    shared = gradients_of(extractor, pairwise_ranking, users)(pairs)
    features = extractor.eval()(pairs[1]).features
    loss = -functional.logsigmoid(users[1] @ (features[0] - features[1]))
    assert pairwise_ranking(extractor(pairs[1]), users[1]).item() == pytest.approx(loss.item())
    expected = torch.autograd.grad(loss, list(extractor.parameters())[:-2])
    assert_close([tensor[1] for tensor in shared[:-2]], expected)
    assert not any(tensor.any() for tensor in shared[-2:])  # no class is asked for


# Costs


@pytest.fixture
def gradients():
    """Return gradients of three targets: of a convolution, a vector and a matrix."""
    generator = torch.Generator().manual_seed(3)
    shapes = [(3, 4, 2, 3, 3), (3, 4), (3, 5, 7)]
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]


@pytest.fixture
def observed(gradients):
    generator = torch.Generator().manual_seed(4)
    return [g + torch.randn(g.shape, generator=generator, dtype=torch.float64) for g in gradients]


def by_hand(cost, g, o, w):
    """Compute the cost of one target from flat vectors, in NumPy."""

    def distance(a, b):
        return 1 - a @ b / np.linalg.norm(a) / np.linalg.norm(b)

    flat = [(a.numpy().ravel(), b.numpy().ravel()) for a, b in zip(g, o, strict=True)]
    if cost == "sim":
        a, b = (
            np.concatenate([np.sqrt(v) * pair[i] for v, pair in zip(w, flat, strict=True)])
            for i in (0, 1)
        )
        return distance(a, b)
    if cost == "simlocal":
        return np.average([distance(a, b) for a, b in flat], weights=w)
    if cost == "out_sim":
        units = [
            (v, distance(p.numpy().ravel(), q.numpy().ravel()))
            for a, b, v in zip(g, o, w, strict=True)
            for p, q in (zip(a, b, strict=True) if a.ndim > 1 else [(a, b)])
        ]
        return np.average([d for _, d in units], weights=[v for v, _ in units])
    size = {
        "l1": lambda d: np.abs(d).sum(),
        "l2": lambda d: (d**2).sum(),
        "max": lambda d: np.abs(d).max(),
    }[cost]
    return sum(v * size(a - b) for v, (a, b) in zip(w, flat, strict=True))


@pytest.mark.parametrize("weights", ["equal", "linear", "exp"])
@pytest.mark.parametrize("cost", COSTS)
def test_costs_by_hand(cost, weights, gradients, observed):
    expected_weights = {
        "equal": [1, 1, 1],
        "linear": [1, 2 / 3, 1 / 3],
        "exp": [1, np.exp(-1), np.exp(-2)],
    }[weights]
    found = Matching.of(cost, observed, "def", weights)(gradients)
    for target in range(3):
        g, o = ([tensor[target] for tensor in tensors] for tensors in (gradients, observed))
        expected = by_hand(cost, g, o, np.array(expected_weights))
        assert found[target].item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("cost", COSTS)
def test_costs_vanish_at_what_was_observed(cost, observed):
    assert Matching.of(cost, observed, "def", "equal")(observed).abs().max() < 1e-12


@pytest.mark.parametrize("cost", ["sim", "simlocal", "out_sim"])
def test_cosines_do_not_depend_on_length(cost, gradients, observed):
    matching = Matching.of(cost, observed, "def", "equal")
    torch.testing.assert_close(matching([7 * g for g in gradients]), matching(gradients))


@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("cost", COSTS)
def test_costs_have_finite_gradients_in_the_pixels(cost, zero, extractor, images):
    observe = gradients_of(extractor, cross_entropy, LABELS)
    shared = [tensor * (not zero) for tensor in observe(images)]
    points = images.flip(0).requires_grad_()
    costs = Matching.of(cost, shared, "def", "equal")(observe(points))
    assert costs.isfinite().all()
    (slope,) = torch.autograd.grad(costs.sum(), points)
    assert slope.isfinite().all()
    assert zero or slope.any()


def test_indices_choose_tensors():
    """The l1 cost of twelve scalars 1 .. 12, largest in the middle, adds up the chosen ones."""
    values = torch.tensor([1, 2, 3, 4, 5, 12, 11, 10, 9, 8, 7, 6.0])
    observed = [value.repeat(2, 1) for value in values]
    observed[0] = torch.tensor([[1.0], [20.0]])  # the other target's first is its longest
    expected = {
        "def": 78,
        "topk-1": 12 + 11 + 10 + 9,
        "top10": 78 - 1 - 2,
        "top50": 78,
        "first": 10,
        "first4": 10,
        "first5": 15,
        "first10": 78 - 13,
        "first50": 78,
        "last5": 10 + 9 + 8 + 7 + 6,
        "last10": 78 - 3,
        "last50": 78,
    }
    zeros = [torch.zeros(2, 1) for _ in values]
    for indices in set(INDICES) - {"batch"}:
        costs = Matching.of("l1", observed, indices, "equal")(zeros)
        assert costs[0] == expected[indices], indices
    assert Matching.of("l1", observed, "topk-1", "equal")(zeros)[1] == 20 + 12 + 11 + 10


def test_a_batch_of_tensors_is_drawn_anew_in_every_step():
    observed = [torch.tensor([[2.0**place]]) for place in range(12)]
    matching, rng = Matching.of("l1", observed, "batch", "equal"), np.random.default_rng(0)
    zeros = [torch.zeros(1, 1) for _ in observed]
    costs = [int(matching.drawn(rng)(zeros)) for _ in range(5)]
    assert all(cost.bit_count() == 8 for cost in costs)
    assert len(set(costs)) > 1
    assert matching(zeros) == 2**12 - 1


# Defences


@pytest.fixture
def flat():
    return [torch.randn(2, 300, 200), torch.randn(2, 7)]


def test_noise_has_the_size_it_says(flat):
    generator = torch.Generator().manual_seed(0)
    zero = [torch.zeros_like(tensor) for tensor in flat]
    gaussian = parse_gradient_defence("gaussian_1e-3").stacked(zero, generator)[0]
    assert gaussian.std().item() == pytest.approx(1e-3, rel=0.02)
    laplace = parse_gradient_defence("lap_1e-2").stacked(zero, generator)[0]
    assert laplace.abs().mean().item() == pytest.approx(1e-2, rel=0.02)  # of Laplace(0, b) it is b
    assert laplace.std().item() == pytest.approx(2**0.5 * 1e-2, rel=0.02)
    assert laplace.mean().abs() < 1e-3


@pytest.mark.parametrize(
    ("name", "left"), [("prune_70", (18_000, 3)), ("prune_99", (600, 1)), ("prune_0", (60_000, 7))]
)
def test_pruning_leaves_the_largest_entries(name, left, flat):
    pruned = parse_gradient_defence(name).stacked(flat, torch.Generator())
    for tensor, before, n in zip(pruned, flat, left, strict=True):
        assert (tensor.flatten(1).count_nonzero(dim=1) == n).all()
        kept = tensor != 0
        assert torch.equal(tensor[kept], before[kept])
        for target in range(2):
            dropped = before[target][~kept[target]].abs()
            assert not len(dropped) or dropped.max() <= before[target][kept[target]].abs().min()


def test_clipping_bounds_the_norm_of_each_target(flat):
    flat = [torch.stack([tensor[0], 1e-5 * tensor[1]]) for tensor in flat]
    clipped = parse_gradient_defence("clip_1.0").stacked(flat, torch.Generator())
    norms = sum(tensor.flatten(1).square().sum(dim=1) for tensor in clipped).sqrt()
    assert norms[0].item() == pytest.approx(1)
    assert all(torch.equal(a[1], b[1]) for a, b in zip(clipped, flat, strict=True))
    assert not parse_gradient_defence("clip_1")([torch.zeros(3)], torch.Generator())[0].any()


def test_few_bits_and_signs(flat):
    for tensor, before in zip(
        parse_gradient_defence("quantise_3").stacked(flat, torch.Generator()), flat, strict=True
    ):
        for target in range(2):
            assert len(tensor[target].unique()) <= 7
            step = before[target].abs().max() / 3
            assert (tensor[target] - before[target]).abs().max() <= step / 2 * 1.0001
    signs = parse_gradient_defence("sign")([torch.tensor([-2.0, 0, 3])], torch.Generator())
    assert signs[0].tolist() == [-1, 0, 1]
    assert (
        parse_gradient_defence("quantise_8")([torch.zeros(3)], torch.Generator())[0].tolist()
        == [0] * 3
    )


@pytest.mark.parametrize("name", ["gaussian_1e-2", "lap_0.1", "prune_50", "clip_0.5", "quantise_4"])
def test_a_defence_of_one_gradient_is_that_of_a_stack_of_one(name, flat):
    defence, one = parse_gradient_defence(name), [tensor[0] for tensor in flat]
    assert defence.name == name
    alone = defence(one, torch.Generator().manual_seed(5))
    stacked = defence.stacked([g[None] for g in one], torch.Generator().manual_seed(5))
    again = defence(one, torch.Generator().manual_seed(5))
    for a, b, c, before in zip(alone, stacked, again, one, strict=True):
        assert torch.equal(a, b[0])
        assert torch.equal(a, c)
        assert a.shape == before.shape


WRONG_STRENGTHS = ["gaussian_0", "gaussian_x", "lap_-1", "prune_100", "prune_1/0", "clip_0"]


@pytest.mark.parametrize(
    "name", ["none", "_", "gaussian", "gaussian_", "quantise_1", "sign_1", *WRONG_STRENGTHS]
)
def test_no_other_defence(name):
    with pytest.raises(UserError, match="there is no gradient defence"):
        parse_gradient_defence(name)


def test_strengths_are_exact():
    assert parse_gradient_defence("prune_70").strength == Fraction(70)
    left = parse_gradient_defence("prune_70")([torch.arange(1.0, 11)], torch.Generator())[0]
    assert left.count_nonzero() == 3


# Exact solutions


def test_labels_are_read_off_the_head(extractor, images):
    labels = torch.arange(4)
    observe = gradients_of(extractor, cross_entropy, labels)
    assert label_from_gradient(observe, observe(images)).tolist() == labels.tolist()
    extractor.network[7].bias = None
    extractor.network[5] = nn.ReLU()
    observe = gradients_of(extractor, cross_entropy, labels)
    assert label_from_gradient(observe, observe(images)).tolist() == labels.tolist()


def test_labels_of_batches_and_of_hidden_heads_stay_unknown(extractor, images):
    observe = gradients_of(extractor, cross_entropy, LABELS.view(2, 2))
    with pytest.raises(UserError, match="single images"):
        label_from_gradient(observe, observe(images.view(2, 2, 3, SIDE, SIDE)))
    observe = gradients_of(extractor, cross_entropy, LABELS)
    with pytest.raises(UserError, match="was not shared"):
        label_from_gradient(replace(observe, names=observe.names[:2]), observe(images)[:2])
