"""First step of Adam by finite differences of the loss, for tests of a training step."""

from collections.abc import Callable

import numpy as np

RATE, BETAS = 0.01, (0.9, 0.999)


def assert_first_step(
    loss: Callable[[np.ndarray], float], before: np.ndarray, after: np.ndarray, moments: np.ndarray
) -> None:
    """Assert that every entry of a table has moved by ``RATE`` against the gradient of ``loss``.

    ``moments`` (2, *table) are Adam's means of the gradient and of its square after the step. Entries
    whose gradient is nearly zero may stay.
    """
    for entry in np.ndindex(before.shape):
        values = []
        for step in (1e-5, -1e-5):
            table = before.astype(np.float64)
            table[entry] += step
            values.append(loss(table))
        gradient = (values[0] - values[1]) / 2e-5
        mean, of_squares = moments[(slice(None), *entry)]
        assert np.isclose(mean, (1 - BETAS[0]) * gradient, rtol=2e-3, atol=1e-5), entry
        assert np.isclose(of_squares, (1 - BETAS[1]) * gradient**2, rtol=4e-3, atol=1e-8), entry
        if abs(gradient) > 1e-4:
            moved = after[entry] - before[entry]
            assert np.isclose(moved, -RATE * np.sign(gradient), rtol=1e-2), entry
