"""Attacks that stay under a detector's threshold, on a detector that one can compute by hand."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from src.attacks.evasion import Evading, EvadingGoal
from src.attacks.goals import ClassGoal
from src.attacks.registry import APGD
from src.defences.detectors import Detector, Guard, Squeeze
from src.defences.registry import Bits
from src.extractors.extractor import Prediction
from tests.victims import FunctionVictim


@dataclass(frozen=True)
class SecondFeature(Detector):
    """The size of the second feature."""

    kind = "second"

    def score(self, features, squeezed):
        return features[:, 1].abs()


def means(images: torch.Tensor) -> torch.Tensor:
    """Two features: brightness above mid-grey in the left and in the right half."""
    left, right = (images - 0.5).chunk(2, dim=3)
    return torch.stack([left.mean(dim=(1, 2, 3)), right.mean(dim=(1, 2, 3))], dim=1)


def summed(images: torch.Tensor) -> torch.Tensor:
    """Logits: class 0 grows with both halves."""
    features = means(images)
    return torch.stack([features.sum(dim=1), torch.zeros(len(images))], dim=1) * 100


class Both(FunctionVictim):
    def __call__(self, images):
        self.passes += len(images)
        return Prediction(summed(images), means(images))


GUARD = Guard(SecondFeature(), 4 / 255, np.zeros(1))


def test_an_evading_attack_moves_what_the_detector_does_not_see():
    images, goal = torch.full((3, 3, 4, 4), 0.5), ClassGoal(torch.zeros(3, dtype=torch.int64))
    torch.manual_seed(0)
    attack = APGD(eps=8.0, nb_iter=30)
    plain = means(attack(Both(summed), images, goal))
    evading = means(Evading(attack, GUARD)(Both(summed), images, goal))
    assert (plain[:, 1] > GUARD.threshold).all()
    assert (evading[:, 1].abs() <= GUARD.threshold).all()
    torch.testing.assert_close(evading[:, 0], torch.full((3,), 8 / 255), rtol=0.05, atol=0)


def test_the_goal_prefers_any_undetected_image_and_else_the_least_suspicious():
    goal = EvadingGoal(ClassGoal(torch.zeros(3, dtype=torch.int64)), GUARD, 1.0)
    logits = torch.tensor([[0.0, 5], [9, 0], [9, 0]])
    features = torch.tensor([[0.0, 0], [0, 0.1], [0, 0.2]])
    prediction = Prediction(logits, features)
    achieved = goal.achieved(prediction)
    assert achieved[0] > achieved[1] > achieved[2]
    assert goal.is_undetected(prediction).tolist() == [True, False, False]
    assert goal.reached(prediction).tolist() == [False, False, False]
    plain = ClassGoal(torch.zeros(3, dtype=torch.int64))(prediction)
    shares = torch.tensor([0.0, 0.1, 0.2]) * 255 / 4
    expected = torch.where(shares > 0, shares - 0.95, 0.0)
    torch.testing.assert_close(goal(prediction) - plain, expected)


def test_some_images_of_a_goal_keep_their_penalty():
    goal = EvadingGoal(ClassGoal(torch.tensor([0, 1])), GUARD, 1.0)[torch.tensor([1])]
    prediction = Prediction(torch.tensor([[0.0, 9]]), torch.tensor([[0.0, 0]]))
    assert goal.reached(prediction).tolist() == [True]


def test_a_squeeze_compares_an_image_with_its_squeezed_copy():
    """Behind one bit, 0.6 becomes 1: the features move by their own length or less."""
    seen = Guard(Squeeze(Bits(1)), 0.5, np.zeros(1))
    images = torch.stack([torch.full((3, 4, 4), 1.0), torch.full((3, 4, 4), 0.6)])
    both = torch.cat([images, Bits(1)(images)])
    goal = EvadingGoal(ClassGoal(torch.zeros(2, dtype=torch.int64)), seen, 1.0)
    prediction = Prediction(summed(both), means(both))
    assert goal.is_undetected(prediction).tolist() == [True, False]
    assert goal(prediction).shape == (2,)
    assert goal.missed_by(prediction)[1] == pytest.approx(4 / 0.5, rel=1e-4)
