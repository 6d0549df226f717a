"""Descents with momentum on functions whose best point in the ball is known."""

import pytest
import torch

from src.attacks.goals import ClassGoal
from src.attacks.registry import APGD, Annealed
from tests.victims import FunctionVictim

SHAPE = (3, 1, 4, 4)
EPS = 0.1
STEPS = 20
PARAMETERS = {"eps": 255 * EPS, "nb_iter": STEPS, "random_start": False}
GOAL = ClassGoal(torch.ones(SHAPE[0], dtype=torch.long), True)


def slopes() -> torch.Tensor:
    return torch.randn(SHAPE[1:], generator=torch.Generator().manual_seed(1))


def images() -> torch.Tensor:
    return torch.rand(SHAPE, generator=torch.Generator().manual_seed(2))


def linear(points: torch.Tensor) -> torch.Tensor:
    score = (points * slopes()).flatten(1).sum(dim=1)
    return torch.stack([-score, score], dim=1)


@pytest.mark.parametrize("attack", [Annealed, APGD])
def test_a_linear_score_is_raised_to_the_corner_of_the_ball(attack):
    victim = FunctionVictim(linear)
    attacked = attack(**PARAMETERS)(victim, images(), GOAL)
    corner = (images() + EPS * slopes().sign()).clamp(0, 1)
    torch.testing.assert_close(attacked, corner, rtol=0, atol=1e-5)
    assert victim.passes <= (STEPS + 1) * len(attacked)


@pytest.mark.parametrize("norm", ["inf", "2"])
@pytest.mark.parametrize("attack", [Annealed, APGD])
def test_images_stay_in_ball_and_box_and_get_no_worse(attack, norm):
    def wavy(points: torch.Tensor) -> torch.Tensor:
        score = torch.sin(40 * points * slopes()).flatten(1).sum(dim=1)
        return torch.stack([-score, score], dim=1)

    start = images()
    attacked = attack(**PARAMETERS, norm=norm)(FunctionVictim(wavy), start, GOAL)
    sizes = torch.linalg.vector_norm((attacked - start).flatten(1), ord=float(norm), dim=1)
    assert (sizes <= EPS + 1e-5).all() and ((attacked >= 0) & (attacked <= 1)).all()
    assert (wavy(attacked)[:, 1] >= wavy(start)[:, 1]).all()
    assert (wavy(attacked)[:, 1] > wavy(start)[:, 1]).any()


def test_steps_that_fall_settle_where_equal_steps_swing():
    """The best point is nearer to the start than the first step is long."""
    best = images() + 0.3 * EPS * slopes().sign()

    def bowl(points: torch.Tensor) -> torch.Tensor:
        score = -(points - best).square().flatten(1).sum(dim=1)
        return torch.stack([-score, score], dim=1)

    attacked = Annealed(**PARAMETERS)(FunctionVictim(bowl, box=None), images(), GOAL)
    assert (attacked - best).abs().max() < 0.05 * EPS
