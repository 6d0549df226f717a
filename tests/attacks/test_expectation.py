"""EOT: the mean of a goal over draws of a random defence."""

import pytest
import torch

from src.attacks.expectation import Expected, MeanGoal
from src.attacks.goals import ClassGoal
from src.attacks.registry import FGSM
from tests.victims import FunctionVictim, predicted

LOGITS = torch.tensor([[2.0, 0], [0, 3], [1, 0], [0, 1]])


def test_the_goal_is_the_mean_over_the_rows_of_an_image():
    """Two images in two draws: rows 0 and 2 are of the first one."""
    goal = ClassGoal(torch.tensor([0, 0]))
    mean = MeanGoal(goal, torch.arange(2), 2)
    each = ClassGoal(torch.tensor([0, 0, 0, 0]))(predicted(LOGITS))
    torch.testing.assert_close(
        mean(predicted(LOGITS)), torch.stack([each[::2], each[1::2]]).mean(1)
    )
    assert mean.missed_by(predicted(LOGITS)).tolist() == [-1.5, 2]
    assert mean.achieved(predicted(LOGITS))[0] > mean.achieved(predicted(LOGITS))[1]
    assert mean.reached(predicted(LOGITS)).tolist() == [True, False]


def test_some_images_of_a_goal():
    goal = MeanGoal(ClassGoal(torch.tensor([0, 1])), torch.arange(2), 2)
    second = goal[torch.tensor([False, True])]
    assert second.missed_by(predicted(LOGITS[1::2])).tolist() == [-2]


def test_the_mean_of_draws_finds_a_direction_that_one_draw_misses():
    """Each pass multiplies the score by a draw around .3, often a negative one."""

    def noisy(images: torch.Tensor) -> torch.Tensor:
        score = (images - 0.5).flatten(1).sum(dim=1) * (0.3 + torch.randn(len(images)))
        return torch.stack([score, torch.zeros_like(score)], dim=1)

    images, goal = torch.full((32, 3, 4, 4), 0.5), ClassGoal(torch.zeros(32, dtype=torch.int64))
    right = {}
    for draws in (1, 200):
        torch.manual_seed(0)
        victim = FunctionVictim(noisy)
        attacked = Expected(FGSM(eps=2.0), draws)(victim, images, goal)
        right[draws] = ((attacked - images).sum(dim=(1, 2, 3)) > 0).float().mean()
        assert victim.passes == 32 * draws
        assert (attacked - images).abs().max() == pytest.approx(2 / 255, rel=1e-3)
    assert right[1] < 0.9 < right[200]
