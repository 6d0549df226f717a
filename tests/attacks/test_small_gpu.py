"""A GPU that holds few images measures all of them, as one that holds whole batches does."""

import numpy as np
import pytest
import torch

from src.artifacts.errors import UserError
from src.artifacts.parts import Parts
from src.attacks.profiles import COMPAT, parse_attack
from src.attacks.ranking.evaluation import RankingTask
from src.attacks.registry import attack_named
from src.attacks.robustness.study import LabelledVictim, TrialRunner
from src.attacks.robustness.trials import CLEAN, Trial
from src.datasets.image_set import ImageArray, ImageSet
from src.extractors.architectures import build_extractor
from src.training.accuracy import accuracy, embed

LABELS = ("a", "b", "c")


@pytest.fixture(scope="module")
def extractor():
    torch.manual_seed(0)
    return build_extractor("lenet", LABELS).eval()


@pytest.fixture(scope="module")
def images(extractor):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (12, 28, 28, 1), dtype=np.uint8)
    pictures = ImageSet.of(ImageArray(pixels), np.zeros(12), LABELS)
    with torch.no_grad():
        found = extractor(torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255).logits.argmax(dim=1)
    right = np.where(np.arange(12) < 9, found.numpy(), (found.numpy() + 1) % 3)
    return ImageSet.of(pictures.store, right, LABELS)


@pytest.fixture(params=[None, 3, 1])
def holding(request, gpu_holds):
    """Give the device room for so many images; None is enough for all."""
    if request.param is not None:
        gpu_holds(request.param)
    return request.param


def test_accuracy_and_embeddings_are_of_all_images(extractor, images, holding):
    assert accuracy(extractor, images) == 9 / 12
    assert accuracy(extractor, images, attack_named("fgsm", 0)) == 9 / 12
    assert accuracy(extractor, images, attack_named("fgsm", 64)) < 9 / 12
    assert len(embed(extractor, images)) == 12


def test_robustness_is_of_all_images(extractor, images, holding, tmp_path):
    victim = LabelledVictim.of(extractor, images)
    runner = TrialRunner(victim, images, np.arange(12), torch.device("cpu"))
    trial = Trial("fgsm", 8.0)
    found = runner.run((CLEAN, trial), Parts(tmp_path / "parts"))
    assert found[CLEAN].right.tolist() == [True] * 9 + [False] * 3
    assert not found[trial].right[9:].any()
    assert found[trial].linf == pytest.approx(8, abs=1e-3)


def test_rankings_are_of_all_images_with_equal_aims(extractor, images, gpu_holds):
    spec, everything = parse_attack("CA:pm=+:W=2:eps=8/255:pgditer=2"), np.arange(12)
    expected = RankingTask.of(extractor, images, COMPAT["correct"]).run(spec, everything, (0,))
    gpu_holds(5)
    found = RankingTask.of(extractor, images, COMPAT["correct"]).run(spec, everything, (0,))
    for name, before in expected.before.items():
        # Percentiles of two random images; rounding turns one place, other images many.
        np.testing.assert_allclose(found.before[name], before, atol=1.01 * 100 / 12)
        assert found.after[name].shape == before.shape


def test_a_gpu_that_holds_no_image_is_one_line(extractor, images, gpu_holds):
    gpu_holds(0)
    with pytest.raises(UserError, match="cannot hold one image"):
        accuracy(extractor, images)
    with pytest.raises(UserError, match="cannot hold one image"):
        RankingTask.of(extractor, images, COMPAT["correct"])
