"""Hours and gigabytes of a grid, against a case computed by hand."""

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "grid_cost.py"


@pytest.fixture(scope="module")
def grid_cost():
    spec = importlib.util.spec_from_file_location("grid_cost", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


STUDY = {
    "extractors": {"original": {}, "madry": {}},
    "attacks": ["--attack_type fgsm --eps 4", "--attack_type noise --eps 4"],
    "recommenders": ["VBPR"],
    "seeds": [0, 1, 2],
    "epoch": 10,
}


def test_hours_and_gigabytes_of_a_small_grid(grid_cost):
    grid = grid_cost.Grid.of(STUDY)
    assert grid == grid_cost.Grid(2, 2, 1, 1, 3, 10)
    rates = grid_cost.Rates.parse("a box: images 10, passes 5, epoch 60, lists 2")
    found = grid_cost.hours(grid, rates, items=100, attacked=50)
    expected = {
        "stage 1": 2 * 100 / 10,
        "stage 3": 2 * 50 * (1 / 5 + 2 / 10),
        "training": 2 * 3 * 10 * 60,
        "lists": 2 * 3 * 3 * 2,
    }
    for part, seconds in expected.items():
        assert found[part] == pytest.approx(seconds / 3600)
    assert found["together"] == pytest.approx(sum(expected.values()) / 3600)
    lists = 3 * 1000 * 150 * 21
    size = 2 * 3 * (100 * 2048 * 4 + lists) + 2 * 2 * 50 * 224 * 224 * 3
    assert grid_cost.gigabytes(grid, 1000, 100, 50) == pytest.approx(size / 1e9)


@pytest.mark.parametrize(
    "text", ["images 10", "a: images 1, passes 2", "a: passes 1, images 2, epoch 3, lists 4"]
)
def test_rates_without_all_numbers_are_refused(grid_cost, text):
    with pytest.raises(ValueError, match="is not"):
        grid_cost.Rates.parse(text)
