"""Hardness manipulation: destinations against the paper's numbers, objectives by their gradients."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from src.artifacts.errors import UserError
from src.training.distances import distance
from src.training.hardness import (
    DESTINATIONS,
    INITIAL_LOSS,
    Boosted,
    Constant,
    LossGuided,
    MinerHardness,
    divergence,
    hardness,
    normalised_loss,
    one_sided,
    parse_destination,
    two_sided,
)
from src.training.miners import MINERS

HM_OBJECTIVES = {"et": one_sided, "l2": two_sided, "kl": divergence}
LABELS = torch.tensor([0, 0, 1, 1, 2, 2, 0, 0])


def embeddings(seed: int = 0, n: int = 8) -> Tensor:
    return torch.randn(n, 6, generator=torch.Generator().manual_seed(seed))


def destination_of(text: str, last_loss: float = INITIAL_LOSS, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return parse_destination(text)(embeddings(), LABELS, last_loss, generator)


def test_hardness_is_positive_where_the_negative_is_nearer():
    anchor, near, far = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]], [[-2.0, 0.0]]])
    assert hardness(anchor, near, far).item() == pytest.approx(2**0.5 - 2)
    assert hardness(anchor, far, near).item() == pytest.approx(2 - 2**0.5)
    assert hardness(anchor, anchor, far).item() == -2
    assert hardness(anchor, near, far, "E").item() == pytest.approx(2**0.5 - 3)
    assert hardness(anchor, near, far, "C").item() == pytest.approx(-1)


# Destinations


@pytest.mark.parametrize(("loss", "expected"), [(2.0, -0.2), (0.2, -0.2), (0.1, -0.1), (0.0, 0.0)])
def test_the_gradual_adversary_at_the_losses_of_the_paper(loss, expected):
    assert float(LossGuided().at(loss)) == pytest.approx(expected, abs=1e-15)
    torch.testing.assert_close(destination_of("lga", loss), torch.full((4,), expected))


def test_powers_of_the_gradual_adversary():
    assert float(LossGuided(power=2).at(0.1)) == pytest.approx(-0.05)
    assert float(LossGuided(power=0.5).at(0.05)) == pytest.approx(-0.1)
    assert DESTINATIONS["g2"] == LossGuided(power=2)
    assert DESTINATIONS["g1/2"] == LossGuided(power=0.5)
    assert float(LossGuided(ceiling=2.2).at(1.1)) == pytest.approx(-0.1)
    assert float(LossGuided(gamma=0.4).at(1.1)) == pytest.approx(-0.4)


def test_the_normalised_loss_is_clipped():
    assert [normalised_loss(loss, 0.2) for loss in (-1, 0, 0.05, 0.2, 7)] == [0, 0, 0.25, 1, 1]


@pytest.mark.parametrize("name", MINERS)
def test_a_miner_as_destination_takes_its_triplets_of_the_clean_batch(name):
    points = embeddings().requires_grad_()
    values = DESTINATIONS[name](points, LABELS, 0.1, torch.Generator().manual_seed(3))
    triplets = MINERS[name](points, LABELS, torch.Generator().manual_seed(3))
    assert triplets.anchor.tolist() == [0, 2, 4, 6]
    for value, a, p, n in zip(values, *triplets, strict=True):
        one = functional.normalize(points.detach(), dim=1)
        expected = torch.dist(one[a], one[p]) - torch.dist(one[a], one[n])
        torch.testing.assert_close(value, expected)
    assert not values.requires_grad


def test_a_constant_is_the_same_for_all():
    assert destination_of("-0.1").tolist() == pytest.approx([-0.1] * 4)
    assert destination_of("2", last_loss=0).tolist() == [2] * 4


def test_boosting_adds_up_to_a_tenth():
    for loss, boost in [(INITIAL_LOSS, 0.0), (0.1, 0.05), (0.0, 0.1)]:
        plain, boosted = (destination_of(t, loss) for t in ("semihard", "boost:semihard"))
        torch.testing.assert_close(boosted, plain + boost)
    assert parse_destination("boost:semihard") == Boosted(MinerHardness(MINERS["semihard"]))


def test_random_destinations_come_from_the_generator():
    first, again, other = (destination_of("random", seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_schedules_can_be_printed():
    assert str(parse_destination("lga")) == "-0.2 (clip(l, 0, 0.2) / 0.2)"
    assert str(parse_destination("g2")) == "-0.2 (clip(l, 0, 0.2) / 0.2)^2"
    assert str(parse_destination("g1/2")) == "-0.2 (clip(l, 0, 0.2) / 0.2)^0.5"
    assert str(parse_destination("-0.1")) == "-0.1"
    assert str(parse_destination("semihard")) == "H of Semihard(margin=0.2)"
    assert str(parse_destination("boost:0")) == "0 + 0.1 (1 - (clip(l, 0, 0.2) / 0.2))"


@pytest.mark.parametrize("text", ["lgb", "", "3", "-2.5", "nan", "inf", "boost:", "boost:x"])
def test_an_unknown_destination_is_bad_input(text):
    with pytest.raises(UserError, match=r"unknown hardness .*choose from random, .* lga"):
        parse_destination(text)


def test_names_and_numbers_become_destinations():
    assert parse_destination("lga") is DESTINATIONS["lga"]
    assert parse_destination("-2") == Constant(-2)


# Objectives


def test_objectives_by_hand():
    h, goal = torch.tensor([-0.5, 0.0, 0.3]), torch.tensor([0.0, 0.0, 0.0])
    assert HM_OBJECTIVES["et"](h, goal).tolist() == pytest.approx([0.25, 0, 0])
    assert HM_OBJECTIVES["l2"](h, goal).tolist() == pytest.approx([0.25, 0, 0.09])
    present = torch.tensor([1.5, 2.0, 2.3]) / 5.8
    expected = (1 / 3) * torch.log((1 / 3) / present)
    torch.testing.assert_close(HM_OBJECTIVES["kl"](h, goal), expected)


def random_triplets() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(3, 40, 6, generator=generator, dtype=torch.float64).requires_grad_().unbind()


def test_the_one_sided_gradient_is_zero_on_arrival_and_ascends_before():
    points = random_triplets()
    h = hardness(*points)
    goal = torch.full_like(h, 0.1).detach()
    goal[0] = h[0].detach()  # exactly there
    arrived = h >= goal
    assert 5 < arrived.sum() < 35
    descent = torch.autograd.grad(HM_OBJECTIVES["et"](h, goal).mean(), points, retain_graph=True)
    ascent = torch.autograd.grad(h.sum(), points)
    for down, up in zip(descent, ascent, strict=True):
        assert (down[arrived] == 0).all()
        assert torch.equal(-down[~arrived].sign(), up[~arrived].sign())
        assert (down[~arrived] != 0).any(dim=1).all()


def test_the_two_sided_gradient_also_makes_triplets_easier():
    points = random_triplets()
    h = hardness(*points)
    goal = torch.full_like(h, 0.1).detach()
    direction = (goal - h.detach()).sign()[:, None]
    descent = torch.autograd.grad(HM_OBJECTIVES["l2"](h, goal).sum(), points, retain_graph=True)
    ascent = torch.autograd.grad(h.sum(), points)
    for down, up in zip(descent, ascent, strict=True):
        assert torch.equal(-down.sign(), direction * up.sign())


@pytest.mark.parametrize("kind", HM_OBJECTIVES)
def test_objectives_pass_gradcheck_per_triplet_and_accept_a_scalar(kind):
    h = torch.linspace(-1.9, 1.9, 9, dtype=torch.float64).requires_grad_()
    goal = torch.linspace(1.0, -1.1, 9, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: HM_OBJECTIVES[kind](x, goal), h)
    everywhere = HM_OBJECTIVES[kind](h, torch.tensor(-0.2, dtype=torch.float64))
    assert everywhere.shape == h.shape
    torch.testing.assert_close(everywhere, HM_OBJECTIVES[kind](h, torch.full_like(h, -0.2)))


def test_the_divergence_is_one_of_probabilities():
    """Its sum is never negative, 0 only for equal relative hardness, and finite at both ends."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        h, goal = 4 * torch.rand(2, 12, generator=generator, dtype=torch.float64) - 2
        assert HM_OBJECTIVES["kl"](h, goal).sum() > 0
        torch.testing.assert_close(HM_OBJECTIVES["kl"](h, h), torch.zeros_like(h))
    ends = torch.tensor([-2.0, 2.0], requires_grad=True)
    value = HM_OBJECTIVES["kl"](ends, torch.tensor([2.0, -2.0])).sum()
    assert value.isfinite()
    assert torch.autograd.grad(value, ends)[0].isfinite().all()


@pytest.mark.parametrize("kind", ["et", "l2"])
def test_sign_steps_stop_triplets_at_their_destination(kind):
    """Each triplet moves alone: triplets below the destination reach it; with "et" the others stay."""
    points = torch.stack(random_triplets()).detach()
    start, goal = hardness(*points), torch.tensor(0.1, dtype=torch.float64)
    for step in torch.linspace(0.02, 1e-4, 400):
        points.requires_grad_()
        objective = HM_OBJECTIVES[kind](hardness(*points), goal)
        (gradient,) = torch.autograd.grad(objective.sum(), points)
        points = points.detach() - step * gradient.sign()
    end = hardness(*points)
    below = start < goal
    torch.testing.assert_close(end[below], goal.expand_as(end[below]), atol=0.05, rtol=0)
    if kind == "et":
        assert torch.equal(end[~below], start[~below])
    else:
        torch.testing.assert_close(end[~below], goal.expand_as(end[~below]), atol=0.05, rtol=0)


def test_a_triplet_whose_positive_is_its_anchor_can_be_perturbed():
    """The two copies coincide at first; no gradient is NaN and the negative comes nearer."""
    anchor = torch.randn(4, 6, generator=torch.Generator().manual_seed(0)).requires_grad_()
    negative = torch.randn(4, 6, generator=torch.Generator().manual_seed(1)).requires_grad_()
    positive = anchor.detach().clone().requires_grad_()
    h = hardness(anchor, positive, negative)
    objective = HM_OBJECTIVES["et"](h, torch.tensor(0.0)).sum()
    gradients = torch.autograd.grad(objective, (anchor, positive, negative))
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert (gradients[1] == 0).all()
    nearer = distance(anchor - 0.01 * gradients[0], negative - 0.01 * gradients[2])
    assert (nearer < distance(anchor, negative)).all()
