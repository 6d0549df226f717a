"""Notes on how attacks went: useless gradients at the start, and the step at which an image was best."""

import numpy as np
import pytest
import torch

from src.attacks.list_goals import list_goal
from src.attacks.progress import FollowedGoal, Progress
from src.attacks.registry import APGD, NES, PGD
from src.attacks.victim import ExtractorVictim
from src.extractors.extractor import Prediction
from tests.attacks.test_list_goals import CPU, hand_audience
from tests.victims import FunctionVictim


@pytest.mark.parametrize(
    ("gradient", "expected"),
    [
        ([[0.0, 0.0], [0.0, -1e-30], [1.0, torch.nan], [torch.inf, 0.0]], [1, 0, 1, 1]),
        ([[1.0, 1.0]], [np.nan] * 4),  # of a part of the batch
    ],
)
def test_gradients_of_zeros_and_infinite_ones_are_useless(gradient, expected):
    progress = Progress(4)
    progress.note_start(torch.tensor(gradient))
    np.testing.assert_array_equal(progress.columns()["no_gradient"], expected)


def scores(*of_images: float) -> Prediction:
    """Predictions that all users like equally much."""
    features = torch.tensor(of_images)[:, None].expand(-1, 3)
    return Prediction(features, features)


def test_the_best_step_is_the_first_one_of_the_largest_exposure():
    progress = Progress(2)
    followed = FollowedGoal(list_goal("score", hand_audience([0, 3]), CPU))
    for values in [(0.0, 0.1), (9.0, 0.2), (0.5, 0.2), (0.6, 9.0)]:
        followed(scores(*values))
        followed.achieved(scores(*values))
        followed[torch.tensor([0])](scores(7.0))
    progress.note_goal(followed)
    columns = progress.columns()
    assert columns["best_step"].tolist() == [1, 3] and columns["last_step"].tolist() == [3, 3]


def test_what_is_not_compared_is_judged_by_its_value():
    progress = Progress(2)
    followed = FollowedGoal(list_goal("demote-score", hand_audience([0, 3]), CPU))
    for values in [(2.0, 2.0), (1.0, 4.0)]:
        followed(scores(*values))
    progress.note_goal(followed)
    assert progress.columns()["best_step"].tolist() == [1, 0]


@pytest.mark.parametrize(
    ("attack", "last"),
    [(APGD(40.0, nb_iter=5), 5), (PGD(40.0, nb_iter=4), 3), (NES(40.0, queries=150), 1)],
)
def test_every_step_of_an_attack_is_noted(attack, last):
    torch.manual_seed(0)
    victim = FunctionVictim(lambda images: images.flatten(1)[:, :3])
    followed = FollowedGoal(list_goal("score", hand_audience([0, 3]), CPU))
    attack(victim, torch.full((2, 1, 2, 3), 0.5), followed)
    progress = Progress(2)
    progress.note_goal(followed)
    columns = progress.columns()
    assert columns["last_step"].tolist() == [last, last]
    assert (columns["best_step"] >= 0).all() and (columns["best_step"] <= last).all()


def test_a_victim_tells_of_its_first_gradient_alone(tiny_extractor):
    victim, progress = ExtractorVictim(tiny_extractor), Progress(2)
    victim.on_start = progress.note_start
    images = torch.rand(2, 3, 32, 32)
    victim(images)  # nothing is differentiated yet
    for blind in (torch.tensor([0.0, 1.0]), torch.zeros(2)):
        points = images.clone().requires_grad_()
        (victim(points).logits.sum(dim=1) * blind).sum().backward()
    assert progress.columns()["no_gradient"].tolist() == [1, 0]
