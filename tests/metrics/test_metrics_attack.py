import numpy as np
import pytest

from src.metrics.attack import feature_loss, misclassification_rate, success_rate


def test_one_of_three_images_reaching_the_target_is_a_third():
    assert success_rate(np.array([770, 774, 3]), 770) == pytest.approx(33.333333, abs=1e-6)


def test_untargeted_success_counts_every_class_but_the_origin():
    assert misclassification_rate(np.array([770, 774, 3, 774]), 774) == 50.0


def test_feature_loss_of_known_vectors():
    clean = np.zeros((2, 4), np.float32)
    attacked = np.array([[2, 0, 0, 0], [1, 1, 1, 1]], np.float32)
    mse, rmse = feature_loss(clean, attacked)
    assert mse.dtype == np.float64
    np.testing.assert_allclose(mse, [1.0, 1.0])
    np.testing.assert_allclose(rmse, [1.0, 1.0])
    mse, rmse = feature_loss(clean, attacked * 3)
    np.testing.assert_allclose(mse, [9.0, 9.0])
    np.testing.assert_allclose(rmse, [3.0, 3.0])


def test_feature_loss_is_computed_in_float64():
    clean = np.full((1, 2), 1e4, np.float32)
    attacked = clean + np.float32(2**-10)
    assert feature_loss(clean, attacked)[0][0] == 2**-20
