"""Decimals of many numbers are those that NumPy gives one by one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.artifacts.decimals import shortest_decimals

SMALLEST, LARGEST = np.array([1e-3, 1e4], np.float32).view(np.int32)
"""Bits of the sizes between which numbers are formatted together."""


def texts_of(numbers: np.ndarray) -> list[str]:
    return [cell.replace(b"\0", b"").decode() for cell in shortest_decimals(numbers).tolist()]


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1))
def test_a_decimal_is_the_shortest_that_reads_back(values):
    numbers = np.array(values, np.float32)
    texts = texts_of(numbers)
    assert texts == [str(number) for number in numbers]
    np.testing.assert_array_equal(np.array(texts, np.float64).astype(np.float32), numbers)


def random_bits() -> np.ndarray:
    return np.random.default_rng(0).integers(SMALLEST, LARGEST, 50_000, np.int32).view(np.float32)


def round_numbers() -> np.ndarray:
    rng = np.random.default_rng(1)
    return (rng.integers(0, 10**7, 50_000) / 10.0 ** rng.integers(0, 8, 50_000)).astype(np.float32)


def ends() -> np.ndarray:
    """Return the floats around both ends of the range and around powers of 2 and 10."""
    centres = [1e-3, 1e4, *(2.0 ** np.arange(-12, 15)), *(10.0 ** np.arange(-4, 6))]
    bits = np.array(centres, np.float32).view(np.int32)
    return (bits[:, None] + np.arange(-20, 21, dtype=np.int32)).ravel().view(np.float32)


@pytest.mark.parametrize("numbers", [random_bits(), round_numbers(), ends()])
def test_decimals_are_those_of_numpy(numbers):
    numbers = np.concatenate([numbers, -numbers])
    assert texts_of(numbers) == numbers.astype("S").astype(str).tolist()


def test_zeros_and_numbers_that_are_not_finite():
    numbers = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e30, -1e-7], np.float32)
    assert texts_of(numbers) == ["0.0", "-0.0", "inf", "-inf", "nan", "1e+30", "-1e-07"]
    assert texts_of(numbers[:0]) == []
