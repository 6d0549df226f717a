"""Splitting feedback, mapping ids, and reading the training and test rows back."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.artifacts.errors import UserError
from src.artifacts.layout import Layout
from src.datasets.interactions import Interactions, Part, check_split, load_interactions
from src.datasets.mapping import IdMap
from src.datasets.splitting import (
    Feedback,
    Split,
    binarise,
    hold_out,
    hold_out_validation,
    k_core,
    leave_one_out,
)
from tests.small_shops import write_data

events = st.lists(
    st.tuples(st.integers(0, 7), st.integers(0, 7), st.integers(0, 5)), min_size=1, max_size=60
)


def feedback_of(rows, timed=True):
    users, items, times = zip(*rows, strict=True)
    return Feedback.of(
        [f"u{user}" for user in users],
        [f"i{item}" for item in items],
        np.array(times, float) if timed else None,
    )


def named(feedback):
    """Return pairs (user, item) in the ids of the source."""
    return [
        (feedback.user_ids[user], feedback.item_ids[item])
        for user, item in zip(feedback.users, feedback.items, strict=True)
    ]


@given(events, st.booleans())
def test_binarise_keeps_the_newest_row_of_each_pair(rows, timed):
    newest = {}
    for position, (user, item, time) in enumerate(rows):
        pair = (f"u{user}", f"i{item}")
        moment = (time if timed else 0, position)
        newest[pair] = max(newest.get(pair, moment), moment)
    assert named(binarise(feedback_of(rows, timed))) == sorted(newest, key=newest.get)


def core_by_hand(pairs, core):
    """Remove one user or item at a time until there is nothing to remove."""
    pairs = set(pairs)
    while True:
        users = Counter(user for user, _ in pairs)
        items = Counter(item for _, item in pairs)
        weak = next((pair for pair in pairs if min(users[pair[0]], items[pair[1]]) < core), None)
        if weak is None:
            return pairs
        pairs.discard(weak)


@given(events, st.integers(0, 4))
def test_k_core_is_the_largest_fixed_point(rows, core):
    feedback = binarise(feedback_of(rows))
    kept = k_core(feedback, core)
    assert set(named(kept)) == core_by_hand(named(feedback), core)
    assert named(k_core(kept, core)) == named(kept)
    order = named(feedback)
    assert named(kept) == [pair for pair in order if pair in set(named(kept))]


def test_k_core_repeats_until_nothing_changes():
    # u0 falls out first, then i0, then u1: one pass would keep u1.
    chain = Feedback.of(
        ["u0", "u1", "u1", "u2", "u2", "u3", "u3"], ["i0", "i0", "i1", "i1", "i2", "i1", "i2"]
    )
    assert named(k_core(chain, 2)) == [("u2", "i1"), ("u2", "i2"), ("u3", "i1"), ("u3", "i2")]
    assert len(k_core(chain, 3)) == 0


@given(events, st.booleans())
def test_leave_one_out_takes_the_newest_of_each_user(rows, timed):
    feedback = binarise(feedback_of(rows, timed))
    train, test = leave_one_out(feedback)
    assert sorted(named(train) + named(test)) == sorted(named(feedback))
    counts = Counter(user for user, _ in named(feedback))
    last = dict(named(feedback))  # rows are in order of time
    assert dict(named(test)) == {user: last[user] for user, count in counts.items() if count >= 2}
    assert len(test) == len(dict(named(test)))


def test_file_order_decides_between_equal_times():
    feedback = Feedback.of(["u"] * 3, ["a", "b", "c"], np.array([7.0, 7.0, 1.0]))
    assert named(leave_one_out(feedback)[1]) == [("u", "b")]


@given(events, st.booleans())
def test_validation_holds_out_the_newest_of_what_is_left(rows, timed):
    feedback = binarise(feedback_of(rows, timed))
    split = hold_out(feedback, validation=True)
    by_user = {}
    for user, item in named(feedback):  # rows are in order of time
        by_user.setdefault(user, []).append(item)
    assert dict(named(split.test)) == {u: items[-1] for u, items in by_user.items() if items[1:]}
    assert dict(named(split.validation)) == {
        user: items[-2] for user, items in by_user.items() if items[2:]
    }
    assert {user for user, _ in named(split.train)} == set(by_user)
    assert sorted(pair for part in split.parts.values() for pair in named(part)) == sorted(
        named(feedback)
    )
    plain = hold_out(feedback)
    assert plain.validation is None
    later = hold_out_validation(plain)
    assert [named(part) for part in later.parts.values()] == [
        named(part) for part in split.parts.values()
    ]


def test_a_split_loses_held_out_rows_with_the_training_rows():
    split = Split(
        Feedback.of(["u", "v", "v"], ["a", "a", "b"]),
        Feedback.of(["v", "u"], ["c", "c"]),
        Feedback.of(["u", "v"], ["b", "d"]),
    )
    assert split.present_users == ["u", "v"] and split.present_items == ["a", "b", "c", "d"]
    kept = split.with_items({"b", "c"})
    assert {kind: named(part) for kind, part in kept.parts.items()} == {
        "training": [("v", "b")],
        "test": [("v", "c")],
        "validation": [],
    }
    assert kept.present_items == ["b", "c"]


@given(
    st.lists(
        st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1),
        min_size=1,
    ),
)
def test_id_map_round_trip(tmp_path_factory, ids):
    path = tmp_path_factory.mktemp("map") / "item_ids.tsv"
    mapping = IdMap.of(ids)
    mapping.write(path)
    assert IdMap.read(path) == mapping
    assert [mapping.originals[number] for number in mapping.numbers(ids)] == ids
    assert set(mapping.numbers(ids).tolist()) == set(range(len(set(ids))))


@given(st.permutations(range(30)))
def test_id_map_keeps_ids_that_are_row_numbers(numbers):
    ids = [str(number) for number in numbers]
    assert IdMap.of(ids).numbers(ids).tolist() == list(numbers)


def test_id_map_orders_numbers_by_size_and_text_by_alphabet():
    assert IdMap.of(["100", "9", "10"]).originals == ("9", "10", "100")
    assert IdMap.of(["100", "9", "x"]).originals == ("100", "9", "x")
    assert IdMap.of(["a"]).numbers(["b", "a"]).tolist() == [-1, 0]


def write_split(root, train, test, validation=None, original_items=None):
    layout = write_data(Layout("shop", root), train, test, validation)
    if original_items is not None:
        IdMap(tuple(original_items)).write(layout.item_map)
    return layout


def test_load_interactions(tmp_path):
    layout = write_split(tmp_path, [(2, 1), (0, 3), (0, 1)], [(2, 0), (0, 2)])
    data = load_interactions(layout, 5)
    assert (data.n_users, data.n_items) == (3, 5)
    assert data.train.tolist() == [[0, 1], [0, 3], [2, 1]]
    assert data.test.tolist() == [[0, 2], [2, 0]]
    assert data.validation.shape == (0, 2) and data.validation.dtype == np.int64
    assert data.first.tolist() == [0, 2, 2, 3]
    assert data.degrees.tolist() == [2, 0, 1]
    assert data.popularity.tolist() == [0, 2, 0, 1, 0]
    rows, items = data.items_of(np.array([2, 1, 0, 2]))
    assert (rows.tolist(), items.tolist()) == ([0, 2, 2, 3], [1, 1, 3, 1])


def test_without_a_validation_part_it_is_empty():
    data = Interactions(np.array([[0, 1]]), np.array([[0, 0]]), 1, 2)
    assert data.validation.shape == (0, 2) and data.validation.dtype == np.int64


def test_load_a_validation_part(tmp_path):
    layout = write_split(tmp_path, [(1, 1), (0, 3)], [(1, 0)], [(1, 4), (0, 0)])
    for n_items in (5, None):
        if n_items is None:
            IdMap.of("abcde").write(layout.item_map)
        data = load_interactions(layout, n_items)
        assert data.validation.tolist() == [[0, 0], [1, 4]]
        assert (data.n_users, data.n_items) == (2, 5)


@pytest.mark.parametrize("n_items", [5, None])
@pytest.mark.parametrize(
    ("train", "test", "validation", "message"),
    [
        ([(0, 1), (0, 9)], [(0, 2)], None, "user 0 has item 9, but the catalogue ends at 4"),
        ([(0, 1), (0, 1)], [(0, 2)], None, "user 0, item 1 appears twice"),
        ([(0, 1)], [(0, 1)], None, "testset.tsv: user 0, item 1 is also a training row"),
        ([(0, 1)], [(1, 2)], None, "testset.tsv: user 1 has no row in trainingset.tsv"),
        ([(0, -1)], [(0, 2)], None, "row 1: item -1 is not an id"),
        ([(0, 1)], [(0, 2)], [(0, 5)], "validationset.tsv: user 0 has item 5, but the catalogue"),
        ([(0, 1)], [(0, 2)], [(0, 3), (0, 3)], "validationset.tsv: user 0, item 3 appears twice"),
        ([(0, 1)], [(0, 2)], [(0, 1)], "validationset.tsv: user 0, item 1 is also a training row"),
        ([(0, 1)], [(0, 2)], [(0, 2)], "validationset.tsv: user 0, item 2 is also a test row"),
        ([(0, 1)], [(0, 2)], [(7, 3)], "validationset.tsv: user 7 has no row in trainingset.tsv"),
        ([(0, 1)], [(0, 2)], [(0, -3)], "validationset.tsv, row 1: item -3 is not an id"),
    ],
)
def test_wrong_rows_are_named(tmp_path, train, test, validation, message, n_items):
    layout = write_split(tmp_path, train, test, validation, None if n_items else "abcde")
    with pytest.raises(UserError, match=message):
        load_interactions(layout, n_items)


pairs = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=5)


@given(pairs, pairs, pairs)
def test_a_split_is_refused_exactly_if_a_row_repeats_or_a_user_is_unknown(train, test, validation):
    split = {"training": train, "test": test, "validation": validation}
    parts = [
        Part(kind, Path(f"{kind}.tsv"), np.array(rows, np.int64).reshape(-1, 2))
        for kind, rows in split.items()
    ]
    rows = [*train, *test, *validation]
    users = {user for user, _ in train}
    if len(set(rows)) < len(rows) or any(user not in users for user, _ in [*test, *validation]):
        with pytest.raises(UserError, match=r"appears twice|is also a|has no row in"):
            check_split(parts[0], parts[1:], range(4), range(4))
    else:
        check_split(parts[0], parts[1:], range(4), range(4))


@given(st.permutations([(user, item) for user in range(3) for item in range(user, 4)]))
def test_items_without_images_are_counted_in_any_order(tmp_path_factory, train):
    layout = write_split(tmp_path_factory.mktemp("dense"), train, [(2, 1), (1, 4)], [(1, 5)])
    data = load_interactions(layout, None)
    assert (data.n_users, data.n_items) == (3, 6)
    assert data.train.tolist() == sorted(map(list, train))
    IdMap.of(map(str, range(9))).write(layout.item_map)
    assert load_interactions(layout, None).n_items == 9


@pytest.mark.parametrize(
    ("train", "test", "validation", "message"),
    [
        ([(1, 0), (0, 3)], [(0, 1)], None, "only 3 of the 4 item ids 0..3 are in use"),
        ([(1, 2), (2, 1)], [(2, 3)], None, "only 2 of the 3 user ids 0..2 are in use"),
        ([(0, 10**9)], [(0, 0)], None, "only 2 of the 1000000001 item ids 0..1000000000"),
        ([(0, 0)], [(0, 1)], [(0, 3)], "only 3 of the 4 item ids 0..3 are in use"),
    ],
)
def test_gaps_without_images_are_refused(tmp_path, train, test, validation, message):
    layout = write_split(tmp_path, train, test, validation)
    with pytest.raises(UserError) as error:
        load_interactions(layout, None)
    assert message in str(error.value)
    assert f"interactions --dataset shop_numbered --train {layout.training_set}" in str(error.value)
    assert ("--validation" in str(error.value)) == (validation is not None)
