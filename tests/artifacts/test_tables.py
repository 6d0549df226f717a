"""Top-K lists and ranks are equal after they are written and read."""

import numpy as np
import pytest

from src.artifacts.errors import UserError
from src.artifacts.tables import (
    TestRanks,
    TopK,
    read_test_ranks,
    read_top_k,
    write_test_ranks,
    write_top_k,
)


def random_lists(n_users: int, k: int, seed: int = 0) -> TopK:
    rng = np.random.default_rng(seed)
    scores = -np.sort(-rng.standard_normal((n_users, k)).astype(np.float32) * 3, axis=1)
    first = rng.integers(0, 10_000, (n_users, 1))
    return TopK(first + rng.permutation(10_000)[:k], scores)  # no user has an item twice


def test_top_k_reads_back_exactly(tmp_path):
    lists = random_lists(2100, 7)  # three blocks, the last one incomplete
    write_top_k(tmp_path / "lists.tsv", lists)
    read = read_top_k(tmp_path / "lists.tsv")
    np.testing.assert_array_equal(read.items, lists.items)
    np.testing.assert_array_equal(read.scores, lists.scores)


def test_lines_are_those_of_the_published_code(tmp_path):
    items = np.array([[104, 3], [7, -1]])
    scores = np.array([[4.584059, 0.1], [-1e-7, -np.inf]], np.float32)
    write_top_k(tmp_path / "lists.tsv", TopK(items, scores))
    text = (tmp_path / "lists.tsv").read_text()
    assert text == "0\t104\t4.584059\n0\t3\t0.1\n1\t7\t-1e-07\n"


def test_short_lists_are_padded_when_they_are_read(tmp_path):
    path = tmp_path / "lists.tsv"
    path.write_text("0\t5\t2.0\n0\t4\t1.0\n1\t3\t0.5\n")
    read = read_top_k(path)
    assert read.items.tolist() == [[5, 4], [3, -1]]
    assert read.scores.tolist() == [[2.0, 1.0], [0.5, -np.inf]]


def test_unordered_users_are_refused(tmp_path):
    (tmp_path / "lists.tsv").write_text("1\t5\t2.0\n0\t4\t1.0\n")
    with pytest.raises(UserError, match="ascending"):
        read_top_k(tmp_path / "lists.tsv")


def test_test_ranks_read_back_exactly(tmp_path):
    columns = [
        np.array([0, 2, 5]),
        np.array([7, 1, 1]),
        np.array([0, 30, 2]),
        np.array([99, 98, 97]),
    ]
    write_test_ranks(tmp_path / "ranks.tsv", TestRanks(*columns))
    read = read_test_ranks(tmp_path / "ranks.tsv")
    for column, expected in zip(
        (read.users, read.items, read.ranks, read.negatives), columns, strict=True
    ):
        np.testing.assert_array_equal(column, expected)
